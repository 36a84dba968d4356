"""Subjects dealt into folds inside one part of a split, whoever shares a picture together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from classifier.errors import ClassifierError
from extract.split_draw import SubjectGroup, deal_folds


def deal_subjects(
    subjects: np.ndarray,
    num_folds: int,
    seed: int,
    *,
    labels: np.ndarray | None = None,
    links: Sequence[Sequence[str]] = (),
) -> np.ndarray:
    """Number the fold that each image belongs to; a subject's images are in one fold.

    Args:
        subjects: (N,) str, none empty.
        labels: (N,) int classes, to be spread evenly over the folds; None = unlabeled.
        links: subjects to keep together, which share pictures.

    Returns:
        (N,) int in 0 ... num_folds - 1, the same for the same seed whatever the order of the images.

    Raises:
        ClassifierError: if there are fewer groups of subjects than folds.
    """
    classes = np.zeros(len(subjects), dtype=np.int64) if labels is None else labels
    names, owner = np.unique(subjects, return_inverse=True)
    table = np.zeros((len(names), int(classes.max()) + 1), dtype=np.int64)  # images of a subject by class
    np.add.at(table, (owner, classes), 1)
    counts = dict(zip(names.tolist(), table, strict=True))
    groups = _group(names.tolist(), links)
    if len(groups) < num_folds:
        raise ClassifierError(
            f"expected at least {num_folds} subjects to divide into {num_folds} parts, got {len(groups)} "
            "that share no picture; ask for fewer parts or a larger share, or give more subjects"
        )
    dealt = deal_folds(
        [
            SubjectGroup(
                tuple(group), tuple(int(n) for n in np.sum([counts[name] for name in group], axis=0))
            )
            for group in groups
        ],
        num_folds,
        seed,
    )
    fold_of = {
        name: fold for fold, members in enumerate(dealt) for index in members for name in groups[index]
    }
    return np.array([fold_of[str(subject)] for subject in subjects], dtype=np.int64)


def _group(names: Sequence[str], links: Sequence[Sequence[str]]) -> list[list[str]]:
    """The names, those joined by links together (over any number of links), in sorted order."""
    group_of: dict[str, list[str]] = {name: [name] for name in names}
    for link in links:
        members = [name for name in link if name in group_of]
        joined = sorted({name for member in members for name in group_of[member]})
        for name in joined:
            group_of[name] = joined
    distinct = {group[0]: group for group in group_of.values()}
    return [distinct[first] for first in sorted(distinct)]
