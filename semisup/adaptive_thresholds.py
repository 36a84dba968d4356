"""Thresholds that follow the teacher: lower for classes that it has not learned well yet.

Both papers move them from batch to batch while one model trains. A round has one teacher and the whole pool
at once, so here they are computed once a round, without memory of the rounds before.
"""

import numpy as np

from semisup.select import Selection, check_probs, select_reaching


def flexmatch_thresholds(probs: np.ndarray, threshold: float = 0.95) -> np.ndarray:
    """Scale a fixed threshold by how far each class is learned, (C,) in [0, threshold].

    A class counts as learned by the images that are predicted as it with at least the threshold: beta(c) =
    count(c) / max(largest count, images that reach it for no class), and its own threshold is beta / (2 -
    beta) times the fixed one. A class without any such image has threshold 0: all that is predicted as it
    passes, however unsure; a cap per class bounds the damage.

    What differs from the original: the counts are those of the round's teacher over the whole calibrated
    pool, where FlexMatch keeps the latest prediction of each image as training goes on; and an image that
    meets its threshold exactly passes.

    Args:
        probs: (N, C).
        threshold: of the best learned class, in (0, 1]; 0.95 in the paper.

    Source: Zhang et al. 2021, "FlexMatch", arXiv:2110.08263, Section 3, with warm-up and the convex mapping.
    """
    check_probs(probs)
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    is_sure = probs.max(axis=1) >= threshold
    count = np.bincount(probs[is_sure].argmax(axis=1), minlength=probs.shape[1])  # (C,)
    highest = max(int(count.max()), int((~is_sure).sum()))
    beta = count / max(highest, 1)
    return threshold * beta / (2 - beta)


def select_flexmatch(
    probs: np.ndarray, threshold: float = 0.95, max_per_class: int | None = None
) -> Selection:
    """Pseudo-label the images that reach the threshold of their class as `flexmatch_thresholds` gives it."""
    return select_reaching(probs, flexmatch_thresholds(probs, threshold), max_per_class)


def freematch_thresholds(probs: np.ndarray) -> np.ndarray:
    """Find global and local thresholds from the pool's probabilities alone, (C,) in [0, 1].

    Globally the mean confidence of the pool; each class takes the share of it that its mean probability has
    of the largest class's: tau(c) = mean_p(c) / max mean_p * mean confidence.

    What differs from the original: FreeMatch averages exponentially over the batches of one training (from 1
    / C on); here the average is over the whole calibrated pool, once a round. Its fairness term belongs to
    the loss and is not part of the rule. An image that meets its threshold exactly passes.

    Args:
        probs: (N, C).

    Source: Wang et al. 2023, "FreeMatch", arXiv:2205.07246, self-adaptive thresholding.
    """
    check_probs(probs)
    if not len(probs):
        return np.full(probs.shape[1], np.inf)
    expected = probs.mean(axis=0)  # (C,)
    return np.minimum(expected / expected.max() * probs.max(axis=1).mean(), 1.0)


def select_freematch(probs: np.ndarray, max_per_class: int | None = None) -> Selection:
    """Pseudo-label the images that reach the threshold of their class as `freematch_thresholds` gives it."""
    return select_reaching(probs, freematch_thresholds(probs), max_per_class)
