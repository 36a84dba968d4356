"""One run of a study: one arm at one fold, seed and fraction, from the archives to a finished run folder."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from classifier.calibration import fit_temperature
from classifier.data import LabeledImages, real_part
from classifier.encoder_file import check_weights_for_fold
from classifier.evaluate import classification_metrics
from classifier.fixmatch import Agreement, Unlabeled
from classifier.models import choose_device
from classifier.preparation import kept_settings
from classifier.run import Classifier, Provenance, load_classifier
from classifier.training import train_classifier
from extract.archive import Archive, file_sha256
from extract.atomic import replace_file
from extract.cache import open_images
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from extract.split import Split
from semisup.arms import ARMS
from semisup.controls import (
    POOL_CONTROLS,
    RecordedRound,
    control_rows,
    recorded_rounds,
    repeat_labeled,
    repeat_rounds,
)
from semisup.errors import StudyError
from semisup.folders import MODEL_FOLDER, RUN_JSON, replace_folder, write_json
from semisup.ledger import LEDGER_FILE, ledger_rows, read_ledger, write_ledger
from semisup.outcomes import describe_run
from semisup.plan import Basis, RunJob, generator_data, open_data
from semisup.pool import Pool, real_pool, synthetic_pool
from semisup.rounds import (
    PoolScores,
    RealValidation,
    Round,
    RoundsResult,
    StopRules,
    best_round,
    mixing,
    run_rounds,
)
from semisup.rules import RunFacts, labeled_shares, make_rule
from semisup.select import Selection

BY_CONSTRUCTION = "by construction"  # a generator was told the class


class SealedTest:
    """The test part of a run: closed until the best round is chosen, and every opening counted."""

    def __init__(self, load: Callable[[], LabeledImages]) -> None:
        self._load = load
        self.openings = 0

    def open(self) -> LabeledImages:
        self.openings += 1
        return self._load()


@dataclass(frozen=True)
class RunData:
    """What a run works on; the rows of the archive that carry no label here are in `pool` alone."""

    classes: tuple[str, ...]
    labeled: LabeledImages
    val: LabeledImages
    test: SealedTest
    test_files: np.ndarray  # (T,) str
    pool: Pool | None
    preparation: Mapping[str, Any]  # settings that made the archive's images


@contextmanager
def opened_run_data(job: RunJob, basis: Basis) -> Iterator[RunData]:
    """Open a run's archives, checked against the plan and against each other.

    Raises:
        StudyError: if the data are not those of the plan.
        GanError: if the pool's generator saw a validation or test subject.
        ClassifierError: if the encoder that the classifiers start from saw one.
    """
    with open_data(basis) as (archive, split):
        check_weights_for_fold(basis.config.classifier_config(job.seed).weights, archive, split, job.fold)
        images = open_images(archive)
        part = partial(real_part, archive, images, split, job.fold)
        rows = split.rows(archive, job.fold, "test")
        yield RunData(
            archive.classes,
            part("train", job.fraction),
            part("val", job.fraction),
            SealedTest(partial(part, "test")),
            archive.manifest["file"].to_numpy(str)[rows],
            _open_pool(job, basis, archive, images, split),
            kept_settings(archive.preparation),
        )


def _open_pool(job: RunJob, basis: Basis, archive: Archive, images: np.ndarray, split: Split) -> Pool | None:
    arm = ARMS[job.arm]
    if job.arm in POOL_CONTROLS:
        arm = ARMS[str(basis.config.reference_arm)]
    pools = []
    if arm.pool in ("real", "both"):
        pools.append(real_pool(archive, images, split, job.fold, job.fraction))
    if arm.draws_images:
        assert job.pool_key is not None
        seen, conditional = generator_data(arm, job.fraction)
        pools.append(
            synthetic_pool(
                basis, job.pool_key, archive, split, job.fold, fraction=seen, conditional=conditional
            )
        )
    return reduce(Pool.concat, pools) if pools else None


def perform_run(job: RunJob, basis: Basis, progress: Progress = no_progress) -> None:
    """Train, choose the best round by real validation, open the test part once, and leave `runs/<key>/`."""
    started = time.monotonic()
    with (
        opened_run_data(job, basis) as data,
        replace_folder(basis.study_dir / job.folder / job.key) as folder,
    ):
        models = _Models(folder, job, basis, data, progress)
        perform_method = _METHODS[ARMS[job.arm].method]
        result = perform_method(job, basis, data, models, folder)
        best = result.best.model
        best.temperature = result.best.temperature
        test_metrics = _predict_test(best, data, folder)
        models.keep(result.best)
        write_json(
            folder / RUN_JSON,
            {
                **describe_run(job),
                "status": "done",
                "error": None,
                "best_round": result.best.round_index,
                "stopped": result.stopped,
                "test_metrics": test_metrics,
                "val_metrics": result.best.val_metrics,
                "temperature": result.best.temperature,
                "num_labeled_images": len(data.labeled),
                "num_labeled_subjects": len(np.unique(data.labeled.subjects)),
                "num_val_images": len(data.val),
                "num_val_subjects": len(np.unique(data.val.subjects)),
                "num_test_images": len(data.test_files),
                "steps_per_training": basis.config.classifier_config(0).steps,
                "trainings": len(result.rounds),  # a shared round 0 counts
                "trainings_here": models.num_trained,
                "seconds": round(time.monotonic() - started, 3),
                "test_openings": data.test.openings,
                **_describe_agreement(models.agreement),
                "rounds": [_describe_round(done, data, models, basis) for done in result.rounds],
            },
        )


def _facts(job: RunJob, data: RunData) -> RunFacts:
    return RunFacts(
        data.classes,
        labeled_shares(data.labeled.labels, len(data.classes)),
        data.val.subjects,
        job.classifier_seed,
    )


def _run_rounds(
    job: RunJob, basis: Basis, data: RunData, models: "_Models", folder: Path
) -> RoundsResult[Classifier]:
    """The pseudo-label rounds of an arm with a pool, or round 0 alone."""
    result = run_rounds(
        models.teacher(),
        basis.config.pseudo.rounds if data.pool else 0,
        val_logits=lambda model: model.predict_logits(data.val.images),
        val_labels=data.val.labels,
        pool_logits=lambda model: model.predict_logits(data.pool.images),  # type: ignore[union-attr]
        select=make_rule(basis.config.pseudo, _facts(job, data)),
        train_student=models.student,
        fit_temperature=fit_temperature if basis.config.pseudo.calibrate else None,
        metrics=partial(classification_metrics, num_classes=len(data.classes)),
        stop=StopRules(basis.config.pseudo.stop_flip_rate, basis.config.pseudo.stop_without_gain),
    )
    if data.pool:
        _write_ledger(result, data.pool, models, basis, folder)
    return result


def _repeat_reference(
    job: RunJob, basis: Basis, data: RunData, models: "_Models", folder: Path
) -> RoundsResult[Classifier]:
    """The rounds of a control: those of its reference, with other additions."""
    path = basis.study_dir / job.folder / str(job.reference_key) / LEDGER_FILE
    recorded = recorded_rounds(read_ledger(path)) if path.exists() else []  # none with `rounds: 0`
    tables = []

    def change(done: RecordedRound) -> Selection:
        rng = np.random.default_rng(derive_seed("control", job.arm, job.classifier_seed, done.round_index))
        if data.pool is None:
            return repeat_labeled(done, data.labeled.labels, rng)
        if done.rows["image"].tolist() != data.pool.identity.images.tolist():
            raise StudyError(
                f"{path}: expected the images of this run's pool in round {done.round_index}, got others; "
                f"remove {path.parent} to run it anew"
            )
        selection = POOL_CONTROLS[job.arm](done, rng)
        weight = mixing(len(data.labeled), len(selection), basis.config.pseudo.pseudo_share)[1]
        tables.append(control_rows(done, selection, job.arm, weight))
        return selection

    result = repeat_rounds(
        models.teacher(),
        recorded,
        change,
        models.student,
        _validation(basis, data).judge,
        len(data.classes),
        is_of_pool=data.pool is not None,
    )
    if tables:
        write_ledger(tables, folder / LEDGER_FILE)
    return result


def _validation(basis: Basis, data: RunData) -> RealValidation[Classifier]:
    return RealValidation(
        lambda model: model.predict_logits(data.val.images),
        data.val.labels,
        fit_temperature if basis.config.pseudo.calibrate else None,
        partial(classification_metrics, num_classes=len(data.classes)),
    )


def _train_with_given(
    job: RunJob, basis: Basis, data: RunData, models: "_Models", folder: Path
) -> RoundsResult[Classifier]:
    """One training with synthetic images whose class was asked for; the supervised model may still win."""
    judge = _validation(basis, data).judge
    assert data.pool is not None
    selection = _all_given(data.pool, len(data.classes))
    certain = np.eye(len(data.classes))[selection.labels]  # (N, C)
    scores = PoolScores(certain, certain, selection)
    rounds = [judge(0, models.teacher(), None), judge(1, models.student(selection, 1), scores)]
    rows = ledger_rows(
        data.pool.identity,
        scores,
        round_index=1,
        teacher_sha256="",
        rule=BY_CONSTRUCTION,
        threshold=np.nan,
        weight=models.mixing[1][1],
    )
    write_ledger([rows], folder / LEDGER_FILE)
    return RoundsResult(tuple(rounds), best_round(rounds), "trained once, labels by construction")


def _train_on_synthetic(
    job: RunJob, basis: Basis, data: RunData, models: "_Models", folder: Path
) -> RoundsResult[Classifier]:
    """One training on synthetic images of known class alone: the classification accuracy score.

    Source: Ravuri and Vinyals 2019, "Classification Accuracy Score for Conditional Generative Models",
    arXiv:1905.10887.
    """
    assert data.pool is not None
    alone = _validation(basis, data).judge(
        0, models.from_synthetic(_all_given(data.pool, len(data.classes))), None
    )
    return RoundsResult((alone,), alone, "trained once, on synthetic images alone")


def _train_fixmatch(
    job: RunJob, basis: Basis, data: RunData, models: "_Models", folder: Path
) -> RoundsResult[Classifier]:
    """One training whose every batch holds views of the pool; no supervised model to fall back on."""
    alone = _validation(basis, data).judge(0, models.fixmatch(), None)
    return RoundsResult((alone,), alone, "trained once, with FixMatch")


def _all_given(pool: Pool, num_classes: int) -> Selection:
    assert pool.given_labels is not None
    no_threshold = np.zeros(num_classes)
    return Selection(np.arange(len(pool.images)), pool.given_labels, np.ones(len(pool.images)), no_threshold)


PerformMethod = Callable[[RunJob, Basis, RunData, "_Models", Path], RoundsResult[Classifier]]
_METHODS: Mapping[str, PerformMethod] = MappingProxyType({
    "labels": _run_rounds,
    "rounds": _run_rounds,
    "control": _repeat_reference,
    "fixmatch": _train_fixmatch,
    "given": _train_with_given,
    "synthetic": _train_on_synthetic,
})  # fmt: skip


class _Models:
    """Makes a run's models, keeps each on disk until the best is known, and knows their hashes."""

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
            self._data.val,
            self._data.classes,
            self._config,
            provenance=self._provenance,
            progress=report,
            unlabeled=unlabeled,
        )
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


