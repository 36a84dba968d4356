"""How sure one can be that two arms differ: the paired subject bootstrap, Holm, and label equivalence.

Images of one patient resemble one another, so the subject, not the image, is what is drawn again. Every
draw takes subjects with replacement within strata (subjects with the same set of classes, so that each draw
has all classes), and *all* arms see the same draw: differences are paired. Within a draw the seeds are
averaged and the folds pooled; a metric is computed from the resulting confusion matrix, which is why 2,000
draws cost a few matrix products.

Two corrections make the percentile interval honest for small studies:

* within a stratum of n subjects, n - 1 are drawn and scaled by n / (n - 1) (Rao & Wu 1988, "Resampling
  inference with complex survey data", JASA 83): drawing n would make intervals too narrow by (n - 1) / n.
* subjects are one source of chance, trainings (seeds) the other. The variance between seeds is added as in
  two-way clustering, subjects + seeds - shared (Cameron, Gelbach & Miller 2011, JBES 29): resampling three
  seeds outright would count what seed and subject share three times over. The draws are widened about the
  estimate to this variance, each source by the t / z of its degrees of freedom (as Hesterberg 2015,
  Am. Stat. 69, does for one source).

What the interval does not know: the variation from drawing other training subjects, other than through the
folds. tests/semisup/test_statistics.py shows by simulation that it covers 95 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import ndtri, stdtrit

from extract.seeds import derive_seed

NUM_DRAWS = 4000
CONFIDENCE = 0.95
MIN_SEEDS = 3  # below either of these a study prints no headline
MIN_TEST_SUBJECTS = 20
# Share of the seed-and-subject variance taken off the variance between seeds. 1 is unbiased, but with three
# seeds the difference is often cut off at 0, and intervals then cover 91 %; at 0.5 they cover 94 to 98 %.
SHARED_TAKEN_OFF = 0.5


# Metrics of confusion matrices --------------------------------------------------------------------


def recall_per_class(confusion: np.ndarray) -> np.ndarray:
    """Sensitivity of each class from (..., C, C) counts with rows = truth; NaN for a class that is absent."""
    totals = confusion.sum(axis=-1)  # (..., C)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.where(totals > 0, hits / np.where(totals > 0, totals, 1), np.nan)


def balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Mean sensitivity over the classes that are present; (..., C, C) -> (...)."""
    recall = recall_per_class(confusion)
    present = ~np.isnan(recall)
    num_present = present.sum(axis=-1)
    return np.where(present, recall, 0).sum(axis=-1) / np.where(num_present > 0, num_present, np.nan)


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of images on the diagonal; (..., C, C) -> (...)."""
    total = confusion.sum(axis=(-2, -1))
    return np.trace(confusion, axis1=-2, axis2=-1) / np.where(total > 0, total, np.nan)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes that occur in truth or prediction; (..., C, C) -> (...)."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    both = confusion.sum(axis=-1) + confusion.sum(axis=-2)  # true + predicted, (..., C)
    f1 = 2 * hits / np.where(both > 0, both, 1)
    num_present = (both > 0).sum(axis=-1)
    return f1.sum(axis=-1) / np.where(num_present > 0, num_present, np.nan)


METRICS = {"balanced_accuracy": balanced_accuracy, "accuracy": accuracy, "macro_f1": macro_f1}


# Predictions -> counts ----------------------------------------------------------------------------


@dataclass(frozen=True)
class RunCounts:
    """One run's test predictions, counted by subject."""

    fold: int
    seed: int
    subjects: np.ndarray  # (n,) str, sorted
    counts: np.ndarray  # (n, C, C) images by truth (row) and prediction (column)


def count_predictions(
    fold: int, seed: int, subjects: np.ndarray, labels: np.ndarray, predicted: np.ndarray, num_classes: int
) -> RunCounts:
    """Count the test images of one run by subject, true and predicted class.

    Args:
        subjects, labels, predicted: (N,) one entry an image; labels and predictions in [0, num_classes).

    Raises:
        ValueError: for labels or predictions that are no class.
    """
    labels, predicted = np.asarray(labels, int), np.asarray(predicted, int)
    for name, values in (("labels", labels), ("predicted", predicted)):
        if len(values) and (values.min() < 0 or values.max() >= num_classes):
            raise ValueError(f"{name} must lie in 0..{num_classes - 1}, got {values.min()}..{values.max()}")
    names, rows = np.unique(np.asarray(subjects).astype(str), return_inverse=True)
    flat = (rows * num_classes + labels) * num_classes + predicted
    counts = np.bincount(flat, minlength=len(names) * num_classes**2)
    return RunCounts(fold, seed, names, counts.reshape(len(names), num_classes, num_classes))


