"""Values from a stream of bytes into an array: exactly as many as were promised, without a second copy."""

import zlib
from typing import IO

import numpy as np

READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
)  # what damaged streams raise; BadGzipFile is an OSError
CHUNK_BYTES = 1 << 24


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
    view = memoryview(part.view(np.uint8))
    filled = 0
    while filled < len(view):
        taken = stream.readinto(view[filled : filled + CHUNK_BYTES])  # type: ignore[attr-defined]
        if not taken:
            raise EOFError(f"expected {len(view):,} bytes of voxels, got {filled:,}")
        filled += taken
    if len(stream.read(trailing + 1)) > trailing:
        raise ValueError(f"expected {len(view):,} bytes of voxels, got more")
