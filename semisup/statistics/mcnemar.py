"""McNemar's exact test: do two models err on different cases, where every case is a subject of its own?"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from extract.language import Message


@dataclass(frozen=True)
class McNemar:
    """Cases that only one of two models has right, and how surprising their imbalance is."""

    only_first: int
    only_second: int
    p_value: float  # exact, two-sided; 1 where no case tells the models apart


def mcnemar(subjects: np.ndarray, first_right: np.ndarray, second_right: np.ndarray) -> McNemar:
    """Compare two models on the same cases by the cases that only one of them has right.

    The cases must be independent, so there may be one a subject: a subject's images are alike, and counting
    each would find differences that are not there. `subject_decisions` makes one case of a subject's images.

    Args:
        subjects: (N,) whose case it is.
        first_right, second_right: (N,) bool, whether each model has the case right.

    Raises:
        ValueError: if a subject has several cases, or the arrays differ in length.

    Source: McNemar 1947, Psychometrika 12; the exact binomial form as in Agresti, "Categorical Data
    Analysis", Section 11.1.
    """
    refuse_several_cases(subjects, "McNemar's test")
    first, second = np.asarray(first_right, bool), np.asarray(second_right, bool)
    if not len(subjects) == len(first) == len(second):
        raise ValueError(
            f"expected as many subjects as decisions of both models, got {len(subjects)}, {len(first)} and "
            f"{len(second)}"
        )
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    num_apart = only_first + only_second
    p_value = min(1.0, 2 * float(binom.cdf(min(only_first, only_second), num_apart, 0.5)))
    return McNemar(only_first, only_second, p_value)


def refuse_several_cases(subjects: np.ndarray, what: str) -> None:
    """Raise a ValueError where a subject has more than one case.

    Args:
        what: the method that needs independent cases, for the message.
    """
    names, counts = np.unique(np.asarray(subjects).astype(str), return_counts=True)
    several = counts > 1
    if several.any():
        raise ValueError(
            f"{what} needs one case a subject, got up to {counts.max()} images from {several.sum()} of "
            f"{len(names)} subjects (for instance {names[several][0]}): images of one subject are no "
            "independent cases; use the interval that draws subjects, or one decision a subject"
        )


@dataclass(frozen=True)
class SubjectDecisions:
    """One case a subject: the mean probabilities of its images, in the order of `subjects`."""

    subjects: np.ndarray  # (n,) str, sorted
    labels: np.ndarray  # (n,) int
    probs: np.ndarray  # (n, C)

    @property
    def right(self) -> np.ndarray:
        """(n,) bool: whether the most probable class is the subject's."""
        return self.probs.argmax(axis=1) == self.labels


def subject_decisions(subjects: np.ndarray, labels: np.ndarray, probs: np.ndarray) -> SubjectDecisions:
    """Decide once a subject, by the mean of its images' probabilities.

    Args:
        subjects, labels: (N,) one entry an image; probs: (N, C).

    Raises:
        ValueError: if the images of a subject belong to several classes.
    """
    names, owner = np.unique(np.asarray(subjects).astype(str), return_inverse=True)
    labels = np.asarray(labels, int)
    lowest, highest = np.full(len(names), np.iinfo(int).max), np.full(len(names), -1)
    np.minimum.at(lowest, owner, labels)
    np.maximum.at(highest, owner, labels)
    if (lowest != highest).any():
        mixed = names[lowest != highest]
        raise ValueError(
            Message(
                "a subject can be decided as a whole only where all its images are of one class, got several "
                "classes for {mixed} of {subjects} subjects (for instance {example})",
                mixed=len(mixed),
                subjects=len(names),
                example=str(mixed[0]),
            )
        )
    sums = np.zeros((len(names), probs.shape[1]))
    np.add.at(sums, owner, probs)
    return SubjectDecisions(names, lowest, sums / np.bincount(owner)[:, None])
