"""What images are compared by: feature extractors, which are passed in, and one that needs no weights."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch.nn import functional

from gan.errors import GanError

PIXEL_SIDE = 16  # of the small pictures that `pixels` compares
SPECTRUM_SIDE, NUM_WAVES = 32, 9  # pixels, and waves a side that `spectrum` keeps


class FeatureExtractor(Protocol):
    """A fixed way from images to rows of numbers; `name` stands behind the @ of every figure made with it."""

    @property
    def name(self) -> str: ...

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights, so that two networks of one name are told apart."""
        ...

    def features(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) uint8 to (N, D) float32; grey is repeated where it takes colour."""
        ...


@runtime_checkable
class ClassProbabilities(Protocol):
    """An extractor that also classifies, for the inception score."""

    def class_probs(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) uint8 to probabilities (N, classes); rows sum to 1."""
        ...


@runtime_checkable
class PathDistance(Protocol):
    """An extractor that also tells how far two images are apart that differ by less than a grey level."""

    def squared_distances(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Two sets (N, C, H, W) float32, 0 ... 255, to N distances, quadratic in the difference."""
        ...


@runtime_checkable
class TaughtOnSubjects(Protocol):
    """An extractor that was trained on subjects of an archive and must not judge on those it learned from."""

    @property
    def train_subjects(self) -> Sequence[str]: ...

    @property
    def val_subjects(self) -> Sequence[str]: ...

    @property
    def archive_sha256(self) -> str: ...


class PixelExtractor:
    """Blurred intensities on a grid of 16x16: crude, but always there, and blind to fine texture only."""

    name = "pixels"
    weights_sha256 = hashlib.sha256(f"pixels: binomial 3x3, mean to {PIXEL_SIDE}".encode()).hexdigest()

    def features(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) uint8 to (N, C * 256) float32, intensities on the scale 0 ... 1."""
        return _blurred(torch.from_numpy(np.ascontiguousarray(images)).float()).numpy()

    def squared_distances(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Mean squared difference of the blurred intensities."""
        a, b = (_blurred(torch.from_numpy(np.ascontiguousarray(side))) for side in (first, second))
        return (a - b).double().square().mean(dim=1).numpy()


class SpectrumExtractor:
    """Strengths of the coarse waves in a picture: the same wherever the picture is moved to.

    With it the audit finds shifted copies, which lie far from their original by intensities.
    """

    name = "spectrum"
    weights_sha256 = hashlib.sha256(f"spectrum: {SPECTRUM_SIDE} of {NUM_WAVES}".encode()).hexdigest()

    def features(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) uint8 to (N, D) float32."""
        grey = torch.from_numpy(np.ascontiguousarray(images)).float().mean(dim=1, keepdim=True) / 255
        small = functional.adaptive_avg_pool2d(grey, SPECTRUM_SIDE)[:, 0]
        waves = torch.fft.rfft2(small, norm="ortho").abs()  # (N, side, side / 2 + 1)
        low = torch.cat([waves[:, :NUM_WAVES, :NUM_WAVES], waves[:, -NUM_WAVES + 1 :, :NUM_WAVES]], dim=1)
        return low.flatten(1).numpy()


def _blurred(images: torch.Tensor) -> torch.Tensor:
    channels = images.shape[1]
    row = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(row, row).expand(channels, 1, 3, 3)
    padded = functional.pad(images / 255, (1, 1, 1, 1), mode="replicate")
    smooth = functional.conv2d(padded, kernel, groups=channels)
    return functional.adaptive_avg_pool2d(smooth, PIXEL_SIDE).flatten(1)  # (N, C * 256)


def extract_features(
    measure: Callable[[np.ndarray], np.ndarray],
    num: int,
    read: Callable[[np.ndarray], np.ndarray],
    batch_size: int,
    report: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """Features of `num` images batch by batch, so that the images are never in memory together.

    Args:
        measure: images (n, C, H, W) uint8 to rows (n, D), for instance an extractor's `features`.
        read: places (n,) int64 in 0 ... num - 1 to images.
        report: told how many images a batch had.
    """
    rows: np.ndarray | None = None
    for start in range(0, num, batch_size):
        places = np.arange(start, min(start + batch_size, num))
        part = checked_rows(measure(read(places)), len(places))
        if rows is None:
            rows = np.empty((num, part.shape[1]), dtype=np.float32)
        rows[places] = part
        report(len(places))
    assert rows is not None
    return rows


def checked_rows(rows: np.ndarray, num_images: int) -> np.ndarray:
    """The features themselves, once they are one finite row an image.

    Raises:
        GanError: if they are not: every figure made from them would be meaningless.
    """
    if rows.ndim != 2 or len(rows) != num_images:
        raise GanError(f"expected features of shape ({num_images}, D) from the extractor, got {rows.shape}")
    if not np.isfinite(rows).all():
        raise GanError(
            "expected finite features from the extractor, got NaN or infinite ones; its weights are damaged"
        )
    return rows