def class_strata(runs: Sequence[RunCounts]) -> dict[str, int]:
    """Give every test subject the stratum of its set of classes; sets with one subject are put together.

    A stratum of one would never vary between draws, so lone subjects share one, and a last lone subject
    joins the largest stratum.
    """
    signature: dict[str, tuple[int, ...]] = {}
    for run in runs:
        present = run.counts.sum(axis=2) > 0  # (n, C)
        for subject, row in zip(run.subjects, present, strict=True):
            signature[str(subject)] = tuple(np.flatnonzero(row))
    sizes: dict[tuple[int, ...], int] = {}
    for value in signature.values():
        sizes[value] = sizes.get(value, 0) + 1
    lone = [value for value, size in sizes.items() if size == 1]
    groups = sorted(value for value, size in sizes.items() if size > 1)
    stratum_of = {value: index for index, value in enumerate(groups)}
    if len(lone) == 1 and groups:
        stratum_of[lone[0]] = stratum_of[max(groups, key=lambda value: sizes[value])]
    else:
        stratum_of.update(dict.fromkeys(lone, len(groups)))
    return {subject: stratum_of[value] for subject, value in sorted(signature.items())}


# The bootstrap ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A metric or a difference of metrics, with its 95 % interval; all in shares (0.01 = one point)."""

    value: float
    low: float
    high: float
    share_above_zero: float  # of the draws; ties count half
    p_value: float  # two-sided, for "is zero": below 0.05 exactly where the interval leaves out zero
    num_subjects: int
    num_images: int
    num_seeds: int  # the smallest number of seeds that a fold has
    draws: np.ndarray  # (B,) widened draws, what the interval was read from
    subject_draws: np.ndarray  # (B,) the same before widening: chance in the subjects alone


@dataclass(frozen=True)
class ArmDraws:
    """One arm's confusion matrices, for the data as they are and for every draw, by fold and seed."""

    observed: dict[tuple[int, int], np.ndarray]  # (fold, seed) -> (C, C)
    drawn: dict[tuple[int, int], np.ndarray]  # (fold, seed) -> (B, C, C)
    subjects: frozenset[str]

    @property
    def keys(self) -> frozenset[tuple[int, int]]:
        return frozenset(self.observed)


