"""How far confidence is from accuracy, and how far it would be by chance alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from classifier.evaluate import NUM_BINS, expected_calibration_error, reliability_bins
from classifier.measures import TINY

NUM_SIMULATED = 500


def adaptive_calibration_error(probs: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS) -> float:
    """ECE with the same number of images in every bin, so that no bin rests on two or three.

    Source: Nguyen and O'Connor 2015, "Posterior calibration and exploratory analysis", EMNLP, Section 3.
    """
    confidence, is_right = probs.max(axis=1), probs.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    bins = [rows for rows in np.array_split(order, num_bins) if len(rows)]
    gaps = [len(rows) * abs(is_right[rows].mean() - confidence[rows].mean()) for rows in bins]
    return float(np.sum(gaps) / len(order))


def chance_calibration_error(
    probs: np.ndarray, num_bins: int = NUM_BINS, seed: int = 0
) -> tuple[float, float]:
    """ECE that a perfectly calibrated classifier with these confidences would show: mean, and 95 % are below.

    On few images accuracy strays from confidence by chance, so ECE is never 0. Simulated with images
    independent of each other; where a subject has many images alike, chance reaches further.

    Source: consistency resampling, Bröcker and Smith 2007, Weather and Forecasting 22(3).
    """
    confidence = probs.max(axis=1)
    order = np.argsort(confidence, kind="stable")
    place = np.clip(np.ceil(confidence[order] * num_bins).astype(int) - 1, 0, num_bins - 1)
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    expected = np.add.reduceat(confidence[order], starts)
    rng = np.random.default_rng(seed)
    errors = np.empty(NUM_SIMULATED)
    for number in range(NUM_SIMULATED):
        is_right = rng.random(len(order)) < confidence[order]
        errors[number] = np.abs(np.add.reduceat(is_right, starts, dtype=np.float64) - expected).sum()
    errors /= len(order)
    return float(errors.mean()), float(np.percentile(errors, 95))


def calibration_report(probs: np.ndarray, uncalibrated: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Calibration after and before temperature scaling, with the bins that a reliability diagram draws.

    Args:
        probs, uncalibrated: (N, C) probabilities with and without the temperature.
        labels: (N,) int.

    Returns:
        `ece`, `ece_adaptive`, `ece_by_chance` (mean), `ece_by_chance_95`, `mean_confidence`, `accuracy` after
        scaling; under `before` ECE before it; under `bins` and `bins_before` count, confidence and accuracy.
    """
    by_chance, by_chance_95 = chance_calibration_error(probs)
    return {
        "ece": expected_calibration_error(probs, labels),
        "ece_adaptive": adaptive_calibration_error(probs, labels),
        "ece_by_chance": by_chance,
        "ece_by_chance_95": by_chance_95,
        "mean_confidence": float(probs.max(axis=1).mean()),
        "accuracy": float((probs.argmax(axis=1) == labels).mean()),
        "before": {
            "ece": expected_calibration_error(uncalibrated, labels),
            "ece_adaptive": adaptive_calibration_error(uncalibrated, labels),
            "nll": float(-np.log(np.maximum(uncalibrated[np.arange(len(labels)), labels], TINY)).mean()),
            "mean_confidence": float(uncalibrated.max(axis=1).mean()),
        },
        "bins": _bins(probs, labels),
        "bins_before": _bins(uncalibrated, labels),
    }


def _bins(probs: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    count, confidence, accuracy = reliability_bins(probs, labels)
    return {
        "count": count.tolist(), "confidence": confidence.tolist(), "accuracy": accuracy.tolist(),
    }  # fmt: skip
