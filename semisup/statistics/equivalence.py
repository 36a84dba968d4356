"""Label equivalence: "20 % of the labels with synthetic images performs like N % of the labels alone"."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from extract.language import ENGLISH, Language
from semisup.statistics.sources import CONFIDENCE


@dataclass(frozen=True)
class LabelEquivalence:
    """The share of labels at which labels alone perform as well; -inf below the curve, +inf above it."""

    fraction: float
    low: float
    high: float
    smallest: float  # the ends of the supervised curve, between which it can be read off
    largest: float

    def describe(self, language: Language = ENGLISH) -> tuple[str, str]:
        """For instance ("31 %", "[24 %, 48 %]"); what lies off the curve is said to be below or above it."""
        found, low, high = (self._percent(share, language) for share in (self.fraction, self.low, self.high))
        return found, language.interval(low, high)

    def _percent(self, fraction: float, language: Language) -> str:
        if fraction == -np.inf:
            return language.text("less than {percent} %", percent=f"{100 * self.smallest:.0f}")
        if fraction == np.inf:
            return language.text("more than {percent} %", percent=f"{100 * self.largest:.0f}")
        return f"{100 * fraction:.0f} %"


def label_equivalence(
    fractions: Sequence[float],
    curve: np.ndarray,
    curve_draws: np.ndarray,
    value: float,
    value_draws: np.ndarray,
) -> LabelEquivalence:
    """Read off the supervised curve how many labels alone would perform like an arm.

    The curve is made monotone (more labels are never worse) and interpolated on the logarithm of the
    fraction, for learning curves are nearly straight there. On a flat stretch the fewest labels count.

    Args:
        fractions: (m,) increasing shares of labels, in (0, 1].
        curve: (m,) the supervised metric there; curve_draws: (B, m) the same under every draw.
        value: the arm's metric; value_draws: (B,) the same under the *same* draws.
    """
    x = np.log(np.asarray(fractions, float))
    if len(x) < 2 or (np.diff(x) <= 0).any():
        raise ValueError(f"label equivalence needs two or more increasing fractions, got {list(fractions)}")
    found = _read_off(x, monotone(np.asarray(curve, float)[None]), np.array([value]))[0]
    drawn = _read_off(x, monotone(curve_draws), value_draws)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
    return LabelEquivalence(float(found), float(low), float(high), float(fractions[0]), float(fractions[-1]))


def monotone(curves: np.ndarray) -> np.ndarray:
    """Least-squares non-decreasing fit of every row of (B, m): the max-min formula of isotonic regression."""
    m = curves.shape[1]
    sums = np.concatenate([np.zeros((len(curves), 1)), np.cumsum(curves, axis=1)], axis=1)
    fitted = np.full(curves.shape, -np.inf)
    for start in range(m):
        means = (sums[:, start + 1 :] - sums[:, start : start + 1]) / np.arange(1, m - start + 1)
        lowest = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]  # min over ends >= i, for i >= start
        fitted[:, start:] = np.maximum(fitted[:, start:], lowest)
    return fitted


def _read_off(x: np.ndarray, curves: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Fraction exp(x) where each rising row of (B, m) first reaches its value; +-inf off the curve."""
    tolerance = 1e-9  # an arm equal to a point of the curve must not fall off it by rounding
    reached = curves >= values[:, None] - tolerance
    first = reached.argmax(axis=1)  # (B,)
    rows = np.arange(len(curves))
    before = np.maximum(first - 1, 0)
    y0, y1 = curves[rows, before], curves[rows, first]
    rise = np.where(y1 > y0, y1 - y0, 1.0)
    share = np.clip((values - y0) / rise, 0, 1)
    fraction = np.exp(np.where(first == 0, x[0], x[before] + share * (x[first] - x[before])))
    below = values < curves[:, 0] - tolerance
    return np.where(below, -np.inf, np.where(reached.any(axis=1), fraction, np.inf))
