"""Blends of two images with the blend of their labels: mixup and CutMix over a whole batch.

Sources: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412; Yun et al. 2019,
"CutMix: Regularization Strategy to Train Strong Classifiers", arXiv:1905.04899.
"""

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor, Tensor]


class Mixer:
    """Mixes each batch with a shuffle of itself; of two ways that are asked for a coin chooses each time."""

    def __init__(self, mixup_alpha: float, cutmix_alpha: float, seed: int) -> None:
        self._alphas = mixup_alpha, cutmix_alpha
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, images: Tensor, targets: Tensor, weights: Tensor) -> Batch:
        """Mix (N, C, H, W) images, (N, K) targets and (N,) weights; what comes in stays as it is."""
        mixup_alpha, cutmix_alpha = self._alphas
        use_cutmix = cutmix_alpha > 0 and (
            mixup_alpha == 0 or bool(torch.rand((), generator=self.generator) < 0.5)
        )
        partner = torch.randperm(len(images), generator=self.generator).to(images.device)
        share = _draw_beta(cutmix_alpha if use_cutmix else mixup_alpha, len(images), self.generator)
        if use_cutmix:
            images, share = _exchange_rectangles(images, partner, share, self.generator)
        else:
            kept = share.to(images.device).view(-1, 1, 1, 1)
            images = images * kept + images[partner] * (1 - kept)
        return images, *_mix_labels(targets, weights, partner, share.to(targets.device))


def _mix_labels(targets: Tensor, weights: Tensor, partner: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Targets and weights whose loss is the share of the one image's plus the rest of the other's.

    A loss that is linear in the target then has exactly the value share * w_i * L(t_i) + (1 - share) * w_j *
    L(t_j), also where the two images weigh differently.
    """
    own, other = share * weights, (1 - share) * weights[partner]
    total = own + other
    mixed = (own[:, None] * targets + other[:, None] * targets[partner]) / total[:, None]
    return mixed, total


def _draw_beta(alpha: float, num: int, generator: torch.Generator) -> Tensor:
    """(num,) draws of Beta(alpha, alpha), folded to [0.5, 1]: the pair's order says nothing."""
    gammas = torch._standard_gamma(torch.full((2, num), alpha, dtype=torch.float64), generator=generator)
    share = gammas[0] / gammas.sum(dim=0)
    share = torch.where(share.isfinite(), share, torch.ones_like(share))  # both gammas 0 at a tiny alpha
    return torch.maximum(share, 1 - share).float()


def _exchange_rectangles(
    images: Tensor, partner: Tensor, share: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Put a rectangle of the partner into each image; the share of pixels that stayed comes back."""
    n, _, height, width = images.shape
    side = (1 - share).sqrt()  # relative side of the rectangle
    middle = torch.rand(2, n, generator=generator)
    inside = []
    for length, centre in ((height, middle[0]), (width, middle[1])):
        first = ((centre - side / 2) * length).round().clamp(0, length)
        last = ((centre + side / 2) * length).round().clamp(0, length)
        place = torch.arange(length).view(1, -1)
        inside.append((place >= first[:, None]) & (place < last[:, None]))
    rectangle = inside[0][:, :, None] & inside[1][:, None, :]  # (N, H, W)
    stayed = 1 - rectangle.float().mean(dim=(1, 2))  # what the border cut off does not count
    mixed = torch.where(rectangle[:, None].to(images.device), images[partner], images)
    return mixed.contiguous(memory_format=torch.channels_last), stayed
