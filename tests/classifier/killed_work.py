"""A process that does one piece of long work and kills itself after so many finished files or renames.

`python -m tests.classifier.killed_work ORDER.json`, where the order names the work and its arguments.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

import extract.atomic


def kill_after_files(count: int) -> None:
    """Die by SIGKILL right after the `count`-th file that appears."""
    original, finished = os.replace, 0

    def replace_and_die(source, dest):
        nonlocal finished
        original(source, dest)
        finished += 1
        if finished == count:
            os.kill(os.getpid(), signal.SIGKILL)

    extract.atomic.os.replace = replace_and_die


def main() -> None:
    torch.set_num_threads(1)
    order = json.loads(Path(sys.argv[1]).read_text())
    kill_after_files(order["kill_after_files"])
    from scripts.cli import cli

    cli(["classifier", *order["arguments"]])


if __name__ == "__main__":
    main()
