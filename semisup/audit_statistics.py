"""How wrong pseudo-labels are, from the part of them that an expert has looked at: pure functions of counts.

Strata are sampled with different probabilities, so the error of the whole is a weighted sum of binomial
shares. Its interval is exact Clopper-Pearson where every pseudo-label had the same chance to be drawn, and
else the Chernoff bound over all ways in which the errors might lie in the strata: an interval that holds for
any sizes and counts, also where no error at all was found, as the usual normal one does not.

Source: Clopper and Pearson 1934, Biometrika 26(4); tail bounds after Hoeffding 1963, "Probability
inequalities for sums of bounded random variables", whose Section 6 covers sampling without replacement;
Cohen 1960, "A coefficient of agreement for nominal scales", for kappa.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from semisup.statistics.corrections import clopper_pearson

LEVEL = 0.95
NONE_OF_THESE = -1  # a reader's answer: no class of the study, or no usable image
EXACT, BOUND, COUNTED = "Clopper-Pearson", "stratified Chernoff bound", "all were read"


@dataclass(frozen=True)
class Stratum:
    """Pseudo-labels of one kind, from which `num_drawn` of `size` were drawn at random."""

    arm: str
    fraction: float
    predicted: int  # class of the pseudo-labels
    band: int  # of their confidence, 0 = lowest
    size: int
    num_drawn: int


@dataclass(frozen=True)
class AuditSample:
    """What was drawn for the experts; a picture stands for every drawn pseudo-label that it ever got."""

    classes: tuple[str, ...]
    strata: tuple[Stratum, ...]
    codes: np.ndarray  # (M,) str, picture of each drawn pseudo-label
    stratum: np.ndarray  # (M,) int
    predicted: np.ndarray  # (M,) int, its pseudo-label

    @property
    def pictures(self) -> list[str]:
        """The codes in the order of the sheet."""
        return sorted(set(self.codes.tolist()))


@dataclass(frozen=True)
class Answer:
    """What a reader said about one picture."""

    label: int | None  # class, NONE_OF_THESE, or None where the reader named none
    unsure: bool = False
    comment: str = ""


@dataclass(frozen=True)
class ErrorEstimate:
    """The share of wrong pseudo-labels, with its 95 % interval."""

    value: float  # NaN where nothing was read
    low: float
    high: float
    num_errors: int  # of those that were read
    num_read: int  # pseudo-labels with an answer
    num_pseudo_labels: int  # that the estimate is about
    method: str


@dataclass(frozen=True)
class ReaderResult:
    """What one reader's answers say."""

    reader: str
    num_pictures: int
    num_answered: int  # pictures with a class, "none" or "unsure"
    num_unsure: int
    num_none: int
    error: ErrorEstimate  # among those that got a class or "none"
    error_if_unsure_wrong: ErrorEstimate  # the same with every unsure answer taken for an error
    by_class: tuple[ErrorEstimate, ...]  # by pseudo-label
    by_band: tuple[ErrorEstimate, ...]  # by confidence, lowest first
    by_arm: dict[tuple[str, float], ErrorEstimate]  # by arm and fraction, unsure taken for an error
    confusion: np.ndarray  # (C, C + 1) drawn pseudo-labels by pseudo-label and answer; last: none of these


@dataclass(frozen=True)
class Agreement:
    """How far two readers agree on the pictures that both named."""

    readers: tuple[str, str]
    num_pictures: int
    agreement: float
    kappa: float  # Cohen's; NaN where both gave one and the same answer throughout


@dataclass(frozen=True)
class AuditResult:
    """Everything that an audit found."""

    readers: tuple[ReaderResult, ...]
    agreements: tuple[Agreement, ...]


def audit_result(sample: AuditSample, answers: Mapping[str, Mapping[str, Answer]]) -> AuditResult:
    """Judge the pseudo-labels by what one or more readers said.

    Args:
        answers: by reader, then by code; codes without an answer are left out.
    """
    readers = tuple(_reader_result(sample, name, given) for name, given in answers.items())
    names = list(answers)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return AuditResult(readers, tuple(agreement(a, answers[a], b, answers[b]) for a, b in pairs))


