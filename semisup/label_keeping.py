"""Labels beyond what a rule selects in a round: those kept from earlier rounds, and what images are not."""

from dataclasses import replace

import numpy as np

from semisup.label_forms import negative_labels
from semisup.select import BELOW_THRESHOLD, SELECTED, Negatives, Selection, decisions
from semisup.uncertainty import Doubt


def keep_labels(kept: Selection, new: Selection) -> Selection:
    """What was selected in earlier rounds, with the labels of then, and what is new.

    Args:
        kept, new: of the same pool, with no image in both.

    Raises:
        ValueError: if an image is in both.
    """
    if len(np.intersect1d(kept.indices, new.indices)):
        raise ValueError("an image that has kept its label was selected again")

    def joined(name: str) -> np.ndarray | None:
        values = getattr(kept, name), getattr(new, name)
        return None if values[0] is None or values[1] is None else np.concatenate(values)

    return replace(
        new,
        indices=np.concatenate([kept.indices, new.indices]),
        labels=np.concatenate([kept.labels, new.labels]),
        confidence=np.concatenate([kept.confidence, new.confidence]),
        soft_labels=joined("soft_labels"),
        weights=joined("weights"),
    )


def with_negatives(
    selection: Selection,
    probs: np.ndarray,
    judged_probs: np.ndarray,
    threshold: float,
    passes: np.ndarray,
    doubt: Doubt | None = None,
) -> Selection:
    """Add what images without a pseudo-label are not.

    Only images whose probability did not reach are asked: one that was left out for a cap, or not drawn,
    would else come back in by this door.

    Args:
        probs: (N, C) calibrated.
        judged_probs: (N, C) what the rule looked at.
        threshold: classes at or below this probability are excluded.
        passes: (N,) bool, whom no gate held back.
        doubt: of the teacher; classes whose probability it is unsure of are not excluded.

    Source: Rizve et al. 2021 (UPS), arXiv:2101.06329.
    """
    excluded = negative_labels(probs, threshold)  # (N, C)
    words = decisions(judged_probs, selection.thresholds, selection)
    may_be = words == BELOW_THRESHOLD
    if doubt is not None:
        excluded &= doubt.is_class_certain
        may_be |= ~doubt.is_certain & (words != SELECTED)  # what it is not may be sure all the same
    rows = np.flatnonzero(may_be & passes & excluded.any(axis=1))
    return replace(selection, negatives=Negatives(rows, excluded[rows]))
