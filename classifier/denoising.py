"""What an autoencoder is made to undo, and how its success is measured.

Two losses. `mse` is the likelihood of Gaussian noise and the customary choice; it averages over what it
cannot know and blurs. `ssim+l1` weighs local contrast and structure, which is what an opacity is, against the
mean absolute error. Binary cross entropy, the other customary one, needs targets in [0, 1], which images that
are standardised one by one are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from extract.errors import SettingsError

LOSSES = ("mse", "ssim+l1")
SSIM_SHARE = 0.84  # of 1 - SSIM beside L1 (Zhao et al. 2017, Section III-D)
SSIM_SIGMA, SSIM_RADIUS = 1.5, 5  # of Wang et al. 2004: an 11x11 Gaussian window
SSIM_RANGE = 6.0  # standard deviations counted as the range of gray levels: standardised images span +-3
C1, C2 = (0.01 * SSIM_RANGE) ** 2, (0.03 * SSIM_RANGE) ** 2


@dataclass(frozen=True)
class NoiseConfig:
    """How pictures are spoilt; all draws come from one seed a step."""

    sigma: float = 0.5  # of the Gaussian noise, in standard deviations of the picture
    drop_share: float = 0.25  # of the patches that are blanked to the picture's mean
    patch: int = 4  # side of a patch, pixels; 1 drops single pixels

    def __post_init__(self) -> None:
        if not 0 <= self.sigma <= 10:
            raise SettingsError(f"noise sigma must be in 0 ... 10, got {self.sigma}")
        if not 0 <= self.drop_share < 1:
            raise SettingsError(f"drop share must be in [0, 1), got {self.drop_share}")
        if self.patch < 1:
            raise SettingsError(f"patch must be at least 1 pixel, got {self.patch}")
        if self.sigma == 0 and self.drop_share == 0:
            raise SettingsError(
                "a denoising autoencoder needs something to undo: raise noise sigma or drop share above 0"
            )


class Spoilt(NamedTuple):
    """A spoilt batch and where nothing of the original is left."""

    images: Tensor  # (N, C, H, W)
    is_dropped: Tensor  # (N, 1, H, W) bool


def add_noise(batch: Tensor, noise: NoiseConfig, generator: torch.Generator) -> Spoilt:
    """Spoil a standardised (N, C, H, W) batch: blank patches, then Gaussian noise on what is left.

    Args:
        generator: on the CPU, so that a seed gives the same noise on every device.
    """
    n, _, height, width = batch.shape
    grain = torch.randn(batch.shape, generator=generator)
    rows, columns = -(-height // noise.patch), -(-width // noise.patch)
    coarse = torch.rand((n, 1, rows, columns), generator=generator) < noise.drop_share
    fine = coarse.repeat_interleave(noise.patch, dim=2).repeat_interleave(noise.patch, dim=3)
    is_dropped = fine[:, :, :height, :width].to(batch.device)
    noisy = batch + noise.sigma * grain.to(batch.device)
    spoilt = torch.where(is_dropped, torch.zeros((), device=batch.device), noisy)
    return Spoilt(spoilt.contiguous(memory_format=torch.channels_last), is_dropped)


def reconstruction_loss(output: Tensor, target: Tensor, loss: str) -> Tensor:
    """The scalar that training lowers, between (N, C, H, W) batches of standardised pictures.

    Args:
        loss: "mse" or "ssim+l1".
    """
    if loss == "mse":
        return torch.nn.functional.mse_loss(output, target)
    if loss == "ssim+l1":
        absolute = torch.nn.functional.l1_loss(output, target)
        return SSIM_SHARE * (1 - ssim(output, target).mean()) + (1 - SSIM_SHARE) * absolute
    raise SettingsError(f'loss must be one of {", ".join(LOSSES)}, got "{loss}"')


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """(N,) mean structural similarity of standardised pictures, 1 where they are equal.

    Gray levels are moved from [-3, 3] to [0, 6] first: the formula compares mean levels by their ratio.

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
    """
    x, y = first + SSIM_RANGE / 2, second + SSIM_RANGE / 2
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x**2
    var_y = _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    level = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * covariance + C2) / (var_x + var_y + C2)
    return (level * structure).mean(dim=(1, 2, 3))


def _blur(batch: Tensor) -> Tensor:
    """Weighted means over the window, the border mirrored; pictures smaller than it use what there is."""
    channels = batch.shape[1]
    radius = min(SSIM_RADIUS, batch.shape[2] - 1, batch.shape[3] - 1)
    places = torch.arange(-radius, radius + 1, dtype=batch.dtype, device=batch.device)
    weights = torch.exp(-(places**2) / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()
    padded = torch.nn.functional.pad(batch, (radius,) * 4, mode="reflect")
    along = weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    down = weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    return torch.nn.functional.conv2d(
        torch.nn.functional.conv2d(padded, along, groups=channels), down, groups=channels
    )
