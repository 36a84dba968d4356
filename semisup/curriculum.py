"""A share of the pool that grows with the rounds: the surest images first, all of them at last.

Source: Cascante-Bonilla et al. 2021, "Curriculum Labeling: Revisiting Pseudo-Labeling for Semi-Supervised
Learning", AAAI, arXiv:2001.06001, Section 3.2 (steps of 20 %).
"""

import math

import numpy as np

from semisup.select import Selection, check_probs, select_reaching


def select_curriculum(
    probs: np.ndarray, round_index: int, step_percent: float = 20.0, max_per_class: int | None = None
) -> Selection:
    """Pseudo-label the most confident `round_index * step_percent` percent of the pool.

    The threshold is a percentile of the pool's confidence, so it needs no calibration and moves with the
    teacher. Images of the very confidence of the last one taken come in pool order, and only until the share
    is full; the paper takes all of them. Its student starts anew in each round, as ours does.

    Args:
        probs: (N, C).
        round_index: 1 = the first students'.
        step_percent: share of the pool that each round adds, in (0, 100].
        max_per_class: images to accept per predicted class; those over it are not replaced by others.

    Returns:
        A selection with one threshold for all classes, the confidence of the last image within the share.

    Raises:
        ValueError: if an argument is not as described.
    """
    check_probs(probs)
    if round_index < 1:
        raise ValueError(f"round_index must be at least 1, got {round_index}")
    if not 0 < step_percent <= 100:
        raise ValueError(f"step_percent must be in (0, 100], got {step_percent}")
    num_images, num_classes = probs.shape
    share = min(1.0, round_index * step_percent / 100)
    num_wanted = math.ceil(num_images * share - 1e-9)
    if not num_wanted:
        return select_reaching(probs, np.full(num_classes, np.inf), max_per_class)
    surest = np.argsort(-probs.max(axis=1), kind="stable")[:num_wanted]  # ties keep pool order
    threshold = probs[surest[-1]].max()
    chosen = select_reaching(probs[np.sort(surest)], np.full(num_classes, threshold), max_per_class)
    return Selection(np.sort(surest)[chosen.indices], chosen.labels, chosen.confidence, chosen.thresholds)
