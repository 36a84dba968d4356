"""Whether the size, shape or kind of the original pictures gives their class away, measured by subject.

A classifier learns whatever predicts the class, and what a source does to its files (a scanner's matrix, a
journal's crop, one class in PNG and one in JPEG) often predicts it better than the anatomy. Here a small
decision tree that sees nothing but width, height, aspect and kind of file tries to tell the classes apart.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from extract.picture_file import PictureFacts
from extract.seeds import derive_seed

NUM_FOLDS = 5
MIN_SUBJECTS = 10  # of a class; with fewer the interval says nothing
MAX_IMAGES = 10_000  # measured on; a clue that matters shows in fewer
NUM_DRAWS = 1000
LEVEL = 0.95
NUM_SHUFFLES = 99  # of the classes among the subjects
MAX_P = 0.03  # of an alarm by chance
MIN_SKILL = 0.1  # share of the way from chance to perfect that is worth a warning
MIN_LEAF = 5  # images


@dataclass(frozen=True)
class ShapeClue:
    """How well the class can be told without looking at a single pixel."""

    balanced_accuracy: float  # of pictures of subjects that the tree did not see
    low: float  # interval of 95 %, by subject
    high: float
    chance: float  # one over the number of classes
    p: float  # how often shuffled classes are told as well; 1 where it was not worth asking
    strongest: str  # width, height, aspect or kind: what tells most alone
    spreads: dict[str, dict[str, tuple[float, float, float]]]  # class -> width, ... -> 5 %, median, 95 %
    kinds: dict[str, dict[str, int]]  # class -> kind of file -> pictures
    smallest_side: int  # of all pictures, pixels
    num_images: int  # measured on
    num_subjects: int
    left_out: tuple[str, ...] = ()  # classes with too few subjects to measure

    @property
    def skill(self) -> float:
        """0 at chance, 1 where the class is certain."""
        return (self.balanced_accuracy - self.chance) / (1 - self.chance)

    @property
    def is_alarming(self) -> bool:
        """Whether the clue is beyond chance and large enough to matter."""
        return self.low > self.chance and self.skill >= MIN_SKILL and self.p <= MAX_P

    def to_json(self) -> dict[str, Any]:
        """For `preparation.json`."""
        return asdict(self) | {"left_out": list(self.left_out), "is_alarming": self.is_alarming}

    def sentence(self, fit: str) -> str:
        """What was found and what can be done about it, for somebody who used `--fit FIT`."""
        if self.strongest == "kind":
            shown = "; ".join(
                f"{name}: {max(kinds, key=lambda kind: kinds[kind])}" for name, kinds in self.kinds.items()
            )
        else:
            digits = 2 if self.strongest == "aspect" else 0
            shown = ", ".join(
                f"{name} {_range_text(values[self.strongest], digits)}"
                for name, values in self.spreads.items()
            )
            shown = f"median and middle 90 %: {shown}"
        trace = {
            "pad": "pad shows the aspect as black bars",
            "squash": "squash shows the aspect as distortion",
            "crop": "crop shows the aspect only by what it cuts away",
        }[fit]
        size = 2 ** int(np.log2(max(self.smallest_side, 8)))
        crop = (
            f"stay with --fit crop, --size at most {size}" if fit == "crop" else f"--fit crop --size {size}"
        )
        return (
            f"the files' size and kind alone predict the class: balanced accuracy "
            f"{self.balanced_accuracy:.2f} [{self.low:.2f}, {self.high:.2f}] on unseen subjects, chance "
            f"{self.chance:.2f} (mostly by {_WORDS[self.strongest]}, {shown}). A classifier can learn this "
            f"in place of the anatomy, and no fit hides all of it: {trace}, and enlarged pictures are "
            "blurred. Best: take every class from the same devices and exports, or keep pictures of the same "
            f"shapes and sizes in all classes (source_width and source_height in manifest.csv). Else {crop} "
            "(no picture is enlarged), and report results within one shape"
        )


_WORDS = {"width": "width", "height": "height", "aspect": "width/height", "kind": "kind of file"}


def measure_shape_clue(
    facts: Sequence[PictureFacts], labels: Sequence[str], subjects: Sequence[str]
) -> ShapeClue | None:
    """Cross-validate a small tree on width, height, aspect and kind of file; None where too little is there.

    Folds and intervals are drawn by subject, and the same input gives the same result. A tree has two
    questions for two classes and one more each time the classes double; classes weigh alike.

    Args:
        facts: of each original picture.
        labels: class of each; empty = not counted.
        subjects: of each; a subject is tested by trees that did not see it.
    """
    names, label, subject, left_out = _eligible(labels, subjects)
    if len(names) < 2:
        return None
    rows = np.flatnonzero(label >= 0)
    if len(rows) > MAX_IMAGES:
        rows = _draw_rows(label, MAX_IMAGES // len(names), len(names))
    label, (_, subject) = label[rows], np.unique(subject[rows], return_inverse=True)
    chosen = [facts[row] for row in rows.tolist()]
    features = _features(chosen)
    folds = _draw_folds(label, subject)
    everything = np.hstack(list(features.values()))
    predicted = {
        name: _predict_unseen(columns, label, folds, len(names))
        for name, columns in {**features, "all": everything}.items()
    }
    scores = {name: _balanced_accuracy(values, label, len(names)) for name, values in predicted.items()}
    low, high = _interval(predicted["all"], label, subject, len(names))
    worth_asking = (
        low > 1 / len(names) and (scores["all"] - 1 / len(names)) / (1 - 1 / len(names)) >= MIN_SKILL
    )
    p = _shuffled_p(everything, label, subject, len(names), scores["all"]) if worth_asking else 1.0
    of_class = {name: [fact for fact, k in zip(chosen, label, strict=True) if k == number]
                for number, name in enumerate(names)}  # fmt: skip
    return ShapeClue(
        balanced_accuracy=scores["all"],
        low=low,
        high=high,
        chance=1 / len(names),
        p=p,
        strongest=max(features, key=lambda name: scores[name]),
        spreads={name: _spreads(members) for name, members in of_class.items()},
        kinds={name: _count_kinds(members) for name, members in of_class.items()},
        smallest_side=min(min(fact.width, fact.height) for fact in facts),
        num_images=len(rows),
        num_subjects=len(np.unique(subject)),
        left_out=tuple(left_out),
    )


def _eligible(
    labels: Sequence[str], subjects: Sequence[str]
) -> tuple[list[str], np.ndarray, np.ndarray, list[str]]:
    """Classes to measure, (N,) their numbers (-1 = not counted), (N,) subjects, classes with too few."""
    of_class: dict[str, set[str]] = {}
    for label, subject in zip(labels, subjects, strict=True):
        of_class.setdefault(label, set()).add(subject)
    of_class.pop("", None)
    names = sorted(name for name, members in of_class.items() if len(members) >= MIN_SUBJECTS)
    number = {name: k for k, name in enumerate(names)}
    numbers = np.array([number.get(label, -1) for label in labels], np.int64)
    return names, numbers, np.asarray(subjects, dtype=str), sorted(set(of_class) - set(names))


def _draw_rows(label: np.ndarray, most: int, num_classes: int) -> np.ndarray:
    """Rows of at most so many pictures of each class, so that no class is lost."""
    rng = np.random.default_rng(derive_seed("shape clue", "images"))
    drawn = [rng.permutation(np.flatnonzero(label == k))[:most] for k in range(num_classes)]
    return np.sort(np.concatenate(drawn))


def _features(facts: Sequence[PictureFacts]) -> dict[str, np.ndarray]:
    """(N, F) columns by what they tell of."""
    width = np.array([fact.width for fact in facts], np.float64)
    height = np.array([fact.height for fact in facts], np.float64)
    kinds = [_kind(fact) for fact in facts]
    one_hot = np.array([[kind == other for other in sorted(set(kinds))] for kind in kinds], np.float64)
    return {
        "width": width[:, None],
        "height": height[:, None],
        "aspect": (width / height)[:, None],
        "kind": one_hot,
    }


def _kind(fact: PictureFacts) -> str:
    return f"{fact.kind} {fact.mode} {fact.bits} bit"


def _draw_folds(label: np.ndarray, subject: np.ndarray) -> np.ndarray:
    """(N,) fold of each picture, by subject, each class dealt evenly by its subjects' most frequent class."""
    rng = np.random.default_rng(derive_seed("shape clue", "folds"))
    main = _main_class(label, subject)
    fold = np.empty(len(main), np.int64)
    for number in range(int(label.max()) + 1):
        members = rng.permutation(np.flatnonzero(main == number))
        fold[members] = (np.arange(len(members)) + number) % NUM_FOLDS
    return fold[subject]


