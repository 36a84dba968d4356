"""The promises of a split, checked each time it is loaded."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from extract.archive import Archive
from extract.errors import ExtractError, name_some
from extract.fold import Fold, Split


def check_split(split: Split, archive: Archive) -> None:
    """Check that the split is of this archive and keeps every promise of `Fold`.

    Raises:
        ExtractError: naming the subject, class or fraction at fault.
    """
    where = str(split.path or "split")
    if split.archive_sha256 != archive.sha256:
        raise ExtractError(
            f"{where}: expected a split of {archive.path} (SHA-256 {archive.sha256[:12]}...), got "
            "one of another "
            f"archive ({split.archive_sha256[:12]}...); make a split of this one with `synthlabel "
            "extract split`"
        )
    tested: dict[str, int] = {}
    for number, fold in enumerate(split.folds):
        check_fold(fold, split.fractions, archive, f"{where}: fold {number}")
        for subject in fold.test:
            if subject in tested:
                raise ExtractError(
                    f"{where}: expected each subject in the test part of one fold, got {subject} in "
                    f"fold {tested[subject]} and fold {number}"
                )
            tested[subject] = number


def find_duplicates(archive: Archive, rows: np.ndarray | None = None) -> list[np.ndarray]:
    """Groups of two or more rows that hold the very same picture, in order of their first row."""
    hashes = archive.manifest["sha256"].to_numpy(dtype=str)
    rows = np.arange(len(archive)) if rows is None else rows
    by_hash: dict[str, list[int]] = {}
    for row in rows:
        by_hash.setdefault(hashes[row], []).append(int(row))
    return [np.array(group) for group in by_hash.values() if len(group) > 1]


def real_rows(archive: Archive) -> np.ndarray:
    """Ascending indices of the real images."""
    return np.flatnonzero((archive.manifest["origin"] == "real").to_numpy())


def class_counts(subjects: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, np.ndarray]:
    """Number of images of each class, by subject."""
    names, inverse = np.unique(subjects, return_inverse=True)
    table = np.zeros((len(names), num_classes), np.int64)
    np.add.at(table, (inverse, labels), 1)
    return {str(name): row for name, row in zip(names, table, strict=True)}


def check_fold(fold: Fold, fractions: tuple[float, ...], archive: Archive, where: str) -> None:
    """Check one fold: sides, nesting, classes, duplicates.

    Raises:
        ExtractError: beginning with `where`, naming the subject, class or fraction at fault.
    """
    rows = real_rows(archive)
    known = set(archive.subjects[rows].tolist())
    sides = {"test": fold.test, "val": fold.val[1.0], "train": fold.train}
    side_of: dict[str, str] = {}
    for side, subjects in sides.items():
        for subject in subjects:
            if subject not in known:
                raise ExtractError(
                    f"{where}: expected subjects of {archive.path}, got {subject!r}, which is not in it"
                )
            if subject in side_of:
                raise ExtractError(
                    f"{where}: expected each subject on one side, got {subject} in "
                    f"{side_of[subject]} and {side}"
                )
            side_of[subject] = side
    _check_nesting(fold.labeled, fractions, fold.train, f"{where}: labeled")
    _check_nesting(fold.val, fractions, fold.val[1.0], f"{where}: val")
    if tuple(sorted(fold.labeled[1.0])) != tuple(sorted(fold.train)):
        raise ExtractError(
            f"{where}: expected the labeled part at fraction 1.0 to be the training part, got another"
        )
    _check_classes(fold, fractions, archive, rows, where)
    for duplicates in find_duplicates(archive, rows):
        touched = {side_of[s]: str(s) for s in archive.subjects[duplicates] if s in side_of}
        if len(touched) > 1:
            (side_a, a), (side_b, b), *_ = touched.items()
            raise ExtractError(
                f"{where}: expected no picture on two sides, got an identical picture of {a} in "
                f"{side_a} and of {b} in "
                f"{side_b} ({archive.manifest['file'].iat[duplicates[0]]}); make the split anew"
            )


def _check_nesting(
    by_fraction: Mapping[float, tuple[str, ...]],
    fractions: tuple[float, ...],
    whole: tuple[str, ...],
    where: str,
) -> None:
    smaller: set[str] = set()
    for fraction in fractions:
        subjects = set(by_fraction[fraction])
        lost = sorted(smaller - subjects) or sorted(subjects - set(whole))
        if lost:
            raise ExtractError(
                f"{where} at fraction {fraction}: expected nested fractions, got {name_some(lost)} "
                "outside the next larger one"
            )
        smaller = subjects
    if where.endswith("labeled"):
        for small, large in pairwise(fractions):
            if set(by_fraction[small]) == set(by_fraction[large]):
                raise ExtractError(
                    f"{where}: expected more subjects at fraction {large} than at {small}, got the same "
                    f"{len(by_fraction[small])} of {len(whole)}"
                )


def _check_classes(
    fold: Fold, fractions: tuple[float, ...], archive: Archive, rows: np.ndarray, where: str
) -> None:
    table = class_counts(archive.subjects[rows], archive.labels[rows], len(archive.classes))

    def count(subjects: tuple[str, ...], part: str) -> int:
        counts = (
            np.sum([table[s] for s in subjects], axis=0) if subjects else np.zeros(len(archive.classes), int)
        )
        missing = [archive.classes[c] for c in np.flatnonzero(counts == 0)]
        if missing:
            raise ExtractError(
                f"{where}: expected every class in the {part}, got none of {name_some(missing)}"
            )
        return int(counts.sum())

    count(fold.test, "test part")
    for fraction in fractions:
        num_labeled = count(fold.labeled[fraction], f"labeled part at fraction {fraction}")
        num_val = count(fold.val[fraction], f"validation part at fraction {fraction}")
        if num_val > num_labeled:
            raise ExtractError(
                f"{where}: expected at most as many images for validation as labeled ones at "
                f"fraction {fraction}, "
                f"got {num_val} beside {num_labeled}"
            )
