"""Toy images whose class a small network learns in seconds: a dark horizontal or vertical band, or none."""

import numpy as np

from classifier.data import ImageTable, LabeledImages

CLASSES = ("flat", "horizontal", "vertical")


def toy_pixels(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """(N, 1, size, size) uint8 noise with the band of each label."""
    pixels = np.random.default_rng(seed).integers(80, 200, (len(labels), 1, size, size)).astype(np.uint8)
    band = slice(size // 4, size // 2)
    pixels[labels == 1, :, band] //= 2
    pixels[labels == 2, :, :, band] //= 2
    return pixels


def toy_images(num_images: int, seed: int, size: int = 16) -> LabeledImages:
    """Real images with expert labels, two a subject, classes in turn."""
    labels = np.arange(num_images, dtype=np.int64) % len(CLASSES)
    return LabeledImages(
        images=ImageTable(toy_pixels(labels, size, seed)),
        labels=labels,
        subjects=np.array([f"s{seed}-{index // 2}" for index in range(num_images)]),
        origin=np.full(num_images, "real"),
        is_pseudo=np.zeros(num_images, dtype=bool),
    )
