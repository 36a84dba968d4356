"""The steps of a preprocessing on uint8 images, one by one: batches and their order change no result."""

from typing import Protocol

import cv2
import numpy as np

from extract.preprocessing import PreprocessConfig
from extract.resample import resample
from extract.tissue import tissue_mask


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
        image = _cut(image, *_center_square(image, config))
    elif config.crop == "content" and tissue is not None:
        image = _cut(image, *_content_square(tissue))
    return image if size is None else resample(image, size)


def place_mask(image: np.ndarray, mask: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """Crop and resize a mask of an image as the steps crop and resize the image.

    Args:
        image: (C, H, W) uint8, as the steps are given it.
        mask: (H, W) uint8; its values stay what they are.

    Returns:
        (h, w) uint8 of the steps' output size.
    """
    size = config.size or (min(mask.shape) if config.crop != "none" else None)
    if config.crop == "center":
        mask = _cut(mask, *_center_square(mask, config))
    elif config.crop == "content":
        tissue = tissue_mask(gray_levels(image[None])[0], None if config.mask == "otsu" else config.threshold)
        mask = _cut(mask, *_content_square(tissue))
    return mask if size is None else cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)


def _center_square(image: np.ndarray, config: PreprocessConfig) -> tuple[int, int, int]:
    """Top, left and side of the square in the middle."""
    side = max(1, round(min(image.shape[:2]) * config.crop_share))
    return (image.shape[0] - side) // 2, (image.shape[1] - side) // 2, side


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
