"""A folder of ready pictures where an archive is expected, as the official training takes either."""

import hashlib
from pathlib import Path

from extract.archive import open_archive
from extract.cache import cache_dir
from extract.dataset_tool import build_dataset
from extract.errors import ExtractError
from extract.progress import Progress, no_progress

VERSION = 1  # raise it whenever the same folder would give another archive


def archive_of(path: Path, progress: Progress = no_progress) -> Path:
    """The archive itself; of a folder the archive of its pictures, made once and kept in the cache.

    A folder is packed as `extract dataset` does it: pictures at any depth, sorted by path, labels from its
    `dataset.json`. Files that were added, removed or touched since give another archive.

    Raises:
        ExtractError: if nothing is there, or the pictures differ in size, are not square or cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    packed = cache_dir() / "folders" / f"{_state_of(path)}.zip"
    if not packed.is_file():
        packed.parent.mkdir(parents=True, exist_ok=True)
        build_dataset(path, packed, progress=progress, overwrite=True)
        with open_archive(packed):  # refuses what training would refuse later
            pass
    return packed


def _state_of(folder: Path) -> str:
    """Names, sizes and times of all files, as a hash."""
    digest = hashlib.sha256(f"{VERSION} {folder.name}".encode())
    try:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                state = file.stat()
                name = file.relative_to(folder).as_posix()
                digest.update(
                    f"\n{name}\0{state.st_size} {state.st_mtime_ns}".encode("utf-8", "surrogateescape")
                )
    except OSError as error:
        raise ExtractError(f"{folder}: expected a folder that can be listed, got: {error}") from error
    return digest.hexdigest()[:32]
