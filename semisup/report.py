"""`report.html`: the verdict in words first, then everything it rests on, in one file without a network."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from extract.atomic import write_text
from extract.language import ENGLISH, Language, read_language
from extract.page_parts import page_templates
from semisup.arms import ARMS
from semisup.examples import Examples, Shelf, describe_data, find_examples, find_samples
from semisup.gate_examples import find_gate_sheets
from semisup.records import StudyRecords, read_records
from semisup.results import write_results
from semisup.statistics import MIN_SEEDS, MIN_TEST_SUBJECTS
from semisup.summary import (
    BASELINE,
    CEILING,
    RIVAL,
    ArmResult,
    RoundResult,
    Summary,
    reworded,
    summarize,
)
from semisup.verdict import metric_phrase

REPORT_HTML = "report.html"
NUM_BINS = 10  # of the reliability diagrams


@dataclass(frozen=True)
class ReportSummary:
    """Where the report is, and what it says first."""

    path: Path
    verdict: str


def write_report(study_dir: Path, lang: str = "en") -> ReportSummary:
    """Write `report.html`, `results.json` and `results.csv` into a study folder.

    Every finished run is used; what failed or is missing is listed. Archives are needed for the example
    pictures and the data sheet alone: without them the report says so.

    Args:
        lang: language of the page, one of `LANGUAGES`. In another one than English it is `report.LANG.html`;
            the result files do not depend on it.

    Raises:
        StudyError: if the folder is no study, or a file in it is damaged.
        SettingsError: if the language is unknown.
    """
    language = report_language(lang)
    study_dir = Path(study_dir)
    records = read_records(study_dir)
    summary = summarize(records)
    write_results(summary, study_dir)
    summary = reworded(summary, records, language)
    path = study_dir / report_name(lang)
    write_text(path, render(records, summary, language))
    return ReportSummary(path, summary.verdict.headline)


def report_name(lang: str) -> str:
    """The file of a report: `report.html`, `report.es.html`."""
    return REPORT_HTML if lang == "en" else f"{Path(REPORT_HTML).stem}.{lang}.html"


def report_language(lang: str) -> Language:
    """A language with the texts of reports.

    Raises:
        SettingsError: if it is unknown.
    """
    return read_language(lang, Path(__file__).parent / "languages")


def render(records: StudyRecords, summary: Summary, language: Language = ENGLISH) -> str:
    """The whole page as text; the summary must be worded in the same language."""
    with Shelf(records) as shelf:
        context = {
            "s": summary,
            "study": records.study,
            "metric": metric_phrase(summary.metric, language),
            "texts": _arm_texts(records.study, language),
            "fraction": primary_fraction(summary),
            "figures": _figures(records, summary, language),
            "rounds": _rounds_by_arm(summary),
            "examples": _all_examples(records, summary, shelf),
            "gate_sheets": find_gate_sheets(records, summary.rounds, primary_fraction(summary), shelf),
            "samples": find_samples(records, shelf),
            "data": describe_data(records, shelf),
            "generators": records.generators,
            "command": _command_text(records.study.get("command")),
            "settings": _settings(records.study),
            "limits": {"seeds": MIN_SEEDS, "subjects": MIN_TEST_SUBJECTS},
            "names": {"baseline": BASELINE, "ceiling": CEILING, "rival": RIVAL},
        }
    return _environment(language).get_template("report.html.j2").render(context)


def primary_fraction(summary: Summary) -> float:
    """The share of labels that the headline is about; the smallest where there is no headline."""
    if summary.primary:
        return summary.primary.fraction
    planned = (summary.study.get("primary") or {}).get("fraction")
    known = [result.fraction for result in summary.arms if result.arm != CEILING]
    return float(planned if planned is not None else min(known, default=1.0))


def _environment(language: Language) -> jinja2.Environment:
    environment = page_templates(Path(__file__).parent / "templates", language)
    environment.filters.update(
        points=language.points,
        percent=language.percent,
        share=language.share,
        count=language.count,
        duration=language.duration,
        p=language.p_value,
        number=language.number,
        nb=_unbroken,
        file_name=_file_name,
    )
    return environment


def _unbroken(text: str) -> str:
    """Keep a number and its percent sign on one line."""
    return text.replace(" %", "\u00a0%")


def _file_name(path: str) -> str:
    """Without its folder: a report is mailed, and where files lie is nobody's business; study.json knows."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def _command_text(command: Any) -> str:
    if isinstance(command, str):
        return command
    return shlex.join(str(part) for part in command) if command else ""


