"""How alike two pictures are, whatever their brightness and a few pixels of shift."""

import numpy as np
import torch
from torch.nn import functional

COMPARED_SIDE = 64  # larger pictures are averaged down to about it
SHIFT_SHARE = 0.05  # of the side, that a picture may be moved by in each direction
FLAT = 1.0  # grey levels of standard deviation below which a picture shows nothing


def best_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The largest correlation of pairs of pictures over small shifts of one against the other.

    Args:
        first, second: (N, C, H, W) uint8; colours are averaged.

    Returns:
        (N,) float64 in [-1, 1]; 0 for a picture that is flat.
    """
    x, y = (_grey(images) for images in (first, second))
    height, width = x.shape[1:]
    reach = max(1, round(SHIFT_SHARE * min(height, width)))
    middle = x[:, reach : height - reach, reach : width - reach]
    inner_height, inner_width = middle.shape[1:]
    middle = middle - middle.mean(dim=(1, 2), keepdim=True)
    y = y - y.mean(dim=(1, 2), keepdim=True)
    # The products with all shifted windows at once, by the correlation theorem: several times as fast as one
    # shift after the other.
    spectrum = torch.fft.rfft2(middle, s=(height, width)).conj() * torch.fft.rfft2(y)
    products = torch.fft.irfft2(spectrum, s=(height, width))[:, : 2 * reach + 1, : 2 * reach + 1]
    down, right = _windows(height, inner_height), _windows(width, inner_width).T
    y = y.double()
    variances = down @ (y * y) @ right - (down @ y @ right).square() / (inner_height * inner_width)
    of_windows = variances.clamp(min=0).sqrt()  # (N, S, S) lengths of the windows about their means
    of_middle = middle.flatten(1).double().norm(dim=1)[:, None, None]
    floor = FLAT * (inner_height * inner_width) ** 0.5
    is_flat = (of_windows < floor) | (of_middle < floor)
    lengths = of_windows.clamp(min=floor) * of_middle.clamp(min=floor)
    correlations = torch.where(is_flat, 0.0, products.double() / lengths)
    return np.clip(correlations.flatten(1).max(dim=1).values.numpy(), -1, 1)


def _windows(length: int, inner: int) -> torch.Tensor:
    """(S, length) rows that sum what lies in a window of `inner` places, one a shift of it."""
    place = torch.arange(length)[None] - torch.arange(length - inner + 1)[:, None]
    return ((place >= 0) & (place < inner)).double()


def _grey(images: np.ndarray) -> torch.Tensor:
    grey = torch.from_numpy(np.ascontiguousarray(images)).float().mean(dim=1, keepdim=True)
    factor = max(1, round(min(grey.shape[2:]) / COMPARED_SIDE))
    return functional.avg_pool2d(grey, factor)[:, 0]  # (N, h, w)
