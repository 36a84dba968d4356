"""`audit import`: from the sheets that came back to `audit.json`, which the report's verdict may wait for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.errors import SettingsError, name_some
from extract.file_hash import file_sha256
from extract.json_values import json_value
from semisup.audit_key import KEY_FOLDER, find_keys, read_keys, sample_of
from semisup.audit_sheet import read_answers, sheet_codes
from semisup.audit_statistics import (
    LEVEL,
    NONE_OF_THESE,
    Agreement,
    Answer,
    AuditResult,
    AuditSample,
    ErrorEstimate,
    ReaderResult,
    audit_result,
)
from semisup.errors import StudyError
from semisup.folders import STUDY_JSON, read_json, write_json
from semisup.ledger import LEDGER_FILE

AUDIT_JSON = "audit.json"


@dataclass(frozen=True)
class AuditSummary:
    """What `audit import` found, and where it wrote it."""

    path: Path
    export: str
    sample: AuditSample
    result: AuditResult
    band_edges: tuple[float, ...]
    num_exports: int


@dataclass(frozen=True)
class JudgedSheets:
    """What sheets say about an export, before anything is written."""

    key: dict[str, Any]
    sample: AuditSample
    answers: dict[str, dict[str, Answer]]  # by reader, then by code
    result: AuditResult
    num_exports: int


def import_audit(
    study_dir: Path, sheets: Sequence[Path], *, export: str | None = None, overwrite: bool = False
) -> AuditSummary:
    """Read the filled-in sheets of one export, one a reader, and write `audit.json` into the study.

    Sheets may be unfinished; the same command reads them again later. The result of another export is
    replaced with `overwrite` alone.

    Args:
        export: the export that the sheets belong to, where that is known; else it is told by their codes.

    Raises:
        StudyError: for a sheet that belongs to no export or cannot be understood, and for ledgers that have
            changed since the export.
    """
    study_dir = Path(study_dir)
    study = read_json(study_dir / STUDY_JSON)
    judged = judge_sheets(study_dir, sheets, export=export)
    key, sample, answers, result = judged.key, judged.sample, judged.answers, judged.result
    path = study_dir / AUDIT_JSON
    if path.exists() and read_json(path).get("export") != key["export"] and not overwrite:
        raise StudyError(
            f"{path}: holds the audit of another export and is left alone; pass --overwrite to replace it"
        )
    write_json(path, describe_audit(study, key, sample, answers, result, num_exports=judged.num_exports))
    return AuditSummary(path, key["export"], sample, result, tuple(key["band_edges"]), judged.num_exports)


def judge_sheets(study_dir: Path, sheets: Sequence[Path], *, export: str | None = None) -> JudgedSheets:
    """What the sheets of one export say; nothing is written. Arguments and errors as `import_audit`'s."""
    if not sheets:
        raise SettingsError("expected at least one filled-in labels.csv, got none")
    keys = read_keys(study_dir)
    key = _key_of([key for key in keys if export in (None, key["export"])], sheets, study_dir)
    check_ledgers(study_dir, key)
    sample = sample_of(key)
    names = [f"reader {number + 1}" for number in range(len(sheets))]
    answers = {name: read_answers(Path(path), sample) for name, path in zip(names, sheets, strict=True)}
    return JudgedSheets(key, sample, answers, audit_result(sample, answers), len(keys))


def _key_of(keys: list[dict[str, Any]], sheets: Sequence[Path], study_dir: Path) -> dict[str, Any]:
    found = []
    for path in sheets:
        known = find_keys(keys, sheet_codes(Path(path)))
        if not known:
            raise StudyError(
                f"{path}: expected codes of an export of {study_dir}, got none that is known; import it into "
                "the study that it was exported from"
            )
        if len(known) > 1:
            raise StudyError(
                f"{path}: expected codes of one export, got some that several share "
                f"({name_some([key['export'] for key in known])}); move the keys of the others away from "
                f"{study_dir / KEY_FOLDER} (README.txt beside the pictures ends with the name of theirs)"
            )
        found += known
    if len({key["export"] for key in found}) > 1:
        raise StudyError(
            f"expected the sheets of one export, got {' and '.join(key['export'] for key in found)}; import "
            "them one after the other"
        )
    return found[0]


def check_ledgers(study_dir: Path, key: dict[str, Any]) -> None:
    """The key points at rows: they must be the ones that were there.

    Raises:
        StudyError: if a ledger was changed or is gone.
    """
    for run, sha256 in key["ledgers"].items():
        path = study_dir / "runs" / run / LEDGER_FILE
        if not path.exists() or file_sha256(path) != sha256:
            raise StudyError(
                f"{path}: expected the ledger as it was when the audit was exported ({sha256[:12]}...), got "
                f"{'another' if path.exists() else 'none'}; export and read anew"
            )


