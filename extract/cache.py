"""Images decoded once into one uint8 file that every later run maps into memory.

Reading a slice from the map takes some ten microseconds, decoding its PNG most of a millisecond.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from extract.archive import Archive
from extract.atomic import replace_file
from extract.errors import ExtractError
from extract.progress import Progress, no_progress

CACHE_VARIABLE = "SYNTHLABEL_CACHE"
REPORT_INTERVAL = 500  # images between two reports of progress


def cache_dir() -> Path:
    """$SYNTHLABEL_CACHE, or ~/.cache/synthlabel."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "synthlabel")


def open_images(archive: Archive, progress: Progress = no_progress) -> np.ndarray:
    """All images of an archive as a read-only (N, C, H, W) uint8 memory map.

    The file is named by the archive's hash, so it can be neither stale nor another archive's; a cut or
    foreign file under that name is made anew. Each image's hash is checked while it is decoded.

    Raises:
        ExtractError: if an image is damaged, or the cache folder is full or cannot be written.
    """
    shape = (len(archive), *archive.image_shape)
    path = cache_dir() / f"{archive.sha256}.npy"
    images = _map_file(path, shape)
    if images is None:
        try:
            with replace_file(path) as temporary:
                _decode_to(temporary, archive, shape, progress)
        except OSError as error:
            size_mb = np.prod(shape, dtype=float) / 1e6
            raise ExtractError(
                f"{path.parent}: expected a folder with {size_mb:.1f} MB free for the decoded images of "
                f"{archive.path}, got: {error.strerror or error}; name another in the variable "
                f"{CACHE_VARIABLE}"
            ) from error
        images = _map_file(path, shape)
    assert images is not None
    return images


def _map_file(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The mapped array, or None where the file is missing, cut or not what it should be."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _decode_to(path: Path, archive: Archive, shape: tuple[int, ...], progress: Progress) -> None:
    # Written front to back rather than through a map: a full disk is then an error instead of a SIGBUS.
    expected = archive.manifest["sha256"].tolist()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with open(path, "wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        for index in range(shape[0]):
            data = archive.read_png(index)
            if hashlib.sha256(data).hexdigest() != expected[index]:
                raise ExtractError(
                    f"{archive.path}: {archive.manifest['file'].iat[index]} is not the picture that "
                    "manifest.csv "
                    "describes (its SHA-256 differs); make or copy the archive anew"
                )
            handle.write(archive.decode(data, index).tobytes())
            if (index + 1) % REPORT_INTERVAL == 0 or index + 1 == shape[0]:
                progress(index + 1, shape[0], "decoding images")
