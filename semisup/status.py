"""What a study would run and how far it is, as records and as text for a terminal."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semisup.arms import ARMS
from semisup.errors import StudyError
from semisup.folders import STUDY_JSON, read_json
from semisup.heartbeat import read_heartbeat
from semisup.outcomes import read_run
from semisup.plan import Plan


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is."""

    counts: dict[str, Counter[str]]  # by arm: "done", "failed", "running", "open"
    running: tuple[str, ...]  # title and message of what is being worked on
    failures: tuple[tuple[str, str], ...]  # title and cause
    seconds_left: float | None  # on one process; None before the first run is done


def study_status(study_dir: Path) -> StudyStatus:
    """Read how far a study is from its files alone, without disturbing the command at work in it.

    Raises:
        StudyError: if the folder is no study.
    """
    study = read_json(study_dir / STUDY_JSON)
    missing = [name for name in ("arms", "runs", "pseudo") if name not in study]
    if missing:
        raise StudyError(
            f"{study_dir / STUDY_JSON}: expected {', '.join(missing)}, got none; restore the file"
        )
    beats = {path.stem: beat for path in study_dir.glob("progress/*.json") if (beat := read_heartbeat(path))}
    counts: dict[str, Counter[str]] = {name: Counter() for name in study["arms"]}
    failures, seconds, trainings_left = [], [], 0
    for planned in study["runs"]:
        content = read_run(planned["key"], study_dir)
        state = content["status"] if content else "open"
        counts[planned["arm"]]["running" if planned["key"] in beats else state] += 1
        trainings = ARMS[planned["arm"]].num_trainings(study["pseudo"]["rounds"])
        if state == "done" and content:
            seconds.append(content["seconds"] / max(trainings, 1))
        else:
            trainings_left += trainings
        if state == "failed" and content:
            failures.append((planned["title"], str(content["error"])))
    running = tuple(
        f"{beat['title']}: {beat['message']} ({beat['done']}/{beat['total']})" for beat in beats.values()
    )
    per_training = sum(seconds) / len(seconds) if seconds else None
    left = None if per_training is None else trainings_left * per_training
    return StudyStatus(counts, running, tuple(failures), left)


def plan_table(plan: Plan) -> str:
    """What a study would run, as text for a terminal."""
    config = plan.config
    num_gans = sum(job.kind == "gan" for job in plan.jobs)
    pools = [job for job in plan.jobs if job.kind == "pool"]
    lines = [
        f"{config.name}: {len(plan.runs)} runs, at most {plan.num_trainings} classifier trainings of "
        f"{config.classifier_config(0).steps} steps, {num_gans} generators to train",
        f"data: {config.data} ({', '.join(plan.classes)})",
        f"folds {_listed(plan.folds)}; seeds {_listed(config.seeds)}; "
        f"fractions {_listed(sorted(config.fractions))}",
    ]
    if pools:
        lines.append(
            f"pool: {config.pool.num_images} synthetic images a generator, psi {config.pool.truncation_psi:g}"
        )
    lines.append("")
    width = max(len(name) for name in config.arms)
    for name in config.arms:
        runs = [run for run in plan.runs if run.arm == name]
        trainings = sum(plan.trainings_of(run) for run in runs)
        lines.append(f"{name:<{width}}  {len(runs):4d} runs  {trainings:4d} trainings  {ARMS[name].text}")
    primary = config.primary
    lines += [
        "",
        f"primary comparison: {primary.arm} against {primary.baseline} at {primary.fraction:.0%} of the "
        f"labels, {primary.metric.replace('_', ' ')}",
    ]
    return "\n".join(lines)


def status_table(status: StudyStatus) -> str:
    """How far a study is, as text for a terminal."""
    width = max(len(name) for name in status.counts)
    lines = []
    for name, counts in status.counts.items():
        states = [
            f"{counts[state]} {state}" for state in ("done", "running", "open", "failed") if counts[state]
        ]
        lines.append(f"{name:<{width}}  {', '.join(states)}")
    lines += [f"now: {text}" for text in status.running]
    lines += [f"failed: {title}: {cause}" for title, cause in status.failures]
    if status.seconds_left is None:
        lines.append("time left: unknown before the first run is done")
    elif status.seconds_left:
        lines.append(
            f"classifier trainings left: about {status.seconds_left / 60:.0f} minutes of one process"
        )
    return "\n".join(lines)


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(f"{value:g}" for value in values)
