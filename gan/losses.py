"""The four phases of a StyleGAN2 iteration: each adds its gradients to the parameters of one network.

Rounds add up: a phase that is run on k parts of a batch leaves the sum of k gradients of means, as the
official code does; the learning rates of the presets assume it.

Sources: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", arXiv:1912.04958,
Section 3.2 and Appendix B (non-saturating loss, lazy R1 and path-length regularisation); style mixing of
arXiv:1812.04948, Section 3.1; R1 of Mescheder et al. 2018, arXiv:1801.04406, Equation 9.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from vendor.stylegan2_ada import AugmentPipe, Discriminator, Generator

Report = Callable[[str, Tensor], None]  # (name of a statistic, its values)


@dataclass
class Players:
    """The networks in training, and the one number that the path-length regulariser remembers."""

    G: Generator
    D: Discriminator
    augment: AugmentPipe | None
    pl_mean: Tensor  # scalar, running mean of the path length


@dataclass(frozen=True)
class LossConfig:
    r1_gamma: float = 10.0
    pl_weight: float = 2.0
    pl_decay: float = 0.01  # of the running mean
    pl_batch_shrink: int = 2  # the path length is measured on batch / this
    style_mixing_prob: float = 0.9


def generator_main(players: Players, config: LossConfig, z: Tensor, c: Tensor, report: Report) -> None:
    """Non-saturating loss: the generator raises the score of its images. z (N, z_dim), c (N, c_dim)."""
    images, _ = _generate(players.G, z, c, config.style_mixing_prob)
    logits = _judge(players, images, c)
    report("Loss/scores/fake", logits)
    report("Loss/signs/fake", logits.sign())
    loss = softplus(-logits)
    report("Loss/G/loss", loss)
    loss.mean().backward()


def generator_path_length(
    players: Players,
    config: LossConfig,
    z: Tensor,
    c: Tensor,
    gain: float,
    report: Report,
    noise: Tensor | None = None,
    average: Callable[[Tensor], Tensor] = lambda mean: mean,
) -> None:
    """Path-length regulariser: a step in w shall change the image by the same amount everywhere.

    Args:
        gain: interval of the lazy regularisation.
        noise: unit normal images to project on, (N // pl_batch_shrink, C, H, W); None = drawn.
        average: differentiable mean over the processes that train together, each on images of its own. The
            official processes keep a running mean each; with one for all, the gradient is that of one
            process on all images.
    """
    n = max(len(z) // config.pl_batch_shrink, 1)
    images, ws = _generate(players.G, z[:n], c[:n], config.style_mixing_prob)
    noise = torch.randn_like(images) if noise is None else noise
    height, width = images.shape[2:]
    projection = (images * noise).sum() / (height * width) ** 0.5
    (jacobian,) = torch.autograd.grad(projection, ws, create_graph=True)  # (n, num_ws, w_dim)
    lengths = jacobian.square().sum(dim=2).mean(dim=1).sqrt()  # (n,)
    mean = players.pl_mean.lerp(
        average(lengths.mean()), config.pl_decay
    )  # moved first, and differentiated through
    players.pl_mean = mean.detach()
    penalty = (lengths - mean).square()
    report("Loss/pl_penalty", penalty)
    loss = penalty * config.pl_weight
    report("Loss/G/reg", loss)
    (loss.mean() * gain).backward()


def discriminator_main(
    players: Players,
    config: LossConfig,
    real_images: Tensor,
    real_c: Tensor,
    z: Tensor,
    c: Tensor,
    report: Report,
) -> Tensor:
    """The discriminator lowers the score of fakes and raises that of reals; returns the real logits (N, 1).

    Fakes and reals pass in batches of their own, so that the minibatch deviation sees only one kind.
    """
    with torch.no_grad():
        images, _ = _generate(players.G, z, c, config.style_mixing_prob)
    fake_logits = _judge(players, images, c)
    report("Loss/scores/fake", fake_logits)
    report("Loss/signs/fake", fake_logits.sign())
    loss_fake = softplus(fake_logits)
    loss_fake.mean().backward()

    real_logits = _judge(players, real_images, real_c)
    report("Loss/scores/real", real_logits)
    report("Loss/signs/real", real_logits.sign())
    loss_real = softplus(-real_logits)
    report("Loss/D/loss", loss_fake.detach() + loss_real.detach())
    loss_real.mean().backward()
    return real_logits.detach()


def discriminator_r1(
    players: Players, config: LossConfig, real_images: Tensor, real_c: Tensor, gain: float, report: Report
) -> Tensor:
    """R1: the score of real images shall be flat around them; returns the real logits (N, 1)."""
    real_images = real_images.detach().requires_grad_(True)
    logits = _judge(players, real_images, real_c)
    report("Loss/scores/real", logits)
    report("Loss/signs/real", logits.sign())
    (slope,) = torch.autograd.grad(logits.sum(), real_images, create_graph=True)  # through the augmentation
    penalty = slope.square().sum(dim=[1, 2, 3])  # (N,)
    report("Loss/r1_penalty", penalty)
    loss = penalty * (config.r1_gamma / 2)
    report("Loss/D/reg", loss)
    (loss.mean() * gain).backward()
    return logits.detach()


def _generate(G: Generator, z: Tensor, c: Tensor, mixing_prob: float) -> tuple[Tensor, Tensor]:
    ws = G.mapping(z, c)  # (N, num_ws, w_dim)
    if mixing_prob > 0:
        cut = int(torch.randint(1, ws.shape[1], []))  # one crossing point for the whole batch
        if float(torch.rand([])) < mixing_prob:
            other = G.mapping(torch.randn_like(z), c, skip_w_avg_update=True)
            ws = torch.cat([ws[:, :cut], other[:, cut:]], dim=1)
    return G.synthesis(ws), ws


def _judge(players: Players, images: Tensor, c: Tensor) -> Tensor:
    if players.augment is not None:
        images = players.augment(images)
    return players.D(images, c)
