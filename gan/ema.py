"""The moving average of the generator: the network that is sampled from.

Source: Karras et al. 2018, arXiv:1710.10196, Section 6; the ramp-up is that of arXiv:2006.06676, Appendix C.
"""

import torch
from torch import nn


def ema_decay(batch_size: int, half_life_kimg: float, ramp: float | None, images_seen: int) -> float:
    """The share of the old average that one iteration keeps.

    Args:
        batch_size: images of the iteration.
        half_life_kimg: thousands of images after which a weight counts half.
        ramp: limits the half-life to this share of `images_seen`, so that the noise of the first iterations
        is
            forgotten; None = no limit.
        images_seen: before this iteration. With a ramp the first iteration therefore copies the generator.
    """
    half_life = half_life_kimg * 1000
    if ramp is not None:
        half_life = min(half_life, images_seen * ramp)
    return 0.5 ** (batch_size / max(half_life, 1e-8))


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the parameters of `average` towards those of `network`; buffers (w_avg among them) are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for target, source in zip(average.buffers(), network.buffers(), strict=True):
        target.copy_(source)
