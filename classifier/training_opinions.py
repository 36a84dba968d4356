"""What a model says of the training images of a fold, for a person who reviews their labels.

A model that has learned from a test subject carries its label: what it says of a training image would tell
the reviewer something of the test part. Such a model is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from classifier.data import ImageTable
from classifier.decision import DecisionRule, read_decision
from classifier.errors import ClassifierError
from classifier.features import TaskExtractor
from classifier.run import WEIGHTS, Classifier, load_classifier
from extract.archive import Archive
from extract.errors import name_some
from extract.file_hash import file_sha256
from extract.fold import Split
from extract.progress import Progress, no_progress
from extract.survey import to_gray

BATCH = 64  # images decoded at a time
THUMB = (16, 16)  # pixels of the pictures that are compared without a model
MAX_IMAGES = 20_000  # whose features are kept; of more, an even choice


@dataclass(frozen=True)
class TrainingOpinions:
    """The labeled training images of a fold as a model sees them; all arrays are parallel."""

    rows: np.ndarray  # (M,) int, ascending, of the archive
    labels: np.ndarray  # (M,) int, the archive's
    subjects: np.ndarray  # (M,) str
    probs: np.ndarray  # (M, C) float64, calibrated
    features: np.ndarray  # (M, D) float32, what the last layer decides by
    thumbs: np.ndarray  # (M, 256) uint8, the pictures in gray, 16 pixels a side
    is_learned: np.ndarray  # (M,) bool: the model was trained with the image, usually under this label
    rule: DecisionRule | None
    model_sha256: str  # of the weights
    num_left_out: int = 0  # labeled training images beyond `MAX_IMAGES`

    @property
    def reproduced_share(self) -> float:
        """Of the labels that the model was trained with, those that it gives; 0 where there are none."""
        given = self.probs.argmax(axis=1) == self.labels
        return float(given[self.is_learned].mean()) if self.is_learned.any() else 0.0


def training_opinions(
    run: Path, archive: Archive, split: Split, fold: int, progress: Progress = no_progress
) -> TrainingOpinions:
    """Ask a finished run about every labeled training image.

    Raises:
        ClassifierError: if the run is damaged, was trained on another archive, or has seen a subject who is
            tested or validated with in this fold.
        ExtractError: if a picture is damaged.
    """
    classifier = load_classifier(run)
    refuse_other_fold(classifier, archive, split, fold)
    rows = split.rows(archive, fold, "train")
    rows = rows[archive.labels[rows] >= 0]
    if not len(rows):
        raise ClassifierError(f"{archive.path.name}: expected labeled training images, got none")
    num_images = len(rows)
    if num_images > MAX_IMAGES:
        rows = rows[np.unique(np.linspace(0, num_images - 1, MAX_IMAGES).astype(np.int64))]
    extractor = TaskExtractor(classifier, "")
    probs, features, thumbs = [], [], []
    for start in range(0, len(rows), BATCH):
        pixels = np.stack([archive.read_image(int(row)) for row in rows[start : start + BATCH]])
        probs.append(classifier.predict_probs(ImageTable(pixels)))
        features.append(extractor.features(pixels))
        thumbs += [
            cv2.resize(to_gray(image), THUMB, interpolation=cv2.INTER_AREA).ravel() for image in pixels
        ]
        progress(min(start + BATCH, len(rows)), len(rows), "asking the model")
    subjects = archive.subjects[rows]
    return TrainingOpinions(
        rows,
        archive.labels[rows],
        subjects,
        np.concatenate(probs),
        np.concatenate(features),
        np.stack(thumbs),
        np.isin(subjects, np.array(classifier.train_subjects, dtype=str)),
        read_decision(run),
        file_sha256(run / WEIGHTS),
        num_images - len(rows),
    )


def refuse_other_fold(classifier: Classifier, archive: Archive, split: Split, fold: int) -> None:
    """Raise ClassifierError if the model has seen anybody of the test part, or learned from validation."""
    expected = classifier.provenance.archive_sha256
    if archive.sha256 != expected:
        raise ClassifierError(
            f"{archive.path.name}: expected the archive that the model was trained on (SHA-256 "
            f"{expected[:12] or 'unknown'}...), got another one ({archive.sha256[:12]}...)"
        )
    if classifier.classes != archive.classes:
        raise ClassifierError(
            f"{archive.path.name}: expected the model's classes {', '.join(classifier.classes)}, got "
            f"{', '.join(archive.classes)}"
        )
    test, val = (set(split.subjects(fold, part)) for part in ("test", "val"))
    learned = set(classifier.train_subjects)
    leaked = sorted((learned | set(classifier.val_subjects)) & test) or sorted(learned & val)
    if leaked:
        raise ClassifierError(
            f"expected a model of fold {fold} for reviewing its training part, got one that has seen "
            f"subjects of its test or validation part ({name_some(leaked)}); give a --model that was "
            "trained in this fold, or review the fold that it was trained in with --fold"
        )
