"""Which unlabeled images receive a pseudo-label in a round: what a rule may look at, and what it decides.

Here stand the rules with given thresholds or numbers; adaptive_thresholds.py, curriculum.py and
error_control.py find theirs first, and random_control.py draws without regard to confidence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

ALARM_COVERAGE = 0.9  # where nearly everything passes, it is no selection any more

SELECTED = "selected"
BELOW_THRESHOLD = "below threshold"
OVER_CAP = "over cap"
NEGATIVE = "negative"
TOO_UNCERTAIN = "too uncertain"


@dataclass(frozen=True)
class Evidence:
    """What a rule may look at in a round; all probabilities are calibrated and of the same teacher."""

    round_index: int  # 1 = the first students'
    probs: np.ndarray  # (N, C) of the unlabeled pool
    val_probs: np.ndarray  # (V, C) of the held-out real images
    val_labels: np.ndarray  # (V,) int, their expert labels
    # (V,) bool: real images that would be held back as uncertain, if they were of the pool, are False
    val_is_certain: np.ndarray | None = None


@dataclass(frozen=True)
class Negatives:
    """Images without a pseudo-label, and the classes that they are taught not to be."""

    indices: np.ndarray  # (M,) int, rows of the unlabeled pool, rising
    excluded: np.ndarray  # (M, C) bool, at least one and not all of a row


@dataclass(frozen=True)
class Selection:
    """What one round adds: three parallel arrays, most confident first, and how they were chosen."""

    indices: np.ndarray  # (K,) int, rows of the unlabeled pool
    labels: np.ndarray  # (K,) int, predicted class
    confidence: np.ndarray  # (K,) float, probability of that class
    thresholds: np.ndarray  # (C,) confidence to reach, by predicted class; inf = none qualified
    passed_over: str = OVER_CAP  # what became of those that reached it all the same
    soft_labels: np.ndarray | None = None  # (K, C), to train on in place of `labels`
    weights: np.ndarray | None = None  # (K,) in [0, 1], relative; None = all alike
    aligned_probs: np.ndarray | None = None  # (N, C), where the rule looked at these in place of the pool's
    negatives: Negatives | None = None  # None = none asked for
    note: str = ""  # what a reader of the report should know about this choice

    def __len__(self) -> int:
        return len(self.indices)


Rule = Callable[[Evidence], Selection]


def check_probs(probs: np.ndarray, name: str = "probs") -> None:
    """Refuse what are no class probabilities.

    Raises:
        ValueError: if it is not (N, C) with C >= 2, not finite, negative, or its rows do not sum to 1.
    """
    if probs.ndim != 2 or probs.shape[1] < 2:
        raise ValueError(f"{name} must be (N, C) with rows that sum to 1, got shape {probs.shape}")
    wrong = np.flatnonzero(~np.isfinite(probs).all(axis=1))
    if len(wrong):
        raise ValueError(f"{name} must be finite, got {probs[wrong[0]].tolist()} in row {wrong[0]} "
                         f"({len(wrong)} such rows)")  # fmt: skip
    wrong = np.flatnonzero((probs < 0).any(axis=1) | (np.abs(probs.sum(axis=1) - 1) > 1e-3))
    if len(wrong):
        raise ValueError(
            f"{name} must be (N, C) with rows that sum to 1 and nothing negative, got "
            f"{probs[wrong[0]].tolist()} in row {wrong[0]} ({len(wrong)} such rows)"
        )


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
    check_probs(probs)
    return select_by_class(probs, np.full(probs.shape[1], threshold), max_per_class)


def select_by_class(
    probs: np.ndarray, thresholds: Sequence[float] | np.ndarray, max_per_class: int | None = None
) -> Selection:
    """Pseudo-label the images that reach the threshold of the class predicted for them.

    Args:
        thresholds: (C,) probabilities to reach, each in (0, 1].
        max_per_class: as in `select_confident`.

    Raises:
        ValueError: if an argument is not as described.

    Source: thresholds that differ by class serve imbalanced data, where one for all leaves the rare class
        without pseudo-labels, as
        Wei et al. 2021, "CReST", arXiv:2102.09559, describe.
    """
    check_probs(probs)
    thresholds = np.asarray(thresholds, dtype=np.float64)
    if thresholds.shape != (probs.shape[1],):
        raise ValueError(f"expected {probs.shape[1]} thresholds, one a class, got shape {thresholds.shape}")
    for threshold in thresholds:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    return select_reaching(probs, thresholds, max_per_class)


def select_reaching(probs: np.ndarray, thresholds: np.ndarray, max_per_class: int | None = None) -> Selection:
    """As `select_by_class`, with thresholds that a rule has found: 0 lets all pass, inf none."""
    if max_per_class is not None and max_per_class < 1:
        raise ValueError(f"max_per_class must be at least 1, or None for no cap, got {max_per_class}")
    labels, confidence = probs.argmax(axis=1), probs.max(axis=1)  # (N,), (N,)
    order = np.argsort(-confidence, kind="stable")  # ties keep pool order
    order = order[confidence[order] >= thresholds[labels[order]]]  # (K,)
    if max_per_class is not None:
        order = order[rank_in_class(labels[order], probs.shape[1]) <= max_per_class]
    return Selection(order, labels[order], confidence[order], thresholds)


def select_top(probs: np.ndarray, images_per_class: int, max_class_share: float = 1.0) -> Selection:
    """Pseudo-label the most confident images of each predicted class, equally many where there are enough.

    Args:
        images_per_class: at most so many of each class, at least 1.
        max_class_share: and at most this share of the images that are predicted as the class, in (0, 1], so
            that a class predicted for few images does not take them all however unsure they are.

    Returns:
        A selection whose thresholds are the confidence of the last image taken of each class, inf where a
        class takes none.

    Raises:
        ValueError: if an argument is not as described.

    Source: Zou et al. 2018, "Unsupervised domain adaptation for semantic segmentation via class-balanced
        self-training", arXiv:1810.07911 (a share of each class, the surest
        first).
    """
    check_probs(probs)
    if images_per_class < 1:
        raise ValueError(f"images_per_class must be at least 1, got {images_per_class}")
    if not 0 < max_class_share <= 1:
        raise ValueError(f"max_class_share must be in (0, 1], got {max_class_share}")
    labels, confidence = probs.argmax(axis=1), probs.max(axis=1)  # (N,), (N,)
    num_classes = probs.shape[1]
    num_predicted = np.bincount(labels, minlength=num_classes)  # (C,)
    allowed = np.minimum(images_per_class, np.floor(num_predicted * max_class_share + 1e-9))  # (C,)
    order = np.argsort(-confidence, kind="stable")
    order = order[rank_in_class(labels[order], num_classes) <= allowed[labels[order]]]  # (K,)
    return Selection(order, labels[order], confidence[order], _last_of_class(probs, order))


def _last_of_class(probs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(C,) the lowest confidence among the chosen rows of each class, inf where there is none."""
    lowest = np.full(probs.shape[1], np.inf)
    np.minimum.at(lowest, probs[chosen].argmax(axis=1), probs[chosen].max(axis=1))
    return lowest


