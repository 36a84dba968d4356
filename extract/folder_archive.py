"""A folder of pictures where an archive is expected: packed once and kept in the cache."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from extract.archive import open_archive
from extract.atomic import write_text
from extract.cache import cache_dir
from extract.dataset_tool import build_dataset
from extract.errors import ExtractError
from extract.images import ImageConfig, build_image_archive
from extract.layouts import SubjectRule
from extract.progress import Progress, no_progress

VERSION = 1  # raise it whenever the same folder would give another archive
TABLE = "manifest.csv"  # of a folder of classes: subjects by file, if nothing else is said
EACH_ITS_OWN = ".*"  # pattern by which each picture is another subject


def archive_of(path: Path, progress: Progress = no_progress) -> Path:
    """The archive itself; of a folder of ready pictures the archive of them, as official training takes it.

    A folder is packed as `extract dataset` does it: pictures at any depth, sorted by path, labels from its
    `dataset.json`. Files that were added, removed or touched since give another archive.

    Raises:
        ExtractError: if nothing is there, or the pictures differ in size, are not square or cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    packed = _place(_state_of(path))
    if not packed.is_file():
        build_dataset(path, packed, progress=progress, overwrite=True)
        with open_archive(packed):  # refuses what training would refuse later
            pass
    return packed


@dataclass(frozen=True)
class PackedFolder:
    """The archive of a folder of classes, and what should be known about it."""

    path: Path
    notes: tuple[str, ...]


def archive_of_classes(
    folder: Path, config: ImageConfig, rule: SubjectRule | None = None, progress: Progress = no_progress
) -> PackedFolder:
    """The archive of a folder of classes (CLASS/picture, any size and format), as `extract images` makes it.

    Args:
        config: size, channels and fit of the archive's images.
        rule: where subjects, and classes if not from the folders, come from; None = `manifest.csv` in the
            folder, or, where there is none, each picture counts as a subject of its own, which is noted.

    Raises:
        ExtractError: if a picture cannot be read, or has no subject or class.
    """
    folder = Path(folder)
    notes: list[str] = []
    if rule is None:
        rule = SubjectRule(table=folder / TABLE) if (folder / TABLE).is_file() else None
    if rule is None:
        rule = SubjectRule(pattern=EACH_ITS_OWN)
        notes.append(
            f"{folder}: nothing says who is in a picture (no {TABLE}, --subjects or --subject-pattern): each "
            "counts as a person of its own. Where one person has several, they stand on both sides of the "
            "split, and the result is too good"
        )
    tables = [table for table in (rule.table, rule.labels) if table is not None]
    packed = _place(_state_of(folder, repr((config, rule)), tables))
    told = packed.with_suffix(".notes.json")  # what was noticed while packing is told at every use
    if not (packed.is_file() and told.is_file()):
        summary = build_image_archive(folder, packed, config, rule, overwrite=True, progress=progress)
        write_text(told, json.dumps(summary.notes))
    return PackedFolder(packed, (*notes, *json.loads(told.read_text(encoding="utf-8"))))


def _place(state: str) -> Path:
    packed = cache_dir() / "folders" / f"{state}.zip"
    packed.parent.mkdir(parents=True, exist_ok=True)
    return packed


def _state_of(folder: Path, settings: str = "", tables: list[Path] | None = None) -> str:
    """Names, sizes and times of all files, the settings and the tables' content, as a hash."""
    digest = hashlib.sha256(f"{VERSION} {folder.name}{settings}".encode())
    try:
        for table in tables or []:
            digest.update(table.read_bytes())
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
