"""The training images that a model finds most like a new one: neighbours in what its last layer decides by.

They show what a prediction leans on. Images of validation and test are never among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classifier.data import ImageTable
from classifier.errors import ClassifierError
from classifier.features import TaskExtractor
from classifier.run import Classifier
from extract.archive import open_archive
from extract.progress import Progress, no_progress

MAX_TRAINING_IMAGES = 20_000  # compared with; of more, an even choice
BATCH = 64  # images decoded at a time


@dataclass(frozen=True)
class TrainingFeatures:
    """The training images of a model, as its last layer sees them."""

    rows: np.ndarray  # (M,) int, of the archive
    features: np.ndarray  # (M, D) float32
    labels: tuple[str, ...]  # (M,) class names, "" = unlabeled
    subjects: tuple[str, ...]  # (M,)


@dataclass(frozen=True)
class Neighbor:
    """One training image near a new one."""

    row: int  # of the archive
    label: str
    subject: str
    distance: float  # in units of the mean distance between two training images
    pixels: np.ndarray  # (C, H, W) uint8


def training_features(
    classifier: Classifier,
    archive_path: Path,
    *,
    max_images: int = MAX_TRAINING_IMAGES,
    progress: Progress = no_progress,
) -> TrainingFeatures:
    """Look at the model's own training images, subject by subject as `model.json` names them.

    Raises:
        ClassifierError: if the archive is not the one the model was trained on, or has none of its subjects.
        ExtractError: if the archive cannot be read.
    """
    extractor = TaskExtractor(classifier, "")
    with open_archive(archive_path) as archive:
        expected = classifier.provenance.archive_sha256
        if archive.sha256 != expected:
            raise ClassifierError(
                f"{archive_path.name}: expected the archive that the model was trained on (SHA-256 "
                f"{expected[:12] or 'unknown'}...), got another one ({archive.sha256[:12]}...)"
            )
        known = np.isin(archive.subjects, classifier.train_subjects) & archive.is_real & (archive.labels >= 0)
        rows = np.flatnonzero(known)
        if not len(rows):
            raise ClassifierError(
                f"{archive_path.name}: expected the model's training subjects, got none of them"
            )
        if len(rows) > max_images:
            rows = rows[np.unique(np.linspace(0, len(rows) - 1, max_images).astype(np.int64))]
        parts = []
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            parts.append(extractor.features(np.stack([archive.read_image(int(row)) for row in batch])))
            progress(min(start + BATCH, len(rows)), len(rows), "training images")
        return TrainingFeatures(
            rows,
            np.concatenate(parts),
            tuple(archive.classes[label] for label in archive.labels[rows]),
            tuple(archive.subjects[rows].tolist()),
        )


def nearest_training(
    classifier: Classifier,
    pixels: np.ndarray,
    training: TrainingFeatures,
    archive_path: Path,
    *,
    num: int = 6,
    per_subject: int = 1,
) -> list[Neighbor]:
    """The nearest training images of one image, nearest first.

    Args:
        pixels: (C, H, W) uint8, as archives hold images.
        per_subject: images of one subject at most: neighbouring slices would fill the row.
    """
    images = ImageTable(pixels[None])
    found = TaskExtractor(classifier, "").features(images.gather(np.zeros(1, np.int64)))
    distance = np.linalg.norm(training.features - found, axis=1)  # (M,)
    scale = typical_distance(training.features)
    chosen: list[int] = []
    seen: dict[str, int] = {}
    for place in np.argsort(distance, kind="stable").tolist():
        subject = training.subjects[place]
        if subject and seen.get(subject, 0) >= per_subject:
            continue
        seen[subject] = seen.get(subject, 0) + 1
        chosen.append(place)
        if len(chosen) == num:
            break
    with open_archive(archive_path) as archive:
        return [
            Neighbor(
                int(training.rows[place]),
                training.labels[place],
                training.subjects[place],
                float(distance[place] / scale),
                archive.read_image(int(training.rows[place])),
            )
            for place in chosen
        ]


def typical_distance(features: np.ndarray) -> float:
    """The distance between two of the (M, D) features, as the root of its mean square; 1 where all are alike.

    Twice the variance about the mean: no pair has to be drawn.
    """
    spread = float(np.sqrt(2 * features.astype(np.float64).var(axis=0).sum()))
    return spread if spread > 0 else 1.0
