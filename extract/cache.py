"""Images decoded once into one uint8 file that every later run maps into memory.

Reading a slice from the map takes some ten microseconds, decoding its PNG most of a millisecond. The file is
named by the archive's hash, and its last 32 bytes are the SHA-256 of all before them.
"""

import errno
import hashlib
import io
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from extract.archive import Archive
from extract.atomic import replace_file
from extract.cache_folder import CACHE_VARIABLE, cache_dir
from extract.errors import ExtractError
from extract.progress import Progress, no_progress

__all__ = ["CACHE_VARIABLE", "cache_dir", "open_images"]

REPORT_INTERVAL = 500  # images between two reports of progress
POLL_SEC = 0.1  # between two looks at whether another process has finished
TRAILER_BYTES = 32


def open_images(archive: Archive, progress: Progress = no_progress) -> np.ndarray:
    """All images of an archive as a read-only (N, C, H, W) uint8 memory map.

    The file is named by the archive's hash, so it can be neither stale nor another archive's; a cut or
    foreign file under that name is made anew. Each image's hash is checked while it is decoded. Of several
    processes that ask for the same archive one decodes and the others wait; if it is killed, another takes
    over.

    Raises:
        ExtractError: if an image is damaged, or the cache folder is full or cannot be written.
    """
    shape = (len(archive), *archive.image_shape)
    path = cache_dir() / f"{archive.sha256}.npy"
    images = _map_file(path, shape)
    if images is None:
        try:
            with _sole_maker(path, shape, progress) as is_to_be_made:
                if is_to_be_made:
                    _make(path, archive, shape, progress)
        except OSError as error:
            raise _no_room(path, archive, shape, error.strerror or str(error)) from error
        images = _map_file(path, shape)
        if images is None:
            raise _no_room(path, archive, shape, "a file that was changed while it was made")
    with suppress(OSError):
        os.utime(path)  # the time of the last use, by which `extract.cached` clears away
    return images


def _make(path: Path, archive: Archive, shape: tuple[int, ...], progress: Progress) -> None:
    num_bytes = len(_header(shape)) + int(np.prod(shape)) + TRAILER_BYTES
    free = shutil.disk_usage(path.parent).free
    if free < num_bytes:  # known now rather than after minutes
        raise OSError(errno.ENOSPC, f"{free / 1e6:.1f} MB free")
    with replace_file(path) as temporary:
        _decode_to(temporary, archive, shape, progress)


def _no_room(path: Path, archive: Archive, shape: tuple[int, ...], got: str) -> ExtractError:
    size_mb = np.prod(shape, dtype=float) / 1e6
    return ExtractError(
        f"{path.parent}: expected a folder with {size_mb:.1f} MB free for the decoded images of "
        f"{archive.path}, got: {got}; name another in the variable {CACHE_VARIABLE}, or clear old ones away "
        "with `synthlabel extract cache`"
    )


def _map_file(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The mapped array, or None where the file is missing, cut or not what it should be."""
    header = _header(shape)
    num_bytes = int(np.prod(shape))
    try:
        with open(path, "rb") as handle:
            # Held against the bytes that it must have; a foreign header is never interpreted.
            if handle.read(len(header)) != header:
                return None
            if path.stat().st_size - len(header) - num_bytes not in (0, TRAILER_BYTES):  # 0: earlier versions
                return None
            return np.memmap(handle, np.uint8, "r", len(header), shape)
    except (OSError, ValueError):
        return None


def _header(shape: tuple[int, ...]) -> bytes:
    """How an .npy file of such images begins."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


@contextmanager
def _sole_maker(path: Path, shape: tuple[int, ...], progress: Progress) -> Iterator[bool]:
    """Yield True in one process at a time, False where another has made the file meanwhile.

    The lock is a hidden file beside it, which a killed process lets go at once. Where the file system has no
    locks, each process makes the file for itself: whole files replace each other.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    try:
        import fcntl
    except ImportError:
        yield True
        return
    while True:
        with open(lock, "wb") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress(0, shape[0], "another process is decoding these images")
                time.sleep(POLL_SEC)
                continue
            except OSError:
                yield True
                return
            try:
                is_current = os.path.samestat(os.fstat(handle.fileno()), os.stat(lock))
            except FileNotFoundError:
                is_current = False
            if not is_current:  # its last holder has removed it; the next one made it anew
                continue
            try:
                yield _map_file(path, shape) is None
            finally:
                lock.unlink(missing_ok=True)
            return


def _decode_to(path: Path, archive: Archive, shape: tuple[int, ...], progress: Progress) -> None:
    # Written front to back rather than through a map: a full disk is then an error instead of a SIGBUS.
    expected = archive.stored_hashes
    header = _header(shape)
    with open(path, "wb") as handle:
        handle.write(header)
        written = hashlib.sha256(header)
        for index in range(shape[0]):
            data = archive.read_png(index)
            if expected is not None:
                archive.check_hash(data, index, expected[index])
            pixels = archive.decode(data, index).tobytes()
            handle.write(pixels)
            written.update(pixels)
            if (index + 1) % REPORT_INTERVAL == 0 or index + 1 == shape[0]:
                progress(index + 1, shape[0], "decoding images")
        handle.write(written.digest())
