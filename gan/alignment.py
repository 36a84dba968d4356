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
    middle = _standardised(x[:, reach : height - reach, reach : width - reach])  # (N, P)
    best = np.full(len(x), -1.0)
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            window = y[:, down : down + height - 2 * reach, right : right + width - 2 * reach]
            correlation = (middle * _standardised(window)).sum(dim=1).double().numpy()
            best = np.maximum(best, correlation)
    return np.clip(best, -1, 1)


def _grey(images: np.ndarray) -> torch.Tensor:
    grey = torch.from_numpy(np.ascontiguousarray(images)).float().mean(dim=1, keepdim=True)
    factor = max(1, round(min(grey.shape[2:]) / COMPARED_SIDE))
    return functional.avg_pool2d(grey, factor)[:, 0]  # (N, h, w)


def _standardised(windows: torch.Tensor) -> torch.Tensor:
    rows = windows.flatten(1)
    rows = rows - rows.mean(dim=1, keepdim=True)
    norms = rows.norm(dim=1, keepdim=True)
    floor = FLAT * rows.shape[1] ** 0.5
    return torch.where(norms < floor, torch.zeros_like(rows), rows / norms.clamp(min=floor))
