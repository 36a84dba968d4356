"""How an arm comes to its models: one training, rounds, the rounds of another arm changed, or FixMatch."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from classifier.calibration import fit_temperature
from classifier.evaluate import classification_metrics
from classifier.run import Classifier
from classifier.uncertainty import predict_dropout, predict_views
from extract.seeds import derive_seed
from semisup.calibrating import deal_parts
from semisup.choosing import PoolScores
from semisup.controls import (
    POOL_CONTROLS,
    RecordedRound,
    carry_weights,
    control_rows,
    recorded_rounds,
    repeat_labeled,
    repeat_rounds,
)
from semisup.errors import StudyError
from semisup.gates import Gated
from semisup.gating import Synthetic, ask_gates
from semisup.ledger import LEDGER_FILE, ledger_rows, read_ledger, write_ledger
from semisup.plan import Basis, RunJob
from semisup.pool import Pool
from semisup.rounds import (
    HeldOut,
    RealValidation,
    RoundsResult,
    best_round,
    run_rounds,
)
from semisup.rules import RunFacts, labeled_shares, make_rule
from semisup.run_data import RunData
from semisup.run_models import RunModels
from semisup.run_record import write_rounds
from semisup.select import Selection
from semisup.stopping import ClassDrift, StopRules
from semisup.uncertainty import Asking, Part, make_asking

BY_CONSTRUCTION = "by construction"  # a generator was told the class


def _facts(job: RunJob, data: RunData) -> RunFacts:
    return RunFacts(
        data.classes,
        labeled_shares(data.labeled.labels, len(data.classes)),
        data.val.subjects,
        job.classifier_seed,
    )


def _run_rounds(
    job: RunJob, basis: Basis, data: RunData, models: RunModels, folder: Path
) -> RoundsResult[Classifier]:
    """The pseudo-label rounds of an arm with a pool, or round 0 alone."""
    validation = _validation(job, basis, data)
    teacher = models.teacher()
    num_rounds = basis.config.pseudo.rounds if data.pool else 0
    result = run_rounds(
        teacher,
        num_rounds,
        val_logits=validation.logits_of,
        val_labels=validation.labels,
        pool_logits=lambda model: model.predict_logits(data.pool.images),  # type: ignore[union-attr]
        select=make_rule(basis.config.pseudo, _facts(job, data)),
        train_student=models.student,
        fit_temperature=validation.fit_temperature,
        metrics=validation.metrics,
        asking=_asking(basis, data, models),
        parts=validation.parts,
        held_out=validation.held_out,
        stop=_stop_rules(job, basis, data),
        relabel=basis.config.pseudo.relabel,
        negative=basis.config.pseudo.negative,
        gated=_gated(basis, data, teacher) if num_rounds else None,
    )
    if data.pool:
        write_rounds(result, data.pool, models, basis, folder)
    return result


def _stop_rules(job: RunJob, basis: Basis, data: RunData) -> StopRules:
    pseudo, facts = basis.config.pseudo, _facts(job, data)
    drift = None
    if pseudo.stop_class_drift is not None:
        drift = ClassDrift(pseudo.stop_class_drift, facts.labeled_shares, facts.classes)
    return StopRules(pseudo.stop_flip_rate, pseudo.stop_without_gain, drift)


def _asking(basis: Basis, data: RunData, models: RunModels) -> Asking[Classifier] | None:
    """How teachers are asked several times, where the study says so."""
    pseudo = basis.config.pseudo
    config = pseudo.uncertainty
    if config is None:
        return None
    images = {"val": data.val.images}
    if data.pool is not None:
        images["pool"] = data.pool.images
    if data.calibration is not None:
        images["calibration"] = data.calibration.images

    def ask(model: Classifier, round_index: int, part: Part) -> np.ndarray:
        match config.method:
            case "tta":
                return predict_views(model, images[part], config.samples, model.config.seed)
            case "mc_dropout":
                return predict_dropout(model, images[part], config.samples, model.config.seed)
        everybody = [model, *models.members(round_index, pseudo.num_members)]
        return np.stack([member.predict_logits(images[part]) for member in everybody])

    return make_asking(config, pseudo.weight_by == "uncertainty", ask)


def _gated(basis: Basis, data: RunData, teacher: Classifier) -> Gated | None:
    """Who of the pool may be seen by the rule; None = no gate was asked."""
    from classifier.features import table_features

    if data.gate_basis is None:
        return None
    assert data.pool is not None
    rows = np.flatnonzero(data.pool.origin == "synthetic")
    synthetic = Synthetic(
        data.pool.images.subset(rows),
        rows,
        data.pool.identity.image_sha256[rows],
        len(data.pool.images),
    )
    features = partial(table_features, teacher)
    return ask_gates(basis.config.pseudo.gates, synthetic, data.gate_basis, data.val.images, features)


def _repeat_reference(
    job: RunJob, basis: Basis, data: RunData, models: RunModels, folder: Path
) -> RoundsResult[Classifier]:
    """The rounds of a control: those of its reference, with other additions."""
    path = basis.study_dir / job.folder / str(job.reference_key) / LEDGER_FILE
    recorded = recorded_rounds(read_ledger(path)) if path.exists() else []  # none with `rounds: 0`
    tables = []

    def change(done: RecordedRound) -> Selection:
        rng = np.random.default_rng(derive_seed("control", job.arm, job.classifier_seed, done.round_index))
        mix_weight = models.mix(len(done.selected))[1]
        weights = done.weights / mix_weight if basis.config.pseudo.labels == "weighted" else None
        if data.pool is None:
            return carry_weights(done, repeat_labeled(done, data.labeled.labels, rng), weights)
        if done.rows["image"].tolist() != data.pool.identity.images.tolist():
            raise StudyError(
                f"{path}: expected the images of this run's pool in round {done.round_index}, got others; "
                f"remove {path.parent} to run it anew"
            )
        selection = carry_weights(done, POOL_CONTROLS[job.arm](done, rng), weights)
        tables.append(control_rows(done, selection, job.arm, mix_weight))
        return selection

    result = repeat_rounds(
        models.teacher(),
        recorded,
        change,
        models.student,
        _validation(job, basis, data).judge,
        len(data.classes),
        is_of_pool=data.pool is not None,
    )
    if tables:
        write_ledger(tables, folder / LEDGER_FILE)
    return result


def _validation(job: RunJob, basis: Basis, data: RunData) -> RealValidation[Classifier]:
    val, held_out = data.val, data.calibration
    return RealValidation(
        lambda model: model.predict_logits(val.images),
        val.labels,
        fit_temperature if basis.config.pseudo.calibrate else None,
        partial(classification_metrics, num_classes=len(data.classes)),
        deal_parts(val.subjects, val.labels, data.classes, job.classifier_seed),
        HeldOut(lambda model: model.predict_logits(held_out.images), held_out.labels) if held_out else None,
    )


def _train_with_given(
    job: RunJob, basis: Basis, data: RunData, models: RunModels, folder: Path
) -> RoundsResult[Classifier]:
    """One training with synthetic images whose class was asked for; the supervised model may still win."""
    judge = _validation(job, basis, data).judge
    assert data.pool is not None
    teacher = models.teacher()
    gated = _gated(basis, data, teacher)
    selection = _all_given(data.pool, len(data.classes), None if gated is None else gated.passes)
    certain = np.eye(len(data.classes))[data.pool.given_labels]  # (N, C)
    scores = PoolScores(certain, certain, selection, gated)
    rounds = [judge(0, teacher, None)]
    if len(selection):
        rounds.append(judge(1, models.student(selection, 1), scores))
    rows = ledger_rows(
        data.pool.identity,
        scores,
        round_index=1,
        teacher_sha256="",
        rule=BY_CONSTRUCTION,
        threshold=np.nan,
        weight=models.mixing[1][1] if len(selection) else 0.0,
    )
    write_ledger([rows], folder / LEDGER_FILE)
    stopped = "trained once, labels by construction"
    if not len(selection):
        stopped = "no synthetic image passed the gates"
    return RoundsResult(tuple(rounds), best_round(rounds), stopped)


def _train_on_synthetic(
    job: RunJob, basis: Basis, data: RunData, models: RunModels, folder: Path
) -> RoundsResult[Classifier]:
    """One training on synthetic images of known class alone: the classification accuracy score.

    Source: Ravuri and Vinyals 2019, "Classification Accuracy Score for Conditional Generative Models",
    arXiv:1905.10887.
    """
    assert data.pool is not None
    alone = _validation(job, basis, data).judge(
        0, models.from_synthetic(_all_given(data.pool, len(data.classes))), None
    )
    return RoundsResult((alone,), alone, "trained once, on synthetic images alone")


def _train_fixmatch(
    job: RunJob, basis: Basis, data: RunData, models: RunModels, folder: Path
) -> RoundsResult[Classifier]:
    """One training whose every batch holds views of the pool; no supervised model to fall back on."""
    alone = _validation(job, basis, data).judge(0, models.fixmatch(), None)
    return RoundsResult((alone,), alone, "trained once, with FixMatch")


def _all_given(pool: Pool, num_classes: int, passes: np.ndarray | None = None) -> Selection:
    """The images of a pool, or those that pass, (N,) bool, with the labels that their generator was told."""
    assert pool.given_labels is not None
    rows = np.arange(len(pool.images)) if passes is None else np.flatnonzero(passes)
    return Selection(rows, pool.given_labels[rows], np.ones(len(rows)), np.zeros(num_classes))


PerformMethod = Callable[[RunJob, Basis, RunData, RunModels, Path], RoundsResult[Classifier]]
METHODS: Mapping[str, PerformMethod] = MappingProxyType({
    "labels": _run_rounds,
    "by image": _run_rounds,
    "rounds": _run_rounds,
    "control": _repeat_reference,
    "fixmatch": _train_fixmatch,
    "given": _train_with_given,
    "synthetic": _train_on_synthetic,
})  # fmt: skip
