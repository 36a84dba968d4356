"""One process at a time in a folder of results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classifier.errors import ClassifierError

try:
    import fcntl
except ImportError:  # no POSIX system: nothing warns of a second process there
    fcntl = None  # type: ignore[assignment]


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Hold `folder` (made where it is missing) for the block; a killed process lets go at once.

    Raises:
        ClassifierError: if another process holds it.
    """
    if folder.exists() and not folder.is_dir():
        raise ClassifierError(f"{folder}: expected a folder to write to, got a file; name another --outdir")
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    with open(folder / ".lock", "wb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ClassifierError(
                f"{folder}: another process is working in this folder; wait for it, or name another --outdir"
            ) from error
        yield  # the file stays: removing it would let a third process lock a name that nobody shares