class SubjectBootstrap:
    """The draws of a study's test subjects, made once and shared by all its arms."""

    def __init__(self, strata: Mapping[str, int], *, num_draws: int = NUM_DRAWS, seed: int = 0) -> None:
        """Draw.

        Args:
            strata: stratum of every test subject (see `class_strata`).
            num_draws: at least 2,000 where the result is reported.
        """
        self.subjects = np.array(sorted(strata))
        self.num_draws = num_draws
        self.num_strata = len(set(strata.values()))
        stratum = np.array([strata[subject] for subject in self.subjects])
        rng = np.random.default_rng(derive_seed("subject bootstrap", seed))
        self.weights = np.ones((num_draws, len(self.subjects)), np.float32)
        for value in np.unique(stratum):
            members = np.flatnonzero(stratum == value)
            n = len(members)
            if n > 1:
                drawn = rng.multinomial(n - 1, np.full(n, 1 / n), size=num_draws)
                self.weights[:, members] = drawn * (n / (n - 1))

    @cached_property
    def _column(self) -> dict[str, int]:
        return {str(subject): column for column, subject in enumerate(self.subjects)}

    def draw(self, runs: Sequence[RunCounts]) -> ArmDraws:
        """Compute the confusion matrices of one arm (its runs over folds and seeds) under every draw."""
        observed, drawn = {}, {}
        seen: set[str] = set()
        for run in runs:
            columns = [self._column[str(subject)] for subject in run.subjects]
            n, c, _ = run.counts.shape
            flat = self.weights[:, columns] @ run.counts.reshape(n, c * c).astype(np.float32)
            observed[run.fold, run.seed] = run.counts.sum(axis=0).astype(float)
            drawn[run.fold, run.seed] = flat.reshape(-1, c, c).astype(float)
            seen.update(str(subject) for subject in run.subjects)
        return ArmDraws(observed, drawn, frozenset(seen))

    def estimate(self, arm: ArmDraws, metric: str = "balanced_accuracy") -> Estimate:
        """The metric of one arm with its interval, kept within [0, 1]."""
        result = self._combine({"arm": 1.0}, {"arm": arm}, metric)
        return replace(result, low=max(0.0, result.low), high=min(1.0, result.high))

    def difference(self, arm: ArmDraws, baseline: ArmDraws, metric: str = "balanced_accuracy") -> Estimate:
        """The metric of `arm` minus that of `baseline`, over the folds and seeds that both have."""
        return self._combine({"arm": 1.0, "baseline": -1.0}, {"arm": arm, "baseline": baseline}, metric)

    def _combine(self, signs: dict[str, float], arms: dict[str, ArmDraws], metric: str) -> Estimate:
        keys = sorted(frozenset.intersection(*(arm.keys for arm in arms.values())))
        if not keys:
            raise ValueError("the arms have no fold and seed in common, so they cannot be compared")
        score = METRICS[metric]
        folds = sorted({fold for fold, _ in keys})
        seeds = {fold: [seed for key_fold, seed in keys if key_fold == fold] for fold in folds}

        def signed(part: str, chosen: Mapping[int, Sequence[int]]) -> np.ndarray:
            """The signed sum of metrics with the seeds of `chosen` averaged in each fold, folds pooled."""
            total: np.ndarray | float = 0.0
            for name, sign in signs.items():
                matrices = getattr(arms[name], part)
                pooled = sum(
                    sum(matrices[fold, s] for s in chosen[fold]) / len(chosen[fold]) for fold in folds
                )
                total = total + sign * score(np.asarray(pooled))
            return np.asarray(total)

        value = float(signed("observed", seeds))
        subject_draws = signed("drawn", seeds)  # (B,)
        subject_variance = float(np.var(subject_draws))
        training_variance, training_df = 0.0, 0
        for fold in folds:
            if len(seeds[fold]) > 1:
                alone = [{**seeds, fold: [seed]} for seed in seeds[fold]]
                values = np.array([float(signed("observed", chosen)) for chosen in alone])  # (S,)
                drawn = np.stack([signed("drawn", chosen) for chosen in alone])  # (S, B)
                shared = (drawn - drawn.mean(axis=0)).var(axis=1).sum() / (len(alone) - 1)
                training_variance += (values.var(ddof=1) - SHARED_TAKEN_OFF * shared) / len(alone)
                training_df += len(alone) - 1
        subjects = set().union(*(arm.subjects for arm in arms.values()))
        spread = _spread(
            subject_variance,
            max(0.0, training_variance),
            max(1, len(subjects) - self.num_strata),
            training_df,
        )
        draws = _widen(subject_draws, value, subject_variance, spread)

        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(draws, [tail, 1 - tail])
        above = float((draws > 0).mean() + (draws == 0).mean() / 2)
        first = next(iter(arms.values()))
        num_images = sum(first.observed[fold, seeds[fold][0]].sum() for fold in folds)
        return Estimate(
            value, float(low), float(high), above, _two_sided(draws), len(subjects), round(float(num_images)),
            min(len(chosen) for chosen in seeds.values()), draws, subject_draws,
        )  # fmt: skip


def _spread(subject_variance: float, training_variance: float, subject_df: int, training_df: int) -> float:
    """Standard deviation that the draws shall have for their quantiles to lie at +- t instead of +- z.

    Each source has the t of its own degrees of freedom (3 seeds: t = 4.3). One t for the pooled degrees of
    freedom (Satterthwaite) is too small whenever three seeds happen to agree.
    """
    level = (1 + CONFIDENCE) / 2
    squared = subject_variance * stdtrit(subject_df, level) ** 2
    if training_df:
        squared += training_variance * stdtrit(training_df, level) ** 2
    return float(np.sqrt(squared) / ndtri(level))


