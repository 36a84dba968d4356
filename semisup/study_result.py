"""What a study shows so far, worked out once for a page: the report's own numbers and words."""

import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from extract.language import LANGUAGES
from extract.progress import Progress, no_progress
from semisup.audit import AUDIT_JSON
from semisup.examples import Shelf
from semisup.findings import Findings, find, reworded_findings
from semisup.records import read_records
from semisup.report import report_language, report_name
from semisup.result_tables import FOLDER
from semisup.summary import Summary, summarize

STAGES = 100  # parts of the progress: 30 for reading, 50 for intervals, 20 for checks


@dataclass(frozen=True)
class StudyResult:
    """The findings of a study in every language, without the predictions that they were made from."""

    findings: Mapping[str, Findings]
    num_runs: int  # finished ones that it rests on

    def summary(self, language: str) -> Summary:
        """Numbers, verdict and warnings as the report has them."""
        return self.findings[language].summary


def work_out(study_dir: Path, progress: Progress = no_progress) -> StudyResult:
    """Read a study and compute everything that its report says.

    Raises:
        StudyError: if the folder is no study, or a file in it is damaged.
    """

    def part(first: int, last: int) -> Progress:
        def report(done: int, total: int, message: str) -> None:
            progress(first + (last - first) * done // max(total, 1), STAGES, message)

        return report

    study_dir = Path(study_dir)
    records = read_records(study_dir, part(0, 30))
    summary = summarize(records, progress=part(30, 80))
    progress(80, STAGES, "checking the data")
    with Shelf(records) as shelf:
        findings = find(records, summary, shelf)
    by_language = {name: reworded_findings(findings, records, report_language(name)) for name in LANGUAGES}
    progress(STAGES, STAGES, "done")
    return StudyResult(by_language, len(records.runs))


@dataclass(frozen=True)
class ReportState:
    """A report that lies in a study folder, or is missing there."""

    path: Path
    made_at: float | None  # seconds since 1970; None = there is none
    is_older: bool  # than a run or an audit


def report_state(study_dir: Path, lang: str, newest_run_ns: int) -> ReportState:
    """Whether a report is there, and whether it knows all runs.

    Args:
        newest_run_ns: when the last run's record was written.
    """
    path = Path(study_dir) / report_name(lang)
    try:
        made = os.stat(path).st_mtime_ns
    except OSError:
        return ReportState(path, None, False)
    audit = Path(study_dir) / AUDIT_JSON
    newest = max(newest_run_ns, os.stat(audit).st_mtime_ns if audit.exists() else 0)
    return ReportState(path, made / 1e9, made < newest)


def pack_tables(study_dir: Path) -> bytes:
    """The report's tables in one zip, to be taken away."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(Path(study_dir).glob(f"{FOLDER}/*.csv")):
            packed.writestr(path.name, path.read_bytes())
    return buffer.getvalue()
