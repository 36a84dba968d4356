"""A study as a folder: begun once with its plan, worked on until all is done, never mixed with another."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.atomic import write_text
from extract.errors import SettingsError
from extract.progress import Progress, no_progress
from semisup.arms import ARMS
from semisup.config import StudyConfig, load_study
from semisup.errors import StudyError
from semisup.execute import Outcome, execute, is_done
from semisup.folders import LOCK, STUDY_JSON, STUDY_YAML, read_json, remove_leftovers, write_json
from semisup.leak_settings import honest_arm
from semisup.plan import Plan, PoolJob, RunJob, make_plan
from semisup.versions import versions

OTHER_JOBS = "another generator or release"


@dataclass(frozen=True)
class StudySummary:
    """What a `semisup run` did and what is left."""

    study_dir: Path
    num_runs: int
    num_done: int
    num_performed: int  # jobs of any kind, in this command
    failures: tuple[tuple[str, str], ...]  # title and cause of each job that failed now


def run_study(
    study_file: Path,
    study_dir: Path,
    *,
    jobs: int | None = None,
    gpus: Sequence[str] = (),
    ray_address: str | None = None,
    command: Sequence[str] = (),
    progress: Progress = no_progress,
) -> StudySummary:
    """Begin a study, or go on with it: what is done is not done again, what failed is tried again.

    The numbers depend neither on `jobs` nor on how often the command was killed.

    Args:
        jobs: processes at once; None = two, or one on a machine with one core, or one a GPU.
        gpus: GPUs of this machine to deal out to the processes, as CUDA_VISIBLE_DEVICES names them.
        ray_address: of a Ray cluster to work on: "local", "auto" or HOST:PORT.
        command: what to record as the command that repeats the study.

    Raises:
        SettingsError: for a study file that asks for what cannot be.
        StudyError: if the folder belongs to another plan, or another command is at work in it.
    """
    config = load_study(study_file)
    if gpus:
        check_gpu_use(config, ray_address)
    plan = make_plan(config)
    with locked(study_dir):
        _begin(plan, study_file, study_dir, command)
        remove_leftovers(study_dir)
        outcome = execute(plan, study_dir, jobs=jobs, gpus=gpus, ray_address=ray_address, progress=progress)
    return _summary(plan, study_dir, outcome)


def check_gpu_use(config: StudyConfig, ray_address: str | None) -> None:
    """Refuse `--gpus` where it could do nothing, or where the study file says otherwise.

    Raises:
        SettingsError: likewise.
    """
    if ray_address is not None:
        raise SettingsError(
            "--gpus names GPUs of this machine; leave it out with --ray, where Ray gives each job one"
        )
    devices = {"classifier.device": config.classifier.device}
    if config.needs_gan:
        devices["gan.device"] = config.gan.device
    for name, device in devices.items():
        if ":" in device:
            raise SettingsError(
                f"{name}: {device} names one GPU for all jobs; write cuda, and --gpus gives each job its own"
            )
    if set(devices.values()) == {"cpu"}:
        raise SettingsError(f"--gpus: the study runs on the CPU ({', '.join(devices)}: cpu); leave it out")


def _summary(plan: Plan, study_dir: Path, outcome: Outcome) -> StudySummary:
    num_done = sum(is_done(run, study_dir) for run in plan.runs)
    return StudySummary(study_dir, len(plan.runs), num_done, outcome.num_performed, outcome.failures)


@contextmanager
def locked(study_dir: Path) -> Iterator[None]:
    """Keep a second command out of the folder; the lock goes with its process, however that ends."""
    study_dir.mkdir(parents=True, exist_ok=True)
    with open(study_dir / LOCK, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StudyError(
                f"{study_dir}: another `semisup run` is at work in this folder; wait for it, or "
                "choose another --outdir"
            ) from error
        yield


def _begin(plan: Plan, study_file: Path, study_dir: Path, command: Sequence[str]) -> None:
    wanted = plan_identity(plan)
    path = study_dir / STUDY_JSON
    if path.exists():
        _refuse_other_plan(read_json(path).get("plan", {}), wanted, study_dir)
        return
    foreign = [entry.name for entry in study_dir.iterdir() if not entry.name.startswith(".")]
    if foreign:
        raise StudyError(
            f"{study_dir}: expected an empty folder or a study begun before, got "
            f"{', '.join(sorted(foreign)[:5])}; choose another --outdir"
        )
    write_text(study_dir / STUDY_YAML, Path(study_file).read_text(encoding="utf-8"))
    write_json(path, describe_study(plan, wanted, command))  # last: it says that the study has begun


def plan_identity(plan: Plan) -> dict[str, Any]:
    """Everything that makes two plans different studies; where the files lie is not part of it."""
    content = plan.config.model_dump(mode="json", exclude={"data", "split", "folds"})
    content["gan"].pop("network")  # known by the pools' hashes below
    if content["controls_of"] is None:
        content.pop("controls_of")  # studies that began before there was this setting go on
    if not any(ARMS[name].method == "fixmatch" for name in plan.config.arms):
        content.pop("fixmatch")
    if not plan.config.has_gates:
        content["pseudo"].pop("gates", None)
    return {
        **content,
        "folds": list(plan.folds),
        "archive_sha256": plan.archive_sha256,
        "split_sha256": plan.split_sha256,
        "jobs": sorted(job.key for job in plan.jobs),
    }


def _refuse_other_plan(there: dict[str, Any], wanted: dict[str, Any], study_dir: Path) -> None:
    differences = list(_differences(there, wanted))
    if (
        len(differences) > 1
    ):  # the hashes of the jobs follow from all the others: alone they mean another snapshot
        differences = [text for text in differences if text != OTHER_JOBS]
    if differences:
        shown = "; ".join(differences[:3]) + (
            f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        )
        raise StudyError(
            f"{study_dir}: this folder belongs to another plan ({shown}); choose another --outdir, or go "
            "back to the study file and data it was begun with"
        )


def _differences(there: dict[str, Any], wanted: dict[str, Any], place: str = "") -> Iterator[str]:
    for key in sorted(there.keys() | wanted.keys()):
        old, new = there.get(key), wanted.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{place}{key}.")
        elif key == "jobs":
            yield OTHER_JOBS
        elif place + key == "pseudo.gates":
            hint = "; add `gates: []` under pseudo to go on without" if old is None else ""
            yield f"pseudo.gates: {_listed(old)} there, {_listed(new)} now{hint}"
        else:
            yield f"{place}{key}: {_short(old)} there, {_short(new)} now"


def _listed(names: list[str] | None) -> str:
    return ", ".join(names) if names else "none"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."


def describe_study(plan: Plan, identity: dict[str, Any], command: Sequence[str]) -> dict[str, Any]:
    """The resolved plan as `study.json` keeps it, for the report and for whoever repeats the study."""
    config = plan.config
    leaks = [name for name in config.arms if ARMS[name].is_leak]
    return {
        "name": config.name,
        "data": str(config.data),
        "split": str(config.split),
        "archive_sha256": plan.archive_sha256,
        "split_sha256": plan.split_sha256,
        "classes": list(plan.classes),
        "arms": list(config.arms),
        "arm_texts": {name: ARMS[name].text for name in config.arms},
        "fractions": sorted(config.fractions),
        **({"curve_fractions": sorted(config.curve_fractions)} if config.curve_fractions else {}),
        "folds": list(plan.folds),
        "seeds": list(config.seeds),
        "primary": config.primary.model_dump(),
        "controls_of": config.reference_arm if any(ARMS[name].is_control for name in config.arms) else None,
        **({"held_against": {name: honest_arm(config, name) for name in leaks}} if leaks else {}),
        "classifier": config.classifier.model_dump(mode="json"),
        "gan": config.gan.model_dump(mode="json"),
        "pool": config.pool.model_dump(),
        "pseudo": config.pseudo.model_dump(),
        "fixmatch": config.fixmatch.model_dump(),
        **({"audit": config.audit.model_dump()} if config.audit.required else {}),
        "threads": config.threads,
        "gan_threads": config.threads_of_gan,
        "runs": [
            {"key": run.key, "title": run.title, "arm": run.arm, "fold": run.fold, "seed": run.seed,
             "fraction": run.fraction, "pool_key": run.pool_key}
            for run in plan.runs
        ],
        "jobs": [
            {"key": job.key, "kind": job.kind, "title": job.title, "needs": list(job.needs),
             "trainings": plan.trainings_of(job) if isinstance(job, RunJob) else 0}
            for job in plan.jobs
        ],
        "pools": {
            str(job.fold): job.key
            for job in plan.jobs
            if isinstance(job, PoolJob) and job.fraction is None and not (job.is_oracle or job.is_leak)
        },
        "versions": versions(),
        "command": list(command),
        "plan": identity,
    }  # fmt: skip
