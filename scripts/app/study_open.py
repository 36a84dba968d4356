"""A study that visitors look at: read again where its files changed, worked out once for all of them."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.app.closing import run_in, stop_if_closing
from semisup.folders import STUDY_JSON, read_json
from semisup.run_list import RunList, RunReader
from semisup.status import StudyStatus, study_status

if TYPE_CHECKING:
    from semisup.study_result import StudyResult

_lock = threading.Lock()
_studies: dict[Path, OpenStudy] = {}


@dataclass
class ResultJob:
    """The report's numbers on their way."""

    state: str  # of the runs that they are of
    result: Future[StudyResult] = field(default_factory=Future)
    done: int = 0
    total: int = 1
    message: str = ""


@dataclass(frozen=True)
class Look:
    """What was seen of a study at one moment."""

    runs: RunList
    status: StudyStatus
    ended: float  # by the clock that only rises
    seconds: float  # that it took


class OpenStudy:
    """A study folder that visitors look at."""

    def __init__(self, study_dir: Path) -> None:
        self.study_dir = study_dir
        self._reader = RunReader(study_dir)
        self._study: tuple[object, dict[str, Any]] | None = None
        self._jobs: list[ResultJob] = []  # the last one that ended well, and the newest
        self._lock = threading.Lock()
        self._last: Look | None = None
        self._looking = threading.Lock()

    @property
    def study(self) -> dict[str, Any]:
        """`study.json`.

        Raises:
            StudyError: if it is damaged or gone.
        """
        stamp = _stamp(self.study_dir / STUDY_JSON)
        known = self._study
        if known is None or known[0] != stamp:
            known = self._study = (stamp, read_json(self.study_dir / STUDY_JSON))
        return known[1]

    @property
    def classes(self) -> list[str]:
        """Names, by number."""
        return [str(name) for name in self.study.get("classes") or []]

    def runs(self) -> RunList:
        """Those that have left something, as they are now."""
        return self.look().runs

    def look(self) -> Look:
        """Runs and progress as they are now, or were a moment ago.

        A folder of ten thousand runs takes a third of a second to look at: then what was seen serves for a
        while, so that at most a quarter of the time goes into looking, however many ask.
        """
        with self._looking:
            last = self._last
            if last is None or time.monotonic() - last.ended > 3 * last.seconds:
                begun = time.monotonic()
                runs = self._reader.read()
                status = study_status(self.study_dir, runs.runs)
                ended = time.monotonic()
                last = self._last = Look(runs, status, ended, ended - begun)
            return last

    def data_stamp(self) -> str:
        """Another one when the archives were replaced or added to."""
        study = self.study
        files = [self.study_dir / str(study.get("data", "")), *sorted(self.study_dir.glob("pools/*/*.zip"))]
        return repr([(path.parent.name, _stamp(path)) for path in files])

    def state(self, runs: RunList) -> str:
        """Another one as soon as anything changes that the report's numbers rest on."""
        study = self.study
        split = self.study_dir / str(study.get("split", ""))
        stamps = [_stamp(self.study_dir / "audit.json"), _stamp(split)]
        return f"{runs.state} {self.data_stamp()} {stamps}"

    def result_job(self) -> ResultJob | None:
        """The newest result that is there; one on its way where none is there yet; None before any."""
        with self._lock:
            ended = [job for job in self._jobs if job.result.done()]
            known = ended or self._jobs
            return known[-1] if known else None

    def job_on_its_way(self) -> ResultJob | None:
        """The result that is being worked out, if any."""
        with self._lock:
            return next((job for job in self._jobs if not job.result.done()), None)

    def begin_result(self, state: str) -> ResultJob:
        """Work out the report's numbers in the background; one at a time, whoever asks."""
        with self._lock:
            for job in reversed(self._jobs):
                if not job.result.done() or job.state == state:
                    return job
            job = ResultJob(state)
            self._jobs = [*self._jobs[-1:], job]
        run_in(job.result, lambda: self._work(job))
        return job

    def _work(self, job: ResultJob) -> StudyResult:
        def report(done: int, total: int, message: str) -> None:
            stop_if_closing()
            job.done, job.total, job.message = done, total, message

        from semisup.study_result import work_out

        return work_out(self.study_dir, report)


def open_study(study_dir: Path) -> OpenStudy:
    """The same for all visitors of this server."""
    with _lock:
        if study_dir not in _studies:
            _studies[study_dir] = OpenStudy(study_dir)
        return _studies[study_dir]


def begin_early(study_dir: Path) -> None:
    """Work out a study's numbers before anybody asks, where there are any: it takes some seconds."""
    opened = open_study(study_dir)
    runs = opened.runs()
    if any(run.is_done for run in runs.runs.values()):
        opened.begin_result(opened.state(runs))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
