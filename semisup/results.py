"""`results.json` and `results.csv`: the numbers of the report for programs and spreadsheets."""

import csv
import io
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from extract.atomic import write_text
from semisup.findings import Findings
from semisup.statistics import Estimate
from semisup.summary import BASELINE, Summary


def write_results(summary: Summary, folder: Path) -> tuple[Path, Path]:
    """Write `results.json` (everything) and `results.csv` (one row an arm, fraction and metric)."""
    json_path, csv_path = folder / "results.json", folder / "results.csv"
    write_text(json_path, json_text(summary))
    write_text(csv_path, results_csv(summary))
    return json_path, csv_path


def json_text(summary: Summary, findings: Findings | None = None) -> str:
    """`results.json`; with the findings it has every number of the report."""
    content = {**_json_content(summary), **(_findings_content(findings) if findings else {})}
    return json.dumps(_plain(content), indent=1, ensure_ascii=False) + "\n"


def _findings_content(findings: Findings) -> dict[str, Any]:
    study = findings.summary.study
    left_out = ("runs", "jobs", "plan", "pools", "arm_texts")
    shown = {name: value for name, value in study.items() if name not in left_out}
    return {
        "budget_of_primary_pair": findings.budget_sentences,
        "data": asdict(findings.data),
        "checks": [asdict(check) for check in findings.checks],
        "claim": [asdict(item) for item in findings.claim],
        "plan_sha256": findings.plan_sha256,
        "study": _without_folders(shown),
    }


def file_name(path: str) -> str:
    """Without its folder: results are mailed, and where files lie is nobody's business; study.json knows."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def _without_folders(study: dict[str, Any]) -> dict[str, Any]:
    """A study's settings with the names of its files alone."""
    gan, classifier = dict(study.get("gan") or {}), dict(study.get("classifier") or {})
    network, weights = gan.get("network"), classifier.get("weights")
    if isinstance(network, dict):
        gan["network"] = {fold: file_name(str(path)) for fold, path in network.items()}
    elif network is not None:
        gan["network"] = file_name(str(network))
    if weights is not None:
        classifier["weights"] = file_name(str(weights))
    files: dict[str, Any] = {name: file_name(str(study[name])) for name in ("data", "split") if name in study}
    sections: dict[str, Any] = {
        name: section for name, section in (("gan", gan), ("classifier", classifier)) if section
    }
    return {**study, **files, **sections}


def _json_content(summary: Summary) -> dict[str, Any]:
    return {
        "name": summary.name,
        "metric": summary.metric,
        "verdict": _fields(summary.verdict, leave_out=("hint",)),
        "num_test_subjects": summary.num_subjects,
        "num_draws": summary.num_draws,
        "arms": [
            {**_fields(result, leave_out=("estimates", "measures", "calibration")),
             "estimates": {name: _estimate(value) for name, value in result.estimates.items()},
             "measures": {name: _estimate(value) for name, value in result.measures.items()},
             "ece": asdict(result.calibration)}
            for result in summary.arms
        ],
        "comparisons": [
            {**_fields(c, leave_out=("difference", "differences", "further")),
             "difference": _estimate(c.difference),
             "differences": {name: _estimate(value) for name, value in c.differences.items()},
             **asdict(c.further)}
            for c in summary.comparisons
        ],
        "label_equivalence": [
            {"arm": arm, "fraction": fraction, "equivalent": found[0], "interval": found[1]}
            for (arm, fraction), e in summary.equivalences.items()
            for found in [e.describe()]
        ],
        "rounds": [asdict(result) for result in summary.rounds],
        "budget": [asdict(result) for result in summary.budgets],
        "generators": [asdict(result) for result in summary.generators],
        "classes": [
            {**_fields(result, leave_out=("sensitivity", "specificity")),
             "sensitivity": _estimate(result.sensitivity), "specificity": _estimate(result.specificity)}
            for result in summary.per_class
        ],
        "leaks": [
            {**_fields(leak, leave_out=("honest",)), "honest": _estimate(leak.honest)}
            for leak in summary.leaks
        ],
        "warnings": summary.warnings,
        "failures": [{"what": what, "cause": cause} for what, cause in summary.failures],
        "missing": summary.missing,
    }  # fmt: skip


def _fields(record: Any, leave_out: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in leave_out}


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return _fields(estimate, leave_out=("draws", "subject_draws"))


def _plain(value: Any) -> Any:
    """The same as JSON knows it: numpy to Python, NaN and infinity to null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


CSV_COLUMNS = (
    "arm", "fraction", "metric", "value", "low", "high", "num_runs", "num_seeds", "num_subjects",
    "num_images", "difference_to_supervised", "difference_low", "difference_high", "p_value", "p_holm",
    "share_of_trainings_won",
)  # fmt: skip


def results_csv(summary: Summary) -> str:
    """`results.csv`: one row an arm, fraction and metric."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for result in summary.arms:
        found = summary.compare(result.arm, BASELINE, result.fraction)
        for metric, e in {**result.estimates, **result.measures}.items():
            row: list[Any] = [
                result.arm, result.fraction, metric, e.value, e.low, e.high,
                result.num_runs, e.num_seeds, e.num_subjects, e.num_images,
            ]  # fmt: skip
            if found and metric == summary.metric:
                d = found.difference
                row += [d.value, d.low, d.high, d.p_value, "" if found.p_holm is None else found.p_holm]
                row.append(found.further.win_share.value)
            elif found and metric in found.differences:
                d = found.differences[metric]
                row += [d.value, d.low, d.high, d.p_value]
            writer.writerow(row + [""] * (len(CSV_COLUMNS) - len(row)))
        ece = result.calibration
        row = [result.arm, result.fraction, "ece", ece.value, ece.low, ece.high, result.num_runs]
        writer.writerow(row + [""] * (len(CSV_COLUMNS) - len(row)))
    return table.getvalue()
