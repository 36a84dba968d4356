"""Bias, activation, gain and clamp as one operation.

Source: Karras et al. 2019, arXiv:1912.04958, Appendix B (leaky ReLU with the gain that keeps unit variance).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Activation:
    """A nonlinearity with the slope and the gain that it has unless others are asked for."""

    function: Callable[[Tensor, float], Tensor]
    alpha: float = 0.0  # slope below zero, leaky ReLU alone
    gain: float = 1.0  # factor that brings the variance back to about one


ACTIVATIONS = {
    "linear": Activation(lambda x, _: x),
    "relu": Activation(lambda x, _: F.relu(x), gain=math.sqrt(2)),
    "lrelu": Activation(F.leaky_relu, alpha=0.2, gain=math.sqrt(2)),
    "tanh": Activation(lambda x, _: torch.tanh(x)),
    "sigmoid": Activation(lambda x, _: torch.sigmoid(x)),
    "elu": Activation(lambda x, _: F.elu(x)),
    "selu": Activation(lambda x, _: F.selu(x)),
    "softplus": Activation(lambda x, _: F.softplus(x)),
    "swish": Activation(lambda x, _: torch.sigmoid(x) * x, gain=math.sqrt(2)),
}


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    *,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Add a bias, apply an activation, scale, and clamp to [-clamp, clamp].

    Args:
        x: any shape.
        b: (x.shape[dim],) bias; None = no bias.
        dim: axis of the bias.
        act: one of `ACTIVATIONS`.
        alpha: slope below zero; None = the activation's own. Leaky ReLU alone has one.
        gain: factor after the activation; None = the activation's own.
        clamp: bound after the gain; None = no bound.

    Returns:
        A tensor of x's shape and type, twice differentiable.

    Raises:
        ValueError: if an argument is not as described.
    """
    if act not in ACTIVATIONS:
        raise ValueError(f"act must be one of {', '.join(ACTIVATIONS)}, got {act!r}")
    if clamp is not None and clamp < 0:
        raise ValueError(f"clamp must not be negative, got {clamp}")
    if b is not None and (b.ndim != 1 or len(b) != x.shape[dim]):
        raise ValueError(
            f"the bias must have shape ({x.shape[dim]},) for axis {dim} of {tuple(x.shape)}, "
            f"got {tuple(b.shape)}"
        )
    chosen = ACTIVATIONS[act]
    alpha = chosen.alpha if alpha is None or act != "lrelu" else alpha
    gain = chosen.gain if gain is None else gain
    if b is not None:
        b = b.to(x.dtype).reshape([-1 if axis == dim % x.ndim else 1 for axis in range(x.ndim)])

    if act in ("relu", "lrelu") and alpha >= 0 and gain > 0:
        return _PiecewiseLinear.apply(x, b, alpha, gain, clamp)  # type: ignore[no-any-return]
    if b is not None:
        x = x + b
    x = chosen.function(x, alpha)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def lrelu_in_place(x: Tensor, alpha: float, clamp: float | None) -> Tensor:
    """Leaky ReLU and clamp without new memory, for the fresh result of a convolution; twice differentiable.

    Gain and bias are left to the convolution: a leaky ReLU lets positive factors pass.
    """
    return _LeakyReLUInPlace.apply(x, alpha, clamp)  # type: ignore[no-any-return]


def scaled_lrelu(
    x: Tensor, factors: Tensor, b: Tensor, noise: Tensor | None, *, alpha: float, clamp: float | None
) -> Tensor:
    """Leaky ReLU of `x * factors + b + noise`, then clamp; twice differentiable.

    Args:
        x: (N, C, H, W).
        factors: (N, C), one an image and channel.
        b: (C,) bias.
        noise: (N or 1, 1, H, W); None = none.
        alpha: slope below zero.
        clamp: bound of the result; None = no bound.
    """
    b, factors = b.to(x.dtype), factors.to(x.dtype)
    noise = None if noise is None else noise.to(x.dtype)
    return _ScaledLeakyReLU.apply(x, factors, b, noise, alpha, clamp)  # type: ignore[no-any-return]


class _LeakyReLUInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float, clamp: float | None) -> Tensor:  # type: ignore[override]
        F.leaky_relu_(x, alpha)
        if clamp is not None:
            x.clamp_(-clamp, clamp)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        ctx.settings = (alpha, 1.0, clamp)
        return x

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        return _TimesSlope.apply(dy, y, *ctx.settings), None, None


class _ScaledLeakyReLU(torch.autograd.Function):
    """As few passes over the images as separate operations allow: two forward and one backward."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        factors: Tensor,
        b: Tensor,
        noise: Tensor | None,
        alpha: float,
        clamp: float | None,
    ) -> Tensor:
        y = torch.addcmul(b[None, :, None, None], x, factors[:, :, None, None])
        if noise is not None:
            y.add_(noise)
        F.leaky_relu_(y, alpha)
        if clamp is not None:
            y.clamp_(-clamp, clamp)
        ctx.save_for_backward(x, factors, y)
        ctx.settings = (alpha, 1.0, clamp)
        ctx.noise_shape = None if noise is None else noise.shape
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, factors, y = ctx.saved_tensors
        du = _TimesSlope.apply(dy, y, *ctx.settings)
        needs_x, needs_factors, needs_b, needs_noise = ctx.needs_input_grad[:4]
        return (
            du * factors[:, :, None, None] if needs_x else None,
            (du * x).sum([2, 3]) if needs_factors else None,
            du.sum([0, 2, 3]) if needs_b else None,
            du.sum(1, keepdim=True).sum_to_size(ctx.noise_shape) if needs_noise else None,
            None,
            None,
        )


class _PiecewiseLinear(torch.autograd.Function):
    """(Leaky) ReLU with bias, gain and clamp: works in place on one new tensor and keeps only the result.

    The sign of the result and whether it reached the clamp determine the local slope, so nothing else has to
    be remembered for the gradient, and the gradient of the gradient is the same multiplication again.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, b: Tensor | None, alpha: float, gain: float, clamp: float | None
    ) -> Tensor:
        y = x.clone() if b is None else x + b
        F.leaky_relu_(y, alpha).mul_(gain)
        if clamp is not None:
            y.clamp_(-clamp, clamp)
        ctx.save_for_backward(y)
        ctx.settings = (alpha, gain, clamp)
        ctx.bias_shape = None if b is None else b.shape
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        dx = _TimesSlope.apply(dy, y, *ctx.settings)
        db = None
        if ctx.needs_input_grad[1]:
            db = dx.sum([axis for axis, size in enumerate(ctx.bias_shape) if size == 1], keepdim=True)
            db = db.reshape(ctx.bias_shape)
        return dx, db, None, None, None


class _TimesSlope(torch.autograd.Function):
    """A gradient times the local slope of the activation whose result is y."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, dy: Tensor, y: Tensor, alpha: float, gain: float, clamp: float | None
    ) -> Tensor:
        ctx.save_for_backward(y)
        ctx.settings = (alpha, gain, clamp)
        dx = torch.ops.aten.leaky_relu_backward(dy, y, alpha, True)
        if gain != 1:
            dx.mul_(gain)
        if clamp is not None:
            dx.masked_fill_(y.abs() >= clamp, 0)
        return dx  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        # The slope is constant almost everywhere. An explicit zero instead of None keeps biases that reach
        # a regulariser only through slopes among the parameters that have a gradient, as Adam expects.
        return _TimesSlope.apply(ddx, y, *ctx.settings), ddx.new_zeros(()).expand_as(y), None, None, None
