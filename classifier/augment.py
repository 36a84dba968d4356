"""Batch augmentation that a radiologist would accept: what another positioning or exposure might give."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """How far an image may be changed; each amount is drawn evenly from its range, one draw an image."""

    max_shift: float = 0.06  # of the image's side, each way
    max_turn_deg: float = 8.0
    max_zoom: float = 0.10  # relative, in and out
    max_brightness: float = 0.20  # in standard deviations of the training images
    max_contrast: float = 0.20  # relative, about the image's own mean
    mirror: bool = False  # left-right for half of the images


NUM_DRAWS = 7  # numbers an image: turn, zoom, mirror, shift across, shift down, brightness, contrast


def augment_batch(batch: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Turn, zoom, shift (one resampling for all three), then change brightness and contrast.

    Args:
        batch: (N, C, H, W) float, standardised.
        generator: on the CPU, so that a seed gives the same pictures on every device.

    Returns:
        A new (N, C, H, W) batch.
    """
    return change_batch(batch, torch.rand(NUM_DRAWS, len(batch), generator=generator), settings)


def change_batch(batch: Tensor, draws: Tensor, settings: Augmentation) -> Tensor:
    """The change that (7, N) numbers in [0, 1) stand for.

    What comes in from outside repeats the border, which in medical pictures is background; zeros would be
    mid-grey here.
    """
    n, _, height, width = batch.shape
    draws = draws * 2 - 1
    turn = draws[0] * (settings.max_turn_deg * torch.pi / 180)
    scale = (1 + settings.max_zoom) ** draws[1]
    side = torch.where(draws[2] < 0, -1.0, 1.0) if settings.mirror else torch.ones(n)
    cos, sin = torch.cos(turn) / scale, torch.sin(turn) / scale
    aspect = height / width
    theta = torch.stack([
        torch.stack([cos * side, -sin * aspect, draws[3] * 2 * settings.max_shift], dim=1),
        torch.stack([sin * side / aspect, cos, draws[4] * 2 * settings.max_shift], dim=1),
    ], dim=1)  # fmt: skip  # (N, 2, 3), output to input coordinates
    grid = torch.nn.functional.affine_grid(theta.to(batch.device), list(batch.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(
        batch, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    brightness = (draws[5] * settings.max_brightness).to(batch.device).view(-1, 1, 1, 1)
    contrast = (1 + draws[6] * settings.max_contrast).to(batch.device).view(-1, 1, 1, 1)
    middle = moved.mean(dim=(1, 2, 3), keepdim=True)
    moved = (moved - middle) * contrast + (middle + brightness)
    return moved.contiguous(memory_format=torch.channels_last)