def _main_class(label: np.ndarray, subject: np.ndarray) -> np.ndarray:
    """(S,) most frequent class of each subject."""
    counts = np.zeros((subject.max() + 1, label.max() + 1), np.int64)
    np.add.at(counts, (subject, label), 1)
    return counts.argmax(axis=1)


def _shuffled_p(
    columns: np.ndarray, label: np.ndarray, subject: np.ndarray, num_classes: int, score: float
) -> float:
    """How often the same search finds as much where classes were dealt to subjects by chance.

    The interval takes the trees as given; how much they vary, and that sizes come by subject, is in here.
    Source: Ojala and Garriga 2010, "Permutation tests for studying classifier performance", JMLR 11.
    """
    rng = np.random.default_rng(derive_seed("shape clue", "shuffles"))
    main = _main_class(label, subject)
    num_as_good = 0
    for _ in range(NUM_SHUFFLES):
        shuffled = rng.permutation(main)[subject]
        predicted = _predict_unseen(columns, shuffled, _draw_folds(shuffled, subject), num_classes)
        num_as_good += _balanced_accuracy(predicted, shuffled, num_classes) >= score
        if (1 + num_as_good) / (1 + NUM_SHUFFLES) > MAX_P:  # whatever the others say
            break
    return (1 + num_as_good) / (1 + NUM_SHUFFLES)


