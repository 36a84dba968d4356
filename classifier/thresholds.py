"""Probabilities from which an image counts as a class, chosen on validation images and never on others.

Two kinds: Youden's J = sensitivity + specificity - 1 at its largest (Youden 1950, "Index for rating
diagnostic tests", Cancer 3), and the point where precision equals recall, which calls as many images positive
as are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import roc_curve

from classifier.bootstrap import SubjectDraws

HEALTHY = {
    "normal",
    "negative",
    "healthy",
    "control",
    "controls",
    "none",
    "no",
    "notumor",
    "no tumor",
    "benign",
}


def positive_class(classes: Sequence[str], named: str | None = None) -> str | None:
    """Of two classes the one that is looked for; None with more.

    It is `named`, or else the one beside a class called normal, negative, healthy or alike, or else the last.

    Raises:
        ValueError: if the name is no class, or there are more than two.
    """
    if named is not None and (named not in classes or len(classes) != 2):
        raise ValueError(f"--positive must be one of two classes ({', '.join(classes)}), got {named}")
    if named is not None or len(classes) != 2:
        return named
    is_healthy = [name.strip().lower().replace("_", " ") in HEALTHY for name in classes]
    return classes[0] if is_healthy == [False, True] else classes[1]


def choose_thresholds(
    probs: np.ndarray, labels: np.ndarray, classes: Sequence[str], positive: str | None
) -> dict[str, dict[str, float]]:
    """Thresholds by kind and class, one class against all others.

    Args:
        probs: (N, C) calibrated probabilities of validation images.
        labels: (N,) int.
        positive: with two classes the one that gets thresholds; None = every class.

    Returns:
        "youden" and "precision_recall", each a threshold in (0, 1] by class name. Classes without an image
        of their own, or without one of another class, are left out. A threshold lies halfway between two
        neighbouring scores, so that rounding elsewhere moves no image across it.
    """
    chosen: dict[str, dict[str, float]] = {"youden": {}, "precision_recall": {}}
    for number, name in enumerate(classes):
        is_positive = np.asarray(labels) == number
        if (positive is not None and name != positive) or not is_positive.any() or is_positive.all():
            continue
        scores = np.asarray(probs)[:, number]
        chosen["youden"][name] = _halfway_below(scores, youden(scores, is_positive))
        chosen["precision_recall"][name] = _halfway_below(scores, break_even(scores, is_positive))
    return chosen


def youden(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """The score from which sensitivity + specificity is largest; the highest of several."""
    false_positive, true_positive, scores_from = roc_curve(is_positive, scores, drop_intermediate=False)
    gain = true_positive - false_positive
    best = 1 + int(np.argmax(gain[1:]))  # the first point calls nothing positive
    return float(scores_from[best])


def break_even(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """The score from which as many images are called positive as are, so that precision equals recall.

    With ties the number cannot always be met; then the score that comes nearest, the higher of two.
    """
    found, count = np.unique(scores, return_counts=True)
    called = count[::-1].cumsum()  # from the highest score on
    return float(found[::-1][np.argmin(np.abs(called - is_positive.sum()))])


def _halfway_below(scores: np.ndarray, threshold: float) -> float:
    """Halfway from a score down to the next lower one, or to 0."""
    below = scores[scores < threshold]
    return (threshold + (float(below.max()) if len(below) else 0.0)) / 2


def threshold_report(
    probs: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    thresholds: Mapping[str, Mapping[str, float]],
    draws: SubjectDraws | None,
) -> dict[str, dict[str, dict[str, float | list[float]]]]:
    """What the thresholds do on some images: sensitivity, specificity, precision, each with an interval."""
    return {
        kind: {
            name: {
                "threshold": threshold,
                **_at_threshold(
                    np.asarray(probs)[:, list(classes).index(name)] >= threshold,
                    np.asarray(labels) == list(classes).index(name),
                    draws,
                ),
            }
            for name, threshold in by_class.items()
        }
        for kind, by_class in thresholds.items()
    }


def _at_threshold(
    is_called: np.ndarray, is_positive: np.ndarray, draws: SubjectDraws | None
) -> dict[str, float | list[float]]:
    pairs = {
        "sensitivity": (is_called & is_positive, is_positive),
        "specificity": (~is_called & ~is_positive, ~is_positive),
        "precision": (is_called & is_positive, is_called),
    }
    report: dict[str, float | list[float]] = {}
    for name, (right, among) in pairs.items():
        report[name] = float(right.sum() / among.sum()) if among.any() else float("nan")
        report[f"{name}_95"] = list(share_interval(right, among, draws))
    return report


def share_interval(right: np.ndarray, among: np.ndarray, draws: SubjectDraws | None) -> tuple[float, float]:
    """95 % interval by subject of the share of `right` among the images in `among`; NaN without draws."""
    if draws is None or not among.any():
        return float("nan"), float("nan")
    num_right, num_among = draws.totals(np.column_stack([right & among, among]).astype(np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        return draws.of(among).interval(num_right / num_among)
