"""A training that goes on where it was killed, to the same bits: its state after looks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fastai.callback.core import Callback
from torch import Tensor, nn

from classifier.averaging import WeightAverage
from classifier.batches import TrainingBatches
from classifier.errors import ClassifierError
from classifier.looks import Looks, Rates, StepBudget
from classifier.state_file import optimizer_tensors, read_state_file, restore_optimizer, write_state_file

STATE = "training-state.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class KeptState:
    """Where a training keeps its state, what it was made with, and how often it is written."""

    path: Path
    made_with: Mapping[str, Any]  # settings, and hashes of the data
    interval_sec: float = 30.0  # between two writings, which happen after looks alone

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and description of the state; None where there is none.

        Raises:
            ClassifierError: if it is damaged, or of other settings or data.
        """
        return read_state_file(self.path, {"format": FORMAT, **self.made_with})

    def remove_another(self) -> None:
        """Remove a state that this training could not go on from."""
        try:
            self.read()
        except ClassifierError:
            self.path.unlink()


class Resuming(Callback):
    """Writes the state after looks; restores what an earlier process has written.

    Everything that the steps to come depend on is in it: weights, moments of the optimiser, averaged and best
    weights, the counts of looks without gain, how far the rates have fallen, and the generators of order,
    augmentation, mixing and dropout.
    """

    order = 90  # after the look, and after the averaged weights have stepped back

    def __init__(
        self,
        kept: KeptState,
        batches: TrainingBatches,
        budget: StepBudget,
        looks: Looks,
        average: WeightAverage | None,
    ) -> None:
        self.kept, self.batches, self.budget, self.look = kept, batches, budget, looks
        self.average = average
        self.phase = 0
        self.stretches_done = 0
        self.restored = kept.read()
        self._written = time.monotonic()

    @property
    def first_phase(self) -> int:
        """The phase to begin with: 0, or that of the state."""
        return int(self.restored[1]["phase"]) if self.restored else 0

    def begin_phase(self, number: int) -> None:
        self.phase, self.stretches_done = number, 0

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer, rates: Rates) -> int:
        """Put everything where the state was written; returns how many stretches of the phase are done."""
        if self.restored is None:
            return 0
        (tensors, described), self.restored = self.restored, None
        try:
            model.load_state_dict(_part(tensors, "model."))
            restore_optimizer(optimizer, tensors)
            self.batches.restore(described["num_drawn"], tensors)
            if self.average is not None:
                self.average.average = _placed(_part(tensors, "average."), model)
                self.average.num_updates = int(described["num_updates"])
            self.look.best_state = _placed(_part(tensors, "best."), model)
            self.look.restore(described["looks"])
            rates.fallen = float(described["fallen"])
            self.budget.step = int(described["step"])
            self.look.seen_steps = self.budget.step
            torch.set_rng_state(tensors["generator"])
            if "generator_cuda" in tensors:
                torch.cuda.set_rng_state(tensors["generator_cuda"])
            self.stretches_done = int(described["stretches_done"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ClassifierError(
                f"{self.kept.path}: expected the state of a training with these settings, got one that does "
                f"not fit ({error}); begin anew with --overwrite"
            ) from error
        return self.stretches_done

    def after_validate(self) -> None:
        self.stretches_done += 1
        if time.monotonic() - self._written < self.kept.interval_sec:
            return
        with self.look.failing_as_it_is():
            self._write()
        self._written = time.monotonic()

    def _write(self) -> None:
        model = self.learn.model
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.look.best_state.items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.average.items()}
        tensors |= optimizer_tensors(self.learn.opt.opt)
        tensors |= self.batches.generators()
        tensors["generator"] = torch.get_rng_state()
        if next(model.parameters()).is_cuda:
            tensors["generator_cuda"] = torch.cuda.get_rng_state()
        assert self.look.pace is not None
        described = {
            "phase": self.phase,
            "stretches_done": self.stretches_done,
            "step": self.budget.step,
            "num_drawn": self.batches.num_drawn,
            "num_updates": self.average.num_updates if self.average is not None else 0,
            "looks": self.look.described(),
            "fallen": self.look.pace.fallen,
        }
        write_state_file(self.kept.path, tensors, described, {"format": FORMAT, **self.kept.made_with})


def _part(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {name.removeprefix(kind): value for name, value in tensors.items() if name.startswith(kind)}


def _placed(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """In the memory layout and on the device of the model's own."""
    own = model.state_dict()
    return {name: torch.empty_like(own[name]).copy_(value) for name, value in tensors.items()}
