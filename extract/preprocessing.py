"""What is done to an archive's pixels before a network sees them: the settings, their presets, their file.

`extract.pixel_steps` does it. What must be measured (mean and deviation of the data set) is measured by
`classifier.preprocess`, on training images.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from extract.errors import SettingsError

VERSION = 2  # raised whenever the same settings would give other numbers; 1 had no steps
COLORS = ("keep", "gray", "rgb")
MASKS = ("none", "threshold", "otsu")
CROPS = ("none", "center", "content")
NORMALIZATIONS = ("dataset", "image", "imagenet", "symmetric", "unit")
_NORMALIZED = {
    "dataset": "standardised by the training images",
    "image": "standardised image by image",
    "imagenet": "standardised by ImageNet's numbers",
    "symmetric": "scaled to [-1, 1]",
    "unit": "scaled to [0, 1]",
}
MAX_SIZE = 1024  # pixels a side; networks see no more


def _require(is_met: bool, sentence: str) -> None:
    if not is_met:
        raise SettingsError(f"preprocessing: {sentence}")


@dataclass(frozen=True)
class PreprocessConfig:
    """The steps in the order in which they are done; the defaults do nothing but standardise."""

    color: str = "keep"  # gray: one channel; rgb: three
    mask: str = "none"  # what is not tissue becomes black; threshold: darker than `threshold`; otsu: its own
    threshold: int = 20  # gray level up to which a pixel is background, for mask and crop
    crop: str = "none"  # center: `crop_share` of the side; content: the square about the tissue
    crop_share: float = 1.0
    size: int | None = None  # side of the network's input, pixels; None = as the images are
    clahe_clip: float | None = None  # contrast limit of CLAHE; None = no CLAHE
    clahe_tiles: int = 8  # a side
    brightness: float = 1.0  # factor of all gray levels
    contrast: float = 1.0  # factor of the distance to the image's mean gray level
    normalize: str = "dataset"  # how numbers are scaled in the end, see docs/classifier.md

    def __post_init__(self) -> None:
        for name, allowed in (
            ("color", COLORS), ("mask", MASKS), ("crop", CROPS), ("normalize", NORMALIZATIONS),
        ):  # fmt: skip
            value = getattr(self, name)
            _require(value in allowed, f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        for name in ("threshold", "clahe_tiles", "size"):
            value = getattr(self, name)
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            _require(
                is_whole or (name == "size" and value is None),
                f"{name} must be a whole number, got {value!r}",
            )
        for name in ("crop_share", "clahe_clip", "brightness", "contrast"):
            value = getattr(self, name)
            is_number = (
                isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            )
            _require(
                is_number or (name == "clahe_clip" and value is None),
                f"{name} must be a number, got {value!r}",
            )
            if value is not None:
                object.__setattr__(self, name, float(value))  # 2 and 2.0 are written alike
        _require(0 <= self.threshold < 255, f"threshold must be in 0 ... 254, got {self.threshold}")
        _require(0 < self.crop_share <= 1, f"crop_share must be in (0, 1], got {self.crop_share:g}")
        _require(
            self.crop == "center" or self.crop_share == 1,
            f'crop_share goes with crop "center", got {self.crop_share:g} with crop "{self.crop}"',
        )
        _require(
            self.size is None or 8 <= self.size <= MAX_SIZE,
            f"size must be in 8 ... {MAX_SIZE}, got {self.size}",
        )
        _require(
            self.clahe_clip is None or 0 < self.clahe_clip <= 100,
            f"clahe_clip must be above 0 and at most 100, got {self.clahe_clip}",
        )
        _require(1 <= self.clahe_tiles <= 64, f"clahe_tiles must be in 1 ... 64, got {self.clahe_tiles}")
        for name in ("brightness", "contrast"):
            value = getattr(self, name)
            _require(0 < value <= 10, f"{name} must be above 0 and at most 10, got {value:g}")

    @property
    def changes_pixels(self) -> bool:
        """Whether there is any step before the final scaling."""
        return dataclasses.replace(self, normalize="dataset", threshold=20, clahe_tiles=8) != PLAIN

    def output_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of what comes out for images of (C, H, W)."""
        channels, height, width = image_shape
        channels = {"keep": channels, "gray": 1, "rgb": 3}[self.color]
        if self.size is not None:
            return channels, self.size, self.size
        return (
            (channels, height, width)
            if self.crop == "none"
            else (channels, min(height, width), min(height, width))
        )

    def describe(self) -> str:
        """The steps in words, in their order."""
        said = [
            {"keep": "", "gray": "gray", "rgb": "three channels"}[self.color],
            {"none": "", "threshold": f"masked above {self.threshold}", "otsu": "masked by Otsu"}[self.mask],
            {"none": "", "center": f"middle {self.crop_share:.0%}", "content": "cropped to content"}[
                self.crop
            ],
            f"{self.size} px" if self.size is not None else "",
            f"CLAHE {self.clahe_clip:g}, {self.clahe_tiles}x{self.clahe_tiles} tiles"
            if self.clahe_clip
            else "",
            f"brightness {self.brightness:g}" if self.brightness != 1 else "",
            f"contrast {self.contrast:g}" if self.contrast != 1 else "",
            _NORMALIZED[self.normalize],
        ]
        return ", ".join(text for text in said if text)

    def to_json(self) -> dict[str, Any]:
        """All settings with the version, as `--preprocessing FILE.json` takes them."""
        return {"version": VERSION, **asdict(self)}

    def differences(self) -> dict[str, Any]:
        """The version and what is not at its default: reads back alike, and stays when settings are added."""
        plain = asdict(PLAIN)
        return {name: value for name, value in self.to_json().items() if plain.get(name, None) != value}


