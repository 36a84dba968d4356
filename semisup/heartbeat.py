"""What a running job says about itself in a file: for the bar, for `status`, and for who has to stop it."""

import json
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from extract.atomic import write_text
from extract.progress import Progress
from semisup.plan import Job

INTERVAL_SEC = 1.0  # between two reports
SILENCE_SEC = 900.0  # after which a job on another machine, whose processes cannot be seen, counts as dead


class Heartbeat:
    """Says in `progress/<key>.json` how far a job is: for the bar, for `status`, and with whom to speak."""

    def __init__(self, job: Job, study_dir: Path, progress: Progress) -> None:
        self._path = heartbeat_path(study_dir, job)
        self._title, self._progress, self._last = job.title, progress, 0.0
        self._started = time.monotonic()
        self._first: float | None = None  # share that was done when this attempt began: a generator goes on

    def __call__(self, done: int, total: int, message: str) -> None:
        self._progress(done, total, message)
        share = done / max(total, 1)
        if total > 1 and self._first is None:  # "starting" is 0 of 1, whatever was done before
            self._first = share
        now = time.monotonic()
        if now - self._last < INTERVAL_SEC:
            return
        self._last = now
        content = {
            "pid": os.getpid(), "host": platform.node(), "title": self._title, "done": done, "total": total,
            "message": message, "seconds": round(self.seconds, 1), "first_share": self._first or 0.0,
        }  # fmt: skip
        write_text(self._path, json.dumps(content), flush=False)  # after a power cut nobody is at work

    @property
    def seconds(self) -> float:
        """Since the attempt began."""
        return time.monotonic() - self._started

    @property
    def share(self) -> float:
        """How much of the job this attempt has to do itself."""
        return 1.0 - (self._first or 0.0)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def heartbeat_path(study_dir: Path, job: Job) -> Path:
    return study_dir / "progress" / f"{job.key}.json"


def read_heartbeat(path: Path) -> dict[str, Any] | None:
    """What a running job last said; None where it is not running (any more)."""
    with suppress(OSError, ValueError, KeyError):  # no file, or no such process: killed without a goodbye
        content = json.loads(path.read_text())
        if content.get("host", platform.node()) == platform.node():
            os.kill(content["pid"], 0)
            return content
        return content if time.time() - path.stat().st_mtime < SILENCE_SEC else None
    return None
