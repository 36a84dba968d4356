"""DeLong's test of two AUROCs on the same cases, where every case is a subject of its own."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from semisup.statistics.mcnemar import refuse_several_cases
from semisup.statistics.sources import UPPER


@dataclass(frozen=True)
class DeLong:
    """Two AUROCs of one class against the others, and their difference (second minus first)."""

    first: float
    second: float
    difference: float
    variance: float  # of the difference
    low: float
    high: float
    p_value: float  # two-sided


def delong(subjects: np.ndarray, is_positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> DeLong:
    """Compare the AUROCs of two models on the same independent cases.

    Args:
        subjects: (N,) whose case it is; one a subject. Where subjects have several images, take
            `semisup.statistics.areas`, whose variance is that of whole subjects.
        is_positive: (N,) bool.
        first, second: (N,) the models' scores, higher for positives.

    Raises:
        ValueError: if a subject has several cases, or there are fewer than two cases of either kind.

    Source: DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44; by midranks in O(N log N) as in Sun & Xu
    2014, IEEE Signal Processing Letters 21.
    """
    refuse_several_cases(subjects, "DeLong's test")
    is_positive = np.asarray(is_positive, bool)
    num_positive = int(is_positive.sum())
    num_negative = len(is_positive) - num_positive
    if min(num_positive, num_negative) < 2:
        raise ValueError(
            f"DeLong's test needs two or more cases of either kind, got {num_positive} positive and "
            f"{num_negative} negative"
        )
    placed = [placements(np.asarray(scores, float), is_positive) for scores in (first, second)]
    areas = [float(positive.mean()) for positive, _ in placed]
    of_positives = placed[1][0] - placed[0][0]  # (P,)
    of_negatives = placed[1][1] - placed[0][1]  # (M,)
    variance = float(of_positives.var(ddof=1) / num_positive + of_negatives.var(ddof=1) / num_negative)
    difference = areas[1] - areas[0]
    error = np.sqrt(variance)
    p_value = 2 * float(ndtr(-abs(difference) / error)) if error > 0 else float(difference == 0)
    reach = ndtri(UPPER) * error
    return DeLong(
        areas[0],
        areas[1],
        difference,
        variance,
        float(difference - reach),
        float(difference + reach),
        p_value,
    )


def delong_per_class(
    subjects: np.ndarray, labels: np.ndarray, first: np.ndarray, second: np.ndarray
) -> list[DeLong | None]:
    """DeLong's test of each class against the others; None for a class without two cases of either kind.

    Args:
        labels: (N,) int in [0, C); first, second: (N, C) probabilities of the two models.

    Raises:
        ValueError: if a subject has several cases.
    """
    refuse_several_cases(subjects, "DeLong's test")
    found: list[DeLong | None] = []
    for c in range(first.shape[1]):
        is_positive = np.asarray(labels) == c
        enough = min(is_positive.sum(), (~is_positive).sum()) >= 2
        found.append(delong(subjects, is_positive, first[:, c], second[:, c]) if enough else None)
    return found


def placements(scores: np.ndarray, is_positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of the other kind that every case is on the right side of, ties by half.

    Returns:
        (P,) of the positives and (M,) of the negatives, in their order; the mean of either is the AUROC.
    """
    positive, negative = scores[is_positive], scores[~is_positive]
    ranks = rankdata(np.concatenate([positive, negative]))  # midranks among all
    num_positive, num_negative = len(positive), len(negative)
    below = ranks[:num_positive] - rankdata(positive)
    above = num_positive - (ranks[num_positive:] - rankdata(negative))
    return below / num_negative, above / num_positive
