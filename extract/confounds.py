"""Does something trivial predict the class? Where it does, a classifier may learn that and nothing else.

Each clue is one plain fact of a picture (its original size, its file's type, its brightness at the border).
The simplest rule on that fact alone tells one class from the others in subjects that it was not made on; how
well it does, with an interval, is said in words. The rule is a table: a clue's values, or ranges of them, and
on which side most pictures of each are.

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
MIN_SUBJECTS = 10  # of each class; fewer say nothing about a clue
MAX_RANGES = 16  # of a measured clue
MAX_EXAMPLES = 3
UNKNOWN = "unknown"  # name of the place of missing values
MIN_PER_VALUE = 5  # images of a named value; rarer ones count as one
CHANCE = 0.5  # of balanced accuracy, for one class against the others
GIVES_AWAY, HINTS = 0.5, 0.2  # of the way from chance to certainty, reached by the interval's lower end


@dataclass(frozen=True)
class Clue:
    """A fact of each picture that should not tell its class."""

    name: str
    kind: str  # "name" (never seen by a classifier), "file", "shape", "brightness", "texture"
    values: np.ndarray  # (N,) float, NaN = unknown, or (N,) str


@dataclass(frozen=True)
class Confound:
    """How well one clue tells a class from the others in unseen subjects; the class that it tells best."""

    name: str
    kind: str
    tells: str  # class name
    balanced_accuracy: float  # of this class against the others; chance is 0.5
    low: float  # of the 95 % interval, over subjects
    high: float
    examples: tuple[tuple[str, int, int], ...]  # value or range that tells it, images of the class, all

    @property
    def strength(self) -> str:
        """`gives away`, `hints`, `weak` or `none`, by the lower end of the interval."""
        way = (self.low - CHANCE) / (1 - CHANCE)
        if way >= GIVES_AWAY:
            return "gives away"
        return "hints" if way >= HINTS else "weak" if way > 0 else "none"


def find_confounds(
    archive: Archive, survey: PictureSurvey, *, seed: int = 0, progress: Progress = no_progress
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
        found.append(_test(clue, clue.values[rows], labels, groups, folds, names))
        progress(number + 1, len(clues), "looking for what gives classes away")
    return tuple(sorted(found, key=lambda item: (-item.low, item.name)))


def list_clues(archive: Archive, survey: PictureSurvey) -> list[Clue]:
    """All clues of an archive; those of original sizes only where its manifest has them."""
    sources = archive.manifest["source"].tolist()
    clues = [
        Clue("type of the original file", "file", _text([PurePosixPath(s).suffix.lower() for s in sources])),
        Clue("beginning of the file's name", "name", _text([name_stem(source) for source in sources])),
    ]
    # Folders above the class's own, which an archive of class folders starts its paths with.
    folders = [_folders_beside(s, label) for s, label in zip(sources, archive.manifest["label"], strict=True)]
    clues.append(Clue("folder beside the class", "name", _text(folders)))
    if "part" in archive.manifest.columns:
        clues.append(Clue("original part", "name", archive.manifest["part"].to_numpy(dtype=str)))
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
        f"balanced accuracy {100 * confound.balanced_accuracy:.0f} % "
        f"({100 * confound.low:.0f} to {100 * confound.high:.0f} %, chance {100 * CHANCE:.0f} %)"
    )
    match confound.strength:
        case "gives away":
            return f"{confound.name} alone gives {confound.tells} away: {shares}"
        case "hints":
            return f"{confound.name} alone hints at {confound.tells}: {shares}"
        case "weak":
            return f"{confound.name} says a little about {confound.tells}: {shares}"
    return f"{confound.name} tells no class: {shares}"


def name_stem(source: str) -> str:
    """What stands before the first digit of a file's name: `IM-0115-0001.jpeg` gives `IM-`."""
    return re.split(r"\d", PurePosixPath(source).stem, maxsplit=1)[0]


