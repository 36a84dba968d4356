"""What a running job says about itself in a file: for the bar, for `status`, and for who has to stop it."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from extract.atomic import write_text
from extract.progress import Progress
from semisup.plan import Job

INTERVAL_SEC = 1.0  # between two reports


class Heartbeat:
    """Says in `progress/<key>.json` how far a job is: for the bar, for `status`, and with whom to speak."""

    def __init__(self, job: Job, study_dir: Path, progress: Progress) -> None:
        self._path = heartbeat_path(study_dir, job)
        self._title, self._progress, self._last = job.title, progress, 0.0

    def __call__(self, done: int, total: int, message: str) -> None:
        self._progress(done, total, message)
        now = time.monotonic()
        if now - self._last < INTERVAL_SEC:
            return
        self._last = now
        content = {"pid": os.getpid(), "title": self._title, "done": done, "total": total, "message": message}
        write_text(self._path, json.dumps(content))

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def heartbeat_path(study_dir: Path, job: Job) -> Path:
    return study_dir / "progress" / f"{job.key}.json"


def read_heartbeat(path: Path) -> dict[str, Any] | None:
    """What a running job last said; None where it is not running (any more)."""
    with suppress(OSError, ValueError, KeyError):  # no file, or no such process: killed without a goodbye
        content = json.loads(path.read_text())
        os.kill(content["pid"], 0)
        return content
    return None
