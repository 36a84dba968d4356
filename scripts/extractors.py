"""The networks that measures of a training look through, from `--extractor NAME=PATH`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan.features import FeatureExtractor


def load_extractors(
    pairs: Sequence[str], metrics: str | None, device: str = "auto"
) -> dict[str, FeatureExtractor]:
    """Load what the metrics need, and nothing else: loading takes seconds.

    Args:
        pairs: `NAME=PATH` each.
        metrics: as given with `--metrics`; None = the default, measured on a GPU where Inception weights
            are found.

    Raises:
        SettingsError: for a name that there is not.
        ClassifierError: if a network that is needed is not there or is damaged.
    """
    from gan.features import PixelExtractor
    from gan.networks import choose_device
    from gan.quality import needed_extractors, parse_metrics

    paths = {name: Path(path) for name, _, path in (pair.partition("=") for pair in pairs)}
    if metrics is None:
        return _default_extractors(paths, device) if choose_device(device).type == "cuda" else {}
    found: dict[str, FeatureExtractor] = {}
    for name in sorted(needed_extractors(parse_metrics(metrics))):
        if name == PixelExtractor.name:
            found[name] = PixelExtractor()
        else:
            from classifier.features import open_extractor

            found[name] = open_extractor(name, paths.get(name), device)
    return found


def _default_extractors(paths: dict[str, Path], device: str) -> dict[str, FeatureExtractor]:
    """Inception, where its weights are; a path that was given must lead to them."""
    from classifier.errors import ClassifierError
    from classifier.features import open_extractor

    name = "inception"
    try:
        return {name: open_extractor(name, paths.get(name), device)}
    except ClassifierError:
        if name in paths:
            raise
        return {}  # the log of the training says so
