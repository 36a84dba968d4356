"""Subjects split once, before anything is trained: outer folds, validation, nested labeled fractions.

Everything is drawn by subject, never by image, and subjects that share an identical picture are drawn
together. Drawing is stratified by the rarest class that a subject shows, so that no part misses one.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from extract.archive import Archive, name_some
from extract.atomic import write_text
from extract.errors import ExtractError, SettingsError
from extract.seeds import derive_seed

PARTS = ("train", "val", "test")
FORMAT = "synthlabel-split-1"
NUM_ATTEMPTS = 50  # draws of a fold's inside before the request counts as impossible


@dataclass(frozen=True)
class Fold:
    """One outer fold; all tuples are sorted subjects."""

    test: tuple[str, ...]
    val: dict[float, tuple[str, ...]]  # by fraction, nested; never more images than labeled[f]
    train: tuple[str, ...]
    labeled: dict[float, tuple[str, ...]]  # by fraction, nested; labeled[1.0] == train


@dataclass(frozen=True)
class Split:
    """A split of one archive's subjects; made by `make_split`, checked by `read_split`."""

    archive_sha256: str
    seed: int
    fractions: tuple[float, ...]  # ascending, the last is 1.0
    folds: tuple[Fold, ...]
    val_share: float = 0.15
    linked_subjects: tuple[tuple[str, ...], ...] = ()  # groups that share an identical picture
    path: Path | None = None
    sha256: str = ""  # of the file's bytes

    def subjects(self, fold: int, part: str, fraction: float = 1.0) -> tuple[str, ...]:
        """The subjects of a part; `train` gives the labeled ones, `unlabeled` the rest of the training part."""
        if not 0 <= fold < len(self.folds):
            raise SettingsError(f"fold must be 0 to {len(self.folds) - 1} for this split, got {fold}")
        if fraction not in self.fractions:
            raise SettingsError(
                f"fraction must be one of {list(self.fractions)} of this split, got {fraction}"
            )
        chosen = self.folds[fold]
        match part:
            case "test":
                return chosen.test
            case "val":
                return chosen.val[fraction]
            case "train":
                return chosen.labeled[fraction]
            case "unlabeled":
                return tuple(sorted(set(chosen.train) - set(chosen.labeled[fraction])))
        raise SettingsError(f"part must be one of {[*PARTS, 'unlabeled']}, got {part!r}")

    def rows(self, archive: Archive, fold: int, part: str, fraction: float = 1.0) -> np.ndarray:
        """Ascending indices of a part's real images; see `subjects` for what the parts mean.

        Validation depends on the fraction as well: at 20 % labels, it is drawn from 20 %, too.
        """
        wanted = np.isin(archive.subjects, np.array(self.subjects(fold, part, fraction), dtype=str))
        return np.flatnonzero(wanted & (archive.manifest["origin"] == "real").to_numpy())


@dataclass(frozen=True)
class _Group:
    """Subjects that must stay together, and how many images of each class they have."""

    subjects: tuple[str, ...]
    counts: tuple[int, ...]  # by class

    @property
    def num_images(self) -> int:
        return sum(self.counts)


def make_split(
    archive: Archive, *, num_folds: int, fractions: Sequence[float], val_share: float, seed: int
) -> Split:
    """Draw a split; the same archive, settings and seed give the same split.

    Args:
        archive: real images, each with a subject and a label.
        num_folds: outer folds; every subject is tested in exactly one.
        fractions: labeled fractions of the training subjects, in (0, 1]; 1.0 is always added.
        val_share: share of the subjects outside the test part that validate, in (0, 1). At a fraction f
            the same fraction of them validates, so that no more labels are used than f says.
        seed: of the drawing.

    Raises:
        SettingsError: if a setting is outside its range.
        ExtractError: if these subjects cannot be split so.
    """
    fractions = _check_settings(num_folds, fractions, val_share)
    groups = _find_groups(archive)
    num_subjects = sum(len(group.subjects) for group in groups)
    if len(groups) < num_folds + 2:
        raise ExtractError(
            f"{archive.path}: expected at least {num_folds + 2} subjects for {num_folds} folds with training and "
            f"validation parts, got {num_subjects}{_linked_note(groups)}; use fewer --folds or more subjects"
        )
    tests = _deal_folds(groups, num_folds, derive_seed(seed, "folds"))
    folds = tuple(
        _draw_fold(archive, groups, test, fractions, val_share, seed, k) for k, test in enumerate(tests)
    )
    linked = tuple(group.subjects for group in groups if len(group.subjects) > 1)
    split = Split(archive.sha256, seed, fractions, folds, val_share, linked)
    check_split(split, archive)
    return replace(split, sha256=hashlib.sha256(_to_json(split).encode("utf-8")).hexdigest())


def write_split(split: Split, path: Path) -> None:
    """Write a split as readable JSON, atomically."""
    write_text(path, _to_json(split))