def _predict_unseen(
    columns: np.ndarray, label: np.ndarray, folds: np.ndarray, num_classes: int
) -> np.ndarray:
    """(N,) class that a tree of the other folds gives each picture."""
    from sklearn.tree import DecisionTreeClassifier  # a second to import

    predicted = np.zeros_like(label)
    depth = 1 + int(np.ceil(np.log2(num_classes)))
    for fold in range(NUM_FOLDS):
        seen, unseen = folds != fold, folds == fold
        if not unseen.any() or not seen.any():
            continue
        tree = DecisionTreeClassifier(
            max_depth=depth, min_samples_leaf=MIN_LEAF, class_weight="balanced", random_state=0
        )
        predicted[unseen] = tree.fit(columns[seen], label[seen]).predict(columns[unseen])
    return predicted


def _balanced_accuracy(predicted: np.ndarray, label: np.ndarray, num_classes: int) -> float:
    return float(np.mean([(predicted[label == k] == k).mean() for k in range(num_classes)]))


def _interval(
    predicted: np.ndarray, label: np.ndarray, subject: np.ndarray, num_classes: int
) -> tuple[float, float]:
    """Percentile interval of the balanced accuracy, whole subjects drawn with replacement."""
    num_subjects = int(subject.max()) + 1
    right, total = np.zeros((num_subjects, num_classes)), np.zeros((num_subjects, num_classes))
    np.add.at(total, (subject, label), 1)
    np.add.at(right, (subject, label), predicted == label)
    rng = np.random.default_rng(derive_seed("shape clue", "interval"))
    draws = np.full(NUM_DRAWS, np.nan)
    for number in range(NUM_DRAWS):
        times = np.bincount(rng.integers(num_subjects, size=num_subjects), minlength=num_subjects)
        counts = times @ total
        if (counts > 0).all():
            draws[number] = (times @ right / counts).mean()
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def _spreads(facts: Sequence[PictureFacts]) -> dict[str, tuple[float, float, float]]:
    width = np.array([fact.width for fact in facts], np.float64)
    height = np.array([fact.height for fact in facts], np.float64)
    found = {}
    for name, values in (("width", width), ("height", height), ("aspect", width / height)):
        low, middle, high = (round(float(value), 4) for value in np.percentile(values, [5, 50, 95]))
        found[name] = (low, middle, high)
    return found


def _range_text(spread: tuple[float, float, float], digits: int) -> str:
    low, middle, high = (f"{value:.{digits}f}" for value in spread)
    return middle if low == high else f"{middle} ({low} to {high})"


def _count_kinds(facts: Sequence[PictureFacts]) -> dict[str, int]:
    kinds = [_kind(fact) for fact in facts]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}
