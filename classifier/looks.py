"""The looks at the real validation part during a training: history, best weights, stopping, falling rates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback, CancelFitException
from torch import Tensor

from classifier.calibration import scale_logits
from classifier.config import ClassifierConfig
from classifier.errors import ClassifierError
from classifier.evaluate import classification_metrics
from classifier.losses import log_probability_scores
from extract.progress import Progress

OnLook = Callable[
    [int, dict[str, float]], None
]  # (step, what the look measured); may raise to end the training


def no_reaction(step: int, measured: dict[str, float]) -> None:
    """Take a look without doing anything about it."""


class StepBudget(Callback):
    """Counts steps over all stretches and phases, for the schedule and for whoever watches."""

    order = -5  # after fastai's own counter, before the rates

    def __init__(self, num_steps: int, report: Progress) -> None:
        self.num_steps, self.report, self.step = num_steps, report, 0
        self.phase_start, self.phase_steps = 0, num_steps
        self.loss_sum: Tensor = torch.zeros(())
        self.message = ""

    def begin_phase(self, start: int, num_steps: int) -> None:
        self.phase_start, self.phase_steps = start, num_steps
        self.step = start  # of a phase that ended early the rest of its steps is not made up for

    def before_batch(self) -> None:
        if self.training:
            self.learn.pct_train = (self.step - self.phase_start) / self.phase_steps

    def after_batch(self) -> None:
        if self.training:
            self.step += 1
            self.loss_sum = self.loss_sum + self.loss.detach().cpu()
            self.report(self.step, self.num_steps, self.message)


class Rates(Callback):
    """Sets each group's learning rate before each step: shape of the schedule times how far it has fallen."""

    order = 60

    def __init__(
        self, peaks: list[float], shape: Callable[[float], float], momentum: Callable[[float], float] | None
    ):
        self.peaks, self.shape, self.momentum = peaks, shape, momentum
        self.fallen = 1.0

    def before_batch(self) -> None:
        if not self.training:
            return
        factor = self.shape(self.learn.pct_train) * self.fallen
        self.learn.opt.set_hyper("lr", [peak * factor for peak in self.peaks])
        if self.momentum is not None:
            self.learn.opt.set_hyper("mom", self.momentum(self.learn.pct_train))

    @property
    def highest(self) -> float:
        """The rate of the fastest group at the last step."""
        return max(float(hypers["lr"]) for hypers in self.learn.opt.hypers)


class Looks(Callback):
    """Looks at the real validation part after each stretch, keeps the history and the best weights."""

    order = 70

    def __init__(
        self,
        labels: np.ndarray,
        num_classes: int,
        budget: StepBudget,
        config: ClassifierConfig,
        on_look: OnLook = no_reaction,
    ) -> None:
        self.labels, self.num_classes, self.budget, self.config = labels, num_classes, budget, config
        self.on_look = on_look
        self.pace: Rates | None = None
        self.rows: list[dict[str, float]] = []
        self.best: tuple[float, float] | None = None
        self.best_state: dict[str, Tensor] = {}
        self.num_without_gain = self.num_since_fall = 0
        self.logits: list[Tensor] = []
        self.failure: Exception | None = None
        self.started, self.seen_steps = time.monotonic(), 0

    def begin_phase(self, rates: Rates) -> None:
        self.pace, self.num_without_gain, self.num_since_fall = rates, 0, 0
        self.seen_steps = self.budget.step

    def described(self) -> dict[str, Any]:
        """What the looks to come depend on, as JSON takes it."""
        return {
            "rows": self.rows,
            "best": self.best,
            "num_without_gain": self.num_without_gain,
            "num_since_fall": self.num_since_fall,
            "seconds": time.monotonic() - self.started,
        }

    def restore(self, described: Mapping[str, Any]) -> None:
        """Go on from what `described` gave in another process."""
        self.rows = [dict(row) for row in described["rows"]]
        self.best = tuple(described["best"])
        self.num_without_gain = int(described["num_without_gain"])
        self.num_since_fall = int(described["num_since_fall"])
        self.started = time.monotonic() - float(described["seconds"])

    def before_validate(self) -> None:
        self.logits = []

    def after_pred(self) -> None:
        if not self.training:
            scores = log_probability_scores(self.pred.detach().float(), self.config.loss)
            self.logits.append(scores.cpu())

    def after_validate(self) -> None:
        with self.failing_as_it_is():
            self._look()

    @contextmanager
    def failing_as_it_is(self) -> Iterator[None]:
        """Keep an error in `failure` for whoever called the training; fastai would rewrite its message."""
        try:
            yield
        except CancelFitException:
            raise
        except Exception as error:
            self.failure = error
            raise CancelFitException from error

    def _look(self) -> None:
        logits = torch.cat(self.logits).numpy()
        if not np.isfinite(logits).all():
            raise ClassifierError(
                f"the training diverged before step {self.budget.step} (the network's output is not finite): "
                "use a smaller --lr"
            )
        measured = classification_metrics(scale_logits(logits, 1.0), self.labels, self.num_classes)
        self._note(measured)
        has_gained = self._keep_if_best(measured)
        self.num_without_gain = 0 if has_gained else self.num_without_gain + 1
        self.num_since_fall = 0 if has_gained else self.num_since_fall + 1
        self.on_look(self.budget.step, measured)
        self._lower_rates()
        if self.config.patience is not None and self.num_without_gain >= self.config.patience:
            raise CancelFitException

    def _note(self, measured: dict[str, float]) -> None:
        train_loss = float(self.budget.loss_sum) / max(1, self.budget.step - self.seen_steps)
        self.budget.loss_sum, self.seen_steps = torch.zeros(()), self.budget.step
        assert self.pace is not None
        self.rows.append({
            "step": self.budget.step,
            "train_loss": train_loss,
            "val_nll": measured["nll"],
            "val_accuracy": measured["accuracy"],
            "val_balanced_accuracy": measured["balanced_accuracy"],
            "val_auroc": measured["auroc"],
            "lr": self.pace.highest,
            "seconds": round(time.monotonic() - self.started, 3),
        })  # fmt: skip
        shown = {"nll": "NLL", "auroc": "AUROC"}.get(self.config.monitor, "balanced accuracy")
        self.budget.message = f"{shown} {measured[self.config.monitor]:.3f}"

    def _keep_if_best(self, measured: dict[str, float]) -> bool:
        """Keep the weights of the best look; True where the monitor itself rose above all looks before.

        Between looks that are equal by the monitor the likelihood decides; that is no gain worth waiting for.
        """
        main = -measured["nll"] if self.config.monitor == "nll" else measured[self.config.monitor]
        standing = (main if np.isfinite(main) else -np.inf, -measured["nll"])
        has_gained = self.best is None or standing[0] > self.best[0]
        if self.best is None or standing > self.best:
            self.best = standing
            if self.config.keep == "best":
                state = self.learn.model.state_dict()
                self.best_state = {name: value.clone() for name, value in state.items()}
        return has_gained

    def _lower_rates(self) -> None:
        if self.config.schedule == "plateau" and self.num_since_fall >= self.config.plateau_patience:
            assert self.pace is not None
            self.pace.fallen *= self.config.plateau_factor
            self.num_since_fall = 0