def describe_audit(
    study: dict[str, Any],
    key: dict[str, Any],
    sample: AuditSample,
    answers: dict[str, dict[str, Answer]],
    result: AuditResult,
    *,
    num_exports: int,
) -> dict[str, Any]:
    """The content of `audit.json`."""
    return {
        "format": "synthlabel-audit-result-1",
        "study": study.get("name"),
        "export": key["export"],
        "export_sha256": key["export_sha256"],
        "num_exports": num_exports,  # that were ever made: an audit can be chosen as well
        "arms": key["arms"],
        "fractions": key["fractions"],
        "rounds": key["rounds"],
        "runs": key["runs"],
        "classes": list(sample.classes),
        "band_edges": key["band_edges"],
        "level": LEVEL,
        "num_pictures": len(sample.pictures),
        "num_drawn": len(sample.codes),
        "num_population": key["num_population"],
        "readers": [
            {**_describe_reader(reader), "answers": _describe_answers(answers[reader.reader], sample)}
            for reader in result.readers
        ],
        "agreements": [_describe_agreement(pair) for pair in result.agreements],
    }


def _describe_reader(reader: ReaderResult) -> dict[str, Any]:
    return {
        "reader": reader.reader,
        "num_answered": reader.num_answered,
        "num_unsure": reader.num_unsure,
        "num_none": reader.num_none,
        "error": vars(reader.error),
        "error_if_unsure_wrong": vars(reader.error_if_unsure_wrong),
        "by_class": [vars(estimate) for estimate in reader.by_class],
        "by_band": [vars(estimate) for estimate in reader.by_band],
        "by_arm": [
            {"arm": arm, "fraction": fraction, **vars(estimate)}
            for (arm, fraction), estimate in reader.by_arm.items()
        ],
        "confusion": reader.confusion.tolist(),
    }


def _describe_agreement(pair: Agreement) -> dict[str, Any]:
    return {
        "readers": list(pair.readers),
        "num_pictures": pair.num_pictures,
        "agreement": pair.agreement,
        "kappa": pair.kappa,
    }


def _describe_answers(answers: dict[str, Answer], sample: AuditSample) -> dict[str, dict[str, Any]]:
    def word(answer: Answer) -> str | None:
        if answer.label is None:
            return None
        return "none" if answer.label == NONE_OF_THESE else sample.classes[answer.label]

    return {
        code: {"label": word(answer), "unsure": answer.unsure, "comment": answer.comment}
        for code, answer in sorted(answers.items())
    }


def read_audit(study_dir: Path) -> dict[str, Any] | None:
    """What `audit import` wrote; None where no audit has been read."""
    path = study_dir / AUDIT_JSON
    return read_json(path) if path.exists() else None


def is_recorded(study_dir: Path, judged: JudgedSheets) -> bool:
    """Whether the study's `audit.json` says the same as these sheets already."""
    found = read_audit(study_dir)
    if found is None:
        return False
    study = read_json(study_dir / STUDY_JSON)
    wanted = describe_audit(
        study, judged.key, judged.sample, judged.answers, judged.result, num_exports=judged.num_exports
    )
    return found == json_value(wanted)


def has_been_judged(study_dir: Path, export: str, sample: AuditSample, answers: dict[str, Answer]) -> bool:
    """Whether the study's `audit.json` holds these very answers: their reader may have seen the result."""
    audit = read_audit(study_dir)
    if audit is None or audit.get("export") != export or not answers:
        return False
    wanted = json_value(_describe_answers(answers, sample))
    return any(reader.get("answers") == wanted for reader in audit.get("readers") or [])


def lost_readers(study_dir: Path, export: str, answers: Sequence[dict[str, Answer]]) -> int:
    """How many readers in the study's `audit.json` an import of these answers would forget.

    A reader is kept where the same pictures have been answered, whatever the answers are by now.
    """
    audit = read_audit(study_dir)
    if audit is None:
        return 0
    earlier = [set(reader.get("answers") or {}) for reader in audit.get("readers") or []]
    if audit.get("export") != export:
        return len(earlier)
    free = [set(given) for given in answers]
    lost = 0
    for codes in sorted(earlier, key=len, reverse=True):
        match = next((other for other in free if codes <= other), None)
        if match is None:
            lost += 1
        else:
            free.remove(match)
    return lost


def strictest_bound(audit: dict[str, Any], arm: str, fraction: float) -> tuple[float, int] | None:
    """The highest upper limit of any reader for one arm and fraction, and how many pseudo-labels it rests on.

    Pictures that a reader was unsure of count as errors. None where the audit says nothing about the arm.
    """
    found = [
        (float(entry["high"]), int(entry["num_read"]))
        for reader in audit.get("readers") or []
        for entry in reader.get("by_arm") or []
        if entry["arm"] == arm and abs(entry["fraction"] - fraction) < 1e-9
    ]
    return max(found, default=None)


def describe_estimate(estimate: ErrorEstimate) -> str:
    """ "4.0 % [1.8 %, 7.7 %], 8 of 200 read"."""
    if not estimate.num_read:
        return "nothing read"
    return (
        f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f} %, {100 * estimate.high:.1f} %], "
        f"{estimate.num_errors} wrong of {estimate.num_read} read"
    )
