"""Batch augmentation of images together with their masks: what moves the one moves the other alike."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PairAugmentation:
    """How far a pair may be changed; each amount is drawn evenly from its range, one draw an image.

    The ranges are wider than a classifier's: another hospital crops tighter, squashes to a square and shows
    softer films than the one that the masks were drawn on.
    """

    max_shift: float = 0.08  # of the side, each way
    max_turn_deg: float = 10.0
    max_zoom: float = 0.30  # relative, in and out
    max_stretch: float = 0.15  # relative, width against height
    max_brightness: float = 0.30  # in standard deviations of the image
    max_contrast: float = 0.30  # relative, about the image's own mean
    max_gamma: float = 0.40  # bends the gray levels by exponents of 1 / 1.4 to 1.4
    mirror: bool = False  # left-right for half of the images


def augment_pairs(
    images: Tensor, masks: Tensor, settings: PairAugmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Turn, zoom, stretch and shift images and masks in one resampling; then change the images' gray levels.

    Args:
        images: (N, 1, H, W) float32, standardised.
        masks: (N, 1, H, W) float32 in [0, 1].
        generator: on the CPU, so that a seed gives the same pictures on every device.

    Returns:
        New images and masks. What comes in from outside repeats the border, in both.
    """
    n, _, height, width = images.shape
    draws = torch.rand(9, n, generator=generator).mul_(2).sub_(1)  # (9, N) in [-1, 1]
    theta = _moves(draws, height / width, settings).to(images.device)
    both = torch.cat([images, masks], dim=1)  # (N, 2, H, W): one grid, one resampling
    grid = torch.nn.functional.affine_grid(theta, list(both.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(
        both, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    shown = _change_levels(moved[:, :1], draws.to(images.device), settings)
    return shown.contiguous(memory_format=torch.channels_last), moved[:, 1:].contiguous()


def _moves(draws: Tensor, aspect: float, settings: PairAugmentation) -> Tensor:
    """(N, 2, 3) affine maps from output to input coordinates."""
    turn = draws[0] * (settings.max_turn_deg * torch.pi / 180)
    scale, stretch = (1 + settings.max_zoom) ** draws[1], (1 + settings.max_stretch) ** (draws[2] / 2)
    side = torch.where(draws[3] < 0, -1.0, 1.0) if settings.mirror else torch.ones_like(turn)
    across, down = 1 / (scale * stretch), stretch / scale
    cos, sin = torch.cos(turn), torch.sin(turn)
    return torch.stack([
        torch.stack([cos * across * side, -sin * down * aspect, draws[4] * 2 * settings.max_shift], dim=1),
        torch.stack([sin * across * side / aspect, cos * down, draws[5] * 2 * settings.max_shift], dim=1),
    ], dim=1)  # fmt: skip


def _change_levels(images: Tensor, draws: Tensor, settings: PairAugmentation) -> Tensor:
    brightness = (draws[6] * settings.max_brightness).view(-1, 1, 1, 1)
    contrast = (1 + draws[7] * settings.max_contrast).view(-1, 1, 1, 1)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - middle) * contrast + (middle + brightness)
    if settings.max_gamma:
        # A film's curve: levels between the image's darkest and brightest are bent, both ends stay.
        low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
        span = (high - low).clamp_min(1e-6)
        exponent = torch.pow(1 + settings.max_gamma, draws[8]).view(-1, 1, 1, 1)
        images = low + span * ((images - low) / span).clamp(0, 1).pow(exponent)
    return images
