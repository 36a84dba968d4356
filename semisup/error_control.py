"""The smallest threshold above which pseudo-labels are wrong no more often than asked, with a guarantee.

The error above a threshold is judged on held-out real images with expert labels. Images of one subject are
wrong together, so they are not counted as if they were independent: each subject has one vote, the share of
its images above the threshold that are labeled wrongly. The subjects are independent draws of a number in [0,
1]; what is bounded is its mean, the chance that an image of a random subject is labeled wrongly. (With an
image a vote, one subject with thirty images could carry the day.) The Clopper-Pearson bound is taken at the
sum of the votes. That is exact where each subject is all right or all wrong, and too wide where a subject is
partly wrong, because such votes spread less than those.

Looking at many thresholds and keeping the smallest that passes would find one by luck. So a list of
thresholds that was fixed beforehand is walked from the highest down, each tested at the full level, and the
walk ends at the first failure: the promise can be broken only at the first threshold that is truly too low,
and there with probability at most `delta` (fixed-sequence testing). The walk begins where a quarter of the
held-out subjects lie above; how many there are says nothing about their errors. While there are so few that
even no error at all would not do, no threshold is chosen, and any error ends the walk: so a larger epsilon
never selects less.

What is promised holds for subjects like the held-out ones. It does not carry over to synthetic images by
itself: a generator may draw what no subject looks like (see gates.py). And the same held-out images choose
the checkpoint and the temperature, which makes the bound slightly too good; what the temperature does is too
little to be seen in 300 simulated studies.

Sources: Clopper and Pearson 1934, Biometrika 26; Angelopoulos et al. 2021, "Learn then Test",
arXiv:2110.01052 (fixed-sequence testing of a list of thresholds).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from semisup.select import Selection, check_probs, select_reaching

# Fixed before any data; the last lets all pass.
THRESHOLDS = (0.999, 0.995, *(percent / 100 for percent in range(99, 9, -1)), 0.0)
START_SHARE = 0.25  # of the held-out subjects, to lie above the first threshold of the walk


@dataclass(frozen=True)
class ErrorBound:
    """What the held-out images above a threshold say about the labels there."""

    threshold: float
    num_subjects: int
    num_images: int
    num_wrong: int  # images
    votes: float  # sum over the subjects of the share of their images that is wrong
    bound: float  # the error of a random subject is below it, but for a chance of delta


@dataclass(frozen=True)
class ControlledThreshold:
    """The threshold that a walk found, and where the walk stopped."""

    threshold: float  # inf where none qualified
    passed: ErrorBound | None  # at the threshold
    failed: (
        ErrorBound | None
    )  # the first that did not pass; none where all passed or all had too few subjects
    note: str  # one sentence


def upper_bound(num_wrong: float, num: float, delta: float) -> float:
    """One-sided Clopper-Pearson bound on a share, of counts that need not be whole.

    Args:
        num_wrong: 0 ... num.
        num: independent draws.
        delta: chance that the true share is larger, in (0, 1).
    """
    if num <= 0 or num_wrong >= num:
        return 1.0
    return float(betaincinv(num_wrong + 1, num - num_wrong, 1 - delta))


def fewest_subjects(epsilon: float, delta: float) -> int:
    """Subjects that it takes for a bound of epsilon when none has an error: log(delta) / log(1 - epsilon)."""
    return math.ceil(math.log(delta) / math.log1p(-epsilon) - 1e-9)


def error_bound(
    is_wrong: np.ndarray, subjects: np.ndarray, delta: float, threshold: float = 0.0
) -> ErrorBound:
    """Bound the error of labels from a sample of them in which images of one subject are not independent.

    Args:
        is_wrong: (M,) bool, of the images above a threshold.
        subjects: (M,) whom each image shows.
        threshold: to note down.
    """
    _, owner, sizes = np.unique(subjects, return_inverse=True, return_counts=True)
    wrong = np.bincount(owner, weights=is_wrong, minlength=len(sizes))  # (S,)
    votes = float((wrong / sizes).sum())
    bound = upper_bound(votes, len(sizes), delta)
    return ErrorBound(threshold, len(sizes), len(is_wrong), int(is_wrong.sum()), votes, bound)


def control_error(
    confidence: np.ndarray,
    is_wrong: np.ndarray,
    subjects: np.ndarray,
    epsilon: float,
    delta: float = 0.05,
    name: str = "",
) -> ControlledThreshold:
    """Find the smallest threshold above which at most a share of epsilon of the labels is wrong.

    Args:
        confidence: (V,) probability of the predicted class of each held-out real image.
        is_wrong: (V,) bool, whether that class is not the expert's.
        subjects: (V,) whom each image shows.
        epsilon: share of wrong labels to accept, in (0, 1).
        delta: chance that it is exceeded all the same, in (0, 1), over draws of held-out subjects.
        name: of the class, to begin the note with.

    Returns:
        Threshold inf where none can be vouched for: nothing is selected then.

    Raises:
        ValueError: if an argument is not as described.
    """
    _check(confidence, is_wrong, subjects, epsilon, delta)
    owner = np.unique(subjects, return_inverse=True)[1]  # (V,) numbers in place of names
    num_held_out, fewest = len(np.unique(owner)), fewest_subjects(epsilon, delta)
    passed: ErrorBound | None = None
    failed: ErrorBound | None = None
    num_seen = 0
    for threshold in THRESHOLDS:
        above = confidence >= threshold
        if above.sum() == num_seen:
            continue  # the same images as above the one before: none of them vouches for a lower one
        num_seen = int(above.sum())
        found = error_bound(is_wrong[above], owner[above], delta, threshold)
        if found.num_subjects < max(1, START_SHARE * num_held_out):
            continue
        if found.num_subjects >= fewest and found.bound <= epsilon:
            passed = found
        elif found.num_subjects >= fewest or found.num_wrong:
            failed = found
            break
    note = (f"{name}: " if name else "") + _in_words(passed, failed, epsilon, delta, num_held_out)
    return ControlledThreshold(passed.threshold if passed else np.inf, passed, failed, note)


def _check(
    confidence: np.ndarray, is_wrong: np.ndarray, subjects: np.ndarray, epsilon: float, delta: float
) -> None:
    for name, value in (("epsilon", epsilon), ("delta", delta)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must be in (0, 1), got {value}")
    if not len(confidence) == len(is_wrong) == len(subjects):
        raise ValueError(
            f"expected one entry a held-out image, got {len(confidence)} confidences, {len(is_wrong)} "
            f"judgements and {len(subjects)} subjects"
        )
    if not np.isfinite(confidence).all():
        raise ValueError("confidence must be finite")
    if (np.asarray(subjects) == "").any():
        raise ValueError("every held-out image needs a subject: without them the error cannot be bounded")


def _in_words(
    passed: ErrorBound | None, failed: ErrorBound | None, epsilon: float, delta: float, num_held_out: int
) -> str:
    if passed:
        return (
            f"threshold {passed.threshold:g}: of {passed.num_images} held-out images of "
            f"{passed.num_subjects} subjects above it {passed.num_wrong} were wrong, so the error is at most "
            f"{passed.bound:.3f}, but for a chance of {delta:g}"
        )
    fewest = fewest_subjects(epsilon, delta)
    if num_held_out < fewest:
        return (
            f"no threshold can be vouched for: an error of {epsilon:g} takes {fewest} held-out subjects even "
            f"if none is wrong, and there are {num_held_out}; nothing is selected"
        )
    assert failed is not None  # enough subjects, none wrong: that passes
    return (
        f"no threshold can be vouched for: above {failed.threshold:g}, {failed.num_wrong} of "
        f"{failed.num_images} held-out images of {failed.num_subjects} subjects were wrong, so the error may "
        f"be {failed.bound:.3f}, more than {epsilon:g}; nothing is selected"
    )


def select_error_controlled(
    probs: np.ndarray,
    val_probs: np.ndarray,
    val_labels: np.ndarray,
    val_subjects: np.ndarray,
    epsilon: float = 0.1,
    delta: float = 0.05,
    *,
    by_class: bool = False,
    max_per_class: int | None = None,
    classes: Sequence[str] = (),
) -> Selection:
    """Pseudo-label the images above the smallest threshold whose error on held-out real subjects is bounded.

    Args:
        probs: (N, C) of the pool.
        val_probs: (V, C) of the held-out real images, by the same teacher and calibration.
        val_labels, val_subjects: (V,) their expert labels and whom they show.
        epsilon, delta: as in `control_error`.
        by_class: a threshold for each predicted class, each tested at delta / C, so that all promises hold
            together but for a chance of delta. A class for which none qualifies selects nothing.
        max_per_class: images to accept per predicted class.
        classes: names for the note; numbers where there are none.

    Raises:
        ValueError: if an argument is not as described.
    """
    check_probs(probs)
    check_probs(val_probs, "val_probs")
    num_classes = probs.shape[1]
    if val_probs.shape[1] != num_classes:
        raise ValueError(f"val_probs must have the {num_classes} classes of probs, got {val_probs.shape[1]}")
    predicted, confidence = val_probs.argmax(axis=1), val_probs.max(axis=1)  # (V,), (V,)
    is_wrong, val_subjects = predicted != val_labels, np.asarray(val_subjects)
    if by_class:
        found = [
            control_error(
                confidence[predicted == label],
                is_wrong[predicted == label],
                val_subjects[predicted == label],
                epsilon,
                delta / num_classes,
                name,
            )
            for label, name in enumerate(classes or [f"class {label}" for label in range(num_classes)])
        ]
    else:
        found = [control_error(confidence, is_wrong, val_subjects, epsilon, delta)] * num_classes
    thresholds = np.array([one.threshold for one in found])
    chosen = select_reaching(probs, thresholds, max_per_class)
    return Selection(
        chosen.indices,
        chosen.labels,
        chosen.confidence,
        thresholds,
        note="; ".join(dict.fromkeys(one.note for one in found)),
    )
