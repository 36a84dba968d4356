"""Performs the jobs of a plan: in this process, or in several that share nothing but the study folder."""

import errno
import os
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from extract.errors import SynthlabelError
from extract.progress import Progress, no_progress
from extract.worker_pool import start_workers
from semisup.folders import RECORDS
from semisup.heartbeat import Heartbeat, heartbeat_path, read_heartbeat
from semisup.outcomes import record_failure, run_status
from semisup.plan import Basis, GanJob, Job, Plan, PoolJob, RunJob
from semisup.schedule import Schedule, units_of
from semisup.workers import stop_workers

POLL_SEC = 0.5  # between two looks at what the workers say
DISK_FULL = os.strerror(errno.ENOSPC)
KILLED = "its process was killed, most likely for want of memory; use --jobs 1"
MAX_ATTEMPTS = 2  # of a job whose process died: the death may have been another job's


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    num_performed: int
    failures: tuple[tuple[str, str], ...]  # title and cause


@dataclass(frozen=True)
class Verdict:
    """How a job ended, in plain values that cross processes."""

    state: str  # "done" | "failed" | "interrupted" | "disk full"
    text: str = ""


def execute(
    plan: Plan, study_dir: Path, *, jobs: int | None = None, progress: Progress = no_progress
) -> Outcome:
    """Perform every job that is not done; a failed one is recorded and the others go on.

    Args:
        jobs: processes at once; None = two, fewer where the cores do not suffice; 1 = this process.

    Raises:
        OSError: when the disk is full; whatever was finished stays.
        KeyboardInterrupt: likewise.
    """
    basis = plan.basis(study_dir.resolve())
    work = _Work(plan, basis, progress)
    num_workers = default_jobs(plan.config.threads) if jobs is None else jobs
    if min(num_workers, len(work.schedule.waiting)) > 1:
        _execute_in_processes(work, num_workers)
    else:
        _execute_here(work)
    return Outcome(work.num_performed, tuple(work.failures))


