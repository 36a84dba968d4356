"""The variance that subjects bring in when they are drawn within strata, and how well it is known.

An influence says by how much a measure moves when a subject counts a little more. Their squares add up to the
variance of the measure (the infinitesimal jackknife: Efron 1982, "The Jackknife, the Bootstrap and Other
Resampling Plans", chapter 6).
"""

import numpy as np


def stratified_variance(influence: np.ndarray, stratum: np.ndarray) -> float:
    """Variance of a sum of (n,) influences when subjects are drawn anew within their (n,) strata."""
    return float(_by_stratum(influence, stratum)[0].sum())


def effective_df(influence: np.ndarray, stratum: np.ndarray) -> float:
    """Degrees of freedom of that variance: few where most of it comes from the few subjects of a rare class.

    Source: Satterthwaite 1946, "An approximate distribution of estimates of variance components",
    Biometrics Bulletin 2, with the strata as components.
    """
    variances, sizes = _by_stratum(influence, stratum)
    total = float(variances.sum())
    if total <= 0:
        return float(len(influence) - len(sizes))
    varying = sizes > 1
    return total**2 / float((variances[varying] ** 2 / (sizes[varying] - 1)).sum())


def _by_stratum(influence: np.ndarray, stratum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each stratum's part of the variance, and its number of subjects."""
    _, place, size = np.unique(stratum, return_inverse=True, return_counts=True)
    centred = influence - (np.bincount(place, influence) / size)[place]
    return np.bincount(place, centred**2) * size / np.maximum(size - 1, 1), size
