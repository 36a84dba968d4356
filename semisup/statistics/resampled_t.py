"""The corrected resampled t-test: are differences over folds more than the overlap of their training sets?"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from semisup.statistics.sources import UPPER

MIN_FOLDS = 3  # with two, the interval is wider than any metric


@dataclass(frozen=True)
class ResampledT:
    """Mean difference over folds with its 95 % interval."""

    value: float
    low: float
    high: float
    p_value: float  # two-sided
    num_folds: int


def corrected_resampled_t(differences: np.ndarray, test_to_train: float) -> ResampledT:
    """Student's t over the folds' differences, its variance raised for training sets that overlap.

    Models of two folds share most of their training data, so their differences are not independent, and the
    usual t calls too much a difference. The variance of the mean, s^2 / J, becomes s^2 (1 / J + n_test /
    n_train). It assumes that all folds have sets of one size, and that the folds' differences are about
    normal.

    Args:
        differences: (J,) one number a fold, the seeds averaged.
        test_to_train: number of test subjects by number of training subjects of a fold, above 0.

    Raises:
        ValueError: for fewer than two folds, or a ratio that is not above 0.

    Source: Nadeau & Bengio 2003, "Inference for the generalization error", Machine Learning 52, Section 3.
    """
    values = np.asarray(differences, float)
    num_folds = len(values)
    if num_folds < 2:
        raise ValueError(f"the corrected resampled t needs two or more folds, got {num_folds}")
    if not test_to_train > 0:
        raise ValueError(f"test_to_train must be above 0, got {test_to_train}")
    mean = float(values.mean())
    error = float(np.sqrt(values.var(ddof=1) * (1 / num_folds + test_to_train)))
    if error == 0:
        return ResampledT(mean, mean, mean, 1.0 if mean == 0 else 0.0, num_folds)
    reach = stdtrit(num_folds - 1, UPPER) * error
    p_value = 2 * float(stdtr(num_folds - 1, -abs(mean) / error))
    return ResampledT(mean, mean - reach, mean + reach, p_value, num_folds)
