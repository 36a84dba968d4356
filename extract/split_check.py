"""The promises of a split, checked each time it is loaded."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from extract.archive import Archive
from extract.errors import ExtractError, name_some
from extract.fold import Fold, Split
from extract.held_out import match_rows

SIZE_SLACK = 0.1  # of a part's due size


@dataclass(frozen=True)
class SubjectFacts:
    """What a split is held against, gathered once for all folds."""

    archive_name: str
    classes: tuple[str, ...]
    counts: dict[str, np.ndarray]  # labeled real images of each class, by subject
    shared: tuple[tuple[str, tuple[str, ...]], ...]  # a file, and the subjects that have its picture


def gather_facts(archive: Archive) -> SubjectFacts:
    """Subjects, their images by class, and the pictures that several of them share."""
    rows = real_rows(archive)
    subjects, labels = archive.subjects[rows], archive.labels[rows]
    shared = []
    for duplicates in find_duplicates(archive, rows):
        owners = tuple(sorted(set(archive.subjects[duplicates].tolist())))
        if len(owners) > 1:
            shared.append((str(archive.manifest["file"].iat[duplicates[0]]), owners))
    counts = class_counts(subjects, labels, len(archive.classes))
    return SubjectFacts(str(archive.path), archive.classes, counts, tuple(shared))


def check_split(split: Split, archive: Archive) -> None:
    """Check that the split is of this archive and keeps every promise of `Fold` and `Split`.

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
    facts = gather_facts(archive)
    tested: dict[str, int] = {}
    for number, fold in enumerate(split.folds):
        check_fold(fold, split.fractions, facts, f"{where}: fold {number}")
        for subject in fold.test:
            if subject in tested:
                raise ExtractError(
                    f"{where}: expected each subject in the test part of one fold, got {subject} in "
                    f"fold {tested[subject]} and fold {number}"
                )
            tested[subject] = number
        _check_linked(split, fold, f"{where}: fold {number}")
    _check_held_out(split, archive, where)
    _check_sizes(split, facts, where)


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
    """Number of images of each class, by subject; unlabeled images count for none."""
    names, inverse = np.unique(subjects, return_inverse=True)
    table = np.zeros((len(names), num_classes), np.int64)
    has_label = labels >= 0
    np.add.at(table, (inverse[has_label], labels[has_label]), 1)
    return {str(name): row for name, row in zip(names, table, strict=True)}