def _predict_test(model: Classifier, data: RunData, folder: Path) -> dict[str, float]:
    test = data.test.open()
    probs = model.predict_probs(test.images)  # (T, C)
    table = pd.DataFrame({"file": data.test_files, "subject": test.subjects, "label": test.labels})
    for k in range(len(data.classes)):
        table[f"p_{k}"] = probs[:, k].astype(np.float64)
    with replace_file(folder / "predictions.parquet") as temporary:
        table.to_parquet(temporary, index=False)
    return classification_metrics(probs, test.labels, len(data.classes))


def _write_ledger(
    result: RoundsResult[Classifier], pool: Pool, models: _Models, basis: Basis, folder: Path
) -> None:
    scored = [(done.round_index, done.scores) for done in result.rounds if done.scores]
    if result.unused:
        scored.append((len(result.rounds), result.unused))
    tables = [
        ledger_rows(
            pool.identity,
            scores,
            round_index=round_index,
            teacher_sha256=models.sha256[round_index - 1],
            rule=basis.config.pseudo.rule,
            threshold=scores.selection.thresholds,
            weight=models.mixing.get(round_index, (1, 0.0))[1],
        )
        for round_index, scores in scored
    ]
    if tables:
        write_ledger(tables, folder / LEDGER_FILE)


