"""Stopping the worker processes of a study gently."""

import os
import signal
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from semisup.heartbeat import heartbeat_path, read_heartbeat
from semisup.plan import GanJob, Job

WATCH_SEC = 0.5  # between two looks at whether the parent lives
GRACE_SEC = 30.0  # for a generator's training to save its state after Ctrl-C
IDLE_SEC = 60


def stop_workers(executor: Any, running: dict["Future[Any]", Job], study_dir: Path) -> None:
    """Let a generator's training save its state, then end the workers; the next command clears up."""
    training = {future: job for future, job in running.items() if isinstance(job, GanJob)}
    for job in training.values():
        beat = read_heartbeat(heartbeat_path(study_dir, job))
        if beat:
            with suppress(ProcessLookupError):
                os.kill(beat["pid"], signal.SIGTERM)
    if training:
        wait(training, timeout=GRACE_SEC)
    executor.shutdown(wait=True, kill_workers=True)