def check_fold(fold: Fold, fractions: tuple[float, ...], facts: SubjectFacts, where: str) -> None:
    """Check one fold: sides, nesting, classes, duplicates.

    Raises:
        ExtractError: beginning with `where`, naming the subject, class or fraction at fault.
    """
    sides = {"test": fold.test, "val": fold.val[1.0], "train": fold.train}
    side_of: dict[str, str] = {}
    for side, subjects in sides.items():
        for subject in subjects:
            if subject not in facts.counts:
                raise ExtractError(
                    f"{where}: expected subjects of {facts.archive_name}, got {subject!r}, which is not in it"
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
    _check_classes(fold, fractions, facts, where)
    for file, owners in facts.shared:
        touched = {side_of[subject]: subject for subject in owners if subject in side_of}
        if len(touched) > 1:
            (side_a, a), (side_b, b), *_ = touched.items()
            raise ExtractError(
                f"{where}: expected no picture on two sides, got an identical picture of {a} in "
                f"{side_a} and of {b} in "
                f"{side_b} ({file}); make the split anew"
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
        repeated = [name for name, count in Counter(by_fraction[fraction]).items() if count > 1]
        if repeated:
            raise ExtractError(
                f"{where} at fraction {fraction}: expected each subject once, got {name_some(repeated)} "
                "more than once"
            )
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


def _check_classes(fold: Fold, fractions: tuple[float, ...], facts: SubjectFacts, where: str) -> None:
    def count(subjects: tuple[str, ...], part: str) -> int:
        counts = np.sum(
            [facts.counts[s] for s in subjects] or [np.zeros(len(facts.classes), np.int64)], axis=0
        )
        missing = [facts.classes[c] for c in np.flatnonzero(counts == 0)]
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


def _check_linked(split: Split, fold: Fold, where: str) -> None:
    """Subjects that the split says it keeps together: near duplicates are not searched at each load."""
    parts = {"test": set(fold.test), "val": set(fold.val[1.0]), "train": set(fold.train)}
    for group in split.linked_subjects:
        touched = {side: sorted(members & set(group)) for side, members in parts.items()}
        touched = {side: found for side, found in touched.items() if found}
        if len(touched) > 1:
            (side_a, a), (side_b, b), *_ = touched.items()
            raise ExtractError(
                f"{where}: expected linked subjects on one side, got {a[0]} in {side_a} and {b[0]} in "
                f"{side_b}; make the split anew"
            )


def _check_held_out(split: Split, archive: Archive, where: str) -> None:
    """The test part is what the column says, and nothing of it is elsewhere."""
    held = split.held_out
    if held is None:
        return
    if len(held.values) != len(split.folds):
        raise ExtractError(
            f"{where}: expected one fold for each value of {held.column}, got {len(split.folds)} folds "
            f"and {len(held.values)} values"
        )
    if held.table:  # the column stands in a table that need not be there any more
        return
    rows = real_rows(archive)
    for number, (fold, value) in enumerate(zip(split.folds, held.values, strict=True)):
        inside = set(archive.subjects[rows[match_rows(archive, rows, held.column, value)]].tolist())
        wrong = sorted(set(fold.test) - inside)
        leaked = sorted(inside & {*fold.train, *fold.val[1.0]})
        # A subject that is linked to one of the site is tested with it, though it is of another.
        wrong = [] if split.linked_subjects and set(wrong) <= _linked_with(split, inside) else wrong
        if wrong or leaked:
            raise ExtractError(
                f"{where}: fold {number}: expected {held.column}={value} in the test part and nowhere else, "
                f"got {name_some(leaked or wrong)} {'in training or validation' if leaked else 'tested'}"
            )


def _linked_with(split: Split, subjects: set[str]) -> set[str]:
    return {name for group in split.linked_subjects if set(group) & subjects for name in group}


def _check_sizes(split: Split, facts: SubjectFacts, where: str) -> None:
    """Parts are about as large as the split says: fractions of training, validation, tests alike.

    What rounding, one subject of each class and linked subjects explain is allowed, and a tenth more, so that
    a few subjects may be left out by hand.
    """
    num_classes = len(facts.classes)
    everyone = set(facts.counts)
    mean_tested = sum(len(fold.test) for fold in split.folds) / len(split.folds)
    for number, fold in enumerate(split.folds):
        rest = len(facts.counts) - len(fold.test)
        checks = []
        if split.held_out is None:
            reach = num_classes + _num_dragged(split, everyone)
            checks.append(
                ("in the test part", len(fold.test), mean_tested, mean_tested - reach, mean_tested + reach)
            )
        excess = _num_dragged(split, {*fold.train, *fold.val[1.0]})
        for f in split.fractions:
            due = f * len(fold.train)
            bounds = (due - 0.5 - excess, max(due + 0.5, num_classes) + excess)
            checks.append((f"labeled at fraction {f}", len(fold.labeled[f]), due, *bounds))
            due = f * split.val_share * rest  # validation may be smaller: it yields to the labeled part
            most = max(due + 1, num_classes) + excess
            checks.append((f"in validation at fraction {f}", len(fold.val[f]), due, 0, most))
        for what, got, due, least, most in checks:
            if not least - SIZE_SLACK * due <= got <= most + SIZE_SLACK * due:
                raise ExtractError(
                    f"{where}: fold {number}: expected about {due:.0f} subjects {what}, got {got}; make the "
                    "split anew"
                )


def _num_dragged(split: Split, subjects: set[str]) -> int:
    """How many of the subjects are there because another one is: all but one of each linked group."""
    return sum(max(0, len(subjects.intersection(group)) - 1) for group in split.linked_subjects)
