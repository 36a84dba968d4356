"""What a mask does to a picture: outside goes, or inside; a margin stays; the rest is cropped away."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from extract.errors import SettingsError
from extract.resample import resample

OUTSIDES = ("black", "mean")
SIDES = ("lungs", "surroundings")
IMPLAUSIBLE = ("keep", "drop")


@dataclass(frozen=True)
class ApplyConfig:
    """How masks are applied."""

    keep: str = "lungs"  # or "surroundings": everything but the lungs, as a control
    outside: str = "black"  # or "mean": the mean gray level of what is kept, picture by picture
    margin: int = 0  # pixels around the lungs that stay
    crop: bool = False  # to the lungs, a square of the archive's size
    min_lungs: int = 2  # fewer than so many are implausible
    implausible: str = "keep"  # such pictures stay as they were; or "drop"

    def __post_init__(self) -> None:
        for name, allowed in (("keep", SIDES), ("outside", OUTSIDES), ("implausible", IMPLAUSIBLE)):
            value = getattr(self, name)
            if value not in allowed:
                raise SettingsError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if self.margin < 0:
            raise SettingsError(f"margin must not be negative, got {self.margin}")
        if self.min_lungs not in (1, 2):
            raise SettingsError(f"min_lungs must be 1 or 2, got {self.min_lungs}")
        if self.crop and self.keep != "lungs":
            raise SettingsError(
                "crop goes with the lungs, not with their surroundings: leave one of them out"
            )


def widen_mask(mask: np.ndarray, margin: int) -> np.ndarray:
    """The mask and all pixels at most `margin` pixels away from it."""
    if margin == 0 or not mask.any():
        return mask
    return ndimage.distance_transform_edt(~mask) <= margin


def keep_lungs(pixels: np.ndarray, mask: np.ndarray, config: ApplyConfig) -> np.ndarray:
    """(C, H, W) uint8 with all that is not kept in one level; what is kept has the same values as before."""
    kept = mask if config.keep == "lungs" else ~mask
    made = pixels.copy()
    for channel in made:
        level = 0
        if config.outside == "mean" and kept.any():
            level = round(float(channel[kept].mean()))
        channel[~kept] = level
    return made


def crop_pixels(pixels: np.ndarray, mask: np.ndarray, *, square: bool) -> np.ndarray:
    """The box about the mask; where `square`, a square about it, brought to the picture's size.

    The square is moved into the picture, so that nothing has to be made up; pictures are square then.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    if not square:
        return np.ascontiguousarray(pixels[:, top:bottom, left:right])
    size = pixels.shape[1]
    side = max(bottom - top, right - left)
    top = min(max(0, (top + bottom - side) // 2), size - side)
    left = min(max(0, (left + right - side) // 2), size - side)
    cut = pixels[:, top : top + side, left : left + side]
    return np.stack([resample(np.ascontiguousarray(channel), size) for channel in cut])
