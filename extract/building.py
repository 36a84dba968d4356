"""What building an archive from volumes and from images has in common: bad files, and the summary."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from extract.errors import ExtractError


@dataclass(frozen=True)
class Unreadable:
    """A file that cannot be used, and why."""

    file: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.file in self.reason else f"{self.file}: {self.reason}"


@dataclass(frozen=True)
class BuildSummary:
    """What an archive was made of."""

    dest: Path
    num_files: int  # that went in
    num_images: int
    num_subjects: int
    counts: dict[str, int] = field(default_factory=dict)  # images by class
    unreadable: tuple[Unreadable, ...] = ()  # left out
    num_ignored: int = 0  # files in the folder that are of no known kind
    empty_folders: tuple[str, ...] = ()  # where a class was meant, it has no picture
    notes: tuple[str, ...] = ()  # what should be looked at before the archive is used


def refuse_unreadable(unreadable: Sequence[Unreadable], num_files: int, what: str, skip: bool) -> None:
    """Stop before anything is written, unless bad files are to be left out.

    Raises:
        ExtractError: with one line a file.
    """
    if not unreadable or (skip and len(unreadable) < num_files):
        return
    listed = "".join(f"\n  {item}" for item in unreadable)
    remedy = "; repair or replace them"
    if len(unreadable) < num_files:
        remedy = "; repair or remove them, or pass --skip-unreadable to leave them out"
    raise ExtractError(
        f"{len(unreadable)} of {num_files} {what} cannot be used, so nothing was written{remedy}:{listed}"
    )


def list_files(
    source: Path, suffixes: Sequence[str], what: str, table: Path | None = None
) -> tuple[list[str], int]:
    """Paths below a folder that have one of the suffixes, sorted, and how many other files there are.

    Args:
        table: the list of subjects; where it lies in the folder it is no "other file".

    Raises:
        ExtractError: if there is no such folder, or nothing in it.
    """
    if not source.is_dir():
        raise ExtractError(
            f"{source}: expected a folder of {what}, got {'a file' if source.exists() else 'nothing there'}"
        )
    files = sorted(path.relative_to(source).as_posix() for path in walk_files(source))
    names = [name for name in files if name.lower().endswith(tuple(suffixes))]
    if not names:
        raise ExtractError(
            f"{source}: expected {what} ({', '.join(suffixes)}), got none among {len(files)} files"
        )
    others = set(files) - set(names)
    if table is not None and table.resolve().is_relative_to(source.resolve()):
        others.discard(table.resolve().relative_to(source.resolve()).as_posix())
    return names, len(others)


def walk_files(source: Path) -> Iterator[Path]:
    """Files below a folder, links followed once, hidden ones left out."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in files if not name.startswith("."))
