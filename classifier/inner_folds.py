"""The training part of a fold, divided by subject once more: tuning never looks beyond it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from classifier.data import LabeledImages
from classifier.errors import ClassifierError
from classifier.subject_folds import deal_subjects
from extract.seeds import derive_seed


def inner_folds(
    train: LabeledImages,
    classes: Sequence[str],
    *,
    num_folds: int,
    share: float,
    seed: int,
    links: Sequence[Sequence[str]] = (),
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Deal the subjects of a training part into inner training and inner validation.

    Args:
        num_folds: 1 holds out a `share` of the subjects once; K of 2 or more validates each subject once.
        links: subjects to keep together, which share pictures.

    Returns:
        For each inner fold the indices of its training and validation images; no subject is in both, and
        every class is in either.

    Raises:
        ClassifierError: if there are too few subjects for that.
    """
    num_parts = num_folds if num_folds >= 2 else max(2, round(1 / share))
    fold_of = deal_subjects(
        train.subjects, num_parts, derive_seed(seed, "inner folds"), labels=train.labels, links=links
    )
    folds = []
    for fold in range(max(1, num_folds)):
        is_val = fold_of == fold
        for part, name in ((~is_val, "training"), (is_val, "validation")):
            missing = [classes[c] for c in range(len(classes)) if not (train.labels[part] == c).any()]
            if missing:
                raise ClassifierError(
                    f"inner {name} part {fold} has no image of class {', '.join(missing)}: the labeled part "
                    f"has too few subjects for {num_parts} inner parts; use a larger --fraction, fewer "
                    "--inner-folds or a larger --inner-share"
                )
        folds.append((np.flatnonzero(~is_val), np.flatnonzero(is_val)))
    return folds
