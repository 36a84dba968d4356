"""Sensitivity and specificity of every class against all others, with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from semisup.statistics import ArmDraws, Estimate, SubjectBootstrap, recall_per_class

Cell = tuple[str, float]  # arm, fraction


@dataclass(frozen=True)
class ClassResult:
    """One class in one arm at one fraction."""

    arm: str
    fraction: float
    class_name: str
    num_images: float  # of this class in the test parts
    sensitivity: Estimate
    specificity: Estimate


def sensitivity(confusion: np.ndarray, number: int) -> np.ndarray:
    """Share of a class's images that are recognised; (..., C, C) counts with rows = truth -> (...)."""
    return recall_per_class(confusion)[..., number]


def specificity(confusion: np.ndarray, number: int) -> np.ndarray:
    """Share of the other classes' images that are not taken for this one; (..., C, C) -> (...)."""
    others = confusion.sum(axis=(-2, -1)) - confusion[..., number, :].sum(axis=-1)
    wrong = confusion[..., :, number].sum(axis=-1) - confusion[..., number, number]
    return 1 - np.divide(wrong, others, out=np.full(np.shape(others), np.nan), where=others > 0)


def class_results(
    cells: Sequence[Cell],
    draws: Mapping[Cell, ArmDraws],
    confusions: Mapping[Cell, np.ndarray],
    boot: SubjectBootstrap,
    classes: Sequence[str],
) -> tuple[ClassResult, ...]:
    """Every class in each of these arms.

    Args:
        confusions: (C, C) test images by truth and prediction.
    """
    return tuple(
        ClassResult(
            *cell,
            name,
            float(confusions[cell][number].sum()),
            boot.estimate(draws[cell], partial(sensitivity, number=number)),
            boot.estimate(draws[cell], partial(specificity, number=number)),
        )
        for cell in cells
        for number, name in enumerate(classes)
    )
