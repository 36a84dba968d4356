"""Drawing the parts of a split: by groups of subjects, stratified, the same for the same seed.

A group is a subject, or several that share an identical picture. It belongs to the stratum of the rarest
class (held by the fewest groups) that it shows, so that a rare class is spread over all parts.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from extract.archive import Archive
from extract.errors import ExtractError, name_some
from extract.fold import Fold
from extract.held_out import HeldOut, column_values, match_rows
from extract.seeds import derive_seed
from extract.split_check import SubjectFacts, check_fold, class_counts, find_duplicates, real_rows

NUM_ATTEMPTS = 50  # draws of a fold's inside before the request counts as impossible


@dataclass(frozen=True)
class SubjectGroup:
    """Subjects that must stay together, and how many images of each class they have."""

    subjects: tuple[str, ...]
    counts: tuple[int, ...]  # by class

    @property
    def num_images(self) -> int:
        return sum(self.counts)


def find_groups(archive: Archive, links: Sequence[Sequence[str]] = ()) -> list[SubjectGroup]:
    """Subjects joined over identical pictures (union-find), each group with its class counts.

    Args:
        links: more subjects to keep together, of near duplicates for instance.
    """
    rows = real_rows(archive)
    subjects, labels = archive.subjects[rows], archive.labels[rows]
    if not len(rows):
        raise ExtractError(f"{archive.path}: expected real images to split, got synthetic ones alone")
    if (subjects == "").any():
        raise ExtractError(
            f"{archive.path}: expected a subject for each image, got none; make it anew with --subjects"
        )
    if (labels < 0).any():
        raise ExtractError(
            f"{archive.path}: expected a label for each real image, got {int((labels < 0).sum())} "
            f"of {len(rows)} without; "
            "leave the unlabeled ones out of the archive that is split"
        )
    parent = {str(subject): str(subject) for subject in np.unique(subjects)}

    def root(subject: str) -> str:
        while parent[subject] != subject:
            parent[subject] = parent[parent[subject]]
            subject = parent[subject]
        return subject

    shared = [set(archive.subjects[found].tolist()) for found in find_duplicates(archive, rows)]
    for names in [*shared, *map(set, links)]:
        first, *others = sorted({root(str(name)) for name in names & parent.keys()}) or [""]
        parent.update(dict.fromkeys(others, first))
    members: dict[str, list[str]] = {}
    for subject in sorted(parent):
        members.setdefault(root(subject), []).append(subject)
    counts = class_counts(subjects, labels, len(archive.classes))
    return [
        SubjectGroup(
            tuple(group), tuple(int(n) for n in np.sum([counts[subject] for subject in group], axis=0))
        )
        for _, group in sorted(members.items())
    ]


def linked_note(groups: Sequence[SubjectGroup]) -> str:
    """Words for an error: how many groups, where pictures in common join subjects."""
    linked = [group for group in groups if len(group.subjects) > 1]
    return f" in {len(groups)} groups ({len(linked)} of them joined by a picture in common)" if linked else ""


def _strata(groups: Sequence[SubjectGroup], indices: Sequence[int]) -> dict[int, list[int]]:
    """Indices by the rarest class (held by the fewest groups) that the group shows."""
    shows = np.array([groups[index].counts for index in indices]) > 0  # (G, C)
    num_holders = shows.sum(axis=0)
    strata: dict[int, list[int]] = {}
    for index, held in zip(indices, shows, strict=True):
        classes = np.flatnonzero(held)
        rarest = int(classes[np.argmin(num_holders[classes])])
        strata.setdefault(rarest, []).append(index)
    return dict(sorted(strata.items(), key=lambda item: (num_holders[item[0]], item[0])))


def deal_folds(groups: Sequence[SubjectGroup], num_folds: int, seed: int) -> list[list[int]]:
    """Deal each stratum's shuffled groups, each to the fold with the fewest of it, then the fewest images."""
    # Our own dealing instead of scikit-learn's: a seed must give one split in every release.
    rng = np.random.default_rng(seed)
    tests: list[list[int]] = [[] for _ in range(num_folds)]
    num_images = [0] * num_folds
    for stratum in _strata(groups, range(len(groups))).values():
        dealt = [0] * num_folds
        for index in rng.permutation(stratum):
            fold = min(range(num_folds), key=lambda k: (dealt[k], len(tests[k]), num_images[k]))
            tests[fold].append(int(index))
            dealt[fold] += 1
            num_images[fold] += groups[index].num_images
    return tests


def _stratified_order(
    groups: Sequence[SubjectGroup], indices: Sequence[int], rng: np.random.Generator
) -> list[int]:
    """An order whose every beginning has the strata in proportion, and starts with each class once."""
    ranked: list[tuple[float, int]] = []
    for stratum in _strata(groups, indices).values():
        offset = rng.random()
        ranked += [
            ((i + offset) / len(stratum), int(index)) for i, index in enumerate(rng.permutation(stratum))
        ]
    order = [index for _, index in sorted(ranked)]
    return _covering_first(groups, order)


def _covering_first(groups: Sequence[SubjectGroup], order: list[int]) -> list[int]:
    shown: set[int] = set()
    first = []
    for index in order:
        new = set(np.flatnonzero(groups[index].counts).tolist()) - shown
        if new:
            first.append(index)
            shown |= new
    return first + [index for index in order if index not in first]


def _cover_size(groups: Sequence[SubjectGroup], order: Sequence[int]) -> int:
    """How many groups at the beginning are needed to show each class that the order shows."""
    shown: set[int] = set()
    size = 0
    for position, index in enumerate(order):
        new = set(np.flatnonzero(groups[index].counts).tolist()) - shown
        if new:
            size, shown = position + 1, shown | new
    return size


