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
