"""How far a study is and how long it may take yet, from its files alone, as a record and as text."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semisup.errors import StudyError
from semisup.folders import RECORDS, STUDY_JSON, read_json
from semisup.forecast import Task, wall_seconds
from semisup.heartbeat import read_heartbeat
from semisup.plan_table import KINDS, format_seconds
from semisup.run_list import ListedRun, RunReader
from semisup.times import MIN_SHARE, read_times

FIXMATCH = "fixmatch_real"
STATES = ("done", "running", "open", "failed")
FOLDERS = {"gan": "gans", "pool": "pools"}


@dataclass(frozen=True)
class GroupStatus:
    """The runs of an arm, or the generators, or the pools."""

    name: str
    counts: Counter[str]  # by state: "done", "running", "open", "failed"
    seconds_left: float | None  # of one process; None while nothing tells how long such a job takes


@dataclass(frozen=True)
class AtWork:
    """A job that is being worked on."""

    title: str
    message: str  # what it said last
    done: int
    total: int

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return min(max(self.done / max(self.total, 1), 0.0), 1.0)


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is."""

    groups: tuple[GroupStatus, ...]
    at_work: tuple[AtWork, ...]
    failures: tuple[tuple[str, str], ...]  # title and cause
    seconds_left: float | None  # with as many processes as are at work now; None where it is unknown
    num_processes: int  # that it reckons with: those at work, or one

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """By group."""
        return {group.name: group.counts for group in self.groups}

    @property
    def running(self) -> tuple[str, ...]:
        """Title, message and share of what is being worked on."""
        return tuple(f"{job.title}: {job.message} ({job.done}/{job.total})" for job in self.at_work)

    @property
    def is_over(self) -> bool:
        """Whether every job is done or has failed."""
        return not any(group.counts["open"] or group.counts["running"] for group in self.groups)


@dataclass(frozen=True)
class _Job:
    key: str
    kind: str
    group: str
    title: str
    needs: tuple[str, ...]
    trainings: int  # as long as those of a supervised run
    state: str
    cause: str | None
    seconds: float | None  # that it took, if done


