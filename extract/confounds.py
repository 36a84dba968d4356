"""Does something trivial predict the class? Where it does, a classifier may learn that and nothing else.

Each clue is one plain fact of a picture (its original size, its file's type, its brightness at the border).
The simplest rule on that fact alone predicts the class of subjects that it was not made on; how well it does,
with an interval, is said in words. The rule is a table: a clue's values, or ranges of them, and the class
that is most frequent in each.

Source: Holte 1993, "Very Simple Classification Rules Perform Well on Most Commonly Used Datasets", Machine
Learning 11 (the rule 1R).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from extract.archive import Archive
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from extract.survey import PictureSurvey

NUM_FOLDS = 5
NUM_DRAWS = 1000  # of the bootstrap over subjects
MIN_SUBJECTS = 10  # of each class; fewer say nothing about a clue
MAX_RANGES = 16  # of a measured clue
MIN_PER_VALUE = 5  # images of a named value; rarer ones count as one
GIVES_AWAY, HINTS = 0.5, 0.2  # of the way from chance to certainty, reached by the interval's lower end


@dataclass(frozen=True)
class Clue:
    """A fact of each picture that should not tell its class."""

    name: str
    kind: str  # "file" (of the original file), "shape", "brightness", "texture"
    values: np.ndarray  # (N,) float, NaN = unknown, or (N,) str


@dataclass(frozen=True)
class Confound:
    """How well one clue predicts the class of unseen subjects."""

    name: str
    kind: str
    balanced_accuracy: float
    low: float  # of the 95 % interval, over subjects
    high: float
    chance: float  # one over the number of classes
    examples: tuple[tuple[str, str, int, int], ...]  # value or range, class it stands for, images of it, all

    @property
    def strength(self) -> str:
        """`gives away`, `hints`, `weak` or `none`, by the lower end of the interval."""
        way = (self.low - self.chance) / (1 - self.chance)
        if way >= GIVES_AWAY:
            return "gives away"
        return "hints" if way >= HINTS else "weak" if way > 0 else "none"


def find_confounds(
    archive: Archive, survey: PictureSurvey, seed: int = 0, progress: Progress = no_progress
) -> tuple[Confound, ...]:
    """Try every clue that the archive has, strongest first.

    Only real, labeled, readable images count, and classes of at least 10 subjects; with fewer than two such
    classes nothing is tried. Where subjects are unknown each image counts as one.
    """
    rows, labels, groups = _usable(archive, survey)
    if not len(rows):
        return ()
    names = [archive.classes[k] for k in np.unique(labels)]
    labels = np.searchsorted(np.unique(labels), labels)
    folds = _deal(groups, labels, derive_seed("confounds", seed))
    found = []
    clues = [clue for clue in list_clues(archive, survey) if _varies(clue.values[rows])]
    for number, clue in enumerate(clues):
        found.append(_test(clue, clue.values[rows], labels, groups, folds, names, seed))
        progress(number + 1, len(clues), "looking for what gives classes away")
    return tuple(sorted(found, key=lambda item: (-item.low, item.name)))


def list_clues(archive: Archive, survey: PictureSurvey) -> list[Clue]:
    """All clues of an archive; those of original sizes only where its manifest has them."""
    sources = archive.manifest["source"].tolist()
    clues = [
        Clue("type of the original file", "file", _text([PurePosixPath(s).suffix.lower() for s in sources])),
        Clue("beginning of the file's name", "file", _text([name_stem(source) for source in sources])),
    ]
    # Folders above the class's own, which an archive of class folders starts its paths with.
    folders = [_folders_beside(s, label) for s, label in zip(sources, archive.manifest["label"], strict=True)]
    clues.append(Clue("folder beside the class", "file", _text(folders)))
    if "part" in archive.manifest.columns:
        clues.append(Clue("original part", "file", archive.manifest["part"].to_numpy(dtype=str)))
    width, height = _numbers(archive, "source_width"), _numbers(archive, "source_height")
    if width is not None and height is not None:
        clues += [
            Clue("original width", "shape", width),
            Clue("original height", "shape", height),
            Clue("original width to height", "shape", width / np.maximum(height, 1)),
        ]
    if (archive.manifest["plane"] != "").all():
        return clues  # classes of planes and noise are what the slices show: their brightness has to differ
    clues += [
        Clue("mean brightness", "brightness", survey.mean),
        Clue("contrast", "brightness", survey.contrast),
        Clue("brightness at the border", "brightness", survey.border),
        Clue("share of black pixels", "brightness", survey.black_share),
        Clue("share of white pixels", "brightness", survey.white_share),
        Clue("steps across to steps down (squashing)", "texture", survey.direction),
        Clue("sharpness", "texture", survey.sharpness),
    ]
    return clues


def describe(confound: Confound) -> str:
    """What was found of a clue, as a sentence."""
    shares = (
        f"{100 * confound.balanced_accuracy:.0f} % balanced accuracy "
        f"({100 * confound.low:.0f} to {100 * confound.high:.0f} %, chance {100 * confound.chance:.0f} %)"
    )
    match confound.strength:
        case "gives away":
            return f"{confound.name} alone gives the class away: {shares}"
        case "hints":
            return f"{confound.name} alone hints at the class: {shares}"
        case "weak":
            return f"{confound.name} says a little about the class: {shares}"
    return f"{confound.name} says nothing of the class: {shares}"


def name_stem(source: str) -> str:
    """What stands before the first digit of a file's name: `IM-0115-0001.jpeg` gives `IM-`."""
    return re.split(r"\d", PurePosixPath(source).stem, maxsplit=1)[0]


