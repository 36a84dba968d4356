"""Optimisers and schedules as fastai's learner takes them."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from fastai.callback.schedule import combined_cos
from fastai.optimizer import OptimWrapper

from classifier.config import ClassifierConfig
from classifier.looks import Rates
from classifier.phases import RateGroup


def make_optimizer(config: ClassifierConfig) -> Callable[..., OptimWrapper]:
    """The optimiser that the settings name, torch's own."""
    match config.optimizer:
        case "sgd":
            return partial(OptimWrapper, opt=torch.optim.SGD, momentum=config.momentum, nesterov=True)
        case "adam":
            return partial(OptimWrapper, opt=torch.optim.Adam, fused=True)
    return partial(OptimWrapper, opt=torch.optim.AdamW, fused=True)


def make_rates(config: ClassifierConfig, groups: Sequence[RateGroup]) -> Rates:
    """The schedule that the settings name, for one phase.

    One cycle (Smith 2018, arXiv:1803.09820): the rate rises and falls along cosines, the momentum mirrors it.
    "constant" and "plateau" keep the rate; `Looks` lowers the latter's.
    """
    peaks = [group.lr for group in groups]
    if config.schedule == "one_cycle":
        return Rates(
            peaks,
            combined_cos(config.warmup, 1 / 25, 1.0, 1e-4),
            combined_cos(config.warmup, 0.95, 0.85, 0.95),
        )
    return Rates(peaks, _keep, None)


def _keep(share_done: float) -> float:
    return 1.0
