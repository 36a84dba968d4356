"""A study's report: the verdict in words first, then everything it rests on, in one page and in files."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from extract.language import ENGLISH, Language, read_language
from extract.page_parts import page_templates
from semisup.arms import ARMS
from semisup.claim import claim_sections
from semisup.claim_items import CITATIONS, SOURCES
from semisup.examples import Examples, Shelf, find_examples, find_samples
from semisup.figure_files import FIGURES, draw_figures, figure_files
from semisup.findings import Findings, find, reworded_findings
from semisup.gate_examples import find_gate_sheets
from semisup.markdown import markdown_cell, markdown_fence, tidy_markdown
from semisup.records import StudyRecords, read_records
from semisup.report_files import LIST, write_files
from semisup.result_tables import table_files
from semisup.results import file_name, json_text, results_csv
from semisup.statistics import MIN_SEEDS, MIN_TEST_SUBJECTS
from semisup.summary import BASELINE, CEILING, RIVAL, RoundResult, Summary, primary_fraction, summarize
from semisup.used_versions import version_lists
from semisup.verdict import metric_phrase

REPORT_HTML, REPORT_MD, CLAIM_MD = "report.html", "report.md", "claim.md"
RESULTS_JSON, RESULTS_CSV = "results.json", "results.csv"


@dataclass(frozen=True)
class ReportSummary:
    """Where the report is, and what it says first."""

    path: Path
    verdict: str
    faults: tuple[str, ...] = ()  # checks of the data that failed
    beside: tuple[Path, ...] = ()  # files written beside ones that somebody has edited


def write_report(study_dir: Path, lang: str = "en") -> ReportSummary:
    """Write everything that a study has to say into its folder.

    `report.html` for people and `report.md` for a repository, `results.json` with every number, `results.csv`
    and `tables/*.csv`, the figures for a paper in `figures/`, and `claim.md`, a checklist to be completed.
    What an earlier report made is replaced; what somebody has edited or put there is left alone
    (`semisup.report_files`).

    Every finished run is used; what failed or is missing is listed. Archives are needed for the example
    pictures and the data sheet alone: without them the report says so.

    Args:
        lang: language of the texts, one of `LANGUAGES`. In another one than English the files are
            `report.LANG.html` and so on; results and tables do not depend on it.

    Raises:
        StudyError: if the folder is no study, or a file in it is damaged.
        SettingsError: if the language is unknown.
    """
    language = report_language(lang)
    study_dir = Path(study_dir)
    records = read_records(study_dir)
    with Shelf(records) as shelf:
        findings = find(records, summarize(records), shelf)
        files = {
            RESULTS_JSON: json_text(findings.summary, findings).encode("utf-8"),
            RESULTS_CSV: results_csv(findings.summary).encode("utf-8"),
            **table_files(findings),
            **figure_files(records, findings.summary, language),
        }
        findings = reworded_findings(findings, records, language)
        context = _context(records, findings, shelf, language) | {"files": sorted(files)}
    environment = _environment(language)
    page = environment.get_template("report.html.j2").render(context)
    files[report_name(lang)] = page.encode("utf-8")
    plain = environment.overlay(autoescape=False)
    for name in (REPORT_MD, CLAIM_MD):
        text = plain.get_template(f"report/{name}.j2").render(context)
        files[report_name(lang, name)] = tidy_markdown(text).encode("utf-8")
    places = write_files(study_dir, files, report_name(lang, LIST))
    return ReportSummary(
        places[report_name(lang)],
        str(findings.summary.verdict.headline),
        tuple(f"{language.text(check.what)}: {language.text(check.found)}" for check in findings.faults),
        tuple(place for name, place in places.items() if place != study_dir / name),
    )


def report_name(lang: str, name: str = REPORT_HTML) -> str:
    """A file of a report: `report.html`, `report.es.html`."""
    return name if lang == "en" else f"{Path(name).stem}.{lang}{Path(name).suffix}"


def report_language(lang: str) -> Language:
    """A language with the texts of reports.

    Raises:
        SettingsError: if it is unknown.
    """
    return read_language(lang, Path(__file__).parent / "languages")


def _context(records: StudyRecords, findings: Findings, shelf: Shelf, language: Language) -> dict[str, Any]:
    """Everything that the templates fill in."""
    summary = findings.summary
    drawn = draw_figures(records, summary, language)
    figures = {name: drawn[name].element() if name in drawn else "" for name in FIGURES}
    return {
        "s": summary,
        "f": findings,
        "study": records.study,
        "metric": metric_phrase(summary.metric, language),
        "texts": _arm_texts(records.study, language),
        "fraction": primary_fraction(summary),
        "figures": {name: Markup(text) for name, text in figures.items()},  # matplotlib has escaped its texts
        "rounds": _rounds_by_arm(summary),
        "examples": _all_examples(records, summary, shelf),
        "gate_sheets": find_gate_sheets(records, summary.rounds, primary_fraction(summary), shelf),
        "samples": find_samples(records, shelf),
        "data": findings.data,
        "claim": claim_sections(findings.claim),
        "citations": CITATIONS,
        "sources": SOURCES,
        "command": _command_text(records.study.get("command")),
        "settings": _settings(records.study),
        "versions": version_lists(records),
        "limits": {"seeds": MIN_SEEDS, "subjects": MIN_TEST_SUBJECTS},
        "suffix": "" if language.name == "en" else f".{language.name}",  # of file names
        "names": {"baseline": BASELINE, "ceiling": CEILING, "rival": RIVAL},
    }


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
        file_name=file_name,
        cell=markdown_cell,
        fence=markdown_fence,
    )
    return environment


def _unbroken(text: str) -> str:
    """Keep a number and its percent sign on one line."""
    return text.replace(" %", "\u00a0%")


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
        shown: Sequence[str] = [
            f"{key} {file_name(str(value)) if key == 'network' else value}"
            for key, value in values.items()
            if value is not None
        ]
        if shown:
            lines.append((section, ", ".join(shown)))
    return lines
