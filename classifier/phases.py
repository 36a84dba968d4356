"""Which weights learn when, and how fast: frozen and free phases, and rates by depth."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from classifier.config import ClassifierConfig
from classifier.stages import body_norms, body_stages, head_parameters


@dataclass(frozen=True)
class Phase:
    """A stretch of the budget in which the same weights learn."""

    num_steps: int
    trained_stages: int | None  # last stages of the body that learn; None = all
    lr: float  # peak, of the head


def plan_phases(config: ClassifierConfig) -> list[Phase]:
    """One phase, or two where the head learns alone at first; their steps add up to the budget."""
    frozen_steps = round(config.frozen_share * config.steps)
    free = Phase(config.steps - frozen_steps, config.trained_stages, config.peak_lr)
    frozen = Phase(frozen_steps, 0, config.frozen_lr or config.peak_lr)
    return [phase for phase in (frozen, free) if phase.num_steps]


def look_lengths(phase: Phase, validate_every: int) -> list[int]:
    """Steps from one look at the validation part to the next; the phase ends with one."""
    whole, rest = divmod(phase.num_steps, validate_every)
    return [validate_every] * whole + ([rest] if rest else [])


@dataclass(frozen=True)
class RateGroup:
    """Parameters with one learning rate; those that decay and those that do not are apart."""

    parameters: list[nn.Parameter]
    lr: float
    decays: bool


def rate_groups(model: nn.Module, phase: Phase, stage_lr_ratio: float) -> list[RateGroup]:
    """Set what learns in a phase, and give it its rates.

    The head has the phase's rate, the body's first stage `stage_lr_ratio` times it, and those between
    a geometric row (Howard and Ruder 2018, arXiv:1801.06146, "discriminative fine-tuning"). Biases and
    normalisation do not decay.
    """
    stages = [*body_stages(model), head_parameters(model)]
    first_trained = 0 if phase.trained_stages is None else max(0, len(stages) - 1 - phase.trained_stages)
    groups = []
    for depth, parameters in enumerate(stages):
        learns = depth >= first_trained
        for parameter in parameters:
            parameter.requires_grad_(learns)
        if learns:
            lr = phase.lr * stage_lr_ratio ** (1 - depth / max(1, len(stages) - 1))
            for decays in (True, False):
                chosen = [parameter for parameter in parameters if (parameter.ndim > 1) == decays]
                if chosen:
                    groups.append(RateGroup(chosen, lr, decays))
    return _joined(groups)


def _joined(groups: list[RateGroup]) -> list[RateGroup]:
    """Groups of one rate become one: fewer, larger optimiser steps."""
    joined: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for group in groups:
        joined.setdefault((group.lr, group.decays), []).extend(group.parameters)
    return [RateGroup(parameters, lr, decays) for (lr, decays), parameters in joined.items()]


def resting_norms(model: nn.Module, phase: Phase, freeze_norm: bool) -> list[nn.Module]:
    """BatchNorm modules that use their stored moments in a phase: of the whole body, or of what rests."""
    norms = body_norms(model)
    if freeze_norm:
        return norms
    return [norm for norm in norms if not any(p.requires_grad for p in norm.parameters())]
