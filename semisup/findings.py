"""Everything that a report says beside the statistics: data, checks, checklist, budgets, the plan itself."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace

from extract.language import ENGLISH, Language, Message
from semisup.budget_words import compare_budgets
from semisup.checks import Check, check_data, failed, gather
from semisup.claim import ClaimAnswer, fill_in_claim
from semisup.claim_facts import ClaimFacts
from semisup.examples import DataSheet, Shelf, describe_data
from semisup.folders import STUDY_YAML
from semisup.records import StudyRecords
from semisup.summary import CEILING, Summary, reworded
from semisup.verdict import Verdict


@dataclass(frozen=True)
class Findings:
    """A study's summary as the checks leave it, and what stands beside it in the report."""

    summary: Summary  # without a headline where a check says that results may be too good
    data: DataSheet
    checks: tuple[Check, ...]
    claim: tuple[ClaimAnswer, ...]
    budget_sentences: tuple[Message, ...]  # about the primary pair
    plan_text: str  # study.yaml as it was begun with; empty where it is gone
    plan_sha256: str

    @property
    def faults(self) -> tuple[Check, ...]:
        """Checks that failed."""
        return tuple(failed(self.checks))


def find(records: StudyRecords, summary: Summary, shelf: Shelf) -> Findings:
    """Look at everything that the study folder and its archives can tell."""
    data = describe_data(records, shelf)
    checks = check_data(gather(records, shelf))
    plan_text = ""
    with suppress(OSError, UnicodeDecodeError):
        plan_text = (records.study_dir / STUDY_YAML).read_text(encoding="utf-8")
    plan_sha256 = hashlib.sha256(plan_text.encode("utf-8")).hexdigest() if plan_text else ""
    summary = replace(summary, verdict=require_honest_tests(summary.verdict, checks))
    return Findings(
        summary,
        data,
        checks,
        fill_in_claim(ClaimFacts(summary, data, checks, plan_sha256)),
        _budget_sentences(summary),
        plan_text,
        plan_sha256,
    )


def reworded_findings(findings: Findings, records: StudyRecords, language: Language) -> Findings:
    """The same with verdict and warnings in a language; what are messages are translated where they are "
    "shown."""
    summary = reworded(findings.summary, records, language)
    verdict = require_honest_tests(summary.verdict, findings.checks, language)
    return replace(findings, summary=replace(summary, verdict=verdict))


def require_honest_tests(
    verdict: Verdict, checks: tuple[Check, ...], language: Language = ENGLISH
) -> Verdict:
    """No headline where a check found what makes test results too good; the numbers stay, as a hint."""
    faults = [check for check in failed(checks) if check.vetoes]
    if not faults:
        return verdict
    headline = language.text(
        "Warning: no headline, because a check of the data failed, and results may be too good to be true. "
        "What failed: {what} ({found}). As a hint and no more: {hint}",
        what=faults[0].what,
        found=faults[0].found,
        hint=verdict.hint,
    )
    return Verdict("no headline", headline, verdict.details, verdict.hint)


def _budget_sentences(summary: Summary) -> tuple[Message, ...]:
    if summary.primary is None:
        return ()
    found = []
    for arm in (summary.primary.arm, summary.primary.baseline):
        fraction = 1.0 if arm == CEILING else summary.primary.fraction
        found += [b for b in summary.budgets if b.arm == arm and abs(b.fraction - fraction) < 1e-9]
    return tuple(compare_budgets(*found)) if len(found) == 2 else ()
