"""The state that a killed training of a segmenter goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from classifier.errors import ClassifierError
from classifier.state_file import optimizer_tensors, read_state_file, restore_optimizer, write_state_file

STATE = "state.safetensors"
FORMAT = "synthlabel-segmenter-state-2"


@dataclass
class SegmentRun:
    """What changes while a segmenter learns."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_dice: float = -1.0
    best_step: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    loss_sum: float = 0.0  # since the last look
    seconds: float = 0.0  # before this process


def write_segment_state(path: Path, run: SegmentRun, seconds: float, made_with: Mapping[str, Any]) -> None:
    """Replace the state, whole or not at all; it is written after looks alone."""
    tensors = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in run.best.items()}
    tensors |= optimizer_tensors(run.optimizer)
    described = {
        "step": run.step,
        "best_dice": run.best_dice,
        "best_step": run.best_step,
        "rows": run.rows,
        "seconds": seconds,
    }
    write_state_file(path, tensors, described, {"format": FORMAT, **made_with})


def restore_segment_state(path: Path, run: SegmentRun, made_with: Mapping[str, Any]) -> None:
    """Put a fresh run where the one that wrote the state was; without a file nothing changes.

    Raises:
        ClassifierError: if the state is damaged, or of other settings or data.
    """
    found = read_state_file(path, {"format": FORMAT, **made_with})
    if found is None:
        return
    tensors, described = found
    device = next(run.model.parameters()).device

    def part(kind: str) -> dict[str, Tensor]:
        return {name.removeprefix(kind): t for name, t in tensors.items() if name.startswith(kind)}

    try:
        run.model.load_state_dict(part("model."))
        run.best = {name: tensor.to(device) for name, tensor in part("best.").items()}
        restore_optimizer(run.optimizer, tensors)
        run.step, run.rows = int(described["step"]), list(described["rows"])
        run.best_dice, run.best_step = float(described["best_dice"]), int(described["best_step"])
        run.seconds = float(described["seconds"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ClassifierError(
            f"{path}: expected the state of a training with these settings, got one that does not fit "
            f"({error}); begin anew with --overwrite"
        ) from error
