"""Many comparisons, and shares of few: Holm's correction and the exact interval of Clopper and Pearson."""

from collections.abc import Sequence

import numpy as np
from scipy.special import betaincinv

from semisup.statistics.sources import CONFIDENCE


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjust p-values for the number of comparisons, so that one false alarm in all has 5 %.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def clopper_pearson(successes: float, trials: int, level: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided interval of a share, which covers at least `level` of the time with any number of trials.

    Args:
        successes: in [0, trials]; halves (ties) are allowed.

    Raises:
        ValueError: if there is no trial, or more successes than trials.

    Source: Clopper & Pearson 1934, "The use of confidence or fiducial limits", Biometrika 26.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"successes must lie in 0..trials and trials be 1 or more, got {successes}, {trials}"
        )
    tail = (1 - level) / 2
    low = betaincinv(successes, trials - successes + 1, tail) if successes > 0 else 0.0
    high = betaincinv(successes + 1, trials - successes, 1 - tail) if successes < trials else 1.0
    return float(low), float(high)