def _reader_result(sample: AuditSample, reader: str, answers: Mapping[str, Answer]) -> ReaderResult:
    given = [answers.get(code) for code in sample.codes.tolist()]
    labels = np.array(
        [-2 if a is None or a.label is None else a.label for a in given], dtype=np.int64
    )  # (M,)
    unsure = np.array([a is not None and a.unsure for a in given], dtype=bool)
    named = labels >= NONE_OF_THESE
    wrong = labels != sample.predicted

    def estimate(strata: np.ndarray, *, strict: bool = False) -> ErrorEstimate:
        read = named | unsure if strict else named
        return stratified_error(sample, strata, read, (wrong | unsure) if strict else wrong)

    strata = sample.strata
    classes = np.array([s.predicted for s in strata])
    bands = np.array([s.band for s in strata])
    cells = list(dict.fromkeys((s.arm, s.fraction) for s in strata))
    everything = np.ones(len(strata), dtype=bool)
    num_classes = len(sample.classes)
    confusion = np.zeros((num_classes, num_classes + 1), dtype=np.int64)
    answered = np.where(labels[named] == NONE_OF_THESE, num_classes, labels[named])
    np.add.at(confusion, (sample.predicted[named], answered), 1)
    known = [answers[code] for code in sample.pictures if code in answers]
    return ReaderResult(
        reader=reader,
        num_pictures=len(sample.pictures),
        num_answered=len(known),
        num_unsure=sum(a.unsure for a in known),
        num_none=sum(a.label == NONE_OF_THESE for a in known),
        error=estimate(everything),
        error_if_unsure_wrong=estimate(everything, strict=True),
        by_class=tuple(estimate(classes == k) for k in range(num_classes)),
        by_band=tuple(estimate(bands == k) for k in range(int(bands.max(initial=0)) + 1)),
        by_arm={
            cell: estimate(np.array([(s.arm, s.fraction) == cell for s in strata]), strict=True)
            for cell in cells
        },
        confusion=confusion,
    )


def stratified_error(
    sample: AuditSample, strata: np.ndarray, read: np.ndarray, wrong: np.ndarray
) -> ErrorEstimate:
    """Weight the errors that were read by how many pseudo-labels each stands for.

    Args:
        strata: (H,) bool, which strata the estimate is about.
        read: (M,) bool, drawn pseudo-labels that a reader judged.
        wrong: (M,) bool, and found wrong.
    """
    chosen = np.flatnonzero(strata)
    sizes = np.array([sample.strata[h].size for h in chosen], dtype=np.int64)
    num_read = np.array([(read & (sample.stratum == h)).sum() for h in chosen], dtype=np.int64)
    errors = np.array([(read & wrong & (sample.stratum == h)).sum() for h in chosen], dtype=np.int64)
    value, low, high, method = stratified_interval(errors, num_read, sizes)
    return ErrorEstimate(value, low, high, int(errors.sum()), int(num_read.sum()), int(sizes.sum()), method)


def stratified_interval(
    errors: np.ndarray, num_read: np.ndarray, sizes: np.ndarray, level: float = LEVEL
) -> tuple[float, float, float, str]:
    """The share of errors in a population of strata, and an interval that contains it with `level` or more.

    Args:
        errors: (H,) int, errors found in each stratum.
        num_read: (H,) int, drawn at random without replacement and read; 0 leaves the stratum open (all of it
            right for the lower limit, all wrong for the upper one).
        sizes: (H,) int, pseudo-labels in each stratum, at least `num_read`.

    Returns:
        (value, low, high, method); the value is that of the strata which were read, NaN where none was.
    """
    if (errors < 0).any() or (errors > num_read).any() or (num_read > sizes).any():
        raise ValueError(f"expected 0 <= errors <= num_read <= sizes, got {errors}, {num_read}, {sizes}")
    total = float(sizes.sum())
    seen = num_read > 0
    if not seen.any():
        return math.nan, 0.0, 1.0, EXACT
    weights = sizes / total  # (H,)
    shares = np.divide(errors, num_read, out=np.zeros(len(errors)), where=seen)
    value = float((weights * shares)[seen].sum() / weights[seen].sum())
    counted = seen & (num_read == sizes)  # nothing is left to chance there
    certain = float((weights * shares)[counted].sum())
    open_share = float(weights[~seen].sum())
    drawn = seen & ~counted
    if not drawn.any():
        return value, certain, certain + open_share, COUNTED
    e, n, w = errors[drawn], num_read[drawn], weights[drawn]
    rest = float(w.sum())
    if np.allclose(w / n, (w / n)[0], rtol=1e-9):  # every pseudo-label stands for as many others
        low, high = clopper_pearson(int(e.sum()), int(n.sum()), level)
        method = EXACT
    else:
        tail = (1 - level) / 2
        high = chernoff_upper(e, n, w / rest, tail)
        low = 1 - chernoff_upper(n - e, n, w / rest, tail)
        method = BOUND
    return value, certain + rest * low, certain + rest * high + open_share, method


