"""MNIST as distributed: `train-images-idx3-ubyte.gz` and its labels beside it."""

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from extract.errors import ExtractError
from extract.sources import Source, SourceImage

LABELS_NAME = "train-labels-idx1-ubyte.gz"
SIDE = 32  # pixels a side of the padded images
MAX_NUM_IMAGES = 10_000_000
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
GZIP_ERRORS = (OSError, EOFError, zlib.error)


def open_mnist(path: Path) -> Source:
    """The training digits with their labels, black edges added up to 32x32 pixels.

    Raises:
        ExtractError: if one of the two files is missing, damaged, or of another kind.
    """
    labels_path = path.with_name(LABELS_NAME)
    if not labels_path.is_file():
        raise ExtractError(f"{labels_path}: expected the labels beside {path.name}, got nothing there")
    count, height, width = _header(path, IMAGES_MAGIC, 3)
    (num_labels,) = _header(labels_path, LABELS_MAGIC, 1)
    if not 0 < count <= MAX_NUM_IMAGES or not (0 < height <= SIDE and 0 < width <= SIDE):
        raise ExtractError(
            f"{path}: expected 1 to {MAX_NUM_IMAGES:,} images of at most {SIDE}x{SIDE} pixels, got {count:,} "
            f"of {width}x{height}"
        )
    if num_labels != count:
        raise ExtractError(f"{labels_path}: expected {count:,} labels, one an image, got {num_labels:,}")
    labels = list(_read(labels_path, 8, count))
    top, left = (SIDE - height) // 2, (SIDE - width) // 2

    def read() -> Iterator[SourceImage]:
        with gzip.open(path) as opened:
            opened.read(16)
            for number, label in enumerate(labels):
                try:
                    data = opened.read(height * width)
                except GZIP_ERRORS as error:
                    raise _damaged(path, str(error)) from error
                if len(data) < height * width:
                    raise _damaged(path, f"it ends after {number} of {count} images")
                pixels = np.zeros((SIDE, SIDE), np.uint8)
                digit = np.frombuffer(data, np.uint8).reshape(height, width)
                pixels[top : top + height, left : left + width] = digit
                yield SourceImage(f"image {number}", pixels, label)

    return Source(path, count, read, num_classes=max(labels) + 1)


def _header(path: Path, magic: int, num_axes: int) -> tuple[int, ...]:
    """The sizes that a file of the IDX format declares."""
    data = _read(path, 0, 4 + 4 * num_axes)
    found, *sizes = struct.unpack(f">{1 + num_axes}I", data)
    if found != magic:
        raise ExtractError(f"{path}: expected the number {magic} at the start, as in MNIST, got {found}")
    return tuple(sizes)


def _read(path: Path, start: int, count: int) -> bytes:
    try:
        with gzip.open(path) as opened:
            opened.read(start)
            data = opened.read(count)
    except GZIP_ERRORS as error:
        raise _damaged(path, str(error)) from error
    if len(data) < count:
        raise _damaged(path, f"it ends after {start + len(data)} bytes")
    return data


def _damaged(path: Path, reason: str) -> ExtractError:
    return ExtractError(f"{path}: expected a whole file, got one that is damaged ({reason}); get it anew")
