"""What happens to an archive's pixels before a network sees them: one list of steps, alike for all commands.

The steps work on uint8 images one by one, so that neither batches nor their order change a result. What must
be measured (mean and deviation of the data set) is measured by `classifier.preprocess`, on training images.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from extract.errors import SettingsError
from extract.resample import resample
from extract.tissue import tissue_mask

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
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
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


def apply_steps(pixels: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """Do all steps but the final scaling.

    Args:
        pixels: (N, C, H, W) uint8, C = 1 or 3 (RGB); not changed.

    Returns:
        (N, *output_shape) uint8; each image depends on itself alone.
    """
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or pixels.shape[1] not in (1, 3):
        raise ValueError(f"pixels must be (N, 1 or 3, H, W) uint8, got {pixels.shape} {pixels.dtype}")
    if not len(pixels):
        return np.empty((0, *config.output_shape(pixels.shape[1:])), np.uint8)
    if config.color == "gray" and pixels.shape[1] == 3:
        pixels = gray_levels(pixels)[:, None]
    if config.mask != "none" or config.crop != "none" or config.size is not None:
        pixels = _each(pixels, config, _place)
    if config.clahe_clip is not None:
        pixels = _each(pixels, config, _equalize)
    if config.brightness != 1 or config.contrast != 1:
        pixels = _each(pixels, config, _brighten)
    if config.color == "rgb" and pixels.shape[1] == 1:  # last: a third of the work
        pixels = np.repeat(pixels, 3, axis=1)
    return pixels


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


def gray_levels(pixels: np.ndarray) -> np.ndarray:
    """(N, 3, H, W) uint8 RGB to (N, H, W) uint8, to the bit as Pillow does; (N, 1, H, W) as it is."""
    if pixels.shape[1] == 1:
        return pixels[:, 0]
    red, green, blue = (pixels[:, k].astype(np.uint32) for k in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16).astype(np.uint8)


class _Step(Protocol):
    def __call__(self, image: np.ndarray, config: PreprocessConfig) -> np.ndarray: ...


def _each(pixels: np.ndarray, config: PreprocessConfig, step: _Step) -> np.ndarray:
    """A step of OpenCV's, image by image: (H, W) or (H, W, 3) in and out."""
    results = []
    for image in pixels:
        planes = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
        made = step(planes, config)
        results.append(made[None] if made.ndim == 2 else made.transpose(2, 0, 1))
    return np.stack(results)


def _place(image: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """Mask, crop and resize one image; a crop without a size is brought back to the image's shorter side."""
    tissue = None
    if config.mask != "none" or config.crop == "content":
        gray = image if image.ndim == 2 else gray_levels(image.transpose(2, 0, 1)[None])[0]
        tissue = tissue_mask(gray, None if config.mask == "otsu" else config.threshold)
    if config.mask != "none" and tissue is not None:
        image = np.where(tissue if image.ndim == 2 else tissue[:, :, None], image, np.uint8(0))
    size = config.size or (min(image.shape[:2]) if config.crop != "none" else None)
    if config.crop == "center":
        side = max(1, round(min(image.shape[:2]) * config.crop_share))
        image = _cut(image, (image.shape[0] - side) // 2, (image.shape[1] - side) // 2, side)
    elif config.crop == "content" and tissue is not None:
        image = _cut(image, *_content_square(tissue))
    return image if size is None else resample(image, size)


def _content_square(tissue: np.ndarray) -> tuple[int, int, int]:
    """Top, left and side of the smallest square about the tissue, moved into the image where it fits."""
    rows, columns = np.flatnonzero(tissue.any(axis=1)), np.flatnonzero(tissue.any(axis=0))
    side = int(max(rows[-1] - rows[0], columns[-1] - columns[0])) + 1
    corner = []
    for found, length in ((rows, tissue.shape[0]), (columns, tissue.shape[1])):
        start = int(found[0] + found[-1] + 1 - side) // 2
        corner.append(min(max(start, 0), length - side) if side <= length else (length - side) // 2)
    return corner[0], corner[1], side


def _cut(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """A square of the image; what lies outside it is black."""
    height, width = image.shape[:2]
    above, before = max(0, -top), max(0, -left)
    below, behind = max(0, top + side - height), max(0, left + side - width)
    part = image[max(top, 0) : top + side, max(left, 0) : left + side]
    if above or before or below or behind:
        pad = [(above, below), (before, behind)] + [(0, 0)] * (image.ndim - 2)
        part = np.pad(part, pad)
    return np.ascontiguousarray(part)


def _equalize(image: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """CLAHE; in color on the lightness alone, so that hues stay.

    Source: Zuiderveld 1994, "Contrast limited adaptive histogram equalization", Graphics Gems IV.
    """
    assert config.clahe_clip is not None
    equalizer = cv2.createCLAHE(config.clahe_clip, (config.clahe_tiles, config.clahe_tiles))
    if image.ndim == 2:
        return equalizer.apply(np.ascontiguousarray(image))
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[:, :, 0] = equalizer.apply(np.ascontiguousarray(lab[:, :, 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def _brighten(image: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """Brightness, then contrast about the image's own mean gray level, rounded, as photo editors do."""
    levels = np.arange(256, dtype=np.float64)
    image = cv2.LUT(np.ascontiguousarray(image), _round(levels * config.brightness))
    if config.contrast == 1:
        return image
    gray = image if image.ndim == 2 else gray_levels(image.transpose(2, 0, 1)[None])[0]
    middle = np.floor(gray.mean() + 0.5)
    return cv2.LUT(image, _round(middle + (levels - middle) * config.contrast))


def _round(values: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def _suggest(word: str, known: Any) -> str:
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
