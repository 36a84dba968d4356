"""What `PseudoLabelClassifier.fit` works on: labeled, held-out and unlabeled rows, kept apart by person."""

import hashlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from classifier.hold_out import draw_hold_out

UNLABELED = -1
UNKNOWN = ""  # the person of an unlabeled example that nobody named


class GroupsWarning(UserWarning):
    """Nobody said which rows are of one person: the validation part may hold people of the training part."""


@dataclass(frozen=True)
class FitData:
    """All given examples with their part; `labels` are numbers of `classes`, -1 where there is no label."""

    examples: np.ndarray  # (N, ...) those of X, then those of X_unlabeled
    labels: np.ndarray  # (N,) int
    classes: np.ndarray  # (C,) as they were given
    train: np.ndarray  # (L,) int, rows to train on
    pool: np.ndarray  # (P,) int, rows to pseudo-label, in an order that follows from what they hold alone
    held_out: np.ndarray  # (N,) bool, labeled rows held out, and unlabeled ones of the same people
    val_examples: np.ndarray  # (V, ...), empty without a validation part
    val_labels: np.ndarray  # (V,) int
    val_groups: np.ndarray  # (V,) str


def arrange(
    examples: np.ndarray,
    targets: np.ndarray,
    people: np.ndarray | None,
    validation: float | tuple[np.ndarray, np.ndarray, np.ndarray | None] | None,
    seed: int,
) -> FitData:
    """Divide the examples.

    Args:
        targets: (N,) class labels of any kind, the number -1 where there is none.
        people: (N,) str, whom each example shows, "" where unknown; None = nobody said it.
        validation: share of the labeled people to hold out, or examples, their labels and whom they show.

    Raises:
        ValueError: if there are fewer than two classes, or somebody is in validation and in training.
        ClassifierError: if nothing can be held out.
    """
    is_labeled = np.asarray(targets != UNLABELED)
    if not is_labeled.any():
        raise ValueError(
            "expected examples with a label, got none: every entry of y is -1, which means unlabeled"
        )
    check_classification_targets(targets[is_labeled])
    classes, codes = np.unique(targets[is_labeled], return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"expected examples of two or more classes, got 1 class ({classes[0]}) alone")
    labels = np.full(len(targets), UNLABELED)
    labels[is_labeled] = codes
    rows = np.flatnonzero(is_labeled)
    held_out = np.zeros(len(targets), dtype=bool)
    val_examples, val_labels, val_groups = examples[:0], labels[:0], np.empty(0, dtype=str)
    if isinstance(validation, tuple):
        val_examples, val_labels, val_groups = _given_validation(validation, classes, people)
    elif validation is not None:
        if people is None:
            warnings.warn(
                "without groups every row is taken for a person of its own; if one person has several, the "
                "validation part is not independent of the training: give groups (or groups=range(len(y)) "
                "where all rows are of different people)",
                GroupsWarning,
                stacklevel=3,
            )
        owners = np.arange(len(rows)) if people is None else people[rows]
        held_out[rows[draw_hold_out(codes, owners, validation, seed)]] = True
        if (
            people is not None
        ):  # a student must not learn from those who judge it, not even without their label
            held_out |= ~is_labeled & np.isin(people, people[held_out]) & (people != UNKNOWN)
        judges = held_out & is_labeled
        val_examples, val_labels = examples[judges], labels[judges]
        val_groups = np.flatnonzero(judges).astype(str) if people is None else people[judges]
    pool = np.flatnonzero(~is_labeled & ~held_out)
    return FitData(
        examples,
        labels,
        classes,
        np.flatnonzero(is_labeled & ~held_out),
        pool[order_by_content(examples[pool])],
        held_out,
        val_examples,
        val_labels,
        val_groups,
    )


def order_by_content(examples: np.ndarray) -> np.ndarray:
    """(P,) an order of (P, ...) numbers that is the same however they are permuted.

    With it, ties in confidence and blind draws do not depend on the order that a pool came in.
    """
    digests = [hashlib.sha256(np.ascontiguousarray(example).tobytes()).digest() for example in examples]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), dtype=np.int64)


def name_people(groups: Any, num_examples: int, name: str = "groups") -> np.ndarray:
    """(N,) str; a number and its text are one person.

    Raises:
        ValueError: if there is not one entry an example.
    """
    people = np.asarray(groups)
    if people.shape != (num_examples,):
        raise ValueError(f"{name}: expected one entry a row ({num_examples}), got shape {people.shape}")
    return people.astype(str)


def _given_validation(
    validation: tuple[np.ndarray, np.ndarray, np.ndarray | None],
    classes: np.ndarray,
    people: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    examples, targets, groups = validation
    unknown = sorted({str(target) for target in targets[~np.isin(targets, classes)]})
    if unknown:
        raise ValueError(
            f"validation: expected the classes of y ({', '.join(map(str, classes))}), got "
            f"{', '.join(unknown)} as well; each validation example needs one of those labels"
        )
    if groups is None:
        return examples, np.searchsorted(classes, targets), np.arange(len(targets)).astype(str)
    shared = sorted(set(groups) & set([] if people is None else people) - {UNKNOWN})
    if shared:
        raise ValueError(
            f"validation: {len(shared)} of its groups are among the groups to train on as well "
            f"({', '.join(shared[:5])}); take their rows out of one of the two"
        )
    return examples, np.searchsorted(classes, targets), groups
