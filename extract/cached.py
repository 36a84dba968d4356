"""What the cache folder holds: listed, checked, and cleared of what was not used for longest."""

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from extract.atomic import remove_leftovers
from extract.cache import TRAILER_BYTES
from extract.cache_folder import cache_dir
from extract.file_hash import FOLDER as HASHES
from extract.progress import Progress, no_progress

CACHED_NAME = re.compile(r"[0-9a-f]{64}\.npy")
LEFTOVER_NAME = re.compile(r"\.([0-9a-f]{64}\.npy)\.[0-9a-f]{8}\.part")
CHUNK_BYTES = 2**22


@dataclass(frozen=True)
class CachedFile:
    """The decoded images of one archive."""

    path: Path
    num_bytes: int
    last_used: datetime  # local time


def list_cached() -> list[CachedFile]:
    """The files of decoded images, those used last first; files of other names are nobody's business."""
    found = []
    with suppress(FileNotFoundError):
        for path in cache_dir().iterdir():
            if CACHED_NAME.fullmatch(path.name):
                with suppress(FileNotFoundError):  # cleared away by another process meanwhile
                    stat = path.stat()
                    found.append(CachedFile(path, stat.st_size, datetime.fromtimestamp(stat.st_mtime)))
    return sorted(found, key=lambda item: (item.last_used, item.path.name), reverse=True)


def trim_cache(keep_bytes: int) -> list[CachedFile]:
    """Remove the files that were not used for longest until at most so many bytes are left.

    A process that is reading a removed file goes on reading it. What killed processes have left goes, too,
    and so do the remembered hashes, which cost one reading of each archive.

    Returns:
        The files that were removed.
    """
    with suppress(FileNotFoundError):
        for path in list(cache_dir().iterdir()):
            if leftover := LEFTOVER_NAME.fullmatch(path.name):
                remove_leftovers(path.with_name(leftover[1]))
        for path in (cache_dir() / HASHES).glob("*.json"):
            path.unlink(missing_ok=True)
    total, removed = 0, []
    for item in list_cached():
        total += item.num_bytes
        if total > keep_bytes:
            item.path.unlink(missing_ok=True)
            removed.append(item)
    return removed


def remove_damaged(progress: Progress = no_progress) -> list[Path]:
    """Read every file of decoded images against the hash at its end; remove those that it does not fit.

    Files of earlier versions have no such hash: they are removed as well, and made anew when next used.
    """
    damaged = []
    files = list_cached()
    for number, item in enumerate(files):
        if not _is_sound(item.path):
            item.path.unlink(missing_ok=True)
            damaged.append(item.path)
        progress(number + 1, len(files), item.path.name)
    return damaged


def _is_sound(path: Path) -> bool:
    left = path.stat().st_size - TRAILER_BYTES
    if left < 0:
        return False
    found = hashlib.sha256()
    with open(path, "rb") as handle:
        while left > 0:
            chunk = handle.read(min(CHUNK_BYTES, left))
            if not chunk:
                return False
            found.update(chunk)
            left -= len(chunk)
        return handle.read() == found.digest()
