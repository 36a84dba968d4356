"""Who performs jobs beside this process: what is asked of any crew, and the processes of this machine."""

import os
import signal
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from extract.worker_pool import start_workers
from semisup.heartbeat import heartbeat_path, read_heartbeat
from semisup.lanes import NO_GPU, emptiest_lane, lane_places
from semisup.plan import Basis, GanJob, Job

GRACE_SEC = 30.0  # for a generator's training to save its state after Ctrl-C
KILLED = "its process was killed, most likely for want of memory; use --jobs 1"


@dataclass(frozen=True)
class Verdict:
    """How a job ended, in plain values that cross processes."""

    state: str  # "done" | "failed" | "interrupted" | "disk full"
    text: str = ""
    seconds: float = 0.0
    share: float = 1.0  # of the job that was done now; less where an earlier attempt had begun it


Perform = Callable[[Job, Basis], Verdict]


class Crew(Protocol):
    """Workers that share nothing with this process but the study folder."""

    # Whether one worker's death takes others along, so that a suspect is tried again with nobody beside it.
    dies_together: bool

    def has_room(self, job: Job, running: Collection[Job]) -> bool:
        """Whether a job may start beside those running."""

    def submit(self, perform: Perform, job: Job) -> "Future[Verdict]":
        """Hand a job to a worker."""

    def death(self, error: BaseException) -> str | None:
        """The cause to record where an error means that the worker died; None for any other error."""

    def stop(self, running: dict["Future[Verdict]", Job]) -> None:
        """End all work, after a generator's training has saved its state."""

    def close(self) -> None:
        """Send the idle workers home."""


class ProcessCrew:
    """Processes on this machine; with GPUs, each process sees one of them alone."""

    dies_together = True

    def __init__(self, num_workers: int, basis: Basis, gpus: Sequence[str] = ()) -> None:
        """Prepare the lanes; processes start with the first job of their lane.

        Args:
            num_workers: processes at once.
            gpus: names as CUDA_VISIBLE_DEVICES takes them; the processes are dealt out over them.
        """
        self._basis = basis
        self._num_cores = num_workers * basis.config.threads
        self._places = lane_places(num_workers, gpus)
        self._executors: dict[str, Any] = {}
        self._taken: dict[Future[Verdict], str] = {}

    def has_room(self, job: Job, running: Collection[Job]) -> bool:
        return self._free_lane() is not None and fits(job, running, self._num_cores, self._basis)

    def submit(self, perform: Perform, job: Job) -> "Future[Verdict]":
        lane = self._free_lane()
        assert lane is not None
        try:
            future = self._executor(lane).submit(perform, job, self._basis)
        except BrokenProcessPool:  # a job before this one took the lane's processes with it
            self._executors.pop(lane).shutdown(wait=True, kill_workers=True)
            future = self._executor(lane).submit(perform, job, self._basis)
        self._taken[future] = lane
        return future

    def death(self, error: BaseException) -> str | None:
        return KILLED if isinstance(error, BrokenProcessPool) else None

    def stop(self, running: dict["Future[Verdict]", Job]) -> None:
        training = {future: job for future, job in running.items() if isinstance(job, GanJob)}
        for job in training.values():
            beat = read_heartbeat(heartbeat_path(self._basis.study_dir, job))
            if beat:
                with suppress(ProcessLookupError):
                    os.kill(beat["pid"], signal.SIGTERM)
        if training:
            wait(training, timeout=GRACE_SEC)
        for executor in self._executors.values():
            executor.shutdown(wait=True, kill_workers=True)

    def close(self) -> None:
        for executor in self._executors.values():
            executor.shutdown(wait=True)

    def _free_lane(self) -> str | None:
        self._taken = {future: lane for future, lane in self._taken.items() if not future.done()}
        loads = {lane: list(self._taken.values()).count(lane) for lane in self._places}
        return emptiest_lane(self._places, loads)

    def _executor(self, lane: str) -> Any:
        if lane not in self._executors:
            environment = {} if lane == NO_GPU else {"CUDA_VISIBLE_DEVICES": lane}
            self._executors[lane] = start_workers(self._places[lane], self._basis.config.threads, environment)
        return self._executors[lane]


def threads_of(job: Job, basis: Basis) -> int:
    """How many cores a job is to use."""
    return basis.config.threads_of_gan if isinstance(job, GanJob) else basis.config.threads


def fits(job: Job, running: Collection[Job], num_cores: int, basis: Basis) -> bool:
    """Whether the cores suffice for a job beside those running; alone any may start."""
    taken = sum(threads_of(other, basis) for other in running)
    return not running or taken + threads_of(job, basis) <= num_cores
