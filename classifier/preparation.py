"""How a classifier's training images were made of pictures or volumes: new input goes the same way.

The settings come from the training archive and are kept in `model.json`; of runs from before that, they are
read from an archive that was made alike, or given one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from classifier.errors import ClassifierError
from classifier.preprocess import Preprocessing
from extract.errors import SettingsError
from extract.images import FITS, ImageConfig
from extract.planes import SliceConfig

# Of an archive's preparation: long, and no settings.
NOT_KEPT = ("left_out", "shape_clue", "implausible", "phantom")


class Prepared(Protocol):
    """What knows how its images were made: a `Classifier`, or an exported one."""

    @property
    def preprocessing(self) -> Preprocessing: ...

    @property
    def preparation(self) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True)
class InputSettings:
    """The way from a file to an image as archives hold it."""

    size: int  # pixels a side
    rgb: bool
    fit: str | None = None  # of pictures, see ImageConfig; None = unknown: they must be square
    slices: SliceConfig | None = None  # of volumes, field of view included; None = unknown
    made_from: str = ""  # "images", "volumes", or what else the archive says; empty = unknown
    is_masked: bool = False  # the training images were masked afterwards, which new files are not

    def __post_init__(self) -> None:
        if self.fit is not None and self.fit not in FITS:
            raise SettingsError(f"--fit must be one of {', '.join(FITS)}, got {self.fit!r}")

    @property
    def picture(self) -> ImageConfig:
        """The settings for pictures; where `fit` is unknown, whichever: square ones come out alike."""
        return ImageConfig(size=self.size, rgb=self.rgb, fit=self.fit or "pad")


@dataclass(frozen=True)
class SliceChoice:
    """What a user may say of slicing where the run does not."""

    planes: tuple[str, ...] | None = None
    angles_deg: tuple[float, ...] | None = None
    slices_per_plane: int | None = None
    step_mm: float | None = None
    fov_mm: float | None = None

    def given(self) -> dict[str, Any]:
        """What was said, by the names of `SliceConfig`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def kept_settings(preparation: Mapping[str, Any]) -> dict[str, Any]:
    """What `model.json` keeps of an archive's preparation: the settings, without lists of files."""
    return {name: value for name, value in preparation.items() if name not in NOT_KEPT}


def input_settings(
    classifier: Prepared,
    *,
    like: Path | None = None,
    fit: str | None = None,
    slicing: SliceChoice | None = None,
) -> InputSettings:
    """How files become images for this classifier.

    Args:
        like: an archive that was made as the training's, where the run does not record it.
        fit: of pictures, instead of what is recorded.
        slicing: of volumes, each value instead of what is recorded.

    Raises:
        ClassifierError: if the archive `like` holds images of another size or other channels.
        SettingsError: if a setting is not allowed.
    """
    steps = classifier.preprocessing
    if steps.height != steps.width:
        raise ClassifierError(
            f"the classifier takes images of {steps.width}x{steps.height} pixels, which no archive holds: "
            "use it from Python, with images of that shape"
        )
    known: Mapping[str, Any] = classifier.preparation or {}
    if like is not None:
        known = _settings_of(like, (steps.channels, steps.height, steps.width))
    made_from = str(known.get("kind") or "")
    chosen = (slicing or SliceChoice()).given()
    slices = None
    if made_from == "volumes" or "planes" in chosen:
        rgb = {"rgb": "gray"} if steps.channels == 3 else {}
        recorded = _slice_settings(known) if made_from == "volumes" else {"size": steps.height, **rgb}
        if "step_mm" in chosen:
            recorded["slices_per_plane"] = None
        slices = SliceConfig(**{**recorded, **chosen, "noise_share": 1.0})  # no slice is left out
    elif chosen:
        raise SettingsError(
            f"--{next(iter(chosen)).replace('_deg', '').replace('_', '-')} says how volumes are sliced: name "
            "the planes with --planes as well, or an archive made alike with --like"
        )
    is_masked = bool(known.get("segment")) and fit is None and not chosen  # else the user knows better
    if fit is None and made_from == "images":
        fit = str(known.get("fit", "pad"))
    return InputSettings(steps.height, steps.channels == 3, fit, slices, made_from, is_masked)


def _slice_settings(known: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(SliceConfig)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
    return {name: value for name, value in values.items() if name in names}


def _settings_of(like: Path, shape: tuple[int, int, int]) -> Mapping[str, Any]:
    from extract.archive import open_archive

    with open_archive(like) as archive:
        if archive.image_shape != shape:
            raise ClassifierError(
                f"{like}: expected images of shape {shape} (channels, height, width) as in training, got "
                f"{archive.image_shape}: --like wants an archive made as the training's was"
            )
        return archive.preparation
