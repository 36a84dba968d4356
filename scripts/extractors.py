"""The networks that quality measures look through, from `--extractor NAME=PATH`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from extract.errors import SettingsError

if TYPE_CHECKING:
    from gan.features import FeatureExtractor

EXTRACTORS = ("task", "pixels")


def load_extractors(
    pairs: Sequence[str], metrics: str | None, device: str = "auto"
) -> "dict[str, FeatureExtractor]":
    """Load what the metrics need, and nothing else: loading takes seconds.

    Args:
        pairs: `NAME=PATH` each.
        metrics: as given with `--metrics`; None = the default, for which all that is given is loaded.

    Raises:
        SettingsError: for a name that there is not.
        ClassifierError: if the task extractor is no finished classifier run.
    """
    from gan.features import PixelExtractor
    from gan.quality import needed_extractors, parse_metrics

    paths = {name: path for name, _, path in (pair.partition("=") for pair in pairs)}
    unknown = sorted(set(paths) - set(EXTRACTORS))
    if unknown:
        raise SettingsError(
            f"--extractor must be one of {', '.join(EXTRACTORS)} with its path, got '{unknown[0]}'"
        )
    needed = set(paths) if metrics is None else needed_extractors(parse_metrics(metrics))
    found: dict[str, FeatureExtractor] = {}
    if "pixels" in needed:
        found["pixels"] = PixelExtractor()
    if "task" in needed and "task" in paths:
        from classifier.features import task_extractor

        found["task"] = task_extractor(Path(paths["task"]), device)
    return found
