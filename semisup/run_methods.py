"""How an arm comes to its models: one training, rounds, the rounds of another arm changed, or FixMatch."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from classifier.calibration import fit_temperature
from classifier.evaluate import classification_metrics
from classifier.run import Classifier
from extract.seeds import derive_seed
from semisup.calibrating import deal_parts
from semisup.controls import (
    POOL_CONTROLS,
    RecordedRound,
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
    PoolScores,
    RealValidation,
    RoundsResult,
    StopRules,
    best_round,
    mixing,
    run_rounds,
)
from semisup.rules import RunFacts, labeled_shares, make_rule
from semisup.run_data import RunData
from semisup.run_models import RunModels
from semisup.run_record import write_rounds
from semisup.select import Selection

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
        parts=validation.parts,
        held_out=validation.held_out,
        stop=StopRules(basis.config.pseudo.stop_flip_rate, basis.config.pseudo.stop_without_gain),
        gated=_gated(basis, data, teacher) if num_rounds else None,
    )
    if data.pool:
        write_rounds(result, data.pool, models, basis, folder)
    return result


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
