"""Masks of an archive's images: pictures of the same names in a zip or a folder, values kept as they are."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from extract.errors import ExtractError, name_some
from extract.zips import open_zip, read_entry

MAX_MASK_BYTES = 1 << 26


def open_masks(path: Path, names: list[str]) -> Callable[[int], np.ndarray | None]:
    """A function that gives the mask of the image with this place in `names`, or None where there is none.

    Args:
        path: zip or folder that holds PNGs (8 or 16 bit, gray) under the images' own names.
        names: of the images, such as 00000/img00000000.png.

    Raises:
        ExtractError: if it is neither, or holds none of the names.
    """
    if path.is_dir():
        held = {name for name in names if (path / name).is_file()}
    else:
        held = _list_zip(path, names)
    if not held:
        raise ExtractError(
            f"{path}: expected masks named as the archive's images ({name_some(names[:2])}, ...), got "
            "none of them"
        )

    def read(index: int) -> np.ndarray | None:
        name = names[index]
        if name not in held:
            return None
        return _decode(_read_bytes(path, name), f"{path}: {name}")

    return read


def _list_zip(path: Path, names: list[str]) -> set[str]:
    with open_zip(path) as opened:
        return set(names) & set(opened.namelist())


def _read_bytes(path: Path, name: str) -> bytes:
    if not path.is_dir():
        with open_zip(path) as opened:
            return read_entry(path, opened, name, MAX_MASK_BYTES)
    try:
        with open(path / name, "rb") as handle:
            data = handle.read(MAX_MASK_BYTES + 1)
    except OSError as error:
        raise ExtractError(f"{path / name}: expected a readable mask, got {error}") from error
    if len(data) > MAX_MASK_BYTES:
        raise ExtractError(f"{path / name}: expected a mask of at most {MAX_MASK_BYTES:,} bytes, got more")
    return data


def _decode(data: bytes, name: str) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error:  # a size beyond OpenCV's own limit
        pixels = None
    if pixels is None or pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        got = "bytes that cannot be decoded" if pixels is None else f"{pixels.shape} of {pixels.dtype}"
        raise ExtractError(
            f"{name}: expected a gray picture of 8 or 16 bits, got {got}; write labels as gray levels"
        )
    return pixels
