"""Which training images a person should look at, in which order, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from classifier.decision import DecisionRule
from classifier.label_doubts import cross_fitted, heard_alike, label_losses
from classifier.review_reasons import CONFLICT, DOUBT, DUPLICATE, LOSS, REASONS, THRESHOLD
from extract.archive import Archive
from extract.fold import Split
from extract.review_duplicates import TrainingDuplicates

if TYPE_CHECKING:
    from classifier.training_opinions import TrainingOpinions

SHARE, MIN_NUM, MAX_NUM = 0.05, 20, 200  # of the training images, for each reason of the model's
CLOSE = 0.1  # probability: farther from a threshold nothing is near it


@dataclass(frozen=True)
class ModelFindings:
    """A model's opinions, and which images they make worth a look; best first."""

    opinions: TrainingOpinions
    cross_probs: np.ndarray  # (M, C), by rules that were fitted without the image's subject
    margins: np.ndarray  # (M,) probability that would have to change for another decision
    chosen: dict[str, np.ndarray]  # by reason: places in the opinions


@dataclass(frozen=True)
class Candidate:
    """An image to look at."""

    row: int  # of the archive
    reasons: tuple[str, ...]  # of REASONS, in their order
    place: int | None = None  # in the opinions; None = no model was asked
    twins: tuple[int, ...] = ()  # training images that show the same


def model_findings(opinions: TrainingOpinions, links: Sequence[Sequence[str]] = ()) -> ModelFindings:
    """Rank the training images by what speaks against their labels.

    Args:
        links: groups of subjects that share pictures, as the split has them.

    Raises:
        ClassifierError: if there are too few subjects.
    """
    labels, num = opinions.labels, review_num(len(opinions.labels))
    num_classes = opinions.probs.shape[1]
    by_model, by_eye = (
        cross_fitted(seen, labels, opinions.subjects, num_classes, links=links)
        for seen in (opinions.features, opinions.thumbs)
    )
    cross = heard_alike(by_model, by_eye)
    is_doubted = (by_model.argmax(axis=1) != labels) | (by_eye.argmax(axis=1) != labels)
    margins = decision_margins(opinions.probs, opinions.rule)
    chosen = {
        DOUBT: _largest(label_losses(cross, labels), is_doubted, num),
        LOSS: _largest(
            label_losses(opinions.probs, labels), opinions.probs.argmax(axis=1) != labels, num
        ),
        THRESHOLD: _largest(-margins, margins < CLOSE, num),
    }  # fmt: skip
    return ModelFindings(opinions, cross, margins, chosen)


def review_num(num_images: int) -> int:
    """How many images a reason may bring."""
    return min(max(MIN_NUM, round(SHARE * num_images)), MAX_NUM)


def decision_margins(probs: np.ndarray, rule: DecisionRule | None) -> np.ndarray:
    """(N,) how much probability would have to move for the decision on (N, C) probabilities to be another.

    From the best class to the second one, or, where the rule leaves images to a person, past its limit.
    """
    ranked = np.sort(probs, axis=1)
    best = ranked[:, -1]
    between = (best - ranked[:, -2]) / 2 if probs.shape[1] > 1 else np.ones(len(probs))
    if rule is None or rule.reject_confidence is None:
        return between
    from_limit = np.abs(best - rule.reject_confidence)
    return np.where(rule.accepts(probs), np.minimum(between, from_limit), from_limit)


def review_queue(
    archive: Archive, findings: ModelFindings | None, duplicates: TrainingDuplicates | None
) -> tuple[Candidate, ...]:
    """All images to look at, each once, the most telling reason first."""
    reasons: dict[int, list[str]] = {}
    by_picture = {} if duplicates is None else _by_picture(archive, duplicates)
    groups = () if duplicates is None else duplicates.groups
    group_of = {row: group for group in groups for row in group}
    places: dict[int, int] = {}
    if findings is not None:
        places = {int(row): place for place, row in enumerate(findings.opinions.rows)}
    for reason in REASONS:
        rows: Sequence[int] = by_picture.get(reason, ())
        if findings is not None and reason in findings.chosen:
            rows = findings.opinions.rows[findings.chosen[reason]].tolist()
        for row in rows:
            reasons.setdefault(row, []).append(reason)
    return tuple(
        Candidate(
            row, tuple(why), places.get(row), tuple(other for other in group_of.get(row, ()) if other != row)
        )
        for row, why in reasons.items()
    )


def _by_picture(archive: Archive, duplicates: TrainingDuplicates) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {CONFLICT: [], DUPLICATE: []}
    for group in duplicates.groups:
        labels = set(archive.labels[list(group)].tolist()) - {-1}
        if len(labels) > 1:
            found[CONFLICT] += group
        else:
            found[DUPLICATE] += group[1:]  # one of them may well stay
    return found


def nearest_others(opinions: TrainingOpinions, place: int, num: int) -> list[int]:
    """Places of the training images of other subjects that the model finds most like one, one a subject."""
    distance = np.square(opinions.features - opinions.features[place]).sum(axis=1)  # (M,)
    seen = {str(opinions.subjects[place])}
    chosen: list[int] = []
    for other in np.argsort(distance, kind="stable").tolist():
        subject = str(opinions.subjects[other])
        if subject not in seen:
            seen.add(subject)
            chosen.append(other)
        if len(chosen) == num:
            break
    return chosen


def split_links(split: Split, subjects: np.ndarray) -> list[tuple[str, ...]]:
    """Groups of these subjects that the split keeps together."""
    there = set(subjects.tolist())
    linked = [tuple(name for name in group if name in there) for group in split.linked_subjects]
    return [group for group in linked if len(group) > 1]


def _largest(scores: np.ndarray, allowed: np.ndarray, num: int) -> np.ndarray:
    places = np.flatnonzero(allowed)
    return places[np.argsort(-scores[places], kind="stable")][:num]
