"""Which snapshot to go back to when a training goes wrong, and the command that does it."""

import shlex
from dataclasses import fields
from pathlib import Path

from gan.config import TrainConfig
from gan.snapshot import BEST_NAME, SNAPSHOT_PATTERN, read_mark

# What a new run from a snapshot is told anew or must not take over.
_LEFT_OUT = frozenset({"resume", "seed", "tick_kimg", "save_every_sec", "extractor"})


def way_back(config: TrainConfig, run_dir: Path, good_until_kimg: float) -> str:
    """A sentence with the last snapshot from before things went wrong, and the command to go on from it.

    Args:
        good_until_kimg: how far the training was when it still was well.
    """
    mark = run_dir / BEST_NAME
    best = read_mark(mark) if mark.is_file() else None
    if best is not None and best["kimg"] <= good_until_kimg:
        found = f"The best snapshot is {best['snapshot']} ({best['result']} {best['value']:.4g})"
        return f"{found}; to go on from it: {new_run_command(config, run_dir / best['snapshot'])}"
    snapshot = last_snapshot_until(run_dir, good_until_kimg)
    if snapshot is None:
        return f"There is no snapshot from before; start again: {new_run_command(config, None)}"
    found = f"The last snapshot from before is {snapshot.name}"
    return f"{found}; to go on from it: {new_run_command(config, snapshot)}"


def last_snapshot_until(run_dir: Path, kimg: float) -> Path | None:
    """The newest snapshot of a run whose number is at most `kimg`."""
    numbered = {int(path.stem.rpartition("-")[2]): path for path in run_dir.glob(SNAPSHOT_PATTERN)}
    before = [number for number in numbered if number <= kimg]
    return numbered[max(before)] if before else None


def new_run_command(config: TrainConfig, snapshot: Path | None) -> str:
    """The command that starts a run with these settings and another seed, from a snapshot if there is one."""
    options = [] if snapshot is None else [f"--resume={snapshot}"]
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name in _LEFT_OUT or value is None or value == field.default:
            continue
        if isinstance(value, tuple):
            value = "x".join(str(number) for number in value)  # --grid
        elif isinstance(value, bool):
            value = int(value)
        elif isinstance(value, float):
            value = f"{value:g}"
        options.append(f"--{field.name.replace('_', '-')}={value}")
    options += [f"--extractor={pair}" for pair in config.extractor]
    options.append(f"--seed={config.seed + 1}")
    return "synthlabel gan train " + " ".join(shlex.quote(option) for option in options)