def study_status(study_dir: Path, runs: Mapping[str, ListedRun] | None = None) -> StudyStatus:
    """Read how far a study is from its files alone, without disturbing the command at work in it.

    What failed counts among what is left: the same command tries it again.

    Args:
        runs: those that have left something, by key, where they have been read already (`RunReader`).

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
    jobs = _read_jobs(study, study_dir, beats, RunReader(study_dir).read().runs if runs is None else runs)
    expected = _expected_seconds(jobs, beats)
    names = [*(KINDS[kind] for kind in FOLDERS if any(job.kind == kind for job in jobs)), *study["arms"]]
    groups = tuple(
        _group(name, [job for job in jobs if job.group == name], expected, beats) for name in names
    )
    places = max(len(beats), 1)
    unfinished = [job for job in jobs if job.state != "done"]
    left = {job.key: _seconds_left(job, expected, beats) for job in unfinished}
    seconds_left = None
    if all(value is not None for value in left.values()):
        tasks = [Task(job.key, job.needs, left[job.key] or 0.0) for job in unfinished]
        seconds_left = wall_seconds(sorted(tasks, key=lambda task: task.key not in beats), places)
    at_work = tuple(
        AtWork(str(beat["title"]), str(beat["message"]), int(beat["done"]), int(beat["total"]))
        for beat in beats.values()
    )
    failures = tuple((job.title, str(job.cause)) for job in jobs if job.state == "failed")
    return StudyStatus(groups, at_work, failures, seconds_left, places)


def _read_jobs(
    study: Mapping[str, Any], study_dir: Path, beats: Mapping[str, Any], found: Mapping[str, ListedRun]
) -> list[_Job]:
    times = read_times(study_dir)
    planned = {job["key"]: job for job in study.get("jobs", [])}  # older studies name their runs alone
    jobs = []
    for key, job in planned.items():
        if job["kind"] in FOLDERS:
            done = (study_dir / FOLDERS[job["kind"]] / key / RECORDS[job["kind"]]).exists()
            state = "done" if done else "running" if key in beats else "open"
            jobs.append(
                _Job(key, job["kind"], KINDS[job["kind"]], job["title"], tuple(job["needs"]), 0, state, None,
                     times.get(key))
            )  # fmt: skip
    for run in study["runs"]:
        key, listed = run["key"], found.get(run["key"])
        state = "running" if key in beats else listed.status if listed else "open"
        rounds = study["pseudo"].get("rounds", 0) if run["arm"].startswith("pseudo") else 1
        seconds = listed.seconds if listed and state == "done" else None
        known = planned.get(key, {})
        trainings = known.get("trainings", rounds)
        if run["arm"] == FIXMATCH:  # a batch holds two views of `mu` unlabeled images for each labeled one
            trainings *= 1 + 2 * int(study.get("fixmatch", {}).get("mu", 0))
        jobs.append(
            _Job(key, "run", run["arm"], run["title"], tuple(known.get("needs", ())),
                 trainings, state, listed.error if listed else None, seconds)
        )  # fmt: skip
    return jobs


def _expected_seconds(jobs: list[_Job], beats: Mapping[str, Any]) -> dict[str, float | None]:
    """Of each whole job: from finished ones of its group, else of its kind, else from those at work."""
    groups: dict[str, list[_Job]] = {}
    for job in jobs:
        groups.setdefault(job.group, []).append(job)
    of_group = {name: _mean([job.seconds for job in group]) for name, group in groups.items()}
    guesses = {
        name: _mean([_whole_seconds(beats[job.key]) or None for job in group if job.key in beats])
        for name, group in groups.items()
    }
    alike = [job for job in jobs if job.kind == "run" and job.seconds is not None]
    per_training = None
    if alike:
        per_training = sum(job.seconds or 0.0 for job in alike) / sum(max(job.trainings, 1) for job in alike)

    def expected(job: _Job) -> float | None:
        if of_group[job.group] is not None:
            return of_group[job.group]
        if job.kind == "run" and per_training is not None:
            return per_training * max(job.trainings, 1)
        return guesses[job.group]

    return {job.key: expected(job) for job in jobs}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _whole_seconds(beat: Mapping[str, Any]) -> float | None:
    """What a running job would take from its beginning, at the pace of this attempt."""
    made = beat["done"] / max(beat["total"], 1) - beat.get("first_share", 0.0)
    return beat["seconds"] / made if made >= MIN_SHARE and "seconds" in beat else None


def _seconds_left(job: _Job, expected: Mapping[str, float | None], beats: Mapping[str, Any]) -> float | None:
    beat = beats.get(job.key)
    if beat is None:
        return expected[job.key]
    whole = _whole_seconds(beat) or expected[job.key]
    return None if whole is None else whole * max(1 - beat["done"] / max(beat["total"], 1), 0.0)


def _group(
    name: str, jobs: list[_Job], expected: Mapping[str, float | None], beats: Mapping[str, Any]
) -> GroupStatus:
    left = [_seconds_left(job, expected, beats) for job in jobs if job.state != "done"]
    known = [value for value in left if value is not None]
    return GroupStatus(
        name, Counter(job.state for job in jobs), sum(known) if len(known) == len(left) else None
    )


def status_table(status: StudyStatus) -> str:
    """How far a study is, as text for a terminal."""
    width = max(len(group.name) for group in status.groups)
    lines = []
    for group in status.groups:
        states = ", ".join(f"{group.counts[state]} {state}" for state in STATES if group.counts[state])
        left = ""
        if group.seconds_left:
            left = f"  ({format_seconds(group.seconds_left)} of one process left)"
        lines.append(f"{group.name:<{width}}  {states}{left}")
    lines += [f"now: {text}" for text in status.running]
    lines += [f"failed: {title}: {cause}" for title, cause in status.failures]
    if status.seconds_left is None:
        lines.append("time left: unknown before one job of each kind is done")
    elif status.seconds_left:
        at_once = "process" if status.num_processes == 1 else f"{status.num_processes} processes"
        again = ", what failed tried again" if status.failures else ""
        lines.append(f"time left: about {format_seconds(status.seconds_left)} with {at_once}{again}")
    return "\n".join(lines)


def status_json(status: StudyStatus) -> dict[str, Any]:
    """The same as plain values; unknown seconds are null."""
    return {
        "groups": [
            {"name": group.name, **{state: group.counts[state] for state in STATES},
             "seconds_left": group.seconds_left}
            for group in status.groups
        ],
        "running": list(status.running),
        "failures": [{"title": title, "cause": cause} for title, cause in status.failures],
        "seconds_left": status.seconds_left,
        "num_processes": status.num_processes,
        "is_over": status.is_over,
    }  # fmt: skip
