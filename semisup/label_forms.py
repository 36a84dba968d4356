"""What a student learns from a selected image: a class, a distribution, how sure to be, what it is not."""

from dataclasses import replace

import numpy as np

from semisup.select import Selection, check_probs


def with_soft_labels(selection: Selection, probs: np.ndarray) -> Selection:
    """Train on the teacher's whole distribution instead of its most probable class.

    Args:
        probs: (N, C) of the pool, as the rule saw them.

    Source: Xie et al. 2020, "Self-training with Noisy Student", arXiv:1911.04252, who found them better than
        hard ones on images unlike the labeled.
    """
    soft = probs[selection.indices].astype(np.float64)  # (K, C)
    return replace(selection, soft_labels=(soft / soft.sum(axis=1, keepdims=True)).astype(np.float32))


def with_weights(selection: Selection, weights: np.ndarray) -> Selection:
    """Let each selected image weigh as it is worth.

    Args:
        weights: (N,) in [0, 1] for the whole pool.

    Raises:
        ValueError: if a weight lies outside.
    """
    chosen = np.asarray(weights, dtype=np.float64)[selection.indices]  # (K,)
    if not ((chosen >= 0) & (chosen <= 1)).all():
        raise ValueError("weights must be in [0, 1]")
    return replace(selection, weights=chosen)


def confidence_weights(probs: np.ndarray) -> np.ndarray:
    """(N,) probability of the most probable class: the expected correctness where it is calibrated."""
    check_probs(probs)
    return np.minimum(probs.max(axis=1), 1.0)


def entropy_weights(probs: np.ndarray) -> np.ndarray:
    """(N,) 1 - H(p) / log C: 1 for a sure prediction, 0 for an even one.

    Source: Iscen et al. 2019, "Label Propagation for Deep Semi-supervised Learning", arXiv:1904.04717.
    """
    check_probs(probs)
    entropy = -(probs * np.log(np.maximum(probs, 1e-300))).sum(axis=1)  # (N,)
    return np.clip(1 - entropy / np.log(probs.shape[1]), 0.0, 1.0)


def uncertainty_weights(uncertainty: np.ndarray, scale: float) -> np.ndarray:
    """(N,) exp(-uncertainty / scale): 1 where several predictions of an image agree.

    Args:
        uncertainty: (N,) not negative, for instance the standard deviation over augmented views, dropout
            masks or an ensemble.
        scale: uncertainty at which a weight has fallen to 37 %, more than 0.

    Raises:
        ValueError: if an argument is not as described.

    Source: Kendall and Gal 2017, arXiv:1703.04977, Section 3.2 (loss attenuated by exp(-s)).
    """
    uncertainty = np.asarray(uncertainty, dtype=np.float64)
    if not scale > 0:
        raise ValueError(f"scale must be more than 0, got {scale}")
    if not (np.isfinite(uncertainty).all() and (uncertainty >= 0).all()):
        raise ValueError("uncertainty must be finite and not negative")
    return np.exp(-uncertainty / scale)


def negative_labels(
    probs: np.ndarray,
    threshold: float = 0.05,
    uncertainty: np.ndarray | None = None,
    max_uncertainty: float = np.inf,
) -> np.ndarray:
    """Say which classes an image is *not*: an (N, C) bool array.

    "This is no pneumonia" is right far more often than "this is normal", and images too unsure for a positive
    label still teach something. The loss of a negative label c is -log(1 - p_c). The most probable class is
    never excluded.

    Args:
        probs: (N, C).
        threshold: a class is excluded where its probability is at most this, in [0, 0.5); 0.05 in UPS.
        uncertainty: (N, C) of these probabilities, for instance their standard deviation over dropout masks.
        max_uncertainty: a class is excluded only where its uncertainty is at most this.

    Raises:
        ValueError: if an argument is not as described.

    Source: Rizve et al. 2021, "In Defense of Pseudo-Labeling" (UPS), arXiv:2101.06329.
    """
    check_probs(probs)
    if not 0 <= threshold < 0.5:
        raise ValueError(f"threshold must be in [0, 0.5), got {threshold}")
    excluded = probs <= threshold
    if uncertainty is not None:
        if uncertainty.shape != probs.shape:
            raise ValueError(
                f"uncertainty must have the shape of probs {probs.shape}, got {uncertainty.shape}"
            )
        excluded &= uncertainty <= max_uncertainty  # NaN excludes nothing
    excluded[np.arange(len(probs)), probs.argmax(axis=1)] = False
    return excluded


def complementary_labels(labels: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
    """Draw for each image one of the classes other than its label, (N,) int: what it is not.

    A wrong label gives a right complementary one with probability (C - 2) / (C - 1), so learning from these
    is robust where labels are noisy.

    Raises:
        ValueError: for fewer than 2 classes, or a label outside of them.

    Source: Kim et al. 2019, "NLNL: Negative Learning for Noisy Labels", arXiv:1908.07387, algorithm 1.
    """
    labels = np.asarray(labels)
    if num_classes < 2 or (len(labels) and not (labels.min() >= 0 and labels.max() < num_classes)):
        raise ValueError(f"labels must lie in 0 ... {num_classes - 1} of at least 2 classes")
    steps = np.random.default_rng(seed).integers(1, num_classes, size=len(labels))
    return (labels + steps) % num_classes


def remaining_labels(probs: np.ndarray, excluded: np.ndarray) -> np.ndarray:
    """Soft labels over the classes that are not excluded, (N, C): how a loss on soft labels learns negatives.

    The excluded classes have probability 0, and the others keep their proportions.

    Args:
        probs, excluded: (N, C), the latter of `negative_labels`.
    """
    check_probs(probs)
    kept = np.where(excluded, 0.0, probs)
    total = kept.sum(axis=1, keepdims=True)
    if (total <= 0).any():
        raise ValueError(f"row {int((total <= 0).argmax())} has no class left: all are excluded")
    return kept / total
