"""Worker processes for torch: started with few threads each, quiet at Ctrl-C, gone with their parent."""

import os
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

WATCH_SEC = 0.5  # between two looks at whether the parent lives
IDLE_SEC = 60
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def start_workers(num_workers: int, threads: int, environment: Mapping[str, str] | None = None) -> Any:
    """An executor of so many processes, with so many threads each.

    Args:
        environment: variables that are set in them before anything is imported.
    """
    from joblib.externals.loky import ProcessPoolExecutor  # spawns: torch's threads do not survive a fork

    return ProcessPoolExecutor(
        max_workers=num_workers,
        timeout=IDLE_SEC,
        # Threads of several processes fight for the cores: their number must be set before torch is loaded.
        env={name: str(threads) for name in THREAD_VARIABLES} | dict(environment or {}),
        initializer=_initialise_worker,
        initargs=(os.getpid(),),
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
