"""Whether a study's audit is what its plan asks for before the report has a headline."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from semisup.audit import read_audit, strictest_bound
from semisup.folders import RUN_JSON, STUDY_JSON, read_json

Standing = Literal["not required", "missing", "incomplete", "too wrong", "met"]


@dataclass(frozen=True)
class AuditStanding:
    """What the plan asks for, and what there is."""

    is_required: bool
    arm: str  # of the primary comparison; empty where the study names none
    fraction: float
    max_error: float | None  # that the plan allows
    bound: float | None  # upper limit that the audit gives for the arm
    num_unread: int  # finished runs of the arm that the audit did not draw from

    @property
    def standing(self) -> Standing:
        """The same in a word, in the order in which the report objects."""
        if not self.is_required:
            return "not required"
        if self.bound is None:
            return "missing"
        if self.num_unread:
            return "incomplete"
        return "too wrong" if self.max_error is not None and self.bound > self.max_error else "met"


def audit_standing(study_dir: Path) -> AuditStanding:
    """Compare the plan with `audit.json`, as the report does.

    Raises:
        StudyError: if a file of the study is missing or damaged.
    """
    study = read_json(study_dir / STUDY_JSON)
    wanted, primary = study.get("audit") or {}, study.get("primary") or {}
    arm, fraction = str(primary.get("arm") or ""), float(primary.get("fraction") or 0)
    audit = read_audit(study_dir) or {}
    found = strictest_bound(audit, arm, fraction)
    unread = _finished_runs(study_dir, arm, fraction) - set(audit.get("runs") or [])
    return AuditStanding(
        bool(wanted.get("required")), arm, fraction, wanted.get("max_error"), found[0] if found else None,
        len(unread),
    )  # fmt: skip


def _finished_runs(study_dir: Path, arm: str, fraction: float) -> set[str]:
    found = set()
    for path in study_dir.glob(f"runs/[!.]*/{RUN_JSON}"):
        info = read_json(path)
        is_of_arm = info.get("arm") == arm and np.isclose(float(info.get("fraction") or 0), fraction)
        if is_of_arm and info.get("status") == "done" and not info.get("leak"):
            found.add(path.parent.name)
    return found
