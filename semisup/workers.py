"""Worker processes: started with few threads, stopped gently, and gone with their parent."""

import os
import signal
import threading
import time
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from semisup.heartbeat import heartbeat_path, read_heartbeat
from semisup.plan import GanJob, Job

WATCH_SEC = 0.5  # between two looks at whether the parent lives
GRACE_SEC = 30.0  # for a generator's training to save its state after Ctrl-C
IDLE_SEC = 60


def start_workers(num_workers: int, threads: int) -> Any:
    from joblib.externals.loky import get_reusable_executor  # spawns: torch's threads do not survive a fork

    # Threads of several processes fight for the cores: their number must be set before torch is loaded.
    environment = {
        name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    return get_reusable_executor(
        max_workers=num_workers,
        timeout=IDLE_SEC,
        env=environment,
        initializer=_initialise_worker,
        initargs=(os.getpid(),),
        reuse=False,
    )


def _initialise_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent (a generator's training listens itself), and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, args=(parent,), daemon=True).start()


def _follow_parent(parent: int) -> None:
    # A parent killed with SIGKILL cannot say goodbye; its orphans would work on beside the next command.
    while os.getppid() == parent:
        time.sleep(WATCH_SEC)
    os._exit(1)


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
