"""Distribution alignment: predictions over the pool shifted towards the classes' shares among the labels.

Source: Berthelot et al. 2020, "ReMixMatch", arXiv:1911.09785, Section 3.1.
"""

import numpy as np

from semisup.select import check_probs


def alignment_factors(probs: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """By how much to multiply each class's probability, (C,): its share among the labels over its mean here.

    Sensible only where the pool has the labeled images' mix of classes, as the images of an unconditional
    generator of the same training part should have. The paper averages the predictions over the last 128
    batches; here they are the whole pool's.

    Args:
        probs: (N, C) of the pool.
        prior: (C,) share of each class among the labeled images; sums to 1.

    Raises:
        ValueError: if an argument is not as described.
    """
    check_probs(probs)
    prior = np.asarray(prior, dtype=np.float64)
    if prior.shape != (probs.shape[1],) or not np.isfinite(prior).all() or (prior < 0).any():
        raise ValueError(f"prior must hold {probs.shape[1]} shares, one a class, got {prior.tolist()}")
    if abs(prior.sum() - 1) > 1e-3:
        raise ValueError(f"prior must sum to 1, got {prior.sum():g}")
    if not len(probs):
        return np.ones(probs.shape[1])
    return prior / np.maximum(probs.mean(axis=0), 1e-12)


def apply_factors(probs: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Probabilities times the factors, each row normalised again; (N, C).

    Validation images must take the same factors as the pool wherever a rule compares the two.
    """
    scaled = probs * factors
    total = scaled.sum(axis=1, keepdims=True)
    # A row whose whole probability lies on classes without a label is left as it is.
    return np.where(total > 0, scaled / np.where(total > 0, total, 1), probs)


def align_to_prior(probs: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Align the (N, C) probabilities of a pool to the labeled images' (C,) shares of the classes.

    One step, as in the paper: the mean of the result comes near the prior, not exactly there.
    """
    return apply_factors(probs, alignment_factors(probs, prior))