PLAIN = PreprocessConfig()
# Parameters that a seed project states are its own; the others are customary, as docs/data.md says.
PRESETS: dict[str, PreprocessConfig] = {
    "plain": PLAIN,
    "clahe": PreprocessConfig(clahe_clip=2.0),
    "zscore": PreprocessConfig(normalize="image"),
    "brain-planes": PreprocessConfig(size=128, normalize="imagenet"),
    "lung": PreprocessConfig(color="gray", normalize="unit"),
    "pneumonia-backbone": PreprocessConfig(color="gray", clahe_clip=2.0, normalize="image"),
    "tumour-resnet50": PreprocessConfig(color="rgb", crop="content", size=224, normalize="imagenet"),
    "pneumonia-inceptionv3": PreprocessConfig(
        color="rgb", brightness=0.7, contrast=2.0, size=299, normalize="symmetric"
    ),
}


def parse_preprocessing(given: object) -> PreprocessConfig:
    """Steps from a preset's name, or from settings as a JSON or YAML file holds them.

    Raises:
        SettingsError: for an unknown name, setting or version.
    """
    if isinstance(given, PreprocessConfig):
        return given
    if isinstance(given, str):
        if given not in PRESETS:
            raise SettingsError(
                f"preprocessing must be one of {', '.join(PRESETS)}, or a file that ends in .json, got "
                f"{given!r}{_suggest(given, PRESETS)}"
            )
        return PRESETS[given]
    if not isinstance(given, Mapping):
        raise SettingsError(
            f"preprocessing must be a name or settings such as {{clahe_clip: 2}}, got {given!r:.80}"
        )
    settings = {str(key): value for key, value in given.items()}
    version = settings.pop("version", VERSION)
    if version != VERSION:
        raise SettingsError(
            f"preprocessing has version {version!r}, this release knows version {VERSION}; update "
            "synthlabel, or state the settings anew"
        )
    base = PRESETS["plain"]
    if "preset" in settings:
        base = parse_preprocessing(str(settings.pop("preset")))
    known = {field.name for field in dataclasses.fields(PreprocessConfig)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise SettingsError(
            f"preprocessing has no setting {unknown[0]!r}{_suggest(unknown[0], known)}; there are preset, "
            f"{', '.join(field.name for field in dataclasses.fields(PreprocessConfig))}"
        )
    return dataclasses.replace(base, **settings)


def load_preprocessing(given: str) -> PreprocessConfig:
    """Steps by the name of a preset, or from a file that ends in .json.

    Raises:
        SettingsError: if there is no such preset or file, or the file says anything unknown.
    """
    if not given.lower().endswith(".json"):
        return parse_preprocessing(given)
    try:
        content = json.loads(Path(given).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{given}: cannot read the preprocessing: {error.strerror or error}") from error
    except ValueError as error:
        raise SettingsError(f"{given}: expected settings in JSON, got something else ({error})") from error
    if not isinstance(content, dict):
        raise SettingsError(
            f'{given}: expected settings such as {{"clahe_clip": 2}}, got {type(content).__name__}'
        )
    try:
        return parse_preprocessing(content)
    except SettingsError as error:
        raise SettingsError(f"{given}: {error}") from error


def _suggest(word: str, known: Any) -> str:
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
