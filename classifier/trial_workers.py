"""Processes that run trials side by side: few threads each, quiet at Ctrl-C, gone with their parent."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

WATCH_SEC = 0.5  # between two looks at whether the parent lives
IDLE_SEC = 60


def start_workers(num_workers: int) -> Any:
    """An executor of so many processes, which share the cores evenly."""
    from joblib.externals.loky import get_reusable_executor  # spawns: torch's threads do not survive a fork

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    threads = max(1, cores // num_workers)
    # Threads of several processes fight for the cores: their number must be set before torch is loaded.
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return get_reusable_executor(
        max_workers=num_workers,
        timeout=IDLE_SEC,
        env={name: str(threads) for name in names},
        initializer=_initialise_worker,
        initargs=(os.getpid(),),
        reuse=False,
    )


def _initialise_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, args=(parent,), daemon=True).start()


def _follow_parent(parent: int) -> None:
    # A parent killed with SIGKILL cannot say goodbye; its orphans would write to a storage that is given up.
    while os.getppid() == parent:
        time.sleep(WATCH_SEC)
    os._exit(1)
