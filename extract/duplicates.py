"""Groups of pictures that are the same or nearly, and on which lines they cross: subject, class, part."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from extract.archive import Archive
from extract.errors import ExtractError
from extract.fingerprints import ORIENTATIONS
from extract.near_duplicates import NearPair, find_near_duplicates
from extract.progress import Progress, no_progress
from extract.survey import PictureSurvey, equal_groups, survey_pictures

DEFAULT_MIN_LIKENESS = 0.93  # measured: see docs/data.md
VISIBLE_SHIFT = 0.012  # of a side; less is rounding


@dataclass(frozen=True)
class DuplicateGroup:
    """Pictures that show the same thing."""

    rows: tuple[int, ...]  # of the archive, ascending
    pairs: tuple[NearPair, ...]  # what makes them near duplicates; empty where all are identical
    subjects: tuple[str, ...]  # sorted; "" is left out
    labels: tuple[str, ...]  # sorted class names; "" is left out

    @property
    def is_identical(self) -> bool:
        """Whether all of its pictures have the same pixels."""
        return not self.pairs

    @property
    def crosses_subjects(self) -> bool:
        """Whether it joins subjects, so that a split between them would leak."""
        return len(self.subjects) > 1

    @property
    def crosses_classes(self) -> bool:
        """Whether the same picture stands under several classes."""
        return len(self.labels) > 1


def find_identical(archive: Archive, survey: PictureSurvey) -> tuple[DuplicateGroup, ...]:
    """Groups of pictures with the same pixels, in order of their first row."""
    groups = equal_groups(survey.digests, np.arange(len(archive)))
    return tuple(_group(archive, group.tolist(), ()) for group in groups)


def find_alike(
    archive: Archive,
    survey: PictureSurvey,
    min_likeness: float = DEFAULT_MIN_LIKENESS,
    progress: Progress = no_progress,
) -> tuple[DuplicateGroup, ...]:
    """Groups of near duplicates, in order of their first row; identical copies join their group.

    Slices of one volume (or of several of one subject) are alike by nature and not compared with each
    other. Pictures that are even throughout, or have fewer than 32 pixels a side, are left alone.
    """
    identical = equal_groups(survey.digests, np.arange(len(archive)))
    copies = {int(group[0]): group.tolist() for group in identical}
    repeated = {row for group in identical for row in group[1:].tolist()}
    has_structure = np.flatnonzero(survey.is_readable & (survey.low < survey.high))
    rows = np.array([row for row in has_structure.tolist() if row not in repeated], np.int64)
    pairs = find_near_duplicates(
        survey.thumbs, rows, slice_owners(archive), min_likeness=min_likeness, progress=progress
    )
    by_root: dict[int, list[NearPair]] = {}
    roots = join_rows((pair.row, pair.other) for pair in pairs)
    for pair in pairs:
        by_root.setdefault(roots[pair.row], []).append(pair)
    groups = []
    for chosen in by_root.values():
        members = {row for pair in chosen for row in (pair.row, pair.other)}
        everyone = sorted({twin for row in members for twin in copies.get(row, [row])})
        groups.append(_group(archive, everyone, tuple(chosen)))
    return tuple(sorted(groups, key=lambda group: group.rows))


def slice_owners(archive: Archive) -> np.ndarray:
    """(N,) int: the subject of slices of a volume, -1 for pictures that stand for themselves."""
    _, subjects = np.unique(archive.subjects, return_inverse=True)
    is_slice = (archive.manifest["plane"] != "").to_numpy() & (archive.subjects != "")
    return np.where(is_slice, subjects, -1)


def join_rows(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The smallest row of the group that each row belongs to, for rows that pairs chain together."""
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        parent.setdefault(row, row)
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for a, b in pairs:
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    return {row: root(row) for row in list(parent)}


def describe_pair(pair: NearPair) -> str:
    """What was done between two pictures: orientation, shift, and how alike they are."""
    distance = max(map(abs, pair.shift))
    moved = f"shifted by {100 * distance:.0f} %" if distance > VISIBLE_SHIFT else ""
    turned = ORIENTATIONS[pair.orientation] if pair.orientation else ""
    what = ", ".join(part for part in (turned, moved) if part)
    return f"{100 * pair.likeness:.0f} % alike" + (f", {what}" if what else "")


def _group(archive: Archive, rows: Sequence[int], pairs: tuple[NearPair, ...]) -> DuplicateGroup:
    subjects = {str(archive.subjects[row]) for row in rows} - {""}
    labels = {archive.classes[archive.labels[row]] for row in rows if archive.labels[row] >= 0}
    return DuplicateGroup(tuple(rows), pairs, tuple(sorted(subjects)), tuple(sorted(labels)))


def alike_subjects(
    archive: Archive, min_likeness: float = DEFAULT_MIN_LIKENESS, progress: Progress = no_progress
) -> tuple[tuple[str, ...], ...]:
    """Groups of subjects that share near duplicates, for a split to keep together; real images count.

    Raises:
        ExtractError: if a picture is damaged.
    """
    survey = survey_pictures(archive, progress)
    if survey.errors:
        raise ExtractError(f"{archive.path}: {survey.errors[0]}; see `synthlabel extract verify`")
    is_real = (archive.manifest["origin"] == "real").to_numpy()
    groups = find_alike(archive, survey, min_likeness, progress)
    found = [tuple(sorted(set(archive.subjects[[r for r in g.rows if is_real[r]]].tolist()))) for g in groups]
    return tuple(group for group in found if len(group) > 1)
