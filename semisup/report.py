"""`report.html`: the verdict in words first, then everything it rests on, in one file without a network."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from extract.page_parts import page_templates
from semisup.arms import ARMS
from semisup.claim import claim_sections
from semisup.claim_items import CITATIONS
from semisup.examples import Examples, Shelf, find_examples, find_samples
from semisup.figure_files import FIGURES, draw_figures, figure_files
from semisup.findings import Findings, find
from semisup.markdown import markdown_cell, markdown_fence, tidy_markdown
from semisup.records import StudyRecords, read_records
from semisup.report_files import write_files
from semisup.result_tables import table_files
from semisup.results import json_text, results_csv
from semisup.statistics import MIN_SEEDS, MIN_TEST_SUBJECTS
from semisup.summary import (
    BASELINE,
    CEILING,
    RIVAL,
    RoundResult,
    Summary,
    primary_fraction,
    summarize,
)
from semisup.used_versions import version_lists
from semisup.verdict import METRIC_PHRASES, percent, points

REPORT_HTML, REPORT_MD, CLAIM_MD = "report.html", "report.md", "claim.md"
RESULTS_JSON, RESULTS_CSV = "results.json", "results.csv"


@dataclass(frozen=True)
class ReportSummary:
    """Where the report is, and what it says first."""

    path: Path
    verdict: str
    faults: tuple[str, ...] = ()  # checks of the data that failed
    beside: tuple[Path, ...] = ()  # files written beside ones that somebody has edited


def write_report(study_dir: Path) -> ReportSummary:
    """Write everything that a study has to say into its folder.

    `report.html` for people and `report.md` for a repository, `results.json` with every number, `results.csv` and
    `tables/*.csv`, the figures for a paper in `figures/`, and `claim.md`, a checklist to be completed. What an
    earlier report made is replaced; what somebody has edited or put there is left alone (`semisup.report_files`).

    Every finished run is used; what failed or is missing is listed. Archives are needed for the example
    pictures and the data sheet alone: without them the report says so.

    Raises:
        StudyError: if the folder is no study, or a file in it is damaged.
    """
    study_dir = Path(study_dir)
    records = read_records(study_dir)
    with Shelf(records) as shelf:
        findings = find(records, summarize(records), shelf)
        context = _context(records, findings, shelf)
    files = {
        RESULTS_JSON: json_text(findings.summary, findings).encode("utf-8"),
        RESULTS_CSV: results_csv(findings.summary).encode("utf-8"),
        **table_files(findings),
        **figure_files(records, findings.summary),
    }
    environment = _environment()
    context["files"] = sorted(files)
    files[REPORT_HTML] = environment.get_template("report.html.j2").render(context).encode("utf-8")
    plain = environment.overlay(autoescape=False)
    for name in (REPORT_MD, CLAIM_MD):
        text = plain.get_template(f"report/{name}.j2").render(context)
        files[name] = tidy_markdown(text).encode("utf-8")
    places = write_files(study_dir, files)
    return ReportSummary(
        places[REPORT_HTML],
        str(findings.summary.verdict.headline),
        tuple(f"{check.what}: {check.found}" for check in findings.faults),
        tuple(place for name, place in places.items() if place != study_dir / name),
    )


def _context(records: StudyRecords, findings: Findings, shelf: Shelf) -> dict[str, Any]:
    """Everything that the templates fill in."""
    summary = findings.summary
    drawn = draw_figures(records, summary)
    figures = {name: drawn[name].element() if name in drawn else "" for name in FIGURES}
    return {
        "s": summary,
        "f": findings,
        "study": records.study,
        "metric": METRIC_PHRASES.get(summary.metric, summary.metric),
        "texts": {**{name: arm.text for name, arm in ARMS.items()}, **records.study.get("arm_texts", {})},
        "fraction": primary_fraction(summary),
        "figures": {name: Markup(text) for name, text in figures.items()},  # matplotlib has escaped its texts
        "rounds": _rounds_by_arm(summary),
        "examples": _all_examples(records, summary, shelf),
        "samples": find_samples(records, shelf),
        "data": findings.data,
        "claim": claim_sections(findings.claim),
        "citations": CITATIONS,
        "command": _command_text(records.study.get("command")),
        "settings": _settings(records.study),
        "versions": version_lists(records),
        "limits": {"seeds": MIN_SEEDS, "subjects": MIN_TEST_SUBJECTS},
        "names": {"baseline": BASELINE, "ceiling": CEILING, "rival": RIVAL},
    }


def _environment() -> jinja2.Environment:
    environment = page_templates(Path(__file__).parent / "templates")
    environment.filters.update(
        points=points,
        percent=percent,
        share=_share,
        count=_count,
        duration=_duration,
        p=_p_value,
        number=_number,
        nb=_unbroken,
        file_name=_file_name,
        cell=markdown_cell,
        fence=markdown_fence,
    )
    return environment


# Numbers as people read them ----------------------------------------------------------------------


def _share(value: float | None) -> str:
    """0.7825 -> "78.2": percent without the sign, a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _count(value: float | None) -> str:
    """Counts that may be means over runs: "1,204" or "38.3"."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:,.1f}"


def _unbroken(text: str) -> str:
    """Keep a number and its percent sign on one line."""
    return text.replace(" %", "\u00a0%")


def _file_name(path: str) -> str:
    """Without its folder: a report is mailed, and where files lie is nobody's business; study.json knows."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def _p_value(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _command_text(command: Any) -> str:
    if isinstance(command, str):
        return command
    return shlex.join(str(part) for part in command) if command else ""


# Parts of the page --------------------------------------------------------------------------------


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
    for section in ("classifier", "gan", "pool", "pseudo", "fixmatch"):
        values: dict[str, Any] = study.get(section) or {}
        shown: Sequence[str] = [f"{key} {value}" for key, value in values.items() if value is not None]
        if shown:
            lines.append((section, ", ".join(shown)))
    return lines
