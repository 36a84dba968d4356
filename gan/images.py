"""Pictures and grids of them: pixels from what a network makes, into files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from extract.atomic import replace_file
from extract.errors import name_some
from gan.data import TrainingImages
from gan.errors import GanError

GRID_WIDTH_PX, GRID_HEIGHT_PX = 7680, 4320  # the official grids fill a screen of this size
GRID_SEED = 0


def official_grid_size(width: int, height: int) -> tuple[int, int]:
    """Columns and rows of the official grids: as many as fit, 7 to 32 and 4 to 32."""
    return min(max(GRID_WIDTH_PX // width, 7), 32), min(max(GRID_HEIGHT_PX // height, 4), 32)


def choose_grid_items(data: TrainingImages, columns: int, rows: int) -> np.ndarray:
    """Items (columns * rows,) of the training data to show: any for unlabeled data, else one class a row."""
    random = np.random.RandomState(GRID_SEED)
    if data.c_dim == 0:
        order = np.arange(len(data))
        random.shuffle(order)
        return np.resize(order, columns * rows)
    groups = []
    labels = data.labels[data.rows[np.arange(len(data)) % len(data.rows)]]  # (len(data),)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        random.shuffle(members)
        groups.append(members)
    shown = []
    for row in range(rows):  # the next `columns` of a class each time its turn comes
        members = groups[row % len(groups)]
        start = row // len(groups) * columns
        shown.append(members[np.arange(start, start + columns) % len(members)])
    return np.concatenate(shown)


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Float images in [-1, 1] to uint8: 127.5 x + 128 truncated, which rounds to the nearest level."""
    return np.clip(images * 127.5 + 128, 0, 255).astype(np.uint8)


def tile(images: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """(columns * rows, C, H, W) to one picture (rows * H, columns * W) or (..., 3), without borders."""
    _, channels, height, width = images.shape
    picture = images.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    picture = picture.reshape(rows * height, columns * width, channels)
    return picture[..., 0] if channels == 1 else picture


def save_grid(path: Path, images: np.ndarray, columns: int, rows: int) -> None:
    """Write uint8 images (columns * rows, C, H, W) as one PNG."""
    save_png(path, tile(images, columns, rows))


def save_png(path: Path, picture: np.ndarray) -> None:
    """Write (H, W) or (H, W, 3) uint8 pixels."""
    with replace_file(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def channels_last(pixels: np.ndarray) -> np.ndarray:
    """(C, H, W) to (H, W) or (H, W, 3)."""
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))


def prepare_outdir(outdir: Path, names: Sequence[str], overwrite: bool) -> None:
    """Make the folder, unless one of the files to come stands there and may not be replaced.

    Raises:
        GanError: naming those that exist.
    """
    there = [name for name in names if (outdir / name).exists()]
    if there and not overwrite:
        raise GanError(
            f"{outdir}: {name_some(there)} exist already and are left alone; choose another folder or pass "
            "--overwrite"
        )
    outdir.mkdir(parents=True, exist_ok=True)
