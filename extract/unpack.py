"""An archive as a folder of classes, as fastai and torchvision read them; `extract.pack` takes it back.

dest/train/CLASS/SUBJECT_00000012.png      with a split; without one: dest/all/CLASS/...
dest/val/CLASS/..., dest/test/CLASS/...
dest/unused/CLASS/...                      real images that this fold and fraction leave out
dest/synthetic/CLASS/seed00007_00000913.png
dest/unlabeled/...                         images without a class, real or synthetic
dest/manifest.csv, dest/preparation.json   what the archive says of them
"""

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from extract.archive import ARCHIVE_FORMAT, Archive
from extract.atomic import replace_folder
from extract.errors import ExtractError, SettingsError
from extract.progress import Progress, no_progress
from extract.safe_names import encode_name, file_names

ALL, UNUSED, SYNTHETIC, UNLABELED = "all", "unused", "synthetic", "unlabeled"
PLACE_COLUMN = "unpacked_as"  # of the folder's manifest: where the picture lies, below the folder
MANIFEST, PREPARATION = "manifest.csv", "preparation.json"
MAX_SUBJECT_BYTES = 60  # in a picture's name; the manifest has all of it
BLOCK_BYTES = 4096  # what a file takes at least
REPORT_INTERVAL = 500  # images between two reports of progress


@dataclass(frozen=True)
class UnpackSummary:
    """What was unpacked."""

    dest: Path
    num_images: int
    counts: dict[str, int]  # images by part


def unpack_archive(
    archive: Archive,
    dest: Path,
    *,
    split: Path | None = None,
    fold: int = 0,
    fraction: float = 1.0,
    progress: Progress = no_progress,
) -> UnpackSummary:
    """Write an archive's pictures, byte for byte, to a folder of parts and classes that appears whole.

    No name in the archive is used as a path: those of files and folders are made here. Names of classes that
    cannot be folder names everywhere are written as `extract.safe_names` says. Where a part has no picture
    of a class, the class has no folder there.

    Args:
        dest: a new or empty folder.
        split: split of the archive, whose parts become folders; None = one folder `all`.
        fold, fraction: which fold of it, and how much of its training part counts as labeled.

    Raises:
        ExtractError: if dest holds files, the disk is too small, a picture is damaged, or the split is not
            of this archive.
        SettingsError: if the split has no such fold or fraction.
    """
    dest = Path(dest)
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise ExtractError(
            f"{dest}: expected a new or empty folder to unpack into, got "
            f"{'one that holds files' if dest.is_dir() else 'a file'}; name another with --dest"
        )
    parts = _assign_parts(archive, split, fold, fraction)
    places = [str(place) for place in _places(archive, parts)]
    _check_room(archive, dest)
    hashes = archive.stored_hashes
    with replace_folder(dest) as temporary:
        for folder in sorted({PurePosixPath(place).parent for place in places}):
            (temporary / folder).mkdir(parents=True)
        for index, place in enumerate(places):
            data = archive.read_png(index)
            if hashes is not None:
                archive.check_hash(data, index, hashes[index])
            (temporary / place).write_bytes(data)
            if (index + 1) % REPORT_INTERVAL == 0 or index + 1 == len(places):
                progress(index + 1, len(places), "unpacking")
        (temporary / MANIFEST).write_bytes(_manifest(archive, places))
        described = {"format": ARCHIVE_FORMAT, "classes": archive.classes, "settings": archive.preparation}
        (temporary / PREPARATION).write_text(json.dumps(described, indent=1), encoding="utf-8")
    return UnpackSummary(dest, len(archive), dict(Counter(parts)))


def _assign_parts(archive: Archive, split: Path | None, fold: int, fraction: float) -> list[str]:
    parts = np.full(len(archive), ALL if split is None else UNUSED, dtype=object)
    if split is not None:
        from extract.split import PARTS, read_split

        made = read_split(split, archive)
        for part in PARTS:
            parts[made.rows(archive, fold, part, fraction)] = part
    elif fold or fraction != 1.0:
        raise SettingsError("--fold and --fraction need --split")
    parts[~archive.is_real] = SYNTHETIC
    parts[archive.labels < 0] = UNLABELED
    return [str(part) for part in parts]


def _places(archive: Archive, parts: list[str]) -> Iterator[PurePosixPath]:
    folders = file_names(archive.classes)
    seeds = archive.manifest["seed"].tolist()
    for index, part in enumerate(parts):
        who = str(archive.subjects[index]) or (f"seed{seeds[index]}" if seeds[index] else part)
        suffix = PurePosixPath(archive.names[index]).suffix.lower()
        name = f"{_short(who)}_{index:08d}{suffix}"
        if part == UNLABELED:
            yield PurePosixPath(part, name)
        else:
            yield PurePosixPath(part, folders[archive.classes[archive.labels[index]]], name)


def _short(subject: str) -> str:
    return encode_name(subject).encode()[:MAX_SUBJECT_BYTES].decode(errors="ignore")


def _manifest(archive: Archive, places: list[str]) -> bytes:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([PLACE_COLUMN, *archive.manifest.columns])
    columns = [archive.manifest[column].tolist() for column in archive.manifest.columns]
    writer.writerows(zip(places, *columns, strict=True))
    return table.getvalue().encode()


def _check_room(archive: Archive, dest: Path) -> None:
    """Known now rather than after minutes."""
    there = next(folder for folder in (dest, *dest.absolute().parents) if folder.exists())
    needed, free = archive.path.stat().st_size + BLOCK_BYTES * len(archive), shutil.disk_usage(there).free
    if needed > free:
        raise ExtractError(
            f"{dest}: expected {needed / 1e6:,.1f} MB free for {len(archive)} pictures, got "
            f"{free / 1e6:,.1f} MB; free some space, or name a folder on another disk with --dest"
        )