def draw_fold(
    facts: SubjectFacts,
    groups: Sequence[SubjectGroup],
    test: list[int],
    fractions: tuple[float, ...],
    val_share: float,
    seed: int,
    number: int,
    held_value: str = "",
) -> Fold:
    """Draw the inside of a fold; a draw that breaks a promise (validation too large, say) is drawn again."""
    tested = set(test)
    rest = [index for index in range(len(groups)) if index not in tested]
    for attempt in range(NUM_ATTEMPTS):
        rng = np.random.default_rng(derive_seed(seed, "inside", number, attempt))
        fold = _draw_inside(groups, test, rest, fractions, val_share, rng)
        try:
            check_fold(fold, fractions, facts, f"fold {number}")
        except ExtractError as error:
            last = error
        else:
            return fold
    per_class = ", ".join(
        f"{name}: {sum(group.counts[index] > 0 for group in groups)}"
        for index, name in enumerate(facts.classes)
    )
    what, remedy = (
        (f"with {held_value} as the test part,", "hold out something else, use larger --fractions")
        if held_value
        else ("into folds with", "use fewer --folds, larger --fractions")
    )
    raise ExtractError(
        f"{facts.archive_name}: cannot be split {what} --fractions "
        f"{','.join(map(str, fractions))} and --val-share "
        f"{val_share}: {last}; there are {len(groups)} groups of subjects (by class {per_class}), "
        f"{len(rest)} of them "
        f"outside this test part: {remedy} or more subjects"
    ) from last


def _draw_inside(
    groups: Sequence[SubjectGroup],
    test: list[int],
    rest: list[int],
    fractions: tuple[float, ...],
    val_share: float,
    rng: np.random.Generator,
) -> Fold:
    order = _stratified_order(groups, rest, rng)
    num_val = max(round(val_share * len(order)), _cover_size(groups, order))
    val_order = order[:num_val]
    train_order = _stratified_order(groups, order[num_val:], rng) if order[num_val:] else []
    labeled = {
        f: train_order[: max(round(f * len(train_order)), _cover_size(groups, train_order))]
        for f in fractions
    }
    labeled[1.0] = train_order
    val = {}
    for fraction, chosen in labeled.items():
        budget = sum(groups[index].num_images for index in chosen)
        size, smallest = round(fraction * len(val_order)), _cover_size(groups, val_order)
        size = max(size, smallest)
        while size > smallest and sum(groups[index].num_images for index in val_order[:size]) > budget:
            size -= 1
        val[fraction] = val_order[:size]
    return Fold(
        test=_names(groups, test),
        val={fraction: _names(groups, indices) for fraction, indices in val.items()},
        train=_names(groups, train_order),
        labeled={fraction: _names(groups, indices) for fraction, indices in labeled.items()},
    )


def _names(groups: Sequence[SubjectGroup], indices: Iterable[int]) -> tuple[str, ...]:
    return tuple(sorted(subject for index in indices for subject in groups[index].subjects))


def choose_tests(
    archive: Archive,
    groups: Sequence[SubjectGroup],
    held_out: HeldOut,
    table: Path | None,
    whole_subjects: bool,
) -> tuple[list[list[int]], tuple[str, ...]]:
    """The groups of each test part that a column decides, and the subjects that had to be moved there.

    Raises:
        ExtractError: if a value has no image, or a subject (or linked subjects) would be on two sides and
            `whole_subjects` does not move them to the test part.
    """
    rows = real_rows(archive)
    subjects = archive.subjects[rows]
    index_of = {subject: index for index, group in enumerate(groups) for subject in group.subjects}
    group_of = np.array([index_of[str(subject)] for subject in subjects])
    tests: list[list[int]] = []
    moved: set[str] = set()
    taken = np.zeros(len(rows), bool)
    for value in held_out.values:
        inside = match_rows(archive, rows, held_out.column, value, table)
        if not inside.any():
            raise ExtractError(
                f"{table or archive.path}: expected images with {held_out.column}={value}, got none; "
                f"there are {name_some(_shown_values(archive, rows, held_out.column, table))}"
            )
        if (inside & taken).any():
            raise ExtractError(
                f"{archive.path}: expected values of {held_out.column} that share no image, got "
                f"{int((inside & taken).sum())} images of {value} that another value has, too"
            )
        taken |= inside
        chosen = np.unique(group_of[inside])
        moved |= set(subjects[np.isin(group_of, chosen) & ~inside].tolist())
        tests.append(chosen.tolist())
    if moved and not whole_subjects:
        raise ExtractError(
            f"{archive.path}: expected each subject (and those linked by a picture in common) on one side of "
            f"{held_out.column}={' and '.join(held_out.values)}, got {len(moved)} that stand on both: "
            f"{name_some(sorted(moved))}; --whole-subjects tests them with all their images"
        )
    repeated = [index for index, count in Counter(chain(*tests)).items() if count > 1]
    if repeated:
        raise ExtractError(
            f"{archive.path}: expected each subject in the test part of one value of {held_out.column}, got "
            f"{name_some([groups[index].subjects[0] for index in sorted(repeated)])} in several; "
            "hold these values out one at a time"
        )
    return tests, tuple(sorted(moved))


def _shown_values(archive: Archive, rows: np.ndarray, column: str, table: Path | None) -> list[str]:
    return sorted(set(column_values(archive, rows, column, table).tolist()))
