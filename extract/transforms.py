"""How the dataset tool brings pictures to one size: crop, resize, letterbox."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from extract.errors import SettingsError

TRANSFORMS = ("center-crop", "center-crop-wide")
FILTERS = {"box": Image.Resampling.BOX, "lanczos": Image.Resampling.LANCZOS}
MAX_SIDE = 8192


@dataclass(frozen=True)
class Transform:
    """The official settings."""

    kind: str | None = None  # None = resize alone, where a width or height is given
    width: int | None = None  # pixels
    height: int | None = None
    resize_filter: str = "lanczos"

    def __post_init__(self) -> None:
        if self.kind not in (None, *TRANSFORMS):
            raise SettingsError(f"--transform must be one of {', '.join(TRANSFORMS)}, got '{self.kind}'")
        if self.resize_filter not in FILTERS:
            raise SettingsError(
                f"--resize-filter must be one of {', '.join(FILTERS)}, got '{self.resize_filter}'"
            )
        for flag, side in (("--width", self.width), ("--height", self.height)):
            if side is not None and not 1 <= side <= MAX_SIDE:
                raise SettingsError(f"{flag} must be between 1 and {MAX_SIDE}, got {side}")
        if self.kind is not None and (self.width is None or self.height is None):
            raise SettingsError(f"must specify --width and --height when using --transform={self.kind}")
        if self.kind == "center-crop-wide" and (self.width or 0) < (self.height or 0):
            raise SettingsError(
                "--transform=center-crop-wide puts a wide picture on a square of its width, so that --width "
                f"must not be below --height, got {self.width} and {self.height}"
            )

    def apply(self, pixels: np.ndarray) -> np.ndarray | None:
        """(H, W) or (H, W, 3) uint8 to the picture to store; None = too small for center-crop-wide."""
        height, width = pixels.shape[:2]
        if self.kind is None:
            return self._resize(pixels, self.width or width, self.height or height)
        assert self.width is not None and self.height is not None
        if self.kind == "center-crop":
            side = min(height, width)
            return self._resize(_center(pixels, side, side), self.width, self.height)
        wide = min(width, round(height * self.width / self.height))
        high = min(height, round(width * self.height / self.width))
        if wide < self.width or high < self.height:
            return None
        picture = self._resize(_center(pixels, wide, high), self.width, self.height)
        canvas = np.zeros((self.width, self.width, *pixels.shape[2:]), np.uint8)
        top = (self.width - self.height) // 2
        canvas[top : top + self.height] = picture
        return canvas

    def _resize(self, pixels: np.ndarray, width: int, height: int) -> np.ndarray:
        if pixels.shape[:2] == (height, width):
            return np.ascontiguousarray(pixels)
        resized = Image.fromarray(pixels).resize((width, height), FILTERS[self.resize_filter])
        return np.asarray(resized)


def _center(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """The middle of a picture."""
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])
