"""Work in processes of its own: a job that dies, Ctrl-C, and what the parent hears."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from semisup import execute, workers
from semisup.config import load_study
from semisup.heartbeat import heartbeat_path, read_heartbeat
from semisup.outcomes import run_status
from semisup.plan import GanJob, RunJob, make_plan


def suicidal_attempt(job, basis, progress=None):
    """Stands in for `execute.attempt`: supervised_full kills its process, the others succeed."""
    if isinstance(job, RunJob) and job.arm == "supervised_full":
        os.kill(os.getpid(), signal.SIGKILL)
    folder = basis.study_dir / job.folder / job.key
    folder.mkdir(parents=True, exist_ok=True)  # a job whose neighbour died is done again
    (folder / "run.json").write_text('{"status": "done"}')
    return workers.Verdict("done")


def slow_attempt(job, basis, progress=None):
    (basis.study_dir / "started").mkdir(parents=True, exist_ok=True)
    (basis.study_dir / "started" / str(os.getpid())).touch()
    time.sleep(60)
    return workers.Verdict("done")


@pytest.mark.slow
def test_a_killed_process_fails_its_own_run_alone(write_study, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "attempt", suicidal_attempt)
    plan = make_plan(load_study(write_study()))
    outcome = execute.execute(plan, tmp_path / "out", jobs=2)
    ((title, cause),) = outcome.failures
    assert title.startswith("supervised_full") and "its process was killed" in cause
    states = {run.arm: run_status(run, tmp_path / "out")[0] for run in plan.runs}
    assert states == {"supervised": "done", "supervised_full": "failed", "pseudo_real": "done"}


@pytest.mark.slow
def test_an_interrupt_ends_the_workers(write_study, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "attempt", slow_attempt)
    plan = make_plan(load_study(write_study()))
    real_wait = execute.wait

    def interrupted_wait(futures, timeout=None, return_when="ALL_COMPLETED"):
        if len(list((tmp_path / "out" / "started").glob("*"))) == 2:
            raise KeyboardInterrupt
        return real_wait(futures, timeout=timeout, return_when=return_when)

    monkeypatch.setattr(execute, "wait", interrupted_wait)
    with pytest.raises(KeyboardInterrupt):
        execute.execute(plan, tmp_path / "out", jobs=2)
    for pid in (tmp_path / "out" / "started").iterdir():
        assert not Path(f"/proc/{pid.name}").exists()


def test_a_generator_takes_as_many_places_as_it_has_threads(write_study, tmp_path):
    arms = ["supervised", "pseudo_gan_full"]
    primary = {"arm": "pseudo_gan_full", "fraction": 0.4}
    plan = make_plan(load_study(write_study(arms=arms, primary=primary, folds="all", gan_threads=2)))
    basis, run = plan.basis(tmp_path), plan.runs[0]
    gan, other_gan = (job for job in plan.jobs if isinstance(job, GanJob))
    assert workers.fits(gan, [], num_cores=1, basis=basis)  # alone it may always
    assert not workers.fits(run, [gan], num_cores=2, basis=basis)
    assert workers.fits(run, [gan], num_cores=3, basis=basis)
    assert not workers.fits(other_gan, [gan], num_cores=3, basis=basis)
    assert workers.fits(run, [run], num_cores=2, basis=basis)
    assert not workers.fits(run, [run, run], num_cores=2, basis=basis)


def test_a_heartbeat_says_who_works_on_what_and_is_gone_at_the_end(write_study, tmp_path, monkeypatch):
    plan = make_plan(load_study(write_study()))
    job, basis = plan.runs[0], plan.basis(tmp_path)
    heard = []

    def perform(job, basis, progress):
        heard.append(read_heartbeat(heartbeat_path(tmp_path, job)))

    monkeypatch.setattr(execute, "perform", perform)
    assert execute.attempt(job, basis).state == "done"
    assert heard[0]["pid"] == os.getpid() and heard[0]["title"] == job.title
    assert read_heartbeat(heartbeat_path(tmp_path, job)) is None
    gone = {**heard[0], "pid": 2**22 - 1}  # larger than any process id of a killed worker
    heartbeat_path(tmp_path, job).write_text(json.dumps(gone))
    assert read_heartbeat(heartbeat_path(tmp_path, job)) is None


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ValueError("odd"), "failed"),
        (MemoryError(), "failed"),
        (OSError(28, "full"), "disk full"),
        (RuntimeError("cannot write: No space left on device (os error 28)"), "disk full"),
        (OSError(2, "gone"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_every_end_of_a_job_has_a_name(write_study, tmp_path, monkeypatch, error, state):
    plan = make_plan(load_study(write_study()))

    def perform(*_):
        raise error

    monkeypatch.setattr(execute, "perform", perform)
    assert execute.attempt(plan.runs[0], plan.basis(tmp_path)).state == state


def test_progress_never_goes_back_and_ends_at_its_total(write_study, tmp_path, monkeypatch):
    def perform(job, basis, progress):
        for done in range(4):
            progress(done, 4, "step")
        folder = basis.study_dir / job.folder / job.key
        folder.mkdir(parents=True)
        (folder / "run.json").write_text('{"status": "done"}')

    monkeypatch.setattr(execute, "perform", perform)
    heard = []
    plan = make_plan(load_study(write_study()))
    execute.execute(plan, tmp_path, jobs=1, progress=lambda done, total, message: heard.append((done, total)))
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert heard[-1] == (300, 300)
