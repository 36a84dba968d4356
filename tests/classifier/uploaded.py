"""Files as a browser sends them."""

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from extract.nrrd_writer import write_nrrd


def png_bytes(size: int = 32, seed: int = 0) -> bytes:
    """A gray picture of noise."""
    return as_png(np.random.default_rng(seed).integers(60, 200, (size, size)).astype(np.uint8))


def as_png(pixels: np.ndarray) -> bytes:
    """A PNG of (H, W) or (H, W, 3) uint8."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def nrrd_bytes(side: int = 24) -> bytes:
    """A ball in the dark, 4 mm a voxel."""
    grid = np.indices((side,) * 3) - (side - 1) / 2
    radius = np.sqrt((grid**2).sum(axis=0))
    noise = np.random.default_rng(0).integers(0, 20, radius.shape)
    voxels = np.where(radius < side / 3, 180 + noise, noise // 4).astype(np.uint8)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ball.nrrd"
        write_nrrd(path, voxels, np.diag([4.0, 4.0, 4.0, 1.0]))
        return path.read_bytes()
