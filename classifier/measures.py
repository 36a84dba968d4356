"""Metrics of confusion matrices, one matrix or many at once."""

from __future__ import annotations

import numpy as np

TINY = 1e-12  # probabilities are held above it before a logarithm is taken


def confusion_measures(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, balanced accuracy, macro-F1 and MCC of (..., C, C) counts, true class down: (...) by name.

    Classes that neither occur nor are predicted do not count. MCC is Gorodkin's R_K (2004), 0 where either
    side has one class only. All are NaN where there is no image.
    """
    matrices = np.asarray(matrices, dtype=np.float64)
    right = np.diagonal(matrices, axis1=-2, axis2=-1)  # (..., C)
    true, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    total = true.sum(axis=-1)  # (...)
    covariance = right.sum(axis=-1) * total - (true * predicted).sum(axis=-1)
    spread = np.sqrt((total**2 - (predicted**2).sum(axis=-1)) * (total**2 - (true**2).sum(axis=-1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(true > 0, right / true, np.nan)
        f1 = np.where(true + predicted > 0, 2 * right / (true + predicted), np.nan)
        return {
            "accuracy": right.sum(axis=-1) / total,
            "balanced_accuracy": mean_of_defined(np.moveaxis(recall, -1, 0)),
            "macro_f1": mean_of_defined(np.moveaxis(f1, -1, 0)),
            "mcc": np.where(total > 0, np.where(spread > 0, covariance / spread, 0.0), np.nan),
        }


def class_measures(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Sensitivity, specificity and precision of each class: (..., C) by name, NaN where undefined."""
    matrices = np.asarray(matrices, dtype=np.float64)
    right = np.diagonal(matrices, axis1=-2, axis2=-1)
    true, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    others = true.sum(axis=-1, keepdims=True) - true
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "sensitivity": right / true,
            "specificity": (others - (predicted - right)) / others,
            "precision": right / predicted,
        }


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is finite, NaN where nothing is."""
    is_defined = np.isfinite(values)
    number = is_defined.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(number > 0, np.where(is_defined, values, 0).sum(axis=0) / number, np.nan)
