"""Pictures of people who look alike, and what makes a near duplicate of a picture."""

from collections.abc import Callable

import cv2
import numpy as np


def people(count: int, size: int = 64, seed: int = 0) -> np.ndarray:
    """(count, size, size) uint8: one organ in all, with structure of each person's own."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    organ = 90.0 * ((rows / 0.9) ** 2 + (columns / 0.75) ** 2 < 1) + 40 * np.exp(-((columns / 0.15) ** 2))
    pictures = []
    for _ in range(count):
        own = sum(
            strength * cv2.GaussianBlur(rng.standard_normal((size, size)), (0, 0), sigma) * sigma
            for sigma, strength in ((1.5 * size / 64, 35), (4 * size / 64, 30))
        )
        noise = rng.normal(0, 3, (size, size))
        pictures.append((20 + organ + own * (organ > 10) + noise).clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


def shift(pixels: np.ndarray, down: float, across: float) -> np.ndarray:
    """Moved by pixels, fractions too; what comes in is black."""
    matrix = np.array([[1, 0, across], [0, 1, down]], np.float32)
    return cv2.warpAffine(pixels, matrix, pixels.shape[::-1])


def sharpen(pixels: np.ndarray) -> np.ndarray:
    """Unsharp mask of full strength."""
    smooth = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), 1.5)
    return (2.0 * pixels - smooth).clip(0, 255).astype(np.uint8)


def brighten(pixels: np.ndarray) -> np.ndarray:
    """Contrast by 1.25 and 25 gray levels more, cut at white."""
    return (pixels.astype(np.float32) * 1.25 + 25).clip(0, 255).astype(np.uint8)


def darken(pixels: np.ndarray) -> np.ndarray:
    """A gamma of 1.5."""
    return (255 * (pixels / 255.0) ** 1.5).astype(np.uint8)


def save_again(pixels: np.ndarray, quality: int = 60) -> np.ndarray:
    """As JPEG of low quality."""
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


ALTERATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored": lambda pixels: pixels[:, ::-1],
    "upside down": lambda pixels: pixels[::-1],
    "turned by 90": lambda pixels: np.rot90(pixels),
    "turned by 270": lambda pixels: np.rot90(pixels, 3),
    "turned by 180": lambda pixels: np.rot90(pixels, 2),
    "transposed": lambda pixels: pixels.T,
    "sharpened": sharpen,
    "brightened": brighten,
    "gamma": darken,
    "shifted": lambda pixels: shift(pixels, 0.02 * len(pixels), -0.03 * len(pixels)),
    "saved again": save_again,
    "mirrored, brightened, shifted": lambda p: shift(brighten(p[:, ::-1]), -0.02 * len(p), 0.015 * len(p)),
    "turned, sharpened, saved": lambda pixels: save_again(sharpen(np.ascontiguousarray(np.rot90(pixels)))),
}


def alter(pixels: np.ndarray, name: str) -> np.ndarray:
    """The altered picture as an array of its own."""
    return np.ascontiguousarray(ALTERATIONS[name](np.ascontiguousarray(pixels)))
