"""Networks as feature extractors: what generated images are compared with real ones by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from classifier.errors import ClassifierError
from classifier.models import SmallResNet
from classifier.run import WEIGHTS, Classifier, load_classifier
from extract.archive import file_sha256


class TaskExtractor:
    """The features that a classifier of ours decides by: the input of its last layer.

    Attributes:
        train_subjects, val_subjects: whom it learned from, and who chose its checkpoint.
        archive_sha256: the archive these subjects belong to; empty where it was trained on plain arrays.
    """

    name = "task"

    def __init__(self, classifier: Classifier, weights_sha256: str) -> None:
        self.classifier = classifier
        self.weights_sha256 = weights_sha256
        self.train_subjects = classifier.train_subjects
        self.val_subjects = classifier.val_subjects
        self.archive_sha256 = classifier.provenance.archive_sha256

    @torch.inference_mode()
    def features(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) uint8, shaped as in its training, to features (N, D) float32."""
        batch = self.classifier.preprocessing.to_batch(np.ascontiguousarray(images), self._device)
        return self._penultimate(batch).float().cpu().numpy()

    @torch.inference_mode()
    def squared_distances(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Squared distances (N,) of the features of two sets of images on the scale 0 ... 255."""
        a, b = (
            self._penultimate(self.classifier.preprocessing.scale(torch.tensor(side, device=self._device)))
            for side in (first, second)
        )
        return (a - b).double().square().sum(dim=1).cpu().numpy()

    @property
    def _device(self) -> torch.device:
        return next(self.classifier.model.parameters()).device

    def _penultimate(self, batch: Tensor) -> Tensor:
        model = self.classifier.model
        if isinstance(model, SmallResNet):
            return model.penultimate(batch)
        return model.forward_head(model.forward_features(batch), pre_logits=True).flatten(1)  # type: ignore[operator]


def task_extractor(run_dir: Path, device: str = "auto") -> TaskExtractor:
    """The network of a finished `classifier train` run as an extractor.

    Raises:
        ClassifierError: if it is no finished run.
    """
    run_dir = Path(run_dir)
    classifier = load_classifier(run_dir, device)
    try:
        return TaskExtractor(classifier, file_sha256(run_dir / WEIGHTS))
    except FileNotFoundError as error:
        raise ClassifierError(
            f"{run_dir / WEIGHTS} does not exist: the run is incomplete, train it again"
        ) from error


def open_extractor(name: str, path: Path | None = None, device: str = "auto") -> TaskExtractor:
    return task_extractor(path, device)