def chernoff_upper(errors: np.ndarray, num_read: np.ndarray, weights: np.ndarray, tail: float) -> float:
    """The largest weighted error P that the counts do not contradict at level `tail`.

    With a_h = weights_h / num_read_h and the estimate t = sum a_h errors_h, Chernoff's inequality gives for
    every L > 0 and every p with sum weights_h p_h = P

        Pr(estimate <= t) <= exp(L t) prod (1 - p_h (1 - exp(-L a_h)))^num_read_h.

    P is refuted where some L makes the right side smaller than `tail` whatever p is. For one L the largest P
    that is left is a concave problem whose p follow from one multiplier, found by bisection; the smallest
    over many L is the limit, and valid with any of them. For one stratum without errors it is exactly
    Clopper-Pearson's.

    Args:
        errors, num_read: (H,) int, num_read >= 1.
        weights: (H,) shares of the population, summing to 1.
    """
    a = weights / num_read  # (H,)
    t = float((a * errors).sum())
    logs = np.linspace(math.log(1e-3 / a.max()), math.log(40 / a.min()), 120)
    best = 1.0
    for _ in range(3):  # a finer look around the best
        limits = _largest_left(np.exp(logs), a, num_read, weights, t, tail)
        k = int(limits.argmin())
        best = min(best, float(limits[k]))
        logs = np.linspace(logs[max(k - 1, 0)], logs[min(k + 1, len(logs) - 1)], 40)
    return best


def _largest_left(
    slopes: np.ndarray, a: np.ndarray, n: np.ndarray, weights: np.ndarray, t: float, tail: float
) -> np.ndarray:
    """For each of the (K,) slopes L: max of sum weights p where sum n log(1 - p c) >= log tail - L t."""
    tilt = slopes[:, None] * a  # (K, H)
    c = -np.expm1(-tilt)
    budget = slopes * t - math.log(tail)  # (K,)

    def spent(multiplier: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = np.clip(1 / c - np.exp(-multiplier[:, None] - np.log(a)), 0.0, 1.0)  # (K, H)
        cost = np.where(p < 1, -np.log1p(-np.minimum(p, 1 - 1e-16) * c), tilt)
        return (n * np.minimum(cost, tilt)).sum(axis=1), p

    low = np.log(c / a).min(axis=1)  # all p = 0
    high = (tilt - np.log(a)).max(axis=1) + 1  # all p = 1
    for _ in range(80):
        middle = (low + high) / 2
        is_over = spent(middle)[0] > budget
        high, low = np.where(is_over, middle, high), np.where(is_over, low, middle)
    return (weights * spent(high)[1]).sum(axis=1)  # the end that errs to the safe side


def agreement(
    first: str, first_answers: Mapping[str, Answer], second: str, second_answers: Mapping[str, Answer]
) -> Agreement:
    """Agreement and Cohen's kappa of two readers on the pictures to which both gave a class or "none"."""
    both = sorted(
        code
        for code in first_answers.keys() & second_answers.keys()
        if first_answers[code].label is not None and second_answers[code].label is not None
    )
    labels = np.array([[first_answers[c].label, second_answers[c].label] for c in both], dtype=np.int64)
    labels = labels.reshape(-1, 2)
    return Agreement(
        (first, second),
        len(both),
        float((labels[:, 0] == labels[:, 1]).mean()) if both else math.nan,
        cohen_kappa(labels[:, 0], labels[:, 1]),
    )


def cohen_kappa(first: Sequence[int] | np.ndarray, second: Sequence[int] | np.ndarray) -> float:
    """Agreement beyond what two readers with these habits reach by chance; NaN where chance explains all."""
    first, second = np.asarray(first), np.asarray(second)
    if not len(first):
        return math.nan
    observed = float((first == second).mean())
    expected = float(sum((first == k).mean() * (second == k).mean() for k in np.union1d(first, second)))
    return math.nan if expected == 1 else (observed - expected) / (1 - expected)