# Parts of the page --------------------------------------------------------------------------------


def _arm_texts(study: dict[str, Any], language: Language) -> dict[str, str]:
    """What each arm is, as the study says it; its English may be older than another language's catalogue."""
    known: dict[str, str] = {name: arm.text for name, arm in ARMS.items()}
    recorded: dict[str, str] = study.get("arm_texts", {})
    return {**known, **recorded} if language is ENGLISH else {**recorded, **known}


def _at_primary(summary: Summary) -> list[ArmResult]:
    """The arms at the fraction of the headline, and the ceiling."""
    fraction = primary_fraction(summary)
    return [r for r in summary.arms if r.arm == CEILING or math.isclose(r.fraction, fraction)]


def _figures(records: StudyRecords, summary: Summary, language: Language) -> dict[str, Markup]:
    """The figures by name; matplotlib has escaped what came from the study, so they are marked as safe."""
    from semisup import figures  # matplotlib takes a while to load

    made = dict.fromkeys(("curve", "forest", "confusion", "reliability"), "")
    if not summary.arms:
        return {name: Markup(text) for name, text in made.items()}
    chosen = _at_primary(summary) or list(summary.arms)
    made |= {
        "curve": figures.label_curve(summary, language),
        "confusion": figures.confusion_matrices(chosen, summary.classes, language),
        "reliability": figures.reliability_diagrams(
            [_reliability(records, result, language) for result in chosen], language
        ),
    }
    if summary.comparisons:
        made["forest"] = figures.difference_forest(summary, language)
    return {name: Markup(text) for name, text in made.items()}


def _reliability(records: StudyRecords, result: ArmResult, language: Language) -> Any:
    from classifier.evaluate import expected_calibration_error, reliability_bins
    from semisup.figures import Reliability

    runs = records.select(result.arm, result.fraction)
    probs = np.concatenate([run.probs for run in runs])  # (N, C)
    labels = np.concatenate([run.labels for run in runs])
    bins = reliability_bins(probs, labels, NUM_BINS)
    ece = expected_calibration_error(probs, labels, NUM_BINS)
    return Reliability(f"{result.arm}, {language.percent(result.fraction)}", *bins, ece)


def _rounds_by_arm(summary: Summary) -> list[tuple[str, float, list[RoundResult]]]:
    """Rounds in groups of one arm and fraction, those of the headline's fraction first."""
    fraction = primary_fraction(summary)
    cells = list(dict.fromkeys((r.arm, r.fraction) for r in summary.rounds))
    cells.sort(key=lambda cell: not math.isclose(cell[1], fraction))  # stable
    return [(arm, f, [r for r in summary.rounds if (r.arm, r.fraction) == (arm, f)]) for arm, f in cells]


def _all_examples(records: StudyRecords, summary: Summary, shelf: Shelf) -> list[Examples]:
    fraction = primary_fraction(summary)
    arms = dict.fromkeys(run.arm for run in records.runs)
    found = [find_examples(records, records.select(arm, fraction), shelf) for arm in arms]
    return [examples for examples in found if examples]


def _settings(study: dict[str, Any]) -> list[tuple[str, str]]:
    """Sections of the study file, one line each, without what was left at "none"."""
    lines: list[tuple[str, str]] = []
    for section in ("classifier", "gan", "pool", "pseudo"):
        values: dict[str, Any] = study.get(section) or {}
        shown: Sequence[str] = [f"{key} {value}" for key, value in values.items() if value is not None]
        if shown:
            lines.append((section, ", ".join(shown)))
    return lines
