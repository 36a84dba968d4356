"""The report's figures as files for a paper: SVG, PNG of 300 dpi, and the numbers that each shows as CSV."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from extract.language import ENGLISH, Language
from semisup.records import StudyRecords
from semisup.result_tables import csv_text
from semisup.summary import CEILING, ArmResult, Summary, primary_fraction

if TYPE_CHECKING:
    from semisup.figures import Drawing, Reliability

FOLDER = "figures"
FIGURES = ("curve", "forest", "confusion", "reliability")  # by their names in the page
NUM_BINS = 10  # of the reliability diagrams


def draw_figures(
    records: StudyRecords, summary: Summary, language: Language = ENGLISH, width: float | None = None
) -> dict[str, "Drawing"]:
    """Every figure of the report by its name in the page; nothing where no run has finished.

    Args:
        width: inches; None = as in the page.
    """
    from semisup import figures  # matplotlib takes a while to load

    if not summary.arms:
        return {}
    width = figures.WIDTH_IN if width is None else width
    chosen = at_primary(summary)
    items = [reliability(records, result) for result in chosen]
    made = {
        "curve": figures.label_curve(summary, language, width),
        "confusion": figures.confusion_matrices(chosen, summary.classes, language, width),
        "reliability": figures.reliability_diagrams(items, language, width),
    }
    if summary.comparisons:
        made["forest"] = figures.difference_forest(summary, language, width)
    return made


def figure_files(records: StudyRecords, summary: Summary, language: Language = ENGLISH) -> dict[str, bytes]:
    """`figures/NAME.svg`, `.png` and `.csv` of every figure; in other languages than English "
    "`NAME.es.svg`."""
    from semisup.figures import PAPER_WIDTH_IN

    drawn = draw_figures(records, summary, language, PAPER_WIDTH_IN)
    tables = {
        "curve": lambda: _curve_rows(summary),
        "forest": lambda: _difference_rows(summary),
        "confusion": lambda: _confusion_rows(at_primary(summary), summary.classes),
        "reliability": lambda: _reliability_rows([reliability(records, r) for r in at_primary(summary)]),
    }
    files: dict[str, bytes] = {}
    for key, drawing in drawn.items():
        name = in_language(drawing.name, language)
        files[f"{FOLDER}/{name}.svg"] = drawing.svg()
        files[f"{FOLDER}/{name}.png"] = drawing.png()
        files[f"{FOLDER}/{drawing.name}.csv"] = csv_text(tables[key]()).encode("utf-8")
    return files


def in_language(name: str, language: Language) -> str:
    """`label-curve`, or `label-curve.es` in Spanish."""
    return name if language.name == "en" else f"{name}.{language.name}"


def at_primary(summary: Summary) -> list[ArmResult]:
    """The arms at the fraction of the headline, and the ceiling; all arms where there are none."""
    fraction = primary_fraction(summary)
    chosen = [r for r in summary.arms if r.arm == CEILING or math.isclose(r.fraction, fraction)]
    return chosen or list(summary.arms)


def reliability(records: StudyRecords, result: ArmResult) -> "Reliability":
    """Confidence and accuracy of one arm's test predictions by bins of confidence, all runs together."""
    from classifier.evaluate import expected_calibration_error, reliability_bins
    from semisup.figures import Reliability

    runs = records.select(result.arm, result.fraction)
    probs = np.concatenate([run.probs for run in runs])  # (N, C)
    labels = np.concatenate([run.labels for run in runs])
    bins = reliability_bins(probs, labels, NUM_BINS)
    ece = expected_calibration_error(probs, labels, NUM_BINS)
    return Reliability(result.arm, result.fraction, *bins, ece)


Row = dict[str, Any]


def _curve_rows(summary: Summary) -> list[Row]:
    return [
        {"arm": r.arm, "fraction": r.fraction, "metric": summary.metric, "value": e.value, "low": e.low,
         "high": e.high, "num_runs": r.num_runs}
        for r in summary.arms
        for e in [r.estimates[summary.metric]]
    ]  # fmt: skip


def _difference_rows(summary: Summary) -> list[Row]:
    return [
        {"arm": c.arm, "baseline": c.baseline, "fraction": c.fraction, "is_primary": c.is_primary,
         "metric": summary.metric, "difference": c.difference.value, "low": c.difference.low,
         "high": c.difference.high}
        for c in summary.comparisons
    ]  # fmt: skip


def _confusion_rows(results: Sequence[ArmResult], classes: Sequence[str]) -> list[Row]:
    rows = []
    for r in results:
        totals = r.confusion.sum(axis=1)
        for (true, predicted), images in np.ndenumerate(r.confusion):
            share = 100 * images / totals[true] if totals[true] else math.nan
            rows.append(
                {"arm": r.arm, "fraction": r.fraction, "true_class": classes[true],
                 "predicted_class": classes[predicted], "images": float(images), "percent": float(share)}
            )  # fmt: skip
    return rows


def _reliability_rows(items: Sequence["Reliability"]) -> list[Row]:
    return [
        {"arm": item.arm, "fraction": item.fraction, "bin": number, "predictions": int(count),
         "confidence": float(confidence), "accuracy": float(accuracy)}
        for item in items
        for number, (count, confidence, accuracy) in enumerate(
            zip(item.count, item.confidence, item.accuracy, strict=True)
        )
        if count > 0
    ]  # fmt: skip
