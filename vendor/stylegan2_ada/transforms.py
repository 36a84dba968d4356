"""Batches of homogeneous matrices for geometry (3x3) and colour (4x4).

Parameters are numbers or (N,) tensors; the result is (3, 3) or (N, 3, 3) and (4, 4) or (N, 4, 4).
"""

import math

import torch
from torch import Tensor

Scalar = float | Tensor


def matrix(rows: list[list[Scalar]], device: torch.device) -> Tensor:
    """A batch of matrices from its elements."""
    elements = [
        x if isinstance(x, Tensor) else torch.full([], float(x), device=device) for row in rows for x in row
    ]
    stacked = torch.stack(torch.broadcast_tensors(*elements), -1)
    return stacked.reshape([*stacked.shape[:-1], len(rows), len(rows[0])])


def translate_2d(x: Scalar, y: Scalar, device: torch.device) -> Tensor:
    return matrix([[1, 0, x], [0, 1, y], [0, 0, 1]], device)


def scale_2d(x: Scalar, y: Scalar, device: torch.device) -> Tensor:
    return matrix([[x, 0, 0], [0, y, 0], [0, 0, 1]], device)


def rotate_2d(angle: Tensor, device: torch.device) -> Tensor:
    """From the x axis towards the y axis; the angle is in radians."""
    cos, sin = angle.cos(), angle.sin()
    return matrix([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], device)


def luma_projection(device: torch.device) -> Tensor:
    """(4, 4): keeps the grey component of a colour, drops the rest."""
    third = 1 / 3
    grey: list[Scalar] = [third, third, third, 0]
    return matrix([grey, grey, grey, [0, 0, 0, 0]], device)


def translate_3d(shift: Tensor, device: torch.device) -> Tensor:
    """The same shift on all three colours."""
    return matrix([[1, 0, 0, shift], [0, 1, 0, shift], [0, 0, 1, shift], [0, 0, 0, 1]], device)


def scale_3d(factor: Tensor, device: torch.device) -> Tensor:
    """The same factor on all three colours."""
    return matrix([[factor, 0, 0, 0], [0, factor, 0, 0], [0, 0, factor, 0], [0, 0, 0, 1]], device)


def rotate_about_luma(angle: Tensor, device: torch.device) -> Tensor:
    """Rotation about the grey axis (Rodrigues' formula with the axis (1, 1, 1) / sqrt 3)."""
    cos, sin = angle.cos(), angle.sin() / math.sqrt(3)
    same = cos + (1 - cos) / 3
    left, right = (1 - cos) / 3 - sin, (1 - cos) / 3 + sin
    return matrix(
        [[same, left, right, 0], [right, same, left, 0], [left, right, same, 0], [0, 0, 0, 1]], device
    )
