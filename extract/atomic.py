"""Files and folders that appear whole or not at all.

What is being made has the hidden name `.NAME.XXXXXXXX.part` beside its place, and is locked by the process
that makes it. A process that is killed leaves it there, unlocked: the next one that makes NAME removes it.
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # no POSIX system: leftovers of killed processes stay until somebody removes them
    fcntl = None  # type: ignore[assignment]

# A full disk or quota, a file that the file system cannot hold (4 GB on a memory stick), a failing disk.
WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)

NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)  # FAT, some network drives


@contextmanager
def replace_file(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    A flush waits for the disk, which others may keep busy for seconds. Without it the file is as whole after
    a kill, but may be gone or empty after a power cut: for what nobody would miss then.

    If the block raises (a full disk and Ctrl-C included), the temporary file is removed and whatever
    stood at `path` before is still there, unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    with _claim(path, is_folder=False) as temporary:
        try:
            yield temporary
            if flush:
                with open(temporary, "rb+") as handle:
                    os.fsync(handle.fileno())
            os.replace(temporary, path)
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            _name_file(error, path)
            raise
    if flush:
        _flush_directory(path.parent)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside `path`; on success rename it to `path`, which must not hold files.

    If the block raises, the temporary folder is removed with all that is in it.

    Raises:
        OSError: if `path` is not an empty folder or nothing at all when the block ends.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    with _claim(path, is_folder=True) as temporary:
        try:
            yield temporary
            os.rename(temporary, path)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            _name_file(error, path)
            raise
    _flush_directory(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes have left of `path`; what a living one is making stays."""
    ours = re.compile(re.escape(f".{path.name}.") + r"[0-9a-f]{8}\.part")
    with suppress(OSError):  # a folder that cannot be listed is no reason not to write
        with os.scandir(path.parent) as entries:
            found = [Path(entry.path) for entry in entries if ours.fullmatch(entry.name)]
        for leftover in found:
            with suppress(OSError):
                _remove_dead(leftover)


def write_text(path: Path, text: str, *, flush: bool = True) -> None:
    """Write a small UTF-8 text file atomically; `flush` as in `replace_file`."""
    with replace_file(path, flush=flush) as temporary:
        temporary.write_text(text, encoding="utf-8")


def create_file(path: Path, text: str) -> bool:
    """Write a small UTF-8 text file where there is none yet; of several who try at once, one does.

    Returns:
        Whether it was this one; a file that stands there already is left alone.
    """
    path = Path(path)
    if path.exists():
        return False
    with _claim(path, is_folder=False) as temporary:
        try:
            temporary.write_text(text, encoding="utf-8")
            with open(temporary, "rb+") as handle:
                os.fsync(handle.fileno())
            os.link(temporary, path)  # unlike renaming, refuses to replace
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            with suppress(FileExistsError), open(path, "x", encoding="utf-8") as handle:
                handle.write(text)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    _flush_directory(path.parent)
    return True


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `path` for what has to be made before it; removed whatever happens."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    with _claim(path, is_folder=True) as temporary:
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _claim(path: Path, *, is_folder: bool) -> Iterator[Path]:
    """A new hidden path beside `path`, locked as long as the block lasts or the process lives."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        if is_folder:
            temporary.mkdir()
        else:
            temporary.touch(exist_ok=False)
        descriptor = None if fcntl is None else os.open(temporary, os.O_RDONLY)
        try:
            if descriptor is not None:
                _lock(descriptor)
                if not _is_at(descriptor, temporary):  # taken for a leftover before it was locked
                    continue
            yield temporary
            return
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _name_file(error: BaseException, path: Path) -> None:
    """A failed write does not say which file it was; its sentence shall."""
    if isinstance(error, OSError) and error.filename is None and error.errno in WRITE_ERRORS:
        error.filename = str(path)


def _remove_dead(leftover: Path) -> None:
    if fcntl is None:
        return
    descriptor = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its maker lives
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks; there, nobody removes leftovers either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _flush_directory(directory: Path) -> None:
    if fcntl is None:
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
