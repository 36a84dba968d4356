"""Pixels to a square of another size, as everywhere in this project."""

import cv2
import numpy as np


def resample(pixels: np.ndarray, size: int) -> np.ndarray:
    """Bring (H, W) or (H, W, C) uint8 to (size, size[, C]); what is that large already stays as it is.

    Area averaging does not alias where a picture shrinks; where a side grows, a cubic keeps edges.
    """
    if pixels.shape[:2] == (size, size):
        return np.ascontiguousarray(pixels)
    shrinks = min(pixels.shape[:2]) >= size
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
