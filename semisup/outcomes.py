"""What is written about a run, done or failed, and how to read it: no torch."""

from pathlib import Path
from typing import Any, Literal

from semisup.arms import ARMS
from semisup.folders import RUN_JSON, read_json, replace_folder, write_json
from semisup.plan import RunJob

RunStatus = Literal["open", "done", "failed"]


def describe_run(job: RunJob) -> dict[str, Any]:
    """What run.json says about any run, done or failed."""
    arm = ARMS[job.arm]
    return {
        "key": job.key,
        "arm": job.arm,
        "fold": job.fold,
        "seed": job.seed,
        "fraction": job.fraction,
        "settings": job.settings,
        "teacher_key": job.teacher_key,
        "pool_key": job.pool_key,
        "reference_key": job.reference_key,
        **({"leak": True, "fault": arm.fault} if arm.is_leak else {}),
    }


def record_failure(job: RunJob, study_dir: Path, cause: str) -> None:
    """Leave a run folder that says why there is no result; the next `semisup run` tries again."""
    with replace_folder(study_dir / job.folder / job.key) as folder:
        write_json(folder / RUN_JSON, {**describe_run(job), "status": "failed", "error": cause})


def read_run(key: str, study_dir: Path) -> dict[str, Any] | None:
    """A run's record; None where it has none yet."""
    path = study_dir / RunJob.folder / key / RUN_JSON
    return read_json(path) if path.exists() else None


def run_status(job: RunJob, study_dir: Path) -> tuple[RunStatus, str | None]:
    """Whether a run is done, and the cause where it failed."""
    content = read_run(job.key, study_dir)
    return (content["status"], content.get("error")) if content else ("open", None)