def _folders_beside(source: str, label: str) -> str:
    return "/".join(part for part in PurePosixPath(source).parts[:-1] if part != label)


def _text(values: Sequence[str]) -> np.ndarray:
    return np.array(values, dtype=str)


def _numbers(archive: Archive, column: str) -> np.ndarray | None:
    """A column as numbers, NaN where empty; None where the archive has none."""
    if column not in archive.manifest.columns:
        return None
    values = pd.to_numeric(archive.manifest[column], errors="coerce").to_numpy(dtype=float)
    return None if np.isnan(values).all() else values


def _usable(archive: Archive, survey: PictureSurvey) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, their labels and subjects as integers, without classes of too few subjects."""
    is_real = (archive.manifest["origin"] == "real").to_numpy()
    rows = np.flatnonzero(is_real & (archive.labels >= 0) & survey.is_readable)
    subjects = archive.subjects[rows]
    alone = np.array([f"\0{row}" for row in rows], dtype=str)
    _, groups = np.unique(np.where(subjects == "", alone, subjects), return_inverse=True)
    labels = archive.labels[rows]
    held = [len(np.unique(groups[labels == k])) >= MIN_SUBJECTS for k in range(len(archive.classes))]
    if sum(held) < 2:
        return rows[:0], labels[:0], groups[:0]
    chosen = np.isin(labels, np.flatnonzero(held))
    _, groups = np.unique(groups[chosen], return_inverse=True)
    return rows[chosen], labels[chosen], groups


def _varies(values: np.ndarray) -> bool:
    return bool((values != values[0]).any()) and not (values.dtype.kind == "f" and np.isnan(values).all())


def _deal(groups: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """(N,) fold of each image: subjects dealt in turn, class by class, so that each fold has its share."""
    num_groups = int(groups.max()) + 1
    first = np.zeros(num_groups, np.int64)
    first[groups[::-1]] = labels[::-1]  # a subject counts for the class of its first image
    shuffled = np.random.default_rng(seed).permutation(num_groups)
    order = shuffled[np.argsort(first[shuffled], kind="stable")]
    fold_of = np.empty(num_groups, np.int64)
    fold_of[order] = np.arange(num_groups) % NUM_FOLDS
    return fold_of[groups]


def _test(
    clue: Clue, values: np.ndarray, labels: np.ndarray, groups: np.ndarray, folds: np.ndarray,
    names: Sequence[str], seed: int,
) -> Confound:  # fmt: skip
    num_classes = len(names)
    predicted = np.empty(len(labels), np.int64)
    for fold in range(NUM_FOLDS):
        inside = folds != fold
        codes, num_codes, _ = _code(values, values[inside])
        votes = _votes(codes[inside], labels[inside], num_codes, num_classes)
        predicted[~inside] = votes.argmax(axis=1)[codes[~inside]]
    value, low, high = _balanced(predicted == labels, labels, groups, num_classes, clue.name, seed)
    codes, num_codes, texts = _code(values, values)
    return Confound(
        clue.name, clue.kind, value, low, high, 1 / num_classes,
        _examples(codes, num_codes, texts, labels, names),
    )  # fmt: skip


def _code(values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, int, list[str]]:
    """(N,) places in the table, their number and their names; the table is made of the known values alone."""
    if values.dtype.kind == "f":
        finite = known[np.isfinite(known)]
        # Where a value repeats often (a size of 512), it becomes a limit once and the ranges fewer.
        limits = (
            np.unique(np.quantile(finite, np.linspace(0, 1, MAX_RANGES + 1)[1:-1])) if len(finite) else finite
        )
        codes = np.searchsorted(limits, np.nan_to_num(values), side="right")
        codes[~np.isfinite(values)] = len(limits) + 1
        ends = [f"{limit:.4g}" for limit in limits]
        texts = [f"below {ends[0]}"] if ends else ["any"]
        texts += [f"{a} to {b}" for a, b in pairwise(ends)]
        texts += [f"from {ends[-1]}"] if ends else []
        return codes, len(limits) + 2, [*texts, "unknown"]
    kept, counts = np.unique(known, return_counts=True)
    kept = kept[counts >= MIN_PER_VALUE]
    codes = np.searchsorted(kept, values)
    is_kept = np.zeros(len(values), bool)
    is_kept[codes < len(kept)] = kept[codes[codes < len(kept)]] == values[codes < len(kept)]
    return np.where(is_kept, codes, len(kept)), len(kept) + 1, [*(t or "(none)" for t in kept), "(others)"]


def _votes(codes: np.ndarray, labels: np.ndarray, num_codes: int, num_classes: int) -> np.ndarray:
    """(codes, classes) shares of each class that has the code, so that no class wins by its size."""
    votes = np.zeros((num_codes, num_classes))
    np.add.at(votes, (codes, labels), 1)
    return votes / np.maximum(votes.sum(axis=0), 1)


def _balanced(
    is_right: np.ndarray, labels: np.ndarray, groups: np.ndarray, num_classes: int, name: str, seed: int
) -> tuple[float, float, float]:
    """Balanced accuracy and its 95 % interval by drawing whole subjects again."""
    num_groups = int(groups.max()) + 1
    right, total = np.zeros((num_groups, num_classes)), np.zeros((num_groups, num_classes))
    np.add.at(right, (groups, labels), is_right)
    np.add.at(total, (groups, labels), 1)
    value = float((right.sum(axis=0) / total.sum(axis=0)).mean())
    rng = np.random.default_rng(derive_seed("confound interval", name, seed))
    drawn = []
    for _ in range(NUM_DRAWS):
        times = np.bincount(rng.integers(0, num_groups, num_groups), minlength=num_groups)
        drawn.append(((times @ right) / np.maximum(times @ total, 1)).mean())
    low, high = np.quantile(drawn, [0.025, 0.975])
    return value, float(low), float(high)


def _examples(
    codes: np.ndarray, num_codes: int, texts: Sequence[str], labels: np.ndarray, names: Sequence[str]
) -> tuple[tuple[str, str, int, int], ...]:
    """The places of the table that tell a class best: what, the class, its images there, all images there."""
    counts = np.zeros((num_codes, len(names)), np.int64)
    np.add.at(counts, (codes, labels), 1)
    best = _votes(codes, labels, num_codes, len(names)).argmax(axis=1)
    order = np.argsort(-counts[np.arange(num_codes), best], kind="stable")
    return tuple(
        (texts[k], names[best[k]], int(counts[k, best[k]]), int(counts[k].sum()))
        for k in order[:4]
        if counts[k].sum()
    )
