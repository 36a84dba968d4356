"""Trainings for `test_kills.py` to kill.

`python -m tests.gan.killed_run CONFIG.json` trains once. Without an argument it imports everything once and
then forks a training for each order on its standard input, so that many kills do not cost many imports: it
prints the number of the process, and its exit code when it has ended (minus the signal that killed it).
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

import extract.atomic
from gan.config import config_from_json
from gan.errors import TrainingInterrupted
from gan.features import PixelExtractor
from gan.training import train


def run(order: dict[str, Any]) -> int:
    torch.set_num_threads(1)
    if order.get("kill_at") is not None:
        kill_at_rename(*order["kill_at"])
    try:
        train(config_from_json(order["config"]), extractors={"pixels": PixelExtractor()})
    except TrainingInterrupted as stopped:
        return 128 + stopped.signal_number
    return 0


def kill_at_rename(count: int, when: str) -> None:
    """Kill this process right before or after the `count`-th file that it finishes."""
    original, finished = os.replace, 0

    def replace_or_die(source: Path, dest: Path) -> None:
        nonlocal finished
        finished += 1
        if finished == count and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, dest)
        if finished == count:
            os.kill(os.getpid(), signal.SIGKILL)

    extract.atomic.os.replace = replace_or_die  # type: ignore[attr-defined]


def main() -> None:
    if len(sys.argv) > 1:
        sys.exit(run({"config": json.loads(Path(sys.argv[1]).read_text())}))
    torch.optim.Adam([torch.zeros(1)])  # the first optimiser of a process imports half of torch
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(run(json.loads(line)))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