def rank_in_class(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(K,) the place of each entry among those of its class, in their order; 1 = the first."""
    one_hot = labels[:, None] == np.arange(num_classes)  # (K, C)
    return (one_hot * one_hot.cumsum(axis=0)).sum(axis=1)


def select_among(
    probs: np.ndarray, passes: np.ndarray, select: Callable[[np.ndarray], Selection]
) -> Selection:
    """Let a rule choose among those rows of the pool that passed the gates; the others are unknown to it.

    Args:
        probs: (N, C).
        passes: (N,) bool.
        select: takes the (M, C) probabilities of those that pass.

    Returns:
        Its selection with indices of the whole pool.
    """
    rows = np.flatnonzero(passes)
    chosen = select(probs[rows])
    aligned = None
    if chosen.aligned_probs is not None:
        aligned = probs.copy()
        aligned[rows] = chosen.aligned_probs
    return replace(chosen, indices=rows[chosen.indices], aligned_probs=aligned)


def rule_among(passes: np.ndarray, rule: Rule) -> Rule:
    """A rule to which the images that a gate turned away, (N,) False, do not exist."""

    def select(evidence: Evidence) -> Selection:
        chosen = select_among(evidence.probs, passes, lambda probs: rule(replace(evidence, probs=probs)))
        if not passes.any() and len(passes):
            return replace(chosen, note="no image of the pool passed the gates")
        return chosen

    return select


def coverage(selection: Selection, pool_size: int) -> float:
    """Share of the pool that was selected, in [0, 1]; 0 for an empty pool."""
    return len(selection) / pool_size if pool_size else 0.0


def is_alarming(share: float) -> bool:
    """Whether so much of the pool passed that the threshold no longer tells good labels from bad ones.

    In the student project behind this software 97.7 % of the pool passed a threshold of 0.75 on
    uncalibrated probabilities, and 143 of 15,639 pseudo-labels were the rare class.
    """
    return share > ALARM_COVERAGE


def decisions(probs: np.ndarray, threshold: float | np.ndarray, selection: Selection) -> np.ndarray:
    """Say in words what became of each of the (N, C) rows: `selected`, `negative`, `below threshold`, ...

    Args:
        probs: what the rule looked at.
        threshold: the one in force, or (C,) by predicted class.
    """
    to_reach = np.broadcast_to(threshold, probs.shape[1:])[probs.argmax(axis=1)]  # (N,)
    words = np.where(probs.max(axis=1) >= to_reach, selection.passed_over, BELOW_THRESHOLD).astype(object)
    words[selection.indices] = SELECTED
    if selection.negatives is not None:
        words[selection.negatives.indices] = NEGATIVE
    return words
