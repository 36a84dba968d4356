"""The models of a run: trained one after the other, each kept on disk until the best is known."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from classifier.data import LabeledImages
from classifier.fixmatch import Agreement, Unlabeled
from classifier.models import choose_device
from classifier.run import Classifier, Provenance, load_classifier
from classifier.training import train_classifier
from extract.archive import file_sha256
from extract.progress import Progress
from semisup.arms import ARMS
from semisup.folders import MODEL_FOLDER
from semisup.plan import Basis, RunJob
from semisup.rounds import Round, mixing
from semisup.run_data import RunData
from semisup.select import Selection


class RunModels:
    """Makes a run's models, keeps each on disk until the best is known, and knows their hashes."""

    _opens_validation = False  # to pseudo-labeled images: for a deliberate fault

    def __init__(self, folder: Path, job: RunJob, basis: Basis, data: RunData, progress: Progress) -> None:
        self._folder, self._job, self._basis, self._data = folder, job, basis, data
        self._progress = progress
        self._config = basis.config.classifier_config(job.classifier_seed, job.arm)
        self._total = self._config.steps * max(1, ARMS[job.arm].num_trainings(basis.config.pseudo.rounds))
        self._provenance = Provenance(
            basis.archive_sha256, basis.split_sha256, job.fold, job.fraction, data.preparation
        )
        self.has_threshold = ARMS[job.arm].method == "rounds"
        self.rule = basis.config.pseudo.rule if self.has_threshold else job.arm
        self.chooses = ARMS[job.arm].method != "given"  # of a pool, by what a teacher says
        self.agreement: Agreement | None = None  # of FixMatch
        self.num_trained = 0
        self.sha256: dict[int, str] = {}
        self.num_train_images: dict[int, int] = {0: len(data.labeled)}  # each counted once
        self.mixing: dict[int, tuple[int, float]] = {0: (1, 1.0)}

    def judges(self, round_index: int) -> LabeledImages:
        """What chooses the checkpoint of a round's model; a deliberate fault puts other images here."""
        return self._data.val

    def teacher(self) -> Classifier:
        """Round 0: the supervised model, trained here or taken from the supervised run of the same pair."""
        if self._job.teacher_key is None:
            return self._trained(self._data.labeled, 0)
        saved = self._basis.study_dir / self._job.folder / self._job.teacher_key / MODEL_FOLDER
        model = self._placed(load_classifier(saved))
        self._save(model, 0)
        return model

    def student(self, selection: Selection, round_index: int) -> Classifier:
        """From scratch on the labeled images and a selection, with the seed of the teacher."""
        labeled = self._data.labeled
        repeats, weight = mixing(len(labeled), len(selection), self._basis.config.pseudo.pseudo_share)
        self.mixing[round_index] = repeats, weight
        self.num_train_images[round_index] = len(labeled) + len(selection)
        repeated = labeled.subset(np.tile(np.arange(len(labeled)), repeats))  # rows by reference
        additions = self._additions(selection, np.full(len(selection), weight))
        return self._trained(LabeledImages.concat([repeated, additions]), round_index)

    def fixmatch(self) -> Classifier:
        """On the labeled images, and on views of the pool."""
        assert self._data.pool is not None
        pool = self._data.pool
        unlabeled = Unlabeled(pool.images, pool.subjects, self._basis.config.fixmatch_config)
        self.num_train_images[0] = len(self._data.labeled) + len(pool.images)
        self.agreement = unlabeled.agreement
        return self._trained(self._data.labeled, 0, unlabeled)

    def trained_on(self, images: LabeledImages, round_index: int) -> Classifier:
        """On other labeled images than those of the run."""
        self.num_train_images[round_index] = len(images)
        return self._trained(images, round_index)

    def from_synthetic(self, selection: Selection) -> Classifier:
        """On the images of the pool alone."""
        self.num_train_images[0] = len(selection)
        return self._trained(self._additions(selection, np.ones(len(selection))), 0)

    def _additions(self, selection: Selection, weights: np.ndarray) -> LabeledImages:
        pool = self._data.pool
        if pool is None:  # labeled images again, with their own labels
            return replace(self._data.labeled.subset(selection.indices), weights=weights)
        return LabeledImages(
            images=pool.images.subset(selection.indices),
            labels=selection.labels.astype(np.int64)
            if selection.soft_labels is None
            else selection.soft_labels,
            subjects=pool.subjects[selection.indices],
            origin=pool.origin[selection.indices],
            is_pseudo=np.ones(len(selection), dtype=bool),
            weights=weights if selection.weights is None else weights * selection.weights,
        )

    def keep(self, best: Round[Classifier]) -> None:
        """Leave the best round's model (with its temperature) in the run folder, and no other."""
        shutil.rmtree(self._folder / "rounds")
        best.model.save(self._folder / MODEL_FOLDER)

    def _trained(
        self, images: LabeledImages, round_index: int, unlabeled: Unlabeled | None = None
    ) -> Classifier:
        before = self.num_trained * self._config.steps

        def report(done: int, total: int, message: str) -> None:
            self._progress(before + done * self._config.steps // max(total, 1), self._total, message)

        model = train_classifier(
            images,
            self.judges(round_index),
            self._data.classes,
            self._config,
            provenance=self._provenance,
            progress=report,
            unlabeled=unlabeled,
            deliberate_leak=self._opens_validation,
        )
        if self._data.calibration is not None:  # they give the temperature: nobody may be judged by them
            held_out = map(str, self._data.calibration.subjects)
            model.val_subjects = tuple(sorted({*model.val_subjects, *held_out}))
        self._placed(model)
        self.num_trained += 1
        self._save(model, round_index)
        return model

    def _placed(self, model: Classifier) -> Classifier:
        """A trained or loaded model lies in the CPU's memory; pools are scored where it was trained."""
        model.model.to(choose_device(self._config.device))
        return model

    def _save(self, model: Classifier, round_index: int) -> None:
        folder = self._folder / "rounds" / str(round_index)
        model.save(folder)
        self.sha256[round_index] = file_sha256(folder / "model.safetensors")
