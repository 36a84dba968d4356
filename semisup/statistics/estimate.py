"""What every measure of a study is reported as: a value, its interval and what both rest on."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtri

from semisup.statistics.sources import CONFIDENCE, UPPER


@dataclass(frozen=True)
class Estimate:
    """A metric or a difference of metrics, with its 95 % interval; all in shares (0.01 = one point)."""

    value: float
    low: float
    high: float
    share_above_zero: float  # of the draws; ties count half
    p_value: float  # two-sided, for "is zero": below 0.05 exactly where the interval leaves out zero
    num_subjects: int
    num_images: int
    num_seeds: int  # the smallest number of seeds that a fold has
    draws: np.ndarray  # (B,) widened draws, what the interval was read from
    subject_draws: np.ndarray  # (B,) the same before widening: chance in the subjects alone

    @property
    def is_constant(self) -> bool:
        """Whether no subject moves it, so that the interval is what they cannot exclude."""
        return float(np.ptp(self.subject_draws)) == 0


@dataclass(frozen=True)
class Basis:
    """What an estimate rests on."""

    num_subjects: int
    num_images: int
    num_seeds: int  # the smallest number that a fold has


def from_draws(value: float, draws: np.ndarray, subject_draws: np.ndarray, basis: Basis) -> Estimate:
    """Read the interval and the p-value off (B,) draws that have been widened already."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    above = float((draws > 0).mean() + (draws == 0).mean() / 2)
    return Estimate(
        value, float(low), float(high), above, two_sided(draws), basis.num_subjects, basis.num_images,
        basis.num_seeds, draws, subject_draws,
    )  # fmt: skip


def bounded_draws(value: float, half_width: float, low: float, high: float, num_draws: int) -> np.ndarray:
    """(B,) draws of a measure between `low` and `high`, normal on the logit scale (log without upper end).

    A sensitivity of 98 % with an error of 2 points cannot be 102 %, but may well be 93 %: intervals that are
    symmetric, or percentiles of draws, reach too high near the end and not low enough.

    Source: Agresti, "Categorical Data Analysis", Section 16.6, for shares; Pepe 2003, "The Statistical
    Evaluation of Medical Tests", Section 5.2, for AUROCs.
    """
    steps = half_width / ndtri(UPPER) * normal_grid(num_draws)
    if not low < value < high:
        return np.full(num_draws, value)
    if np.isinf(high):
        return low + (value - low) * np.exp(steps / (value - low))
    share = (value - low) / (high - low)
    slope = share * (1 - share) * (high - low)
    return low + (high - low) * expit(logit(share) + steps / slope)


def widen(draws: np.ndarray, value: float, half_width: float) -> np.ndarray:
    """Stretch the draws about the estimate, so that a normal one's 95 % interval has this half-width."""
    wanted, spread = half_width / ndtri(UPPER), float(draws.std())
    if spread > 0:
        return value + (draws - value) * (wanted / spread)
    return value + wanted * normal_grid(len(draws))  # no variation between subjects: the trainings alone


def normal_grid(num_draws: int) -> np.ndarray:
    """(B,) evenly spread quantiles of the standard normal distribution, rising."""
    return ndtri((np.arange(num_draws) + 0.5) / num_draws)


def two_sided(draws: np.ndarray) -> float:
    """Twice the smaller share of draws on one side of zero; one draw is added, so that it is never 0."""
    num_low, num_high = int((draws <= 0).sum()), int((draws >= 0).sum())
    return float(min(1.0, 2 * (min(num_low, num_high) + 1) / (len(draws) + 1)))