def _folders_beside(source: str, label: str) -> str:
    return "/".join(part for part in PurePosixPath(source).parts[:-1] if part.casefold() != label.casefold())


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
    names: Sequence[str],
) -> Confound:  # fmt: skip
    """The class that the clue tells best, by the lower end of the interval."""
    best: tuple[float, float, float, int] | None = None
    for label in range(len(names)):
        is_class = (labels == label).astype(np.int64)
        is_right = np.empty(len(labels), bool)
        for fold in range(NUM_FOLDS):
            inside = folds != fold
            codes, num_codes, _ = _code(values, values[inside])
            votes = _votes(codes[inside], is_class[inside], num_codes)
            is_right[~inside] = votes.argmax(axis=1)[codes[~inside]] == is_class[~inside]
        low, value, high = _balanced(is_right, is_class, groups)
        if best is None or low > best[0]:
            best = (low, value, high, label)
    assert best is not None
    low, value, high, label = best
    examples = _examples(values, labels == label)
    return Confound(clue.name, clue.kind, names[label], value, low, high, examples)


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
        ends = [f"{limit:.3g}" for limit in limits]
        texts = [f"below {ends[0]}"] if ends else ["any"]
        texts += [f"{a} to {b}" for a, b in pairwise(ends)]
        texts += [f"from {ends[-1]}"] if ends else []
        return codes, len(limits) + 2, [*texts, UNKNOWN]
    kept, counts = np.unique(known, return_counts=True)
    kept = kept[counts >= MIN_PER_VALUE]
    codes = np.searchsorted(kept, values)
    is_kept = np.zeros(len(values), bool)
    is_kept[codes < len(kept)] = kept[codes[codes < len(kept)]] == values[codes < len(kept)]
    return np.where(is_kept, codes, len(kept)), len(kept) + 1, [*(t or "(none)" for t in kept), "(others)"]


def _votes(codes: np.ndarray, is_class: np.ndarray, num_codes: int) -> np.ndarray:
    """(codes, 2) shares of the others and of the class with the code, so that no side wins by its size."""
    votes = np.zeros((num_codes, 2))
    np.add.at(votes, (codes, is_class), 1)
    return votes / np.maximum(votes.sum(axis=0), 1)


def _balanced(is_right: np.ndarray, is_class: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Balanced accuracy between the ends of its 95 % interval, which counts subjects, not images.

    The interval is that of a mean of ratios over clusters (linearized); where every image is right, its lower
    end follows the rule of three.
    """
    num_groups = int(groups.max()) + 1
    right, total = np.zeros((num_groups, 2)), np.zeros((num_groups, 2))
    np.add.at(right, (groups, is_class), is_right)
    np.add.at(total, (groups, is_class), 1)
    rates = right.sum(axis=0) / total.sum(axis=0)
    value = float(rates.mean())
    influence = ((right - rates * total) / total.sum(axis=0)).mean(axis=1)
    reach = 1.96 * float(np.sqrt((influence**2).sum()))
    if value == 1:
        reach = 3 / int((total > 0).sum(axis=0).min()) / 2
    return max(value - reach, 0.0), value, min(value + reach, 1.0)


def _examples(values: np.ndarray, is_class: np.ndarray) -> tuple[tuple[str, int, int], ...]:
    """Values or ranges where the class is more frequent than elsewhere: its images there, and all images."""
    codes, num_codes, texts = _code(values, values)
    votes = _votes(codes, is_class.astype(np.int64), num_codes)
    mine, everyone = (np.bincount(c, minlength=num_codes) for c in (codes[is_class], codes))
    found: list[tuple[str, int, int]] = []
    last = -2
    for k in np.flatnonzero(votes[:, 1] > votes[:, 0]).tolist():
        text, images, total = texts[k], int(mine[k]), int(everyone[k])
        if values.dtype.kind == "f" and k == last + 1 and text != UNKNOWN:  # ranges side by side are one
            before, images_before, total_before = found.pop()
            text = _join_ranges(before, text)
            images, total = images + images_before, total + total_before
        found.append((text, images, total))
        last = k
    return tuple(sorted(found, key=lambda item: -item[1])[:MAX_EXAMPLES])


def _join_ranges(first: str, second: str) -> str:
    """`1 to 2` and `2 to 3` as `1 to 3`; the same for `below 2` and `from 2`."""
    low = "" if first.startswith("below ") else first.split(" to ")[0].removeprefix("from ")
    high = "" if second.startswith("from ") else second.split(" to ")[-1]
    return (
        f"{low} to {high}" if low and high else f"below {high}" if high else f"from {low}" if low else "any"
    )
