"""The report's tables as CSV, one file each: shares as they are (0.782, not 78.2), columns in English."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from semisup.findings import Findings
from semisup.statistics import Estimate
from semisup.summary import Summary

FOLDER = "tables"
Row = dict[str, Any]


def table_files(findings: Findings) -> dict[str, bytes]:
    """`tables/NAME.csv` of every table that has a row."""
    summary = findings.summary
    tables = {
        "comparisons": comparison_rows(summary),
        "classes": class_rows(summary),
        "rounds": round_rows(summary),
        "budget": budget_rows(summary),
        "generators": generator_rows(summary),
        "parts": part_rows(findings),
        "checks": check_rows(findings),
    }
    return {f"{FOLDER}/{name}.csv": csv_text(rows).encode("utf-8") for name, rows in tables.items() if rows}


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with the columns of its first row; what is not known is empty."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return table.getvalue()


def comparison_rows(summary: Summary) -> list[Row]:
    """One row a paired difference and measure."""
    rows = []
    for c in summary.comparisons:
        for name, e in {summary.metric: c.difference, **c.differences}.items():
            is_metric = name == summary.metric
            rows.append(
                {"arm": c.arm, "baseline": c.baseline, "fraction": c.fraction, "is_primary": c.is_primary,
                 "measure": name, **_estimate(e), "p_value": e.p_value,
                 "p_holm": c.p_holm if is_metric else None,
                 "share_of_trainings_won": c.further.win_share.value if is_metric else None,
                 "pairs_of_trainings": c.further.win_share.num_pairs if is_metric else None,
                 "num_subjects": e.num_subjects, "num_seeds": e.num_seeds}
            )  # fmt: skip
    return rows


def class_rows(summary: Summary) -> list[Row]:
    """One row an arm and class."""
    return [
        {"arm": c.arm, "fraction": c.fraction, "class": c.class_name, "test_images": c.num_images,
         **{f"sensitivity{end}": value for end, value in _ends(c.sensitivity).items()},
         **{f"specificity{end}": value for end, value in _ends(c.specificity).items()}}
        for c in summary.per_class
    ]  # fmt: skip


def round_rows(summary: Summary) -> list[Row]:
    """One row an arm, fraction and round."""
    return [
        {"arm": r.arm, "fraction": r.fraction, "round": r.round_index, "num_runs": r.num_runs,
         "kept_in_runs": r.num_kept, "pool_size": r.pool_size, "num_selected": r.num_selected,
         "coverage": sum(r.coverages) / len(r.coverages),
         **{f"selected_{name}": r.per_class_selected[k] for k, name in enumerate(summary.classes)},
         "threshold": r.threshold, "val_balanced_accuracy": r.val_balanced_accuracy,
         "ece_before": r.ece_before, "ece_after": r.ece_after, "temperature": r.temperature,
         "num_train_images": r.num_train_images,
         "agreement_with_withheld_labels": r.oracle_accuracy, "num_alarms": r.num_alarms,
         "num_uncertain": r.num_uncertain, "num_negative": r.num_negative,
         "ece_after_on_its_own_images_in_runs": r.num_flattered}
        for r in summary.rounds
    ]  # fmt: skip


def budget_rows(summary: Summary) -> list[Row]:
    """One row an arm and fraction."""
    return [
        {"arm": b.arm, "fraction": b.fraction, "num_runs": b.num_runs, "models_to_choose_from": b.num_models,
         "trainings": b.trainings, "steps_per_training": b.steps_per_training, "steps": b.steps,
         "images_seen": b.images_seen, "unlabeled_images_seen": b.unlabeled_seen,
         "pool_images_scored": b.pool_passes, "validation_looks": b.validation_looks, "wall_sec": b.seconds,
         "process_sec": b.process_seconds, "devices": b.devices, "generators": [g[:12] for g in b.generators],
         "generator_kimg": b.gan_kimg, "generator_sec": b.gan_seconds,
         "shares_generators_with": [f"{arm} {fraction:g}" for arm, fraction in b.shares_generators_with],
         "test_openings": b.test_openings}
        for b in summary.budgets
    ]  # fmt: skip


def generator_rows(summary: Summary) -> list[Row]:
    """One row a generator."""
    return [
        {"snapshot_sha256": g.snapshot_sha256, "folds": g.folds, "saw_fraction": g.fraction,
         "conditional": g.conditional, "kimg": g.kimg, "wall_sec": g.seconds, "device": g.device,
         "pool_images": g.num_images, "pool_sec": g.pool_seconds, "runs": g.num_runs,
         "used_by": [f"{arm} {fraction:g}" for arm, fraction in g.used_by]}
        for g in summary.generators
    ]  # fmt: skip


def part_rows(findings: Findings) -> list[Row]:
    """One row a fold and part."""
    return [
        {"fold": p.fold, "part": p.part, "subjects": p.num_subjects, "images": p.num_images,
         **{f"images_{name}": p.per_class[k] for k, name in enumerate(findings.summary.classes)}}
        for p in findings.data.parts
    ]  # fmt: skip


def check_rows(findings: Findings) -> list[Row]:
    """One row a line of the leakage sheet."""
    return [
        {"check": c.name, "what": str(c.what), "outcome": c.outcome, "found": str(c.found),
         "evidence": c.evidence}
        for c in findings.checks
    ]  # fmt: skip


def _estimate(estimate: Estimate) -> Row:
    return {"difference": estimate.value, "low": estimate.low, "high": estimate.high}


def _ends(estimate: Estimate) -> Row:
    return {"": estimate.value, "_low": estimate.low, "_high": estimate.high}


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) if all(isinstance(v, int) for v in value) else "; ".join(value)
    return "" if value is None or value != value else value  # NaN is not equal to itself
