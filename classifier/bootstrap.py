"""Subjects drawn again and again, and what a metric is in each draw, without gathering a single image twice.

An image that is drawn three times counts three times: each draw is a weight for each subject. Counts and
likelihoods in all draws are then one matrix product, and areas one weighted pass over the sorted scores. The
numbers are those that measuring each draw's repeated images one after the other would give.

Source: Field and Welsh 2007, "Bootstrapping clustered data", J. R. Stat. Soc. B 69(3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import ndtr, stdtrit

from classifier.measures import TINY, confusion_measures, mean_of_defined

NUM_DRAWS = 1000
LEVEL = 0.95
MIN_SUBJECTS = 2
MAX_CELLS = 2**19  # images times draws held at once: 4 MiB, which stay in the cache


@dataclass(frozen=True)
class SubjectDraws:
    """How often each subject is in each draw, and whose each image is."""

    owner: np.ndarray  # (N,) int, the subject's number
    counts: np.ndarray  # (S, B) uint16

    @cached_property
    def num_subjects(self) -> int:
        """Subjects that the images are of."""
        return len(np.unique(self.owner))

    @property
    def num_draws(self) -> int:
        return self.counts.shape[1]

    def of(self, rows: np.ndarray) -> SubjectDraws:
        """The same draws for some of the images (integers or a mask)."""
        return replace(self, owner=self.owner[rows])

    @cached_property
    def _weights(self) -> np.ndarray:
        return self.counts.astype(np.float64)  # (S, B)

    def totals(self, values: np.ndarray) -> np.ndarray:
        """Sum values of the images in every draw: (N,) gives (B,), (N, K) gives (K, B)."""
        table = values[:, None] if values.ndim == 1 else values
        sums = [np.bincount(self.owner, column, minlength=len(self.counts)) for column in table.T]
        found = np.stack(sums) @ self._weights  # (K, B)
        return found[0] if values.ndim == 1 else found

    def chunks(self, num_images: int) -> Iterator[slice]:
        """Slices of the draws, so that `num_images` weights for each fit into little memory."""
        step = max(1, MAX_CELLS // max(1, num_images))
        for start in range(0, self.num_draws, step):
            yield slice(start, min(start + step, self.num_draws))

    def weights(self, rows: np.ndarray, part: slice) -> np.ndarray:
        """(len(rows), b) float64: how often these images are in these draws."""
        return self._weights[:, part][self.owner[rows]]

    def interval(self, values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
        """Interval of the (B,) draws in which a metric is defined; NaN where there is none.

        With fewer than two subjects there is none: every draw would be the same.
        """
        values = values[np.isfinite(values)]
        if len(values) == 0 or self.num_subjects < MIN_SUBJECTS:
            return float("nan"), float("nan")
        tail = tail_share(self.num_subjects, level)
        low, high = np.quantile(values, [tail, 1 - tail])
        return float(low), float(high)


def draw_subjects(subjects: np.ndarray, *, num_draws: int = NUM_DRAWS, seed: int = 0) -> SubjectDraws | None:
    """Draw as many subjects as there are, with replacement, many times.

    Args:
        subjects: (N,) names, one an image; an image without one counts as its own subject.

    Returns:
        The draws, or None with fewer than two subjects: every draw would be the same.
    """
    named = [str(subject) or f"\x00{row}" for row, subject in enumerate(subjects)]
    _, owner = np.unique(named, return_inverse=True)
    num_subjects = int(owner.max()) + 1 if len(owner) else 0
    if num_subjects < MIN_SUBJECTS:
        return None
    rng = np.random.default_rng(seed)
    counts = np.empty((num_subjects, num_draws), dtype=np.uint16)
    for draw in range(num_draws):
        counts[:, draw] = np.bincount(rng.integers(num_subjects, size=num_subjects), minlength=num_subjects)
    return SubjectDraws(owner, counts)


def tail_share(num_subjects: int, level: float = LEVEL) -> float:
    """Share of the draws to leave out at either end, so that so few subjects cover `level`.

    Draws of n subjects vary by (n - 1) / n too little, and their variance is itself estimated from n: the
    tail is the normal one beyond t * sqrt(n / (n - 1)). With 20 subjects 1.6 % replace 2.5 %; with 700
    nothing changes.

    Source: expanded percentile interval, Hesterberg 2015, "What teachers should know about the bootstrap",
    Am. Stat. 69(4), Section 5.
    """
    spread = math.sqrt(num_subjects / (num_subjects - 1))
    return float(ndtr(spread * stdtrit(num_subjects - 1, (1 - level) / 2)))


def metric_draws(
    probs: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    draws: SubjectDraws,
    areas: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
) -> dict[str, np.ndarray]:
    """What each metric is in each draw, NaN where undefined: (B,) by name.

    Args:
        probs: (N, C) probabilities.
        labels: (N,) int.
        areas: what `class_area_draws` gave for the same, where it is known already.

    ECE is not among them: it grows with every repeated image, so its draws lie above the measured value.
    """
    truth = np.eye(num_classes)[labels]  # (N, C)
    losses = np.stack(
        [
            ((probs - truth) ** 2).sum(axis=1),
            -np.log(np.maximum(probs[np.arange(len(labels)), labels], TINY)),
        ]
    )  # (2, N)
    num_images = draws.totals(np.ones(len(labels)))
    areas = class_area_draws(probs, labels, num_classes, draws) if areas is None else areas
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may miss all images of a subgroup
        brier, nll = draws.totals(losses.T) / num_images
        return {
            **confusion_measures(confusion_draws(probs.argmax(axis=1), labels, num_classes, draws)),
            "auroc": mean_of_defined(np.stack([auroc for auroc, _ in areas])),
            "auprc": mean_of_defined(np.stack([auprc for _, auprc in areas])),
            "brier": brier,
            "nll": nll,
        }


def class_area_draws(
    probs: np.ndarray, labels: np.ndarray, num_classes: int, draws: SubjectDraws
) -> list[tuple[np.ndarray, np.ndarray]]:
    """AUROC and average precision of each class in each draw, (B,) each; see `area_draws`."""
    return [area_draws(probs[:, c], labels == c, draws) for c in range(num_classes)]


def confusion_draws(
    predicted: np.ndarray, labels: np.ndarray, num_classes: int, draws: SubjectDraws
) -> np.ndarray:
    """(B, C, C) counts in each draw, true class down, predicted class across."""
    cells = np.asarray(labels) * num_classes + np.asarray(predicted)
    num_subjects = len(draws.counts)
    by_subject = np.bincount(draws.owner * num_classes**2 + cells, minlength=num_subjects * num_classes**2)
    counted = by_subject.reshape(num_subjects, -1).T.astype(np.float64) @ draws._weights  # (C * C, B)
    return counted.T.reshape(-1, num_classes, num_classes)


def area_draws(
    scores: np.ndarray, is_positive: np.ndarray, draws: SubjectDraws
) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and average precision of one class against the others in each draw, (B,) each, ties as usual."""
    auroc, auprc = np.full((2, draws.num_draws), np.nan)
    positive, negative = np.flatnonzero(is_positive), np.flatnonzero(~is_positive)
    if not len(positive) or not len(negative):
        return auroc, auprc
    positive = positive[np.argsort(-scores[positive], kind="stable")]  # highest first
    negative = negative[np.argsort(-scores[negative], kind="stable")]
    falling, rising = -scores[negative], -scores[positive]
    above = np.searchsorted(falling, rising, side="left")  # negatives with a higher score than this positive
    above_or_equal = np.searchsorted(falling, rising, side="right")
    last_of_tie = np.searchsorted(rising, rising, side="right")
    for part in draws.chunks(len(scores)):
        weight = draws.weights(positive, part)  # (P, b)
        passed = _running_sum(draws.weights(negative, part))  # (M + 1, b)
        taken = _running_sum(weight)[last_of_tie]  # positives with this score or more
        num_positive, num_negative = weight.sum(axis=0), passed[-1]
        wrong = passed[above_or_equal]
        with np.errstate(invalid="ignore", divide="ignore"):
            outranked = (weight * (passed[above] + wrong)).sum(axis=0) / 2
            is_defined = (num_positive > 0) & (num_negative > 0)
            area = 1 - outranked / (num_positive * num_negative)
            precision = np.where(weight > 0, taken / (taken + wrong), 0)
            average = (weight * precision).sum(axis=0) / num_positive
        auroc[part] = np.where(is_defined, area, np.nan)
        auprc[part] = np.where(is_defined, average, np.nan)
    return auroc, auprc


def _running_sum(weights: np.ndarray) -> np.ndarray:
    """Sums over the first 0, 1, ... n rows: (n + 1, b)."""
    sums = np.zeros((len(weights) + 1, weights.shape[1]))
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums
