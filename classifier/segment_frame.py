"""Pictures of any size and shape in the network's square, and what the network found there back again."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Frame:
    """Where a picture of (height, width) pixels lies in a square of `size`: scaled, in the middle."""

    height: int
    width: int
    size: int

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width of the picture within the square."""
        longer = max(self.height, self.width)
        return (
            max(1, round(self.height * self.size / longer)),
            max(1, round(self.width * self.size / longer)),
        )

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the square that the picture fills."""
        height, width = self.inner
        top, left = (self.size - height) // 2, (self.size - width) // 2
        return slice(top, top + height), slice(left, left + width)

    def put(self, pixels: np.ndarray, *, is_mask: bool = False) -> np.ndarray:
        """(height, width) uint8 to (size, size) uint8, black around; the aspect is kept.

        A mask of 0 and 255 becomes the share of mask in each pixel.
        """
        square = np.zeros((self.size, self.size), np.uint8)
        square[self.place] = _scale(pixels, self.inner, cv2.INTER_LINEAR if is_mask else cv2.INTER_CUBIC)
        return square

    def take_back(self, values: np.ndarray) -> np.ndarray:
        """(size, size) float32 to (height, width) float32."""
        return _scale(np.ascontiguousarray(values[self.place]), (self.height, self.width), cv2.INTER_LINEAR)


def _scale(values: np.ndarray, shape: tuple[int, int], growing: int) -> np.ndarray:
    """Area averages where the picture shrinks, which do not alias; `growing` where a side grows."""
    if values.shape == shape:
        return values
    shrinks = values.shape[0] >= shape[0] and values.shape[1] >= shape[1]
    return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_AREA if shrinks else growing)
