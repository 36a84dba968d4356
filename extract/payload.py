"""Values from a stream of bytes into an array: exactly as many as were promised, without a second copy."""

import zlib
from typing import IO

import numpy as np

from extract.errors import ExtractError

READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
)  # what damaged streams raise; BadGzipFile is an OSError
HEADER_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    AttributeError,
)  # nonsense values
CHUNK_BYTES = 1 << 24


def allocate(name: str, count: int, dtype: np.dtype) -> np.ndarray:
    """(count,) values to be filled.

    Raises:
        ExtractError: if there is no memory for them.
    """
    try:
        return np.empty(count, dtype)
    except MemoryError as error:
        raise ExtractError(
            f"{name}: expected {count * dtype.itemsize:,} bytes of free memory for its voxels, got less; "
            "close other programs, take fewer --workers, or crop the volume"
        ) from error


def skip_bytes(stream: IO[bytes], count: int) -> None:
    """Read past some bytes.

    Raises:
        EOFError: if there are fewer.
    """
    while count > 0:
        taken = len(stream.read(min(count, 1 << 20)))
        if not taken:
            raise EOFError("expected more bytes to skip")
        count -= taken


def fill_exactly(part: np.ndarray, stream: IO[bytes], trailing: int = 0) -> None:
    """Read as many bytes as the (N,) array has, to the stream's end, where a gzip's checksum is checked.

    Args:
        trailing: how many bytes may follow.

    Raises:
        EOFError, ValueError: if there are fewer or more.
    """
    view = part.view(np.uint8).data
    filled = 0
    while filled < len(view):
        taken = stream.readinto(view[filled : filled + CHUNK_BYTES])  # type: ignore[attr-defined]
        if not taken:
            raise EOFError(f"expected {len(view):,} bytes of voxels, got {filled:,}")
        filled += taken
    if len(stream.read(trailing + 1)) > trailing:
        raise ValueError(f"expected {len(view):,} bytes of voxels, got more")
