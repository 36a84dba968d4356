"""Everything that can be checked of an archive, and of a split of it, before trusting results."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.archive import Archive
from extract.errors import ExtractError, name_some
from extract.progress import Progress, no_progress
from extract.split import Split, find_duplicates, read_split

REPORT_INTERVAL = 500  # images between two reports of progress


@dataclass(frozen=True)
class ClassCount:
    """One line of the table."""

    name: str
    num_images: int
    num_subjects: int
    min_images: int  # of a subject that shows the class
    max_images: int


@dataclass(frozen=True)
class Verification:
    """What was found: errors make results wrong, warnings want a look."""

    counts: tuple[ClassCount, ...]
    num_images: int
    num_subjects: int
    num_duplicate_groups: int
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    split: Split | None = None


def verify_archive(
    archive: Archive, split: Path | None = None, progress: Progress = no_progress
) -> Verification:
    """Check every picture's hash and shape, duplicates, conflicting labels, and the split if given."""
    errors = _check_pictures(archive, progress)
    warnings: list[str] = []
    duplicates = find_duplicates(archive)
    errors += _label_conflicts(archive, duplicates)
    linked = [group for group in duplicates if len(set(archive.subjects[group].tolist())) > 1]
    if duplicates:
        warnings.append(
            f"{len(duplicates)} groups of identical pictures, {len(linked)} of them across "
            "subjects; a split keeps "
            "linked subjects on one side"
        )
    num_blank = sum(_is_blank(archive, int(group[0])) for group in duplicates)
    if num_blank:
        warnings.append(
            f"{num_blank} of these groups are of one gray level throughout: leave empty pictures out"
        )
    checked = None
    if split is not None:
        try:
            checked = read_split(split, archive)
        except ExtractError as error:
            errors.append(str(error))
    return Verification(
        tuple(_count_class(archive, name, archive.labels == k) for k, name in enumerate(archive.classes))
        + ((_count_class(archive, "(unlabeled)", archive.labels < 0),) if (archive.labels < 0).any() else ()),
        len(archive),
        len(set(archive.subjects.tolist()) - {""}),
        len(duplicates),
        tuple(errors),
        tuple(warnings),
        checked,
    )


def _check_pictures(archive: Archive, progress: Progress) -> list[str]:
    """Damaged, exchanged or odd-sized pictures."""
    files, hashes = archive.manifest["file"].tolist(), archive.manifest["sha256"].tolist()
    changed, errors = [], []
    for row in range(len(archive)):
        try:
            data = archive.read_png(row)
            if hashlib.sha256(data).hexdigest() != hashes[row]:
                changed.append(files[row])
            else:
                archive.decode(data, row)
        except ExtractError as error:
            errors.append(str(error))
        if (row + 1) % REPORT_INTERVAL == 0 or row + 1 == len(archive):
            progress(row + 1, len(archive), "checking pictures")
    if changed:
        errors.insert(
            0, f"{len(changed)} pictures differ from the SHA-256 in manifest.csv: {name_some(changed)}"
        )
    return errors


def _label_conflicts(archive: Archive, duplicates: list[np.ndarray]) -> list[str]:
    """The same picture under two classes: one of the labels is wrong."""
    conflicts = [group for group in duplicates if len(set(archive.labels[group].tolist()) - {-1}) > 1]
    return [
        "identical pictures with different labels: "
        + ", ".join(
            f"{archive.manifest['file'].iat[row]} ({archive.manifest['label'].iat[row]})" for row in group
        )
        for group in conflicts
    ]


def _is_blank(archive: Archive, row: int) -> bool:
    try:
        pixels = archive.read_image(row)
    except ExtractError:
        return False
    return bool(pixels.min() == pixels.max())


def _count_class(archive: Archive, name: str, chosen: np.ndarray) -> ClassCount:
    per_subject: dict[str, int] = defaultdict(int)
    for subject in archive.subjects[chosen]:
        if subject:
            per_subject[str(subject)] += 1
    numbers = list(per_subject.values())
    return ClassCount(name, int(chosen.sum()), len(numbers), min(numbers, default=0), max(numbers, default=0))