def read_split(path: Path, archive: Archive) -> Split:
    """Read a split and check all of it against the archive.

    Raises:
        ExtractError: if it belongs to another archive, or anything in it would make a comparison dishonest.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except FileNotFoundError as error:
        raise ExtractError(
            f"{path}: expected a split file, got nothing there; make one with `synthlabel extract split`"
        ) from error
    except (OSError, ValueError) as error:
        raise ExtractError(f"{path}: expected a split as JSON, got {error}") from error
    try:
        split = _from_json(content, path, hashlib.sha256(text.encode("utf-8")).hexdigest())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ExtractError(
            f"{path}: expected the fields of a split ({FORMAT}), got a fault at {error}"
        ) from error
    check_split(split, archive)
    return split


def check_split(split: Split, archive: Archive) -> None:
    """Check that the split is of this archive and keeps every promise of `Fold`.

    Raises:
        ExtractError: naming the subject, class or fraction at fault.
    """
    where = str(split.path or "split")
    if split.archive_sha256 != archive.sha256:
        raise ExtractError(
            f"{where}: expected a split of {archive.path} (SHA-256 {archive.sha256[:12]}...), got one of another "
            f"archive ({split.archive_sha256[:12]}...); make a split of this one with `synthlabel extract split`"
        )
    tested: dict[str, int] = {}
    for number, fold in enumerate(split.folds):
        _check_fold(fold, split.fractions, archive, f"{where}: fold {number}")
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


def _check_settings(num_folds: int, fractions: Sequence[float], val_share: float) -> tuple[float, ...]:
    if num_folds < 2:
        raise SettingsError(f"--folds must be at least 2, got {num_folds}")
    if not 0 < val_share < 1:
        raise SettingsError(f"--val-share must be between 0 and 1, got {val_share}")
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise SettingsError(f"--fractions must be above 0 and at most 1, got {fraction}")
    return tuple(sorted({float(fraction) for fraction in fractions} | {1.0}))


def _real_rows(archive: Archive) -> np.ndarray:
    return np.flatnonzero((archive.manifest["origin"] == "real").to_numpy())


def _find_groups(archive: Archive) -> list[_Group]:
    """Subjects joined over identical pictures (union-find), each group with its class counts."""
    rows = _real_rows(archive)
    subjects, labels = archive.subjects[rows], archive.labels[rows]
    if not len(rows):
        raise ExtractError(f"{archive.path}: expected real images to split, got synthetic ones alone")
    if (subjects == "").any():
        raise ExtractError(
            f"{archive.path}: expected a subject for each image, got none; make it anew with --subjects"
        )
    if (labels < 0).any():
        raise ExtractError(
            f"{archive.path}: expected a label for each real image, got {int((labels < 0).sum())} of {len(rows)} without; "
            "leave the unlabeled ones out of the archive that is split"
        )
    parent = {str(subject): str(subject) for subject in np.unique(subjects)}

    def root(subject: str) -> str:
        while parent[subject] != subject:
            parent[subject] = parent[parent[subject]]
            subject = parent[subject]
        return subject

    for duplicates in find_duplicates(archive, rows):
        first, *others = sorted({root(str(archive.subjects[row])) for row in duplicates})
        parent.update(dict.fromkeys(others, first))
    members: dict[str, list[str]] = {}
    for subject in sorted(parent):
        members.setdefault(root(subject), []).append(subject)
    counts = _class_counts(subjects, labels, len(archive.classes))
    return [
        _Group(tuple(group), tuple(int(n) for n in np.sum([counts[subject] for subject in group], axis=0)))
        for _, group in sorted(members.items())
    ]


def _class_counts(subjects: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, np.ndarray]:
    names, inverse = np.unique(subjects, return_inverse=True)
    table = np.zeros((len(names), num_classes), np.int64)
    np.add.at(table, (inverse, labels), 1)
    return {str(name): row for name, row in zip(names, table, strict=True)}


def _linked_note(groups: Sequence[_Group]) -> str:
    linked = [group for group in groups if len(group.subjects) > 1]
    return f" in {len(groups)} groups ({len(linked)} of them joined by identical pictures)" if linked else ""


def _strata(groups: Sequence[_Group], indices: Sequence[int]) -> dict[int, list[int]]:
    """Indices by the rarest class (held by the fewest groups) that the group shows."""
    shows = np.array([groups[index].counts for index in indices]) > 0  # (G, C)
    num_holders = shows.sum(axis=0)
    strata: dict[int, list[int]] = {}
    for index, held in zip(indices, shows, strict=True):
        classes = np.flatnonzero(held)
        rarest = int(classes[np.argmin(num_holders[classes])])
        strata.setdefault(rarest, []).append(index)
    return dict(sorted(strata.items(), key=lambda item: (num_holders[item[0]], item[0])))


def _deal_folds(groups: Sequence[_Group], num_folds: int, seed: int) -> list[list[int]]:
    """Deal each stratum's shuffled groups, always to the fold that has the fewest of it, then fewest images."""
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
    groups: Sequence[_Group], indices: Sequence[int], rng: np.random.Generator
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


def _covering_first(groups: Sequence[_Group], order: list[int]) -> list[int]:
    shown: set[int] = set()
    first = []
    for index in order:
        new = set(np.flatnonzero(groups[index].counts).tolist()) - shown
        if new:
            first.append(index)
            shown |= new
    return first + [index for index in order if index not in first]


