"""What a run leaves about its rounds: the rows of the ledger, and the entries of `run.json`."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from classifier.data import LabeledImages
from classifier.evaluate import classification_metrics
from classifier.fixmatch import Agreement
from classifier.run import Classifier
from extract.atomic import replace_file
from semisup.calibrating import deal_parts
from semisup.choosing import PoolScores
from semisup.gates import Gated
from semisup.ledger import LEDGER_FILE, ledger_rows, write_ledger
from semisup.plan import Basis, RunJob
from semisup.pool import Pool
from semisup.rounds import Round, RoundsResult
from semisup.run_data import RunData
from semisup.run_models import RunModels
from semisup.select import Selection


def write_rounds(
    result: RoundsResult[Classifier], pool: Pool, models: RunModels, basis: Basis, folder: Path
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
            keeps_labels=not basis.config.pseudo.relabel,
        )
        for round_index, scores in scored
    ]
    if tables:
        write_ledger(tables, folder / LEDGER_FILE)


def write_predictions(model: Classifier, test: LabeledImages, data: RunData, path: Path) -> dict[str, float]:
    """Leave what a model says of the test images, and give its metrics."""
    probs = model.predict_probs(test.images)  # (T, C)
    table = pd.DataFrame({"file": data.test_files, "subject": test.subjects, "label": test.labels})
    for k in range(len(data.classes)):
        table[f"p_{k}"] = probs[:, k].astype(np.float64)
    with replace_file(path) as temporary:
        table.to_parquet(temporary, index=False)
    return classification_metrics(probs, test.labels, len(data.classes))


def describe_calibration(job: RunJob, data: RunData, basis: Basis) -> dict[str, Any]:
    """Whose images gave the temperatures, and how the calibration error after them was measured."""
    if not basis.config.pseudo.calibrate:
        return {}
    parts = deal_parts(data.val.subjects, data.val.labels, data.classes, job.classifier_seed)
    if data.calibration is not None:
        fitted, how = data.calibration, "on the other validation subjects, who chose checkpoint and round"
    elif parts.number is not None:
        fitted, how = data.val, "cross-fitted: each subject at a temperature of others"
    else:
        fitted, how = data.val, f"on the images that gave the temperature: {parts.why_not}"
    return {
        "calibration": {
            "is_held_out": data.calibration is not None,
            "num_images": len(fitted),
            "num_subjects": len(np.unique(fitted.subjects)),
            "ece_after_measured": how,
        }
    }


def describe_agreement(agreement: Agreement | None) -> dict[str, Any]:
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


def describe_round(done: Round[Classifier], data: RunData, models: RunModels, basis: Basis) -> dict[str, Any]:
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
        "num_gated": len(done.scores.probs) - done.pool_size if done.scores else 0,
        "gates": describe_gates(done.scores.gated if done.scores else None),
        "num_selected": done.num_selected,
        **_describe_teacher(done.scores),
        "coverage": done.coverage,
        "per_class_selected": np.bincount(labels, minlength=len(data.classes)).tolist(),
        "rule": models.rule if selection else None,
        **_describe_thresholds(selection if models.has_threshold else None),
        "val_balanced_accuracy": done.val_metrics["balanced_accuracy"],
        "val_nll": done.val_metrics["nll"],
        "ece_before": done.ece_before,
        "ece_after": done.ece_after,
        "ece_after_is_cross_fitted": done.is_cross_fitted,
        "temperature": done.temperature,
        "num_train_images": models.num_train_images[done.round_index],
        "labeled_repeats": repeats,
        "pseudo_weight": weight if selection else None,
        "alarm": done.is_alarming and models.chooses,
        "oracle_accuracy": oracle,
    }


def _describe_teacher(scores: PoolScores | None) -> dict[str, Any]:
    """How many images were held back as uncertain, or got negative labels, where that is asked."""
    found: dict[str, Any] = {}
    if scores is not None and scores.doubt is not None:
        passes = np.ones(len(scores.probs), dtype=bool) if scores.gated is None else scores.gated.passes
        found["num_uncertain"] = int((passes & ~scores.doubt.is_certain).sum())
        found["mean_uncertainty"] = float(scores.doubt.uncertainty.mean())
        found["pool_temperature"] = scores.doubt.temperature
    if scores is not None and scores.selection.negatives is not None:
        found["num_negative"] = len(scores.selection.negatives.indices)
    return found


def describe_gates(gated: Gated | None) -> list[dict[str, Any]]:
    """What each gate turned away first, in the order in which they were asked."""
    if gated is None:
        return []
    return [
        {
            "gate": gate.reason,
            "num_asked": len(gate.is_out) if gate.num_asked is None else gate.num_asked,
            "num_out": gated.counts()[gate.reason],
            "limit": gate.limit,
            "text": gate.text,
            "real_share": gate.real_share,
        }
        for gate in gated.gates
    ]


def _describe_thresholds(selection: Selection | None) -> dict[str, Any]:
    """One threshold where it is the same for all classes, one a class in any case; None where none holds."""
    if selection is None:
        return {"threshold": None, "thresholds": None, "selection_note": ""}
    by_class = [float(value) if np.isfinite(value) else None for value in selection.thresholds]
    common = by_class[0] if len(set(by_class)) == 1 else None
    return {"threshold": common, "thresholds": by_class, "selection_note": selection.note}
