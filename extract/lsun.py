"""LSUN as distributed: an LMDB database of encoded pictures, without labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from extract.errors import ExtractError
from extract.sources import Source, SourceImage, check_size


def open_lsun(path: Path) -> Source:
    """The pictures of a database folder in the order of their keys.

    Raises:
        ExtractError: if the library is missing, or the folder is no database or an empty one.
    """
    with _open(path) as opened:
        count = int(opened.stat()["entries"])
    if not count:
        raise ExtractError(f"{path}: expected pictures in the database, got none")

    def read() -> Iterator[SourceImage]:
        import lmdb

        try:
            with _open(path) as opened, opened.begin(write=False, buffers=True) as transaction:
                for key, value in transaction.cursor():
                    name = bytes(key).decode("ascii", "backslashreplace")
                    check_size(f"{path}: {name}", len(value))
                    yield SourceImage(name, bytes(value))
        except lmdb.Error as error:
            raise ExtractError(f"{path}: expected a sound LMDB database, got {error}; get it anew") from error

    return Source(path, count, read)


def _open(path: Path) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise ExtractError(
            f"{path}: expected the library lmdb to read LSUN, got none; install it: pip install "
            "'synthlabel[lsun]'"
        ) from error
    if not (path / "data.mdb").is_file():
        raise ExtractError(f"{path}: expected an LMDB database (data.mdb), got a folder without one")
    try:
        return lmdb.open(str(path), readonly=True, lock=False, create=False)
    except lmdb.Error as error:
        raise ExtractError(
            f"{path}: expected an LMDB database, got one that cannot be opened ({error}); get it anew"
        ) from error
