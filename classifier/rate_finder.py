"""A rate test before a training: how the loss answers to learning rates from very small to far too large.

Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, Section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from fastai.callback.core import Callback, CancelFitException, TrainEvalCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner

from classifier.batches import TrainingBatches
from classifier.config import ClassifierConfig
from classifier.data import LabeledImages, real_part
from classifier.errors import ClassifierError
from classifier.losses import make_loss
from classifier.models import choose_device
from classifier.optimising import make_optimizer
from classifier.phases import plan_phases, rate_groups, resting_norms
from classifier.plots import plot_rates
from classifier.preprocess import fit_preprocessing
from classifier.training import RestingNorms, make_network, reproducible
from extract.archive import open_archive
from extract.atomic import write_text
from extract.cache import open_images
from extract.progress import Progress, no_progress
from extract.split import read_split

SMOOTHING = 0.9  # of the running mean that is judged: single batches jump
NEARLY = 0.02  # of the whole fall of the loss
DIVERGED = 4.0  # times the smallest loss: from here on higher rates tell nothing


@dataclass(frozen=True)
class RateSearch:
    """The course of a rate test and what it suggests."""

    rates: list[float]
    losses: list[float]  # smoothed training loss after the step at each rate
    suggestion: float  # see `suggest_rate`


def find_rate(
    train: LabeledImages,
    classes: Sequence[str],
    config: ClassifierConfig,
    *,
    num_steps: int = 100,
    lowest: float = 1e-6,
    highest: float = 1.0,
    progress: Progress = no_progress,
) -> RateSearch:
    """Train a fresh network with rates that grow from step to step, until the loss explodes.

    It looks at training images alone. With `frozen_share` above 0 it is the head alone that learns, as in
    the first phase of the training. What it trains is thrown away.

    Raises:
        ClassifierError: where the loss is not finite from the start.
    """
    targets = train.soft_labels(len(classes))
    device = choose_device(config.device)
    preprocessing = fit_preprocessing(train.images, config.preprocessing)
    with reproducible(config, device):
        model = make_network(config, len(classes), preprocessing).to(device)
        phase = plan_phases(config)[0]
        groups = rate_groups(model, phase, config.stage_lr_ratio)
        growing = _GrowingRates(
            [group.lr / phase.lr for group in groups], lowest, highest, num_steps, progress
        )
        batches = TrainingBatches(train, targets, preprocessing, config, device, num_steps)
        batches.begin_phase([num_steps])
        learner = Learner(
            DataLoaders(batches, batches, device=device),
            model,
            loss_func=make_loss(config),
            opt_func=make_optimizer(config),
            splitter=lambda _: [group.parameters for group in groups],
            wd_bn_bias=True,
            cbs=[TrainEvalCallback(), RestingNorms(resting_norms(model, phase, config.freeze_norm)), growing],
            default_cbs=False,
        )
        learner.create_opt()
        learner.opt.set_hyper("wd", [config.weight_decay * group.decays for group in groups])
        learner.fit(1)
    if len(growing.losses) < 2:
        raise ClassifierError(
            f"the loss was not finite at the lowest rate ({lowest:g}): check the images and settings"
        )
    return RateSearch(growing.rates, growing.losses, suggest_rate(growing.rates, growing.losses))


def suggest_rate(rates: Sequence[float], losses: Sequence[float]) -> float:
    """A tenth of the rate at which the loss has all but reached its minimum: fast, with room above it.

    "All but" is within 2 % of the whole fall. Networks with normalisation often stay at the bottom over
    decades of rates, where the place of the very minimum is chance.
    """
    lowest = min(losses)
    reached = next(rate for rate, loss in zip(rates, losses, strict=True)
                   if loss <= lowest + NEARLY * (losses[0] - lowest) or loss == lowest)  # fmt: skip
    return reached / 10


class _GrowingRates(Callback):
    order = 60

    def __init__(
        self, shares: Sequence[float], lowest: float, highest: float, num_steps: int, report: Progress
    ) -> None:
        self.shares, self.lowest, self.highest = list(shares), lowest, highest
        self.num_steps, self.report = num_steps, report
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._mean = 0.0

    def before_batch(self) -> None:
        share = len(self.rates) / max(1, self.num_steps - 1)
        self.rate = self.lowest * (self.highest / self.lowest) ** share
        self.learn.opt.set_hyper("lr", [self.rate * part for part in self.shares])

    def after_batch(self) -> None:
        loss = float(self.loss.detach())
        count = len(self.losses) + 1
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        smoothed = self._mean / (1 - SMOOTHING**count)
        if not math.isfinite(loss) or (self.losses and smoothed > DIVERGED * min(self.losses)):
            raise CancelFitException
        self.rates.append(self.rate)
        self.losses.append(smoothed)
        self.report(count, self.num_steps, f"rate {self.rate:.1e}, loss {smoothed:.3f}")
        if count == self.num_steps:
            raise CancelFitException


def find_rate_for(
    data: Path,
    split_path: Path,
    fold: int,
    fraction: float,
    config: ClassifierConfig,
    outdir: Path,
    *,
    num_steps: int = 100,
    progress: Progress = no_progress,
) -> RateSearch:
    """Test rates on the labeled part of a fold; leaves rates.csv and rates.png in `outdir`.

    Raises:
        ClassifierError: if `outdir` holds a rate test already.
        ExtractError, SettingsError: if archive, split, fold or fraction cannot be used.
    """
    table_path = outdir / "rates.csv"
    if table_path.exists():
        raise ClassifierError(f"{table_path} exists already: name another --outdir")
    with open_archive(data) as archive:
        split = read_split(split_path, archive)
        split.subjects(fold, "train", fraction)
        images = open_images(archive, progress)
        train = real_part(archive, images, split, fold, "train", fraction)
        found = find_rate(train, archive.classes, config, num_steps=num_steps, progress=progress)
    outdir.mkdir(parents=True, exist_ok=True)
    write_text(table_path, pd.DataFrame({"lr": found.rates, "loss": found.losses}).to_csv(index=False))
    plot_rates(found.rates, found.losses, found.suggestion, outdir / "rates.png", f"Rate test, {config.arch}")
    return found
