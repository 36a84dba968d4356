"""Rules that choose which unlabeled images receive a pseudo-label in a round: data in, record out."""

from dataclasses import dataclass

import numpy as np

ALARM_COVERAGE = 0.9  # where nearly everything passes, it is no selection any more

SELECTED = "selected"
BELOW_THRESHOLD = "below threshold"
OVER_CAP = "over cap"


@dataclass(frozen=True)
class Selection:
    """What one round adds: three parallel arrays, most confident first."""

    indices: np.ndarray  # (K,) int, rows of the unlabeled pool
    labels: np.ndarray  # (K,) int, predicted class
    confidence: np.ndarray  # (K,) float, probability of that class

    def __len__(self) -> int:
        return len(self.indices)


def select_confident(probs: np.ndarray, threshold: float, max_per_class: int | None = None) -> Selection:
    """Pseudo-label the images whose most probable class reaches the threshold.

    Args:
        probs: (N, C) class probabilities of the unlabeled pool; rows sum to 1.
        threshold: probability to reach, in (0, 1]. Assumes a calibrated classifier.
        max_per_class: images to accept per predicted class, the most confident
            first, so that a common class cannot crowd out a rare one; None = all.

    Raises:
        ValueError: if probs, threshold or max_per_class is not as described.

    Source: fixed threshold of FixMatch (Sohn et al. 2020, arXiv:2001.07685, Section 2).
    """
    if probs.ndim != 2 or not np.allclose(probs.sum(axis=1), 1.0, atol=1e-3):
        raise ValueError(f"probs must be (N, C) with rows that sum to 1, got shape {probs.shape}")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    if max_per_class is not None and max_per_class < 1:
        raise ValueError(f"max_per_class must be at least 1, or None for no cap, got {max_per_class}")

    labels, confidence = probs.argmax(axis=1), probs.max(axis=1)  # (N,), (N,)
    order = np.argsort(-confidence, kind="stable")  # ties keep pool order
    order = order[confidence[order] >= threshold]  # (K,)
    if max_per_class is not None:
        one_hot = labels[order, None] == np.arange(probs.shape[1])  # (K, C)
        rank = (one_hot * one_hot.cumsum(axis=0)).sum(axis=1)  # 1 = best of its class
        order = order[rank <= max_per_class]
    return Selection(order, labels[order], confidence[order])


def coverage(selection: Selection, pool_size: int) -> float:
    """Share of the pool that was selected, in [0, 1]; 0 for an empty pool."""
    return len(selection) / pool_size if pool_size else 0.0


def is_alarming(share: float) -> bool:
    """Whether so much of the pool passed that the threshold no longer tells good labels from bad ones.

    In the student project behind this software 97.7 % of the pool passed a threshold of 0.75 on
    uncalibrated probabilities, and 143 of 15,639 pseudo-labels were the rare class.
    """
    return share > ALARM_COVERAGE


def decisions(probs: np.ndarray, threshold: float, selection: Selection) -> np.ndarray:
    """Say in words what became of each of the (N, C) rows: `selected`, `below threshold`, `over cap`."""
    words = np.where(probs.max(axis=1) >= threshold, OVER_CAP, BELOW_THRESHOLD).astype(object)  # (N,)
    words[selection.indices] = SELECTED
    return words