def _cover_size(groups: Sequence[_Group], order: Sequence[int]) -> int:
    """How many groups at the beginning are needed to show each class that the order shows."""
    shown: set[int] = set()
    size = 0
    for position, index in enumerate(order):
        new = set(np.flatnonzero(groups[index].counts).tolist()) - shown
        if new:
            size, shown = position + 1, shown | new
    return size


def _draw_fold(
    archive: Archive,
    groups: Sequence[_Group],
    test: list[int],
    fractions: tuple[float, ...],
    val_share: float,
    seed: int,
    number: int,
) -> Fold:
    """Draw the inside of a fold; a draw that breaks a promise (validation too large, say) is drawn again."""
    rest = [index for index in range(len(groups)) if index not in set(test)]
    for attempt in range(NUM_ATTEMPTS):
        rng = np.random.default_rng(derive_seed(seed, "inside", number, attempt))
        fold = _draw_inside(groups, test, rest, fractions, val_share, rng)
        try:
            _check_fold(fold, fractions, archive, f"fold {number}")
        except ExtractError as error:
            last = error
        else:
            return fold
    per_class = ", ".join(
        f"{name}: {sum(group.counts[index] > 0 for group in groups)}"
        for index, name in enumerate(archive.classes)
    )
    raise ExtractError(
        f"{archive.path}: cannot be split into folds with --fractions {','.join(map(str, fractions))} and --val-share "
        f"{val_share}: {last}; there are {len(groups)} groups of subjects (by class {per_class}), {len(rest)} of them "
        "outside this test part: use fewer --folds, larger --fractions or more subjects"
    ) from last


def _draw_inside(
    groups: Sequence[_Group],
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


def _names(groups: Sequence[_Group], indices: Iterable[int]) -> tuple[str, ...]:
    return tuple(sorted(subject for index in indices for subject in groups[index].subjects))


def _check_fold(fold: Fold, fractions: tuple[float, ...], archive: Archive, where: str) -> None:
    rows = _real_rows(archive)
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
                    f"{where}: expected each subject on one side, got {subject} in {side_of[subject]} and {side}"
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
                f"{where}: expected no picture on two sides, got an identical picture of {a} in {side_a} and of {b} in "
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
                f"{where} at fraction {fraction}: expected nested fractions, got {name_some(lost)} outside the next larger one"
            )
        smaller = subjects
    if where.endswith("labeled"):
        for small, large in zip(fractions, fractions[1:], strict=False):
            if set(by_fraction[small]) == set(by_fraction[large]):
                raise ExtractError(
                    f"{where}: expected more subjects at fraction {large} than at {small}, got the same "
                    f"{len(by_fraction[small])} of {len(whole)}"
                )


def _check_classes(
    fold: Fold, fractions: tuple[float, ...], archive: Archive, rows: np.ndarray, where: str
) -> None:
    table = _class_counts(archive.subjects[rows], archive.labels[rows], len(archive.classes))

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
                f"{where}: expected at most as many images for validation as labeled ones at fraction {fraction}, "
                f"got {num_val} beside {num_labeled}"
            )


def _to_json(split: Split) -> str:
    content = {
        "format": FORMAT,
        "archive_sha256": split.archive_sha256,
        "seed": split.seed,
        "val_share": split.val_share,
        "fractions": split.fractions,
        "linked_subjects": split.linked_subjects,
        "folds": [
            {
                "test": fold.test,
                "val": {str(fraction): fold.val[fraction] for fraction in split.fractions},
                "train": fold.train,
                "labeled": {str(fraction): fold.labeled[fraction] for fraction in split.fractions},
            }
            for fold in split.folds
        ],
    }
    return json.dumps(content, indent=1) + "\n"


def _from_json(content: Mapping[str, Any], path: Path, sha256: str) -> Split:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r}")
    folds = tuple(
        Fold(
            test=tuple(map(str, fold["test"])),
            val={float(fraction): tuple(map(str, subjects)) for fraction, subjects in fold["val"].items()},
            train=tuple(map(str, fold["train"])),
            labeled={
                float(fraction): tuple(map(str, subjects)) for fraction, subjects in fold["labeled"].items()
            },
        )
        for fold in content["folds"]
    )
    fractions = tuple(sorted(float(fraction) for fraction in content["fractions"]))
    if not folds or not fractions or fractions[-1] != 1.0:
        raise ValueError("folds or fractions (at least one fold, and the fraction 1.0)")
    for fold in folds:
        if set(fold.val) != set(fractions) or set(fold.labeled) != set(fractions):
            raise ValueError("fractions (each fold needs val and labeled at each fraction)")
    return Split(
        archive_sha256=str(content["archive_sha256"]),
        seed=int(content["seed"]),
        fractions=fractions,
        folds=folds,
        val_share=float(content["val_share"]),
        linked_subjects=tuple(tuple(group) for group in content.get("linked_subjects", ())),
        path=path,
        sha256=sha256,
    )
