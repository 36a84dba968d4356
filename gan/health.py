"""Is a training still learning? Signs of divergence and collapse, read from the statistics of its ticks.

Every rule is a function of the ticks so far, so that a resumed training judges as one that was never stopped.
Only numbers that are none end a training (`gan.ticks`); all else is a warning, said once until it clears.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FAKE_VARIETY = "Health/fake_variety"
BAD_GRADIENTS = "Health/bad_gradients"
HEALTH_STATISTICS = (FAKE_VARIETY, BAD_GRADIENTS)

PATIENCE = 3  # ticks in a row before a state is called lasting
SATURATED = 0.98  # mean sign of the scores: 99 of 100 images are judged alike
SCORE_LIMIT = 100.0  # mean score; healthy ones stay within some ten
LOW_LOSS = 0.02  # of the discriminator; ln 4 = 1.386 is ignorance
FLAT_SCORES = 1e-3  # deviation of the scores between images
LEAST_VARIETY = 0.03  # share of the variance between real images
LOST_VARIETY = 0.15  # share of the most that this training has reached
BAD_SHARE = 0.1  # steps of a tick with gradients that are no numbers
P_LIMIT = 0.999
P_HIGH, SIGN_EXCESS = 0.5, 0.2  # ADA without effect: strong, and the signs still so far above the target


@dataclass(frozen=True)
class Tick:
    """One line of `stats.jsonl`, in the names of the rules; NaN = not measured."""

    kimg: float
    p: float
    loss_d: float
    score_real: float
    score_fake: float
    score_real_std: float
    score_fake_std: float
    sign_real: float
    sign_fake: float
    fake_variety: float
    bad_gradients: float


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: what it is, in words, and how far the training was when it still was not."""

    kind: str
    text: str
    good_until_kimg: float


Rule = Callable[[Sequence[Tick], float | None], Finding | None]


def read_tick(statistics: Mapping[str, Any]) -> Tick:
    """The figures of one line of `stats.jsonl`."""

    def value(name: str, key: str = "mean") -> float:
        found = (statistics.get(name) or {}).get(key)
        return math.nan if found is None else float(found)

    return Tick(
        kimg=value("Progress/kimg"),
        p=value("Progress/augment"),
        loss_d=value("Loss/D/loss"),
        score_real=value("Loss/scores/real"),
        score_fake=value("Loss/scores/fake"),
        score_real_std=value("Loss/scores/real", "std"),
        score_fake_std=value("Loss/scores/fake", "std"),
        sign_real=value("Loss/signs/real"),
        sign_fake=value("Loss/signs/fake"),
        fake_variety=value(FAKE_VARIETY),
        bad_gradients=value(BAD_GRADIENTS),
    )


class HealthWatch:
    """Takes one tick after another and tells what has begun to be wrong, and what has ceased to be.

    Args:
        ada_target: of the adaptive augmentation; None = its strength is not adapted.
    """

    def __init__(self, ada_target: float | None) -> None:
        self.ada_target = ada_target
        self.ticks: list[Tick] = []
        self.active: dict[str, Finding] = {}

    def observe(self, statistics: Mapping[str, Any]) -> tuple[list[Finding], list[Finding]]:
        """What this tick has brought: (findings that are new, findings that no longer hold)."""
        self.ticks.append(read_tick(statistics))
        found = {finding.kind: finding for finding in judge(self.ticks, self.ada_target)}
        new = [finding for kind, finding in found.items() if kind not in self.active]
        cleared = [finding for kind, finding in self.active.items() if kind not in found]
        kept = {kind: finding for kind, finding in self.active.items() if kind in found}
        self.active = kept | {finding.kind: finding for finding in new}
        return new, cleared


def judge(ticks: Sequence[Tick], ada_target: float | None) -> list[Finding]:
    """Everything that is wrong after the last of these ticks; the first, of one iteration, does not count."""
    findings = (rule(ticks[1:], ada_target) for rule in RULES)
    return [finding for finding in findings if finding is not None]


def scores_explode(ticks: Sequence[Tick], ada_target: float | None) -> Finding | None:
    since = _lasting(ticks, 1, lambda tick: max(abs(tick.score_real), abs(tick.score_fake)) > SCORE_LIMIT)
    if since is None:
        return None
    last = ticks[-1]
    return Finding(
        "scores explode",
        f"the discriminator's scores explode (mean {last.score_real:.3g} on reals, {last.score_fake:.3g} on "
        "fakes); a larger --gamma holds them",
        since,
    )


def discriminator_always_right(ticks: Sequence[Tick], ada_target: float | None) -> Finding | None:
    def is_so(tick: Tick) -> bool:
        return tick.loss_d < LOW_LOSS or (tick.sign_real > SATURATED and tick.sign_fake < -SATURATED)

    since = _lasting(ticks, PATIENCE, is_so)
    if since is None:
        return None
    return Finding(
        "discriminator always right",
        f"the discriminator tells all fakes from reals for {PATIENCE} ticks (its loss is "
        f"{ticks[-1].loss_d:.3g}), so that the generator learns little; a larger --gamma, more images or "
        "stronger augmentation help",
        since,
    )


