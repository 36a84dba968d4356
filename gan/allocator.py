"""Memory settings of glibc that keep large activations from being given back and fetched again each time."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # names and numbers of glibc's malloc.h
GROW_BYTES = 256 * 2**20


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next large block; True where that was possible.

    By default every block above 32 MiB is mapped afresh, zeroed page by page and returned at once, which can
    cost more than the arithmetic. The price: the memory of the process does not shrink again.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, GROW_BYTES))
    return all(mallopt(option, value) == 1 for option, value in settings)
