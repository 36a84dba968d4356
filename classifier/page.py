"""`evaluation-PART.html`: the verdict in words first, then what it rests on, in one file without a network.

The page is drawn from the files that an evaluation has left in the run's folder (and the archive, for
pictures); it can be drawn again at any time, and opens no part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from classifier.curves import Curve, curves_of_table
from classifier.decision import KINDS, DecisionRule, read_decision
from classifier.errors import ClassifierError
from classifier.evaluation_files import METRICS, page_path, read_metrics, read_predictions
from classifier.plots import curves_figure, history_figure, rejection_figure, reliability_figure, svg_text
from classifier.run import DESCRIPTION, HISTORY
from classifier.subgroups import MEASURES as GROUP_MEASURES
from classifier.verdict import confusions, judge, number, percent, span
from extract.archive import Archive, open_archive
from extract.atomic import write_text
from extract.page_parts import page_templates, picture_address

TEMPLATE = "evaluation.html.j2"
FIGURE_FILES = ("curves", "rejection")  # also written alone, for papers and slides
PICTURE_SIDE = 128  # pixels at most; larger pictures are made smaller
NUM_MISTAKES, NUM_UNSURE = 16, 8
MAX_OF_SUBJECT = 2  # pictures, so that one person does not fill a row
MAX_TABLE_CLASSES = 30  # of a confusion matrix that is shown whole
KIND_NAMES = {
    "youden": "Youden (sensitivity + specificity largest)",
    "precision_recall": "precision = recall",
}
PART_NAMES = {"test": "test part", "val": "validation part", "train": "training part"}
MEASURES = {
    "balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "macro_f1": "macro-F1", "mcc": "MCC",
    "auroc": "AUROC, mean over classes", "auprc": "average precision, mean over classes", "ece": "ECE",
    "brier": "Brier score", "nll": "negative log-likelihood",
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """An image on the page."""

    uri: str  # data URI of a PNG; empty where there is no picture
    label: str
    predicted: str
    confidence: float
    subject: str
    name: str
    is_wrong: bool


def write_evaluation_page(run_dir: Path, part: str, archive: Archive | None = None) -> Path:
    """Write the page of a part that has been evaluated, from the files of the run.

    Args:
        archive: that of the evaluation, open, for the pictures; without it, the page has none.

    Returns:
        The page's path.

    Raises:
        ClassifierError: if the part was not evaluated, or a file of the run cannot be read.
    """
    run_dir = Path(run_dir)
    page = page_path(run_dir, part)
    context = _gather(run_dir, part, archive)
    for name in FIGURE_FILES:
        if name in context["figures"]:
            write_text(run_dir / f"{name}-{part}.svg", context["figures"][name])
    write_text(page, _environment().get_template(TEMPLATE).render(context))
    return page


def redraw_page(run_dir: Path, part: str, data: Path) -> Path:
    """Write the page again, with pictures from the archive at `data`; see `write_evaluation_page`."""
    with open_archive(data) as archive:
        return write_evaluation_page(run_dir, part, archive)


def render(run_dir: Path, part: str, archive: Archive | None = None) -> str:
    """The whole page as text; see `write_evaluation_page`."""
    return _environment().get_template(TEMPLATE).render(_gather(Path(run_dir), part, archive))


def _gather(run_dir: Path, part: str, archive: Archive | None) -> dict[str, Any]:
    """Everything that the template shows."""
    report = read_metrics(run_dir).get(part)
    if report is None:
        raise ClassifierError(
            f"{run_dir / METRICS} has no part {part}: run `classifier evaluate --part {part}` first"
        )
    if "calibration" not in report:
        raise ClassifierError(
            f"{run_dir / METRICS} was written by an earlier version, without what the page shows: run "
            f"`classifier evaluate --part {part}` again"
        )
    model = json.loads((run_dir / DESCRIPTION).read_text(encoding="utf-8"))
    classes = [str(name) for name in model["classes"]]
    if archive is not None and archive.sha256 != report["archive_sha256"]:
        raise ClassifierError(
            f"{archive.path} is not the archive of this evaluation (its SHA-256 differs): give that one"
        )
    rule = read_decision(run_dir)
    return {
        "run": run_dir.absolute().name,
        "part": part,
        "part_name": PART_NAMES.get(part, part),
        "r": report,
        "v": judge(report, part, classes),
        "model": model,
        "classes": classes,
        "measures": MEASURES,
        "group_measures": GROUP_MEASURES,
        "matrix": _matrix_rows(report["confusion_matrix"], classes),
        "confusions": confusions(report["confusion_matrix"], classes)[:12],
        "is_whole": len(classes) <= MAX_TABLE_CLASSES,
        "kinds": {kind: KIND_NAMES[kind] for kind in KINDS if report["thresholds"].get(kind)},
        "rule": rule,
        "figures": _figures(run_dir, part, report, rule, model),
        "groups": _groups(report),
        "archive_name": "" if archive is None else archive.path.name,
        **_examples(run_dir, part, classes, archive),
    }


def _environment() -> jinja2.Environment:
    environment = page_templates(Path(__file__).parent / "templates")
    environment.filters.update(
        percent=percent,
        span=span,
        number=number,
        count=lambda value: f"{value:,.0f}",
        points=lambda value: "–" if value is None or value != value else f"{100 * value:+.1f}",
        bounds=_bounds,
        nb=_prose,
        last_part=lambda path: path.replace("\\", "/").rsplit("/", 1)[-1],
        target=lambda value: f"{100 * value:.3g}\u00a0%",
    )
    return environment


def _prose(text: str) -> Markup:
    """A sentence with its numbers held to their percent signs, and `commands` in a fixed font."""
    parts = text.replace(" %", "\u00a0%").split("`")
    marked = [
        Markup("<code>{}</code>").format(part) if k % 2 else escape(part) for k, part in enumerate(parts)
    ]
    return Markup("").join(marked)


def _bounds(interval: list[float | None] | None, digits: int = 3) -> str:
    """An interval as "0.716 to 0.775", or nothing."""
    if not interval or any(bound is None or bound != bound for bound in interval):
        return ""
    return f"{number(interval[0], digits)} to {number(interval[1], digits)}"


def _matrix_rows(matrix: list[list[int]], classes: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": classes[true],
            "total": sum(row),
            "cells": [
                {"count": count, "share": count / sum(row) if sum(row) else 0.0, "is_right": taken == true}
                for taken, count in enumerate(row)
            ],
        }
        for true, row in enumerate(matrix)
    ]


def _groups(report: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    lines = report.get("subgroups") or []
    columns = list(dict.fromkeys(line["column"] for line in lines))
    return [(column, [line for line in lines if line["column"] == column]) for column in columns]


# Figures ----------------------------------------------------------------------------------------------


def _figures(
    run_dir: Path, part: str, report: Mapping[str, Any], rule: DecisionRule | None, model: Mapping[str, Any]
) -> dict[str, Markup]:
    """Figures as SVG; matplotlib has escaped what came from the data, so they are marked as safe."""
    curves = _read_curves(run_dir, part)
    calibration = report["calibration"]
    chosen = report["rejection"].get("chosen")
    drawn = {
        "curves": svg_text(
            curves_figure([curve for curve in curves if curve.kind != "risk_coverage"]),
            "ROC and precision-recall curves",
        ),
        "reliability": svg_text(
            reliability_figure(
                {**calibration["bins"], "ece": calibration["ece"]},
                {**calibration["bins_before"], "ece": calibration["before"]["ece"]},
            ),
            "Accuracy over confidence, before and after temperature scaling",
        ),
    }
    for curve in curves:
        if curve.kind == "risk_coverage":
            point = (chosen["coverage"], chosen["risk"]) if chosen and chosen["risk"] is not None else None
            drawn["rejection"] = svg_text(
                rejection_figure(curve, chosen=point), "Share of errors over the share of images decided"
            )
    history = run_dir / HISTORY
    if history.exists():
        table = pd.read_csv(history)
        if len(table):
            config = model.get("config", {})
            figure = history_figure(table, monitor=config.get("monitor", "balanced_accuracy"))
            drawn["history"] = svg_text(figure, "Losses and balanced accuracy over the steps of the training")
    return {name: Markup(text) for name, text in drawn.items()}


def _read_curves(run_dir: Path, part: str) -> list[Curve]:
    path = run_dir / f"curves-{part}.csv"
    try:
        return curves_of_table(pd.read_csv(path, keep_default_na=False, na_values={
            column: [""] for column in ("x", "y", "low", "high", "threshold", "area")
        }))  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise ClassifierError(
            f"{path}: expected the curves of the evaluation, got {error}; run `classifier evaluate --part "
            f"{part}` again"
        ) from error


# Pictures ---------------------------------------------------------------------------------------------


def _examples(run_dir: Path, part: str, classes: list[str], archive: Archive | None) -> dict[str, Any]:
    """The surest mistakes, and right answers that were the least sure."""
    predictions = read_predictions(run_dir)
    if predictions is None:
        return {"mistakes": [], "unsure": [], "num_wrong": 0}
    table = predictions[predictions["part"] == part].reset_index(drop=True)
    probs = table[[f"p_{name}" for name in classes]].to_numpy(dtype=np.float64)
    predicted, confidence = probs.argmax(axis=1), probs.max(axis=1)
    is_wrong = np.array(classes, dtype=object)[predicted] != table["label"].to_numpy(dtype=object)
    surest = np.argsort(-confidence, kind="stable")
    rows = {
        "mistakes": _of_few_subjects(surest[is_wrong[surest]], table, NUM_MISTAKES),
        "unsure": _of_few_subjects(surest[~is_wrong[surest]][::-1], table, NUM_UNSURE),
    }
    found: dict[str, Any] = {
        kind: [
            _example(
                table, row, classes[predicted[row]], float(confidence[row]), bool(is_wrong[row]), archive
            )
            for row in chosen
        ]
        for kind, chosen in rows.items()
    }
    return {**found, "num_wrong": int(is_wrong.sum())}


def _of_few_subjects(rows: np.ndarray, table: pd.DataFrame, at_most: int) -> list[int]:
    chosen: list[int] = []
    seen: dict[str, int] = {}
    for row in rows.tolist():
        subject = str(table["subject"].iat[row]) or f"\x00{row}"
        if seen.get(subject, 0) < MAX_OF_SUBJECT:
            chosen.append(row)
            seen[subject] = seen.get(subject, 0) + 1
        if len(chosen) == at_most:
            break
    return chosen


def _example(
    table: pd.DataFrame, row: int, predicted: str, confidence: float, is_wrong: bool, archive: Archive | None
) -> Example:
    entry = table.iloc[row]
    file = str(entry["file"])
    uri, name = "", file
    if archive is not None and file in archive.names:
        index = archive.names.index(file)
        uri, name = picture_address(archive, index, PICTURE_SIDE), _source_name(archive, index)
    return Example(uri, str(entry["label"]), predicted, confidence, str(entry["subject"]), name, is_wrong)


def _source_name(archive: Archive, index: int) -> str:
    entry = archive.row(index)
    name = entry.get("source") or entry["file"]
    if not entry.get("plane"):
        return name
    return f"{name}, {entry['plane']} {entry['angle_deg']}°, slice {entry['slice_index']}"