def _describe_agreement(agreement: Agreement | None) -> dict[str, Any]:
    """How many weak views reached FixMatch's threshold in the course of the training."""
    if agreement is None:
        return {}
    return {
        "agreement": {
            "num_views": agreement.num_seen,
            "share_passed": agreement.share,
            "per_class_passed": agreement.per_class.tolist(),
        }
    }


def _describe_round(done: Round[Classifier], data: RunData, models: _Models, basis: Basis) -> dict[str, Any]:
    selection = done.scores.selection if done.scores else None
    labels = selection.labels if selection else np.zeros(0, dtype=np.int64)
    repeats, weight = models.mixing[done.round_index]
    oracle = None
    if selection and data.pool and data.pool.withheld_labels is not None:
        truth = data.pool.withheld_labels[selection.indices]
        known = truth >= 0
        oracle = float((truth[known] == labels[known]).mean()) if known.any() else None
    return {
        "round_index": done.round_index,
        "pool_size": done.pool_size,
        "num_selected": done.num_selected,
        "coverage": done.coverage,
        "per_class_selected": np.bincount(labels, minlength=len(data.classes)).tolist(),
        "rule": models.rule if selection else None,
        **_describe_thresholds(selection if models.has_threshold else None),
        "val_balanced_accuracy": done.val_metrics["balanced_accuracy"],
        "val_nll": done.val_metrics["nll"],
        "ece_before": done.ece_before,
        "ece_after": done.ece_after,
        "temperature": done.temperature,
        "num_train_images": models.num_train_images[done.round_index],
        "labeled_repeats": repeats,
        "pseudo_weight": weight if selection else None,
        "alarm": done.is_alarming and models.chooses,
        "oracle_accuracy": oracle,
    }


def _describe_thresholds(selection: Selection | None) -> dict[str, Any]:
    """One threshold where it is the same for all classes, one a class in any case; None where none holds."""
    if selection is None:
        return {"threshold": None, "thresholds": None, "selection_note": ""}
    by_class = [float(value) if np.isfinite(value) else None for value in selection.thresholds]
    common = by_class[0] if len(set(by_class)) == 1 else None
    return {"threshold": common, "thresholds": by_class, "selection_note": selection.note}