def default_jobs(threads: int) -> int:
    """Two processes of one thread beat one of two on small networks; more would need to know the memory."""
    return max(1, min(2, (os.cpu_count() or 1) // threads))


def is_done(job: Job, study_dir: Path) -> bool:
    """Whether a job's result is there, whole."""
    if isinstance(job, RunJob):
        return run_status(job, study_dir)[0] == "done"
    return (study_dir / job.folder / job.key / RECORDS[job.kind]).exists()


def perform(job: Job, basis: Basis, progress: Progress = no_progress) -> None:
    """Do one job; its result appears in the study folder, whole or not at all."""
    from semisup import pool, runs  # torch and fastai: where work is done, not where it is planned

    if isinstance(job, GanJob):
        pool.perform_gan(job, basis, progress)
    elif isinstance(job, PoolJob):
        pool.perform_pool(job, basis, progress)
    else:
        runs.perform_run(job, basis, progress)


def attempt(job: Job, basis: Basis, progress: Progress = no_progress) -> Verdict:
    """Do one job and say how it ended; every number is computed on the plan's number of threads."""
    from classifier.threads import torch_threads  # torch: where work is done, not where it is planned

    heartbeat = Heartbeat(job, basis.study_dir, progress)
    try:
        with torch_threads(threads_of(job, basis)):
            heartbeat(0, 1, "starting")
            perform(job, basis, heartbeat)
        return Verdict("done")
    except KeyboardInterrupt as error:
        return Verdict("interrupted", str(error))
    except SynthlabelError as error:
        return Verdict("failed", str(error))
    except Exception as error:  # a bug or an exhausted memory in one run must not cost the others
        if is_disk_full(error):
            return Verdict("disk full", str(error))
        return Verdict("failed", f"{type(error).__name__}: {error}")
    finally:
        heartbeat.remove()


def is_disk_full(error: Exception) -> bool:
    """Whether a write failed for want of space; some libraries tell it in words alone."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or DISK_FULL in str(error)


def threads_of(job: Job, basis: Basis) -> int:
    """How many cores a job is to use."""
    return basis.config.threads_of_gan if isinstance(job, GanJob) else basis.config.threads


def fits(job: Job, running: Collection[Job], num_cores: int, basis: Basis) -> bool:
    """Whether a job may start beside those running; alone any may, however many threads it wants."""
    taken = sum(threads_of(other, basis) for other in running)
    return not running or taken + threads_of(job, basis) <= num_cores


class _Work:
    """The schedule of one command, with its consequences: records of failure, progress, the count."""

    def __init__(self, plan: Plan, basis: Basis, progress: Progress) -> None:
        self.basis, self._progress = basis, progress
        self.schedule = Schedule(plan.jobs, lambda job: is_done(job, basis.study_dir))
        self._units = {
            job.key: units_of(job, plan.trainings_of(job) if isinstance(job, RunJob) else 1)
            for job in self.schedule.unfinished()
        }
        self._total = sum(self._units.values())
        self._finished = 0
        self._shares: dict[str, float] = {}  # of each running job
        self.num_performed = 0
        self.failures: list[tuple[str, str]] = []

    def settle(self, job: Job, verdict: Verdict) -> None:
        """Take note of how a job ended.

        Raises:
            OSError, KeyboardInterrupt: where nothing more should be started.
        """
        if verdict.state == "interrupted":
            raise KeyboardInterrupt(verdict.text)
        if verdict.state == "disk full":
            raise OSError(errno.ENOSPC, verdict.text, str(self.basis.study_dir))
        self.num_performed += 1
        if verdict.state == "done":
            self.schedule.finish(job)
            self._finished += self._units[job.key]
        else:
            for fallen, cause in self.schedule.fail(job, verdict.text):
                self._record(fallen, cause)
        self._shares.pop(job.key, None)
        self.report({}, f"{job.title}: {verdict.state}")

    def _record(self, job: Job, cause: str) -> None:
        self._finished += self._units[job.key]
        self.failures.append((job.title, cause))
        if isinstance(job, RunJob):
            record_failure(job, self.basis.study_dir, cause)

    def report(self, shares: dict[str, float], message: str) -> None:
        """Tell the watcher; `shares` says how much is done of jobs that are running."""
        self._shares |= shares
        running = sum(self._units[key] * share for key, share in self._shares.items())
        self._progress(int(self._finished + running), self._total, message)


def _execute_here(work: _Work) -> None:
    while ready := work.schedule.ready():
        job = ready[0]
        work.schedule.start(job)

        def report(done: int, total: int, message: str, job: Job = job) -> None:
            work.report({job.key: done / max(total, 1)}, f"{job.title}: {message}")

        work.settle(job, attempt(job, work.basis, report))


def _execute_in_processes(work: _Work, num_workers: int) -> None:
    """Keep the workers busy; a worker that dies takes its job with it, which is tried once more, alone."""
    running: dict[Future[Verdict], Job] = {}
    num_cores = num_workers * work.basis.config.threads
    attempts: dict[str, int] = {}
    executor = start_workers(num_workers, work.basis.config.threads)
    try:
        while running or work.schedule.ready():
            is_suspect = any(attempts[job.key] > 1 for job in running.values())
            for job in work.schedule.ready():
                is_fitting = fits(job, running.values(), num_cores, work.basis)
                if not is_fitting or (running and (is_suspect or attempts.get(job.key))):
                    break
                work.schedule.start(job)
                attempts[job.key] = attempts.get(job.key, 0) + 1
                running[executor.submit(attempt, job, work.basis)] = job
                is_suspect = attempts[job.key] > 1
            finished, _ = wait(running, timeout=POLL_SEC, return_when=FIRST_COMPLETED)
            is_broken = any(isinstance(future.exception(), BrokenProcessPool) for future in finished)
            if is_broken:  # the death of one worker ends them all
                finished, _ = wait(running)
            for future in finished:
                job = running.pop(future)
                error = future.exception()
                if error is None:
                    work.settle(job, future.result())
                elif not isinstance(error, BrokenProcessPool):
                    work.settle(job, Verdict("failed", f"{type(error).__name__}: {error}"))
                elif attempts[job.key] < MAX_ATTEMPTS:
                    work.schedule.put_back(job)
                else:
                    work.settle(job, Verdict("failed", KILLED))
            if is_broken:
                executor = start_workers(num_workers, work.basis.config.threads)
            _report_running(work, running)
    except BaseException:
        stop_workers(executor, running, work.basis.study_dir)
        raise
    executor.shutdown(wait=True)


def _report_running(work: _Work, running: dict["Future[Verdict]", Job]) -> None:
    shares, messages = {}, []
    for job in running.values():
        beat = read_heartbeat(heartbeat_path(work.basis.study_dir, job))
        if beat:
            shares[job.key] = beat["done"] / max(beat["total"], 1)
            messages.append(f"{job.title}: {beat['message']}")
    if messages:
        work.report(shares, messages[0])
