"""Hashes of files, and a memory for those of large ones.

An archive is known by the hash of its bytes. Reading 20 GB for it at each opening takes a minute; so the hash
of a large file is kept in the cache folder, and holds as long as the system reports the same inode, size,
time of change and time of status change. The last of these cannot be set by a program: whoever writes to
the file, or replaces it and gives the old date to the new one, alters it. (On FAT, which has no such time, a
file of the same size that is given the old date passes; its pictures' own hashes still tell.)
"""

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from extract.atomic import write_text
from extract.cache_folder import cache_dir
from extract.errors import ExtractError

MIN_REMEMBERED_BYTES = 2**24  # smaller files are hashed sooner than they are worth a second file
SETTLED_SEC = 3.0  # a file changed later than this before hashing might change again within the same tick
FOLDER = "hashes"


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, all of which are read."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def picture_hash(data: bytes) -> str:
    """What the manifest's column `sha256` says of an image with these bytes."""
    return hashlib.sha256(data).hexdigest()


def remembered_sha256(path: Path, expected: os.stat_result | None = None) -> str:
    """Hex SHA-256 of a file's bytes, which are read only where the file may have changed since the last time.

    Args:
        expected: what the file was when it was opened.

    Raises:
        ExtractError: if it is another file by now, or changes while it is read.
    """
    before = os.stat(path)
    if expected is not None and _identity(before)[:4] != _identity(expected)[:4]:
        raise _changed(path)
    is_large = before.st_size >= MIN_REMEMBERED_BYTES
    memory = cache_dir() / FOLDER / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]}.json"
    if is_large and (known := _recall(memory, before)) is not None:
        return known
    started = time.time()
    sha256 = file_sha256(path)
    if _identity(os.stat(path))[:4] != _identity(before)[:4]:
        raise _changed(path)
    if is_large and started - max(before.st_mtime, before.st_ctime) > SETTLED_SEC:
        with suppress(OSError):  # a cache folder that cannot be written costs time, not results
            write_text(
                memory, json.dumps({"file": str(path), "is": _identity(before), "sha256": sha256}) + "\n"
            )
    return sha256


def _recall(memory: Path, now: os.stat_result) -> str | None:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        sha256 = known["sha256"]
        return str(sha256) if known["is"] == _identity(now) and len(sha256) == 64 else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _identity(found: os.stat_result) -> list[int]:
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _changed(path: Path) -> ExtractError:
    return ExtractError(
        f"{path}: expected a file that stays as it is while it is read, got another or a changed one under "
        "its name; run the command again"
    )
