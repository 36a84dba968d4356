"""Which job may start, which must wait, and what a failure takes with it: no processes, no files."""

from collections.abc import Callable, Iterable, Sequence

from semisup.plan import GanJob, Job, PoolJob

# Units of progress: a generator is worth some ten classifiers.
GAN_UNITS, POOL_UNITS, TRAINING_UNITS = 1000, 50, 100


def units_of(job: Job, trainings: int) -> int:
    """A job's share of the work, for progress alone."""
    if isinstance(job, GanJob):
        return GAN_UNITS
    return POOL_UNITS if isinstance(job, PoolJob) else TRAINING_UNITS * max(trainings, 1)


class Schedule:
    """Keeps the state of every job; jobs are handed out in plan order as soon as what they need is done."""

    def __init__(self, jobs: Sequence[Job], is_done: Callable[[Job], bool]) -> None:
        self._jobs = {job.key: job for job in jobs}
        self.done = {job.key for job in jobs if is_done(job)}
        self.running: set[str] = set()
        self.failed: dict[str, str] = {}  # cause by key
        self.waiting = [key for key in self._needed() if key not in self.done]

    def _needed(self) -> list[str]:
        """Keys in plan order, less the generators and pools whose every run is done."""
        wanted: set[str] = set()
        for job in reversed(self._jobs.values()):  # what needs comes after what is needed
            if job.kind == "run" or job.key in wanted:
                if job.key not in self.done:
                    wanted.update(job.needs)
                wanted.add(job.key)
        return [key for key in self._jobs if key in wanted]

    def ready(self) -> list[Job]:
        """Jobs that may start now, in plan order."""
        return [self._jobs[key] for key in self.waiting if self.done.issuperset(self._jobs[key].needs)]

    def start(self, job: Job) -> None:
        self.waiting.remove(job.key)
        self.running.add(job.key)

    def put_back(self, job: Job) -> None:
        """Hand the job out again, before any other."""
        self.running.discard(job.key)
        self.waiting.insert(0, job.key)

    def finish(self, job: Job) -> None:
        self.running.discard(job.key)
        self.done.add(job.key)

    def fail(self, job: Job, cause: str) -> list[tuple[Job, str]]:
        """Mark a job as failed, and all that needs it: returns each with its cause, the job itself first."""
        self.running.discard(job.key)
        fallen = [(job, cause)]
        self.failed[job.key] = cause
        for key in list(self.waiting):  # plan order: one pass reaches dependents of dependents
            dependent = self._jobs[key]
            lost = [need for need in dependent.needs if need in self.failed]
            if lost:
                source = self._jobs[lost[0]]
                reason = f"{source.title} failed: {self.failed[lost[0]]}"
                self.waiting.remove(key)
                self.failed[key] = reason if " failed: " not in self.failed[lost[0]] else self.failed[lost[0]]
                fallen.append((dependent, self.failed[key]))
        return fallen

    def unfinished(self) -> Iterable[Job]:
        return [self._jobs[key] for key in (*self.waiting, *self.running)]
