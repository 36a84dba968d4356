"""Numbers that say how good predicted probabilities are, and how sure one can be of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from classifier.bootstrap import LEVEL, NUM_DRAWS, draw_subjects, metric_draws
from classifier.errors import ClassifierError
from classifier.measures import TINY, class_measures, confusion_measures

NUM_BINS = 15
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "auroc", "auprc", "ece", "brier", "nll")


def classification_metrics(probs: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, float]:
    """Measure accuracy, discrimination and calibration on one set of images.

    Args:
        probs: (N, C) class probabilities; rows sum to 1.
        labels: (N,) int, true classes.
        num_classes: C.

    Returns:
        The `METRICS` by name: macro AUROC and AUPRC are one-vs-rest, ECE uses 15 bins of equal width, Brier
        is the sum over classes (0 to 2). A class without an image has no recall, no AUROC and no AUPRC: their
        means are taken over the other classes (`missing_classes` names it), and are NaN where none is left.

    Raises:
        ValueError: if probs or labels is not as described, or there is no image.
    """
    probs, labels = _checked(probs, labels, num_classes)
    matrix = confusion_matrix(probs.argmax(axis=1), labels, num_classes)
    truth = np.eye(num_classes)[labels]  # (N, C)
    curves = [
        (auroc(probs[:, c], truth[:, c] > 0), auprc(probs[:, c], truth[:, c] > 0)) for c in range(num_classes)
    ]
    return {
        **confusion_metrics(matrix),
        "auroc": _mean_of_defined([area for area, _ in curves]),
        "auprc": _mean_of_defined([area for _, area in curves]),
        "ece": expected_calibration_error(probs, labels),
        "brier": float(((probs - truth) ** 2).sum(axis=1).mean()),
        "nll": float(-np.log(np.maximum(probs[np.arange(len(labels)), labels], TINY)).mean()),
    }


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Count images: (C, C) int, true class down, predicted class across."""
    cells = np.asarray(labels) * num_classes + np.asarray(predicted)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def confusion_metrics(matrix: np.ndarray) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro-F1 and MCC of a (C, C) confusion matrix.

    Classes that neither occur nor are predicted do not count. MCC is Gorodkin's R_K (2004), 0 where either
    side has one class only.
    """
    return {name: float(value) for name, value in confusion_measures(matrix).items()}


def auroc(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order, ties counting half; NaN without both kinds."""
    num_positive = int(is_positive.sum())
    num_negative = len(scores) - num_positive
    if not num_positive or not num_negative:
        return float("nan")
    rank_sum = rankdata(scores)[is_positive].sum()
    return float((rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))


def auprc(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """Average precision: precision at each threshold, weighted by the recall it adds; NaN as for `auroc`."""
    if is_positive.all() or not is_positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(is_positive[order])
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    hits, taken = hits[last_of_tie], np.flatnonzero(last_of_tie) + 1
    return float((hits / taken * np.diff(hits, prepend=0)).sum() / hits[-1])


def reliability_bins(
    probs: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort images by the confidence of their predicted class into bins of equal width over (0, 1].

    Returns:
        Three (num_bins,) arrays: number of images, mean confidence, accuracy; the last two NaN where empty.
    """
    confidence, is_right = probs.max(axis=1), probs.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    count = np.bincount(place, minlength=num_bins)
    divisor = np.where(count > 0, count, np.nan)
    mean_confidence = np.bincount(place, confidence, minlength=num_bins) / divisor
    accuracy = np.bincount(place, is_right, minlength=num_bins) / divisor
    return count, mean_confidence, accuracy


def expected_calibration_error(probs: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS) -> float:
    """Mean distance between confidence and accuracy over the bins, weighted by their images.

    Source: Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599, Section 2.
    """
    count, confidence, accuracy = reliability_bins(probs, labels, num_bins)
    return float(np.nansum(count * np.abs(accuracy - confidence)) / count.sum())


def class_report(
    probs: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Per class: images, sensitivity, specificity, precision, AUROC; NaN where the part cannot tell."""
    matrix = confusion_matrix(probs.argmax(axis=1), labels, len(classes))
    measured = class_measures(matrix)
    return {
        name: {
            "num_images": float(matrix[c].sum()),
            **{measure: float(values[c]) for measure, values in measured.items()},
            "auroc": auroc(probs[:, c], np.asarray(labels) == c),
        }
        for c, name in enumerate(classes)
    }


def missing_classes(labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Classes without an image among the labels: their share of the metrics is undefined."""
    present = set(np.unique(labels).tolist())
    return [name for number, name in enumerate(classes) if number not in present]


def subject_intervals(
    probs: np.ndarray,
    labels: np.ndarray,
    subjects: np.ndarray,
    num_classes: int,
    *,
    num_draws: int = NUM_DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Intervals of the metrics by drawing whole subjects with replacement, see `bootstrap.tail_share`.

    Images of one subject resemble each other; drawing images would make the interval too narrow. An image
    without a known subject counts as its own. Draws in which a metric is undefined do not count for it.
    ECE has no interval here: it grows with every repeated image, so its draws lie above the measured value.
    With fewer than two subjects there is none at all: every draw would be the same.

    Source: Field and Welsh 2007, "Bootstrapping clustered data", J. R. Stat. Soc. B 69(3).
    """
    probs, labels = _checked(probs, labels, num_classes)
    draws = draw_subjects(subjects, num_draws=num_draws, seed=seed)
    if draws is None:
        return {}
    measured = metric_draws(probs, labels, num_classes, draws)
    return {name: draws.interval(measured[name], level) for name in METRICS if name in measured}


def refuse_seen_subjects(subjects: Sequence[str] | np.ndarray, seen: Sequence[str], where: str) -> None:
    """Raise a ClassifierError that names the subjects which an evaluation shares with a training.

    Args:
        subjects: of the images to be evaluated; empty names are unknown and cannot be checked.
        seen: subjects of the training.
        where: the model, for the message.
    """
    shared = sorted((set(map(str, subjects)) & set(seen)) - {""})
    if shared:
        names = ", ".join(shared[:8]) + (f" and {len(shared) - 8} more" if len(shared) > 8 else "")
        raise ClassifierError(
            f"{where} was trained on {len(shared)} of the subjects it would be evaluated on ({names}): "
            "the result would be too good; evaluate on a part, or with a split, that keeps them out"
        )


def _mean_of_defined(values: list[float]) -> float:
    defined = [value for value in values if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _checked(probs: np.ndarray, labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    probs, labels = np.asarray(probs, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if len(labels) == 0:
        raise ValueError("there is no image to measure on")
    if probs.shape != (len(labels), num_classes) or not np.allclose(probs.sum(axis=1), 1.0, atol=1e-3):
        raise ValueError(
            f"probs must be ({len(labels)}, {num_classes}) with rows that sum to 1, got {probs.shape}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels must lie in 0 ... {num_classes - 1}, got {labels.min()} ... {labels.max()}")
    return probs, labels
