"""The constant filters of the augmentation pipe, and filtering an image as a product with banded matrices.

A matrix along each axis does padding by reflection, zero insertion, filtering and cropping in one go. On
images of one or three channels this is many times faster than a depthwise convolution, and all its
derivatives are matrix products as well.

Source: Karras et al. 2020, arXiv:2006.06676, Appendix B; Daubechies 1992, "Ten Lectures on Wavelets".
"""

import numpy as np
import torch
from torch import Tensor

# Low-pass decomposition filters of the symlets with two and six vanishing moments.
SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
NUM_BANDS = 4


def octave_filters() -> np.ndarray:
    """Zero-phase filters that split the frequencies into octaves; their sum is the identity.

    Returns:
        (4, 43) float64, lowest band first.
    """
    low = np.asarray(SYM2)
    high = low * (-1.0) ** np.arange(len(low))
    low = np.convolve(low, low[::-1]) / 2  # (7,) half of the power response
    high = np.convolve(high, high[::-1]) / 2
    bank = np.ones([1, 1])  # one band that lets everything pass
    for _ in range(NUM_BANDS - 1):
        spread = np.zeros([len(bank), bank.shape[1] * 2 - 1])
        spread[:, ::2] = bank  # all bands move one octave down
        bank = np.stack([np.convolve(band, low) for band in spread])
        margin = (bank.shape[1] - len(high)) // 2
        bank = np.concatenate([bank, np.pad(high, margin)[None]])  # and the highest octave becomes a band
    return bank


def reflected(positions: Tensor, size: int) -> Tensor:
    """Index of the pixel seen at each position when an image of that size is mirrored without end.

    The outermost pixels are not repeated.
    """
    period = max(2 * (size - 1), 1)
    positions = positions.remainder(period)
    return torch.minimum(positions, period - positions) if size > 1 else torch.zeros_like(positions)


def upsampling_matrix(taps: Tensor, size: int, before: int, after: int) -> Tensor:
    """Pad by reflection, then upsample twofold with a filter of an even number of taps.

    Returns:
        (2 * (before + size + after), size), to be multiplied with a column of pixels.
    """
    padded = before + size + after
    num_taps = len(taps)
    rows = torch.arange(2 * padded, device=taps.device)[:, None]
    lead = (num_taps + 1) // 2  # zeros in front, as in filters.upsample2d
    spread = rows + torch.arange(num_taps, device=taps.device) - lead  # (2 * padded, taps)
    source = spread.div(2, rounding_mode="floor")
    is_pixel = (spread.remainder(2) == 0) & (source >= 0) & (source < padded)
    weights = torch.where(is_pixel, 2 * taps.flip(0), 0)
    return _banded(weights, reflected(source - before, size), size)


def downsampling_matrix(taps: Tensor, size: int, crop: int) -> Tensor:
    """Downsample twofold with the reversed filter, then crop (crop pixels of the large image at each end).

    Returns:
        (size, 2 * size + 2 * crop).
    """
    num_taps = len(taps)
    rows = torch.arange(size, device=taps.device)[:, None]
    lead = (num_taps - 1) // 2 - crop
    columns = 2 * rows + torch.arange(num_taps, device=taps.device) - lead  # (size, taps)
    large = 2 * size + 2 * crop
    weights = torch.where((columns >= 0) & (columns < large), taps.expand(size, -1), 0)
    return _banded(weights, columns.clamp(0, large - 1), large)


def filtering_matrix(taps: Tensor, size: int) -> Tensor:
    """Filter at the same size with reflection at the borders.

    Args:
        taps: (N, num_taps), an odd number, one symmetric filter an image.

    Returns:
        (N, size, size).
    """
    n, num_taps = taps.shape
    rows = torch.arange(size, device=taps.device)[:, None]
    source = reflected(rows + torch.arange(num_taps, device=taps.device) - num_taps // 2, size)
    matrix = taps.new_zeros([n, size, size])
    return matrix.scatter_add(2, source.expand(n, -1, -1), taps[:, None, :].expand(-1, size, -1))


def _banded(weights: Tensor, columns: Tensor, num_columns: int) -> Tensor:
    matrix = weights.new_zeros([len(weights), num_columns])
    return matrix.scatter_add(1, columns, weights)
