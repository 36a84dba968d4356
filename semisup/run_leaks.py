"""Runs that commit a fault on purpose: models judged by what must not judge, and what such a project claims.

Nothing but the fault differs from the honest run: seeds, steps, pool, rule and calibration stay. Only these
arms open the guards, each by an argument called `deliberate_leak`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from classifier.calibration import fit_temperature
from classifier.data import LabeledImages
from classifier.evaluate import classification_metrics
from classifier.run import Classifier
from extract.progress import Progress
from extract.seeds import derive_seed
from semisup.arms import ARMS
from semisup.folders import HONEST_PREDICTIONS
from semisup.ledger import LEDGER_FILE, read_ledger, write_ledger
from semisup.plan import Basis, RunJob
from semisup.rounds import Round, RoundsResult
from semisup.run_data import RunData
from semisup.run_models import RunModels
from semisup.run_record import write_predictions
from semisup.select import Selection

HONEST_TWIN = -1  # in place of a round: the model that `leak_slices` trains without its fault


class JudgedByTest(RunModels):
    """The test part chooses the checkpoint of every training, and afterwards the round."""

    def __init__(self, folder: Path, job: RunJob, basis: Basis, data: RunData, progress: Progress) -> None:
        super().__init__(folder, job, basis, data, progress)
        self._test = data.test.open(deliberate_leak=True)

    def judges(self, round_index: int) -> LabeledImages:
        """The test images."""
        return self._test


class JudgedByOwnLabels(RunModels):
    """Some of the pseudo-labeled images of a round go to validation instead of training.

    They are drawn at random, as many as validation has real images, at most half of the selection. A random
    division of the enlarged data set does the same; so did the student project this software grew from.
    """

    _opens_validation = True

    def __init__(self, folder: Path, job: RunJob, basis: Basis, data: RunData, progress: Progress) -> None:
        super().__init__(folder, job, basis, data, progress)
        self.moved: dict[int, Selection] = {}

    def student(self, selection: Selection, round_index: int) -> Classifier:
        """Train on what is left of the selection."""
        rng = np.random.default_rng(derive_seed("to validation", self._job.classifier_seed, round_index))
        is_moved = np.zeros(len(selection), dtype=bool)
        num_moved = min(len(self._data.val), len(selection) // 2)
        is_moved[rng.choice(len(selection), size=num_moved, replace=False)] = True
        self.moved[round_index] = part_of(selection, is_moved)
        return super().student(part_of(selection, ~is_moved), round_index)

    def judges(self, round_index: int) -> LabeledImages:
        """The real validation images, and those that were moved there with their pseudo-labels."""
        moved = self.moved.get(round_index)
        if moved is None or not len(moved):
            return self._data.val
        added = self._additions(replace(moved, soft_labels=None, weights=None), np.ones(len(moved)))
        return replace(LabeledImages.concat([self._data.val, added]), weights=None)


def part_of(selection: Selection, is_kept: np.ndarray) -> Selection:
    """The images of a selection at a (K,) mask, in their order."""

    def kept(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[is_kept]

    return replace(
        selection,
        indices=selection.indices[is_kept],
        labels=selection.labels[is_kept],
        confidence=selection.confidence[is_kept],
        soft_labels=kept(selection.soft_labels),
        weights=kept(selection.weights),
    )


MakeModels = Callable[[Path, RunJob, Basis, RunData, Progress], RunModels]
MODELS: Mapping[str, MakeModels] = MappingProxyType(
    {"validation": RunModels, "own labels": JudgedByOwnLabels, "test": JudgedByTest}
)


def commit_fault(
    job: RunJob,
    basis: Basis,
    data: RunData,
    models: RunModels,
    result: RoundsResult[Classifier],
    folder: Path,
) -> tuple[RoundsResult[Classifier], dict[str, Any]]:
    """Choose as the fault chooses, and say what a project with it would claim.

    Returns:
        The result with another best round where the fault chooses it, and what `run.json` says under `claim`;
        empty where the claim is simply the figure on the test images.
    """
    if data.honest_labeled is not None:
        return result, _train_honest_twin(basis, data, models, folder)
    if ARMS[job.arm].judged_by == "validation":
        return result, {}
    num_classes = len(data.classes)
    spoiled = [_spoiled_metrics(done, models.judges(done.round_index), num_classes) for done in result.rounds]
    best = max(
        range(len(spoiled)), key=lambda i: (spoiled[i]["balanced_accuracy"], -spoiled[i]["nll"], -i)
    )  # as the honest choice, but for the images
    moved: dict[int, Selection] = {}
    if isinstance(models, JudgedByOwnLabels):
        moved = models.moved
        _mark_moved(moved, folder)
    claim = {
        "metrics": spoiled[best],
        "honest_best_round": result.best.round_index,  # by real validation, among the same models
        "by_round": [
            {
                "round_index": done.round_index,
                "balanced_accuracy": metrics["balanced_accuracy"],
                "num_judging": len(models.judges(done.round_index)),
                "num_pseudo_labeled": len(moved.get(done.round_index, ())),
            }
            for done, metrics in zip(result.rounds, spoiled, strict=True)
        ],
    }
    return replace(result, best=result.rounds[best]), claim


def _spoiled_metrics(done: Round[Classifier], images: LabeledImages, num_classes: int) -> dict[str, float]:
    logits = done.model.predict_logits(images.images).astype(np.float64)
    probs = softmax(logits / done.temperature, axis=1)
    return classification_metrics(probs, images.labels, num_classes)


def _train_honest_twin(basis: Basis, data: RunData, models: RunModels, folder: Path) -> dict[str, Any]:
    """Train on the same images less those of tested subjects, and leave what that model says of the test."""
    assert data.honest_labeled is not None
    twin = models.trained_on(data.honest_labeled, HONEST_TWIN)
    if basis.config.pseudo.calibrate:
        real = data.val if data.calibration is None else data.calibration
        twin.temperature = fit_temperature(twin.predict_logits(real.images), real.labels)
    test = data.test.open(deliberate_leak=True)
    honest = write_predictions(twin, test, data, folder / HONEST_PREDICTIONS)
    seen = np.isin(data.labeled.subjects, test.subjects)
    return {
        "honest_metrics": honest,
        "num_images_of_tested_subjects": int(seen.sum()),
        "num_tested_images_exposed": int(np.isin(test.subjects, data.labeled.subjects[seen]).sum()),
    }


def _mark_moved(moved: Mapping[int, Selection], folder: Path) -> None:
    """Say in the ledger which images went to validation: nothing was learned from them."""
    path = folder / LEDGER_FILE
    if not path.exists():
        return
    rows = read_ledger(path)
    is_moved = np.zeros(len(rows), dtype=bool)
    for round_index, selection in moved.items():
        in_round = np.flatnonzero(rows["round_index"].to_numpy() == round_index)  # in pool order
        is_moved[in_round[selection.indices]] = True
    weights = np.where(is_moved, 0, rows["weight"]).astype(np.float32)
    tables: list[pd.DataFrame] = [rows.assign(weight=weights, in_validation=is_moved)]
    write_ledger(tables, path)
