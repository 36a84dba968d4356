"""Performs the jobs of a plan: in this process, or by a crew that shares the study folder with it."""

import errno
import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path

from extract.errors import SynthlabelError
from extract.progress import Progress, no_progress
from semisup.folders import RECORDS
from semisup.heartbeat import Heartbeat, heartbeat_path, read_heartbeat
from semisup.outcomes import record_failure, run_status
from semisup.plan import Basis, GanJob, Job, Plan, PoolJob, RunJob
from semisup.schedule import Schedule, units_of
from semisup.times import note_time
from semisup.workers import Crew, ProcessCrew, Verdict, threads_of

POLL_SEC = 0.5  # between two looks at what the workers say
DISK_FULL = os.strerror(errno.ENOSPC)
MAX_ATTEMPTS = 2  # of a job whose process died: the death may have been another job's


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    num_performed: int
    failures: tuple[tuple[str, str], ...]  # title and cause


def execute(
    plan: Plan,
    study_dir: Path,
    *,
    jobs: int | None = None,
    gpus: Sequence[str] = (),
    ray_address: str | None = None,
    progress: Progress = no_progress,
) -> Outcome:
    """Perform every job that is not done; a failed one is recorded and the others go on.

    Args:
        jobs: processes at once; None = two, fewer where the cores do not suffice, or one a GPU; 1 = this
            process. On a Ray cluster: jobs at once at most, None = as many as it has cores for.
        gpus: to give to the processes, each job one, as CUDA_VISIBLE_DEVICES names them.
        ray_address: of a Ray cluster to work on instead (see `semisup.ray_crew`).

    Raises:
        StudyError: if the machines of a cluster do not see the study.
        OSError: when the disk is full; whatever was finished stays.
        KeyboardInterrupt: likewise.
    """
    basis = plan.basis(study_dir.resolve())
    work = _Work(plan, basis, progress)
    if not work.schedule.waiting:
        return Outcome(0, ())
    if ray_address is not None:
        from semisup.ray_crew import RayCrew  # Ray takes seconds to import

        _execute_with(RayCrew(ray_address, basis, jobs), work)
    else:
        num_workers = jobs or len(gpus) or default_jobs(plan.config.threads)
        if gpus or min(num_workers, len(work.schedule.waiting)) > 1:
            _execute_with(ProcessCrew(num_workers, basis, gpus), work)
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
    from semisup import oracle, pool, runs  # torch and fastai: where work is done, not where it is planned

    if isinstance(job, GanJob):
        pool.perform_gan(job, basis, progress)
    elif isinstance(job, PoolJob) and job.is_oracle:
        oracle.perform_oracle(job, basis, progress)
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
        return Verdict("done", seconds=heartbeat.seconds, share=heartbeat.share)
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
            note_time(self.basis.study_dir, job, verdict)
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


def _execute_with(crew: Crew, work: _Work) -> None:
    """Keep a crew busy; a worker that dies takes its job with it, which is tried once more."""
    running: dict[Future[Verdict], Job] = {}
    attempts: dict[str, int] = {}

    def may_start(job: Job) -> bool:
        """Where a death takes others along, a job that was in one is tried again with nobody beside it."""
        is_suspect = attempts.get(job.key) or any(attempts[other.key] > 1 for other in running.values())
        if crew.dies_together and running and is_suspect:
            return False
        return crew.has_room(job, running.values())

    try:
        while running or work.schedule.ready():
            for job in work.schedule.ready():
                if not may_start(job):
                    break
                work.schedule.start(job)
                attempts[job.key] = attempts.get(job.key, 0) + 1
                running[crew.submit(attempt, job)] = job
            finished, _ = wait(running, timeout=POLL_SEC, return_when=FIRST_COMPLETED)
            for future in finished:
                job = running.pop(future)
                error = future.exception()
                cause = crew.death(error) if error else None
                if error is None:
                    work.settle(job, future.result())
                elif cause is None:
                    work.settle(job, Verdict("failed", f"{type(error).__name__}: {error}"))
                elif attempts[job.key] < MAX_ATTEMPTS:
                    work.schedule.put_back(job)
                else:
                    work.settle(job, Verdict("failed", cause))
            _report_running(work, running)
    except BaseException:
        crew.stop(running)
        raise
    crew.close()


def _report_running(work: _Work, running: dict["Future[Verdict]", Job]) -> None:
    shares, messages = {}, []
    for job in running.values():
        beat = read_heartbeat(heartbeat_path(work.basis.study_dir, job))
        if beat:
            shares[job.key] = beat["done"] / max(beat["total"], 1)
            messages.append(f"{job.title}: {beat['message']}")
    if messages:
        work.report(shares, messages[0])
