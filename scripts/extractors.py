"""The networks that measures look through: `--extractor NAME=PATH`, shared by the commands of `gan`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gan.features import FeatureExtractor

METAVAR = "NAME=PATH"
HELP = "Weights of inception, vgg16 or dinov2, or task=RUN of `classifier train`; may be repeated."


def extractor_option(help_text: str = HELP) -> Callable[[Any], Any]:
    """The option `--extractor`, given to its command as `extractor_paths`: paths by name."""
    return click.option(
        "--extractor",
        "extractor_paths",
        multiple=True,
        callback=_named_paths,
        metavar=METAVAR,
        help=help_text,
    )


def _named_paths(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    paths = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not (name and equals and path):
            raise click.BadParameter(f"expected NAME=PATH such as task=runs/teacher, got '{value}'")
        paths[name] = Path(path)
    return paths


def open_extractors(
    names: Iterable[str], paths: Mapping[str, Path], device: str
) -> dict[str, FeatureExtractor]:
    """Load the named extractors, and nothing else: loading takes seconds.

    Args:
        paths: of weights or a classifier run, by name; the others are looked for in the caches.

    Raises:
        SettingsError: for a name that there is not.
        ClassifierError: if a network is not there or is damaged.
    """
    from gan.features import PixelExtractor

    found: dict[str, FeatureExtractor] = {}
    for name in sorted(names):
        if name == PixelExtractor.name:
            found[name] = PixelExtractor()
        else:
            from classifier.features import open_extractor

            found[name] = open_extractor(name, paths.get(name), device)
    return found


def open_one_extractor(paths: Mapping[str, Path], device: str, purpose: str) -> FeatureExtractor:
    """The one extractor that was given, or plain intensities.

    Raises:
        SettingsError: if there is more than one.
    """
    from extract.errors import SettingsError

    if len(paths) > 1:
        raise SettingsError(f"--extractor: expected one for {purpose}, got {', '.join(paths)}")
    name = next(iter(paths), "pixels")
    return open_extractors({name}, paths, device)[name]


def open_training_extractors(
    pairs: Sequence[str], metrics: str | None, device: str = "auto"
) -> dict[str, FeatureExtractor]:
    """What the measures of a training need.

    Args:
        pairs: `NAME=PATH` each.
        metrics: as given with `--metrics`; None = the default, measured on a GPU where Inception weights
            are found.

    Raises:
        SettingsError: for a name that there is not.
        ClassifierError: if a network that is needed is not there or is damaged.
    """
    from gan.metric_names import needed_extractors, parse_metrics
    from gan.networks import choose_device

    paths = {name: Path(path) for name, _, path in (pair.partition("=") for pair in pairs)}
    if metrics is None:
        return _default_extractors(paths, device) if choose_device(device).type == "cuda" else {}
    return open_extractors(needed_extractors(parse_metrics(metrics)), paths, device)


def _default_extractors(paths: Mapping[str, Path], device: str) -> dict[str, FeatureExtractor]:
    """Inception, where its weights are; a path that was given must lead to them."""
    from classifier.errors import ClassifierError

    name = "inception"
    try:
        return open_extractors({name}, paths, device)
    except ClassifierError:
        if name in paths:
            raise
        return {}  # the log of the training says so
