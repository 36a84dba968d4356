"""The models of a run: trained one after the other, each kept on disk until the best is known."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from classifier.data import LabeledImages
from classifier.fixmatch import Agreement, Unlabeled
from classifier.models import choose_device
from classifier.pseudo_mix import PseudoMix
from classifier.run import Classifier, Provenance, load_classifier
from classifier.training import train_classifier
from extract.archive import file_sha256
from extract.progress import Progress
from extract.seeds import derive_seed
from semisup.arms import ARMS
from semisup.folders import MODEL_FOLDER
from semisup.plan import Basis, RunJob, trainings_of
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
        self._total = self._config.steps * max(1, trainings_of(ARMS[job.arm], basis.config.pseudo))
        self._provenance = Provenance(
            basis.archive_sha256, basis.split_sha256, job.fold, job.fraction, data.preparation
        )
        self.has_threshold = ARMS[job.arm].method == "rounds"
        self.rule = basis.config.pseudo.rule if self.has_threshold else job.arm
        self.chooses = ARMS[job.arm].method != "given"  # of a pool, by what a teacher says
        self.agreement: Agreement | None = None  # of FixMatch
        self.num_trained = 0
        self.num_members = 0  # trainings among them that only helped a teacher
        self._last: Classifier | None = None  # the teacher of the next student
        self._train_sets: dict[int, LabeledImages] = {0: data.labeled}
        self._members: tuple[int, list[Classifier]] = (-1, [])  # of the last round that was asked
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
        model = self._last = self._placed(load_classifier(saved))
        self._save(model, 0)
        return model

    def student(self, selection: Selection, round_index: int) -> Classifier:
        """On the labeled images and a selection, with the seed of the teacher, from its weights if asked."""
        labeled = self._data.labeled
        num_negative = 0 if selection.negatives is None else len(selection.negatives.indices)
        repeats, weight = self.mix(len(selection) + num_negative)
        self.mixing[round_index] = repeats, weight
        self.num_train_images[round_index] = len(labeled) + len(selection) + num_negative
        repeated = labeled.subset(np.tile(np.arange(len(labeled)), repeats))  # rows by reference
        additions = [self._additions(selection, np.full(len(selection), weight))]
        if num_negative:
            additions.append(self._negatives(selection, weight))
        self._train_sets[round_index] = LabeledImages.concat([repeated, *additions])
        return self._trained(self._train_sets[round_index], round_index)

    def mix(self, num_pseudo: int) -> tuple[int, float]:
        """How often labeled images are repeated among so many others, and what one of the others weighs."""
        pseudo = self._basis.config.pseudo
        if pseudo.quota is not None:
            return 1, 1.0  # every batch is mixed
        return mixing(len(self._data.labeled), num_pseudo, pseudo.pseudo_share)

    def members(self, round_index: int, num_members: int) -> list[Classifier]:
        """Further models of a round, trained on the same images with seeds of their own."""
        if self._members[0] != round_index:
            images = self._train_sets[round_index]
            trained = [
                self._train(images, round_index, derive_seed("ensemble", self._job.classifier_seed, member))
                for member in range(1, num_members + 1)
            ]
            self.num_members += num_members
            self._members = round_index, trained
        return self._members[1]

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
            again = self._data.labeled.subset(selection.indices)
            is_mixed = self._pseudo_mix() is not None  # they then enter a batch as pseudo-labeled ones do
            own = weights if selection.weights is None else weights * selection.weights
            return replace(again, weights=own, is_pseudo=np.full(len(selection), is_mixed))
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

    def _negatives(self, selection: Selection, weight: float) -> LabeledImages:
        """The images of the pool of which is known what they are not."""
        pool, negatives = self._data.pool, selection.negatives
        assert pool is not None and negatives is not None
        rows = negatives.indices
        return LabeledImages(
            images=pool.images.subset(rows),
            labels=np.full(len(rows), -1, dtype=np.int64),
            subjects=pool.subjects[rows],
            origin=pool.origin[rows],
            is_pseudo=np.ones(len(rows), dtype=bool),
            weights=np.full(len(rows), weight),
            excluded=negatives.excluded,
        )

    def keep(self, best: Round[Classifier]) -> None:
        """Leave the best round's model (with its temperature) in the run folder, and no other."""
        shutil.rmtree(self._folder / "rounds")
        best.model.save(self._folder / MODEL_FOLDER)

    def _trained(
        self, images: LabeledImages, round_index: int, unlabeled: Unlabeled | None = None
    ) -> Classifier:
        model = self._train(images, round_index, self._config.seed, unlabeled)
        self._last = model
        self._save(model, round_index)
        return model

    def _train(
        self, images: LabeledImages, round_index: int, seed: int, unlabeled: Unlabeled | None = None
    ) -> Classifier:
        is_student = round_index > 0
        is_warm = is_student and seed == self._config.seed and self._basis.config.pseudo.student == "warm"
        before = self.num_trained * self._config.steps

        def report(done: int, total: int, message: str) -> None:
            self._progress(before + done * self._config.steps // max(total, 1), self._total, message)

        model = train_classifier(
            images,
            self.judges(round_index),
            self._data.classes,
            replace(self._config, seed=seed),
            provenance=self._provenance,
            progress=report,
            unlabeled=unlabeled,
            mix=self._pseudo_mix() if is_student else None,
            start=self._last if is_warm else None,
            deliberate_leak=self._opens_validation,
        )
        if self._data.calibration is not None:  # they give the temperature: nobody may be judged by them
            held_out = map(str, self._data.calibration.subjects)
            model.val_subjects = tuple(sorted({*model.val_subjects, *held_out}))
        self._placed(model)
        self.num_trained += 1
        return model

    def _pseudo_mix(self) -> PseudoMix | None:
        pseudo = self._basis.config.pseudo
        if pseudo.ramp is None and pseudo.quota is None:
            return None
        return PseudoMix(pseudo.ramp, pseudo.quota)

    def _placed(self, model: Classifier) -> Classifier:
        """A trained or loaded model lies in the CPU's memory; pools are scored where it was trained."""
        model.model.to(choose_device(self._config.device))
        return model

    def _save(self, model: Classifier, round_index: int) -> None:
        folder = self._folder / "rounds" / str(round_index)
        model.save(folder, flush=False)  # only the best round's outlives the run, and is saved again
        self.sha256[round_index] = file_sha256(folder / "model.safetensors")