def _widen(draws: np.ndarray, value: float, subject_variance: float, spread: float) -> np.ndarray:
    """Stretch the draws about the estimate to the standard deviation `spread`."""
    if subject_variance > 0:
        return value + (draws - value) * (spread / np.sqrt(subject_variance))
    quantiles = ndtri((np.arange(len(draws)) + 0.5) / len(draws))
    return value + spread * quantiles  # no variation between subjects: the trainings alone


def _two_sided(draws: np.ndarray) -> float:
    """Twice the smaller share of draws on one side of zero; one draw is added, so that it is never 0."""
    num_low, num_high = int((draws <= 0).sum()), int((draws >= 0).sum())
    return float(min(1.0, 2 * (min(num_low, num_high) + 1) / (len(draws) + 1)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjust p-values for the number of comparisons, so that one false alarm in all has 5 %.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


# Label equivalence --------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelEquivalence:
    """The share of labels at which labels alone perform as well; -inf below the curve, +inf above it."""

    fraction: float
    low: float
    high: float
    smallest: float  # the ends of the supervised curve, between which it can be read off
    largest: float

    def describe(self) -> tuple[str, str]:
        """For instance ("31 %", "[24 %, 48 %]"); what lies off the curve is said to be below or above it."""
        return self._percent(self.fraction), f"[{self._percent(self.low)}, {self._percent(self.high)}]"

    def _percent(self, fraction: float) -> str:
        if fraction == -np.inf:
            return f"less than {100 * self.smallest:.0f} %"
        if fraction == np.inf:
            return f"more than {100 * self.largest:.0f} %"
        return f"{100 * fraction:.0f} %"


def label_equivalence(
    fractions: Sequence[float],
    curve: np.ndarray,
    curve_draws: np.ndarray,
    value: float,
    value_draws: np.ndarray,
) -> LabelEquivalence:
    """Read off the supervised curve how many labels alone would perform like an arm.

    The curve is made monotone (more labels are never worse) and interpolated on the logarithm of the
    fraction, for learning curves are nearly straight there. On a flat stretch the fewest labels count.

    Args:
        fractions: (m,) increasing shares of labels, in (0, 1].
        curve: (m,) the supervised metric there; curve_draws: (B, m) the same under every draw.
        value: the arm's metric; value_draws: (B,) the same under the *same* draws.
    """
    x = np.log(np.asarray(fractions, float))
    if len(x) < 2 or (np.diff(x) <= 0).any():
        raise ValueError(f"label equivalence needs two or more increasing fractions, got {list(fractions)}")
    found = _read_off(x, monotone(np.asarray(curve, float)[None]), np.array([value]))[0]
    drawn = _read_off(x, monotone(curve_draws), value_draws)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
    return LabelEquivalence(float(found), float(low), float(high), float(fractions[0]), float(fractions[-1]))


def monotone(curves: np.ndarray) -> np.ndarray:
    """Least-squares non-decreasing fit of every row of (B, m): the max-min formula of isotonic regression."""
    m = curves.shape[1]
    sums = np.concatenate([np.zeros((len(curves), 1)), np.cumsum(curves, axis=1)], axis=1)
    fitted = np.full(curves.shape, -np.inf)
    for start in range(m):
        means = (sums[:, start + 1 :] - sums[:, start : start + 1]) / np.arange(1, m - start + 1)
        lowest = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]  # min over ends >= i, for i >= start
        fitted[:, start:] = np.maximum(fitted[:, start:], lowest)
    return fitted


def _read_off(x: np.ndarray, curves: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Fraction exp(x) where each rising row of (B, m) first reaches its value; +-inf off the curve."""
    tolerance = 1e-9  # an arm equal to a point of the curve must not fall off it by rounding
    reached = curves >= values[:, None] - tolerance
    first = reached.argmax(axis=1)  # (B,)
    rows = np.arange(len(curves))
    before = np.maximum(first - 1, 0)
    y0, y1 = curves[rows, before], curves[rows, first]
    rise = np.where(y1 > y0, y1 - y0, 1.0)
    share = np.clip((values - y0) / rise, 0, 1)
    fraction = np.exp(np.where(first == 0, x[0], x[before] + share * (x[first] - x[before])))
    below = values < curves[:, 0] - tolerance
    return np.where(below, -np.inf, np.where(reached.any(axis=1), fraction, np.inf))
