"""The variance that subjects bring in when they are drawn within strata, and how well it is known.

An influence says by how much a measure moves when a subject counts a little more. Their squares add up to the
variance of the measure (the infinitesimal jackknife: Efron 1982, "The Jackknife, the Bootstrap and Other
Resampling Plans", chapter 6).
"""

import numpy as np

TINY = 1e-12


def stratified_variance(influence: np.ndarray, stratum: np.ndarray, sizes: np.ndarray | None = None) -> float:
    """Variance of a sum of (n,) influences when subjects are drawn anew within their (n,) strata.

    Args:
        sizes: (n,) images of each subject; None = alike. A subject with many images pulls the mean that its
            own deviation is measured from; squares are raised by what that takes away (as HC2 does in
            regression: MacKinnon & White 1985, J. Econometrics 29), which is n / (n - 1) where all are alike.
    """
    return float(_by_stratum(influence, stratum, sizes)[0].sum())


def effective_df(influence: np.ndarray, stratum: np.ndarray) -> float:
    """Degrees of freedom of that variance: few where most of it comes from the few subjects of a rare class.

    Source: Satterthwaite 1946, "An approximate distribution of estimates of variance components",
    Biometrics Bulletin 2, with the strata as components.
    """
    variances, numbers = _by_stratum(influence, stratum, None)
    total = float(variances.sum())
    varying = numbers > 1
    if total <= 0:
        return float(len(influence) - len(numbers))
    return total**2 / float((variances[varying] ** 2 / (numbers[varying] - 1)).sum())


def _by_stratum(
    influence: np.ndarray, stratum: np.ndarray, sizes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Each stratum's part of the variance, and its number of subjects."""
    _, place, number = np.unique(stratum, return_inverse=True, return_counts=True)
    weight = np.ones(len(influence)) if sizes is None else np.asarray(sizes, float)
    total = np.bincount(place, weight)
    share = weight / np.where(total > 0, total, 1)[place]  # of the stratum's images
    kept = 1 - 2 * share + np.bincount(place, share**2)[place]  # of a square, on average
    centred = influence - (np.bincount(place, influence) / number)[place]
    squares = np.where(number[place] > 1, centred**2 / np.maximum(kept, TINY), 0.0)
    return np.bincount(place, squares), number