def discriminator_blind(ticks: Sequence[Tick], ada_target: float | None) -> Finding | None:
    """It says the same of every image, real or not."""

    def is_so(tick: Tick) -> bool:
        same_verdict = min(abs(tick.sign_real), abs(tick.sign_fake)) > SATURATED
        flat = max(tick.score_real_std, tick.score_fake_std) < FLAT_SCORES
        return flat or (same_verdict and tick.sign_real * tick.sign_fake > 0)

    since = _lasting(ticks, PATIENCE, is_so)
    if since is None:
        return None
    last = ticks[-1]
    return Finding(
        "discriminator blind",
        f"the discriminator has collapsed: for {PATIENCE} ticks it judges reals and fakes alike (mean score "
        f"{last.score_real:.3g} and {last.score_fake:.3g}); a smaller --gamma or another --seed helps",
        since,
    )


def generator_without_variety(ticks: Sequence[Tick], ada_target: float | None) -> Finding | None:
    """Different latents give nearly the same image: from the start, or after it was otherwise."""
    measured = [tick for tick in ticks if not math.isnan(tick.fake_variety)]
    best = min(
        max((tick.fake_variety for tick in measured), default=0.0), 1.0
    )  # noise varies more than reals
    limit = max(LEAST_VARIETY, LOST_VARIETY * best)
    since = _lasting(measured, PATIENCE, lambda tick: tick.fake_variety < limit)
    if since is None:
        return None
    return Finding(
        "generator collapsed",
        f"the generator's images hardly differ from one another: their variance is "
        f"{100 * measured[-1].fake_variety:.1f} % of that of the reals, after {100 * best:.0f} % at best "
        "(mode collapse); a larger --gamma or --batch helps",
        since,
    )


def augmentation_at_its_limit(ticks: Sequence[Tick], ada_target: float | None) -> Finding | None:
    if ada_target is None:
        return None
    since = _lasting(ticks, PATIENCE, lambda tick: tick.p >= P_LIMIT)
    if since is None:
        return None
    return Finding(
        "augmentation at its limit",
        f"the augmentation strength p has been at its limit of 1 for {PATIENCE} ticks: the discriminator "
        f"overfits all the same (mean sign on reals {ticks[-1].sign_real:.2f}, target {ada_target:g}); use "
        "more images, or stop here and take the best snapshot",
        since,
    )


def augmentation_without_effect(ticks: Sequence[Tick], ada_target: float | None) -> Finding | None:
    """p is high, and yet the discriminator is no less sure of the reals than it was some ticks ago."""
    if ada_target is None or len(ticks) <= PATIENCE + 1 or ticks[-1].p >= P_LIMIT:
        return None
    limit = min(ada_target + SIGN_EXCESS, SATURATED)
    since = _lasting(ticks, PATIENCE + 1, lambda tick: tick.p >= P_HIGH and tick.sign_real > limit)
    if since is None or ticks[-1].sign_real < ticks[-PATIENCE - 1].sign_real - 0.02:
        return None
    return Finding(
        "augmentation without effect",
        f"the augmentation has no effect: at p {ticks[-1].p:.2f} the mean sign on reals stays at "
        f"{ticks[-1].sign_real:.2f} (target {ada_target:g}); try another --augpipe, or use more images",
        since,
    )


def gradients_break(ticks: Sequence[Tick], ada_target: float | None) -> Finding | None:
    since = _lasting(ticks, 1, lambda tick: tick.bad_gradients > BAD_SHARE)
    if since is None:
        return None
    return Finding(
        "gradients break",
        f"{100 * ticks[-1].bad_gradients:.0f} % of the steps had gradients that are no numbers (they were "
        "replaced); use --precision=fp32 or bf16, or a larger --gamma",
        since,
    )


RULES: tuple[Rule, ...] = (
    scores_explode, discriminator_always_right, discriminator_blind, generator_without_variety,
    augmentation_at_its_limit, augmentation_without_effect, gradients_break,
)  # fmt: skip


def _lasting(ticks: Sequence[Tick], patience: int, is_so: Callable[[Tick], bool]) -> float | None:
    """The kimg of the last tick that is not so, where at least `patience` are after it; else None."""
    count = 0
    for tick in reversed(ticks):
        if not is_so(tick):
            return tick.kimg if count >= patience else None
        count += 1
    return 0.0 if count >= patience else None


def fake_variety(fakes: np.ndarray, reals: np.ndarray) -> float:
    """Variance between generated images as a share of that between real ones, averaged over pixels.

    Args:
        fakes, reals: (n, C, H, W) and (m, C, H, W), in the same units; at least two of each.

    Returns:
        About 1 for a generator as varied as its data; 0 where all its images are alike; NaN where all reals
        are.
    """
    between_reals = float(reals.astype(np.float64).var(axis=0).mean())
    between_fakes = float(fakes.astype(np.float64).var(axis=0).mean())
    return between_fakes / between_reals if between_reals > 0 else math.nan


def bad_gradients(network: nn.Module) -> Tensor:
    """1 where any gradient of a network is no finite number, else 0; stays on its device: nothing waits."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if not gradients:
        return torch.zeros([])
    return (~torch.stack(torch._foreach_norm(gradients)).isfinite()).any().float()


def all_finite(network: nn.Module) -> bool:
    """Whether every weight and buffer is a number."""
    tensors = [*network.parameters(), *network.buffers()]
    floats = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    return bool(torch.stack(torch._foreach_norm(floats)).isfinite().all())
