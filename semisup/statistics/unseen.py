"""What a sample in which nothing varies cannot exclude: bounds for what did not happen.

Where every subject of a class is judged alike (all right, or all wrong), drawing subjects again changes
nothing, and an interval read off such draws would claim certainty. Yet if a share e_k of a class is
judged otherwise, n_k of them would all be judged alike with probability (1 - e_k)^n_k. The shares for which
that happens at least 2.5 times in 100, over all classes together, remain possible: for one class those up to
1 - 0.025^(1/n), the exact bound of Clopper & Pearson (1934, Biometrika 26).

An AUROC of 1 has the bound of its rarest class, too: n disjoint pairs of a subject of it and one of another
class are independent of each other.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq

from semisup.statistics.sources import UPPER

NO_SPREAD = 1e-6  # half-widths below it are rounding


def unseen_share(num_subjects: Sequence[float] | np.ndarray, weights: Sequence[float] | np.ndarray) -> float:
    """Largest weighted sum of the classes' shares of subjects who are judged otherwise, where none was seen.

    Args:
        num_subjects: (C,) of each class; one who shows m classes counts 1/m in each.
        weights: (C,), of a class without subjects 0.
    """
    n, w = np.asarray(num_subjects, float), np.asarray(weights, float)
    n, w = n[w > 0], w[w > 0]
    if not len(n):
        return 0.0
    logarithm = np.log(1 - UPPER)

    def excess(slope: float) -> float:
        return float((n * np.log(np.minimum(1.0, slope * n / w))).sum() - logarithm)

    # Lagrange: the largest sum has 1 - e_k in proportion to n_k / w_k, as far as that is a probability.
    largest = float((w / n).max())
    smallest = largest * np.exp(logarithm / n.min())
    while excess(smallest) > 0:
        smallest /= 2
    slope = brentq(excess, smallest, largest, xtol=1e-14)
    return float((w * (1 - np.minimum(1.0, slope * n / w))).sum())


def model_mark(probs: np.ndarray) -> str:
    """What tells models apart by what they say: the same for (N, C) probabilities that are equal to the bit.

    An arm that keeps round 0 has the very models of its baseline, and differs from it by nothing at all.
    """
    return hashlib.sha256(np.ascontiguousarray(probs, dtype=np.float64).tobytes()).hexdigest()
