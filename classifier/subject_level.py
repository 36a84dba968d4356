"""One decision a subject, from the probabilities of all of its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax

from classifier.measures import TINY

COMBINE = ("mean", "log")
MAX_MIXED = 0.1  # share of subjects with several classes up to which they are merely left out


@dataclass(frozen=True)
class SubjectScores:
    """Subjects with one label each, or the sentence that says why there are none."""

    names: np.ndarray  # (S,) str
    labels: np.ndarray  # (S,) int
    probs: np.ndarray  # (S, C)
    num_images: np.ndarray  # (S,) int
    left_out: tuple[str, ...] = ()  # subjects with images of several classes
    reason: str = ""  # why a decision by subject makes no sense here

    @property
    def is_usable(self) -> bool:
        return not self.reason


def combine_by_subject(
    probs: np.ndarray, labels: np.ndarray, subjects: np.ndarray, combine: str = "mean"
) -> SubjectScores:
    """Combine the images of each subject.

    Args:
        probs: (N, C) calibrated probabilities.
        labels: (N,) int; a decision by subject needs one label a subject. Where more than a tenth of the
            subjects show several classes (slices whose class is the plane, for instance), there is none;
            fewer such subjects are left out, and named.
        subjects: (N,) names; an image without one is its own subject.
        combine: "mean" = the mean of the probabilities: a single image that is sure and wrong cannot outvote
            the others, and nothing has to be held away from 0. "log" = the mean of their logarithms
            (the geometric mean): sharper, and an image that excludes a class nearly excludes it for all.
    """
    if combine not in COMBINE:
        raise ValueError(f"combine must be one of {', '.join(COMBINE)}, got {combine!r}")
    probs, labels = np.asarray(probs, dtype=np.float64), np.asarray(labels)
    named = np.array([str(name) or f"image {row}" for row, name in enumerate(subjects)], dtype=object)
    names, owner = np.unique(named.astype(str), return_inverse=True)
    num_images = np.bincount(owner)
    lowest, highest = np.full(len(names), probs.shape[1]), np.full(len(names), -1)
    np.minimum.at(lowest, owner, labels)
    np.maximum.at(highest, owner, labels)
    is_mixed = lowest != highest
    scores = np.log(np.maximum(probs, TINY)) if combine == "log" else probs
    means = np.stack([np.bincount(owner, column) / num_images for column in scores.T], axis=1)  # (S, C)
    combined = softmax(means, axis=1) if combine == "log" else means / means.sum(axis=1, keepdims=True)
    reason = ""
    if num_images.max(initial=0) <= 1:
        reason = "every subject has one image: the decisions by image are those by subject"
    elif is_mixed.mean() > MAX_MIXED:
        reason = (
            f"{int(is_mixed.sum())} of {len(names)} subjects have images of several classes, so a subject "
            "has no one class that could be decided"
        )
    keep = ~is_mixed
    return SubjectScores(
        names[keep], lowest[keep], combined[keep], num_images[keep], tuple(names[is_mixed].tolist()), reason
    )


def subject_table(
    probs: np.ndarray, labels: np.ndarray, subjects: np.ndarray, classes: Sequence[str], scores: SubjectScores
) -> pd.DataFrame:
    """One row a subject: images, how many are right, and where it has one class the combined decision."""
    named = np.array([str(name) or f"image {row}" for row, name in enumerate(subjects)], dtype=object)
    is_right = probs.argmax(axis=1) == labels
    table = (
        pd.DataFrame({"subject": named.astype(str), "right": is_right})
        .groupby("subject", sort=True)["right"]
        .agg(num_images="size", num_right="sum")
        .reset_index()
    )
    if len(scores.names) == 0:
        return table
    decided = scores.probs.argmax(axis=1)
    names = np.array(list(classes), dtype=object)
    columns = pd.DataFrame({
        "subject": scores.names,
        "label": names[scores.labels],
        "predicted": names[decided],
        "confidence": scores.probs.max(axis=1),
        "is_right": decided == scores.labels,
        **{f"p_{name}": scores.probs[:, number] for number, name in enumerate(classes)},
    })  # fmt: skip
    return table.merge(columns, on="subject", how="left")
