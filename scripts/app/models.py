"""The model of the page, loaded once in the background, and what belongs to it.

A model that is trained again in the same folder is loaded again.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from classifier.predict import Judge
from classifier.predict_run import load_judge
from scripts.app.closing import in_background, run_in, stop_if_closing

if TYPE_CHECKING:
    from classifier.nearest import TrainingFeatures

# One visitor at a time: a heat map hangs a watcher on the network, which another's prediction would trip.
at_work = threading.RLock()

Key = tuple[Path, int]
_lock = threading.Lock()
_models: dict[Key, Future[Judge]] = {}
_features: dict[tuple[Key, Key], FeatureJob] = {}


@dataclass
class FeatureJob:
    """The features of the training images on their way."""

    result: Future[TrainingFeatures]
    done: int = 0  # images
    total: int = 0


def begin_loading(model: Path) -> Future[Judge]:
    """Load a model in the background, once; whoever needs it asks for the result.

    Its first prediction is made, too: it takes ten times as long as the others.
    """
    key = _key(model)
    with _lock:
        if key not in _models:
            for old in [other for other in _models if other[0] == model]:
                del _models[old]
            _models[key] = in_background(lambda: _load(model))
        return _models[key]


def begin_features(model: Path, archive: Path) -> FeatureJob:
    """Look at the model's training images in the background, once."""
    key = _key(model), _key(archive)
    with _lock:
        if key not in _features:
            for old in [other for other in _features if other[0][0] == model]:
                del _features[old]
            _features[key] = _feature_job(model, archive)
        return _features[key]


def _feature_job(model: Path, archive: Path) -> FeatureJob:
    def report(done: int, total: int, message: str) -> None:
        stop_if_closing()
        job.done, job.total = done, total

    def look() -> TrainingFeatures:
        from classifier.nearest import training_features
        from classifier.run import load_classifier

        # A network of its own: it takes long, and visitors shall not wait for it.
        return training_features(load_classifier(model), archive, progress=report)

    job = FeatureJob(Future())
    run_in(job.result, look)
    return job


def _load(model: Path) -> Judge:
    from classifier.data import ImageTable

    judge = load_judge(model)
    steps = judge.preprocessing
    blank = ImageTable(np.zeros((1, steps.channels, steps.height, steps.width), np.uint8))
    judge.predict_logits(blank)
    if model.is_dir():
        from classifier.explain import explain_images
        from classifier.run import Classifier

        assert isinstance(judge, Classifier)
        explain_images(judge, blank)
    return judge


def _key(path: Path) -> Key:
    file = path / "model.json" if path.is_dir() else path
    return path, file.stat().st_mtime_ns
