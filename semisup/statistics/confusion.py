"""Test predictions counted by subject, and the metrics that follow from such counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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


def mcc(confusion: np.ndarray) -> np.ndarray:
    """Gorodkin's R_K, 0 where truth or prediction has one class alone; (..., C, C) -> (...).

    Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient",
    Comput. Biol. Chem. 28.
    """
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)  # (..., C)
    total = true.sum(axis=-1)
    covariance = np.trace(confusion, axis1=-2, axis2=-1) * total - (true * predicted).sum(axis=-1)
    spread = (total**2 - (predicted**2).sum(axis=-1)) * (total**2 - (true**2).sum(axis=-1))
    return np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)


METRICS = {"balanced_accuracy": balanced_accuracy, "accuracy": accuracy, "macro_f1": macro_f1, "mcc": mcc}


# Predictions -> counts ----------------------------------------------------------------------------


@dataclass(frozen=True)
class RunCounts:
    """One run's test predictions, counted by subject."""

    fold: int
    seed: int
    subjects: np.ndarray  # (n,) str, sorted
    counts: np.ndarray  # (n, C, C) images by truth (row) and prediction (column)
    model: str = ""  # what tells its model from others; the same for the same model


def count_predictions(
    fold: int,
    seed: int,
    subjects: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    num_classes: int,
    model: str = "",
) -> RunCounts:
    """Count the test images of one run by subject, true and predicted class.

    Args:
        subjects, labels, predicted: (N,) one entry an image; labels and predictions in [0, num_classes).
        model: what tells the model from others (`semisup.statistics.unseen.model_mark`).

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
    return RunCounts(fold, seed, names, counts.reshape(len(names), num_classes, num_classes), model)


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
