"""Convolutions that resample, and convolutions modulated by a style.

Source: Karras et al. 2019, arXiv:1912.04958, Section 2.2 (modulation and demodulation, Equations 1-3) and
Appendix B; Karras et al. 2020, arXiv:2006.06676 (half precision).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from . import winograd
from .filters import Padding, added, filter_size, upfirdn2d

DEMODULATION_EPSILON = 1e-8


def conv2d_resample(
    x: Tensor,
    weight: Tensor,
    f: Tensor | None = None,
    *,
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
    bias: Tensor | None = None,
) -> Tensor:
    """Upsample with a filter, convolve, downsample with the same filter.

    Args:
        x: (N, C, H, W) images.
        weight: (C', C / groups, kernel, kernel).
        f: filter from `setup_filter`; None = identity.
        padding: zeros around the image at the upsampled size, on top of what the filter needs.
        flip_weight: correlate, as `torch.nn.functional.conv2d` does; False convolves.
        flip_filter: correlate with the filter; False convolves.
        bias: (C',), added to the result; None = none.

    Returns:
        (N, C', H', W'); H' = H * up / down where padding is half the kernel.

    Raises:
        ValueError: if the shapes or factors do not fit.
    """
    if weight.ndim != 4 or x.ndim != 4:
        raise ValueError(f"x and weight must have four axes, got {tuple(x.shape)} and {tuple(weight.shape)}")
    if up < 1 or down < 1:
        raise ValueError(f"up and down must be at least 1, got {up} and {down}")
    if x.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            f"{x.shape[1]} channels do not fit a weight for {weight.shape[1]} channels in {groups} groups"
        )
    taps_x, taps_y = filter_size(f)
    pad = added(padding, (0, 0, 0, 0))
    if up > 1:
        pad = added(
            pad, ((taps_x + up - 1) // 2, (taps_x - up) // 2, (taps_y + up - 1) // 2, (taps_y - up) // 2)
        )
    if down > 1:
        pad = added(
            pad,
            ((taps_x - down + 1) // 2, (taps_x - down) // 2, (taps_y - down + 1) // 2, (taps_y - down) // 2),
        )
    if not flip_weight and weight.shape[2:] != (1, 1):
        weight = weight.flip([2, 3])
    is_pointwise = weight.shape[2:] == (1, 1)

    # The order of the linear steps is free: the cheapest one filters at the lowest resolution.
    if up > 1 and down == 1 and is_pointwise:
        x = F.conv2d(x, weight, groups=groups)
        x = upfirdn2d(x, f, up=up, padding=pad, gain=up**2, flip_filter=flip_filter)
        return _with_bias(x, bias)
    if up > 1:
        x = _transposed(x, weight, up, groups)
        kernel_h, kernel_w = weight.shape[2:]
        pad = added(pad, (1 - kernel_w, up - kernel_w, 1 - kernel_h, up - kernel_h))
        x = upfirdn2d(x, f, padding=pad, gain=up**2, flip_filter=flip_filter)
        x = x if down == 1 else upfirdn2d(x, f, down=down, flip_filter=flip_filter)
        return _with_bias(x, bias)
    if down > 1 and is_pointwise:
        x = upfirdn2d(x, f, down=down, padding=pad, flip_filter=flip_filter)
        return F.conv2d(x, weight, bias, groups=groups)
    if down > 1:
        x = upfirdn2d(x, f, padding=pad, flip_filter=flip_filter)
        return F.conv2d(x, weight, bias, stride=down, groups=groups)
    left, right, top, bottom = pad
    if pad == (1, 1, 1, 1) and groups == 1 and winograd.pays(x, weight):
        return _with_bias(winograd.conv3x3(x, weight), bias)
    if left == right and top == bottom and left >= 0 and top >= 0:
        return F.conv2d(x, weight, bias, padding=(top, left), groups=groups)
    return F.conv2d(F.pad(x, pad), weight, bias, groups=groups)


def _with_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias[:, None, None]


def _transposed(x: Tensor, weight: Tensor, up: int, groups: int) -> Tensor:
    """Correlate the image, spread by inserted zeros, with the weight; the full overlap of both is kept."""
    out_channels, in_channels, kernel_h, kernel_w = weight.shape
    weight = weight.flip([2, 3])  # a transposed convolution convolves
    weight = weight.reshape(groups, out_channels // groups, in_channels, kernel_h, kernel_w).transpose(1, 2)
    weight = weight.reshape(groups * in_channels, out_channels // groups, kernel_h, kernel_w)
    return F.conv_transpose2d(x, weight, stride=up, groups=groups)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    noise: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    resample_filter: Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    fused: bool = True,
) -> Tensor:
    """Convolve each image with weights scaled by its own style.

    Args:
        x: (N, C, H, W) features.
        weight: (C', C, kernel, kernel), shared by all images.
        styles: (N, C) factor per input channel.
        noise: added to the result; broadcast against (N, C', H', W').
        demodulate: divide by the norm of the scaled weights, so that unit variance is kept.
        fused: scale the weights (one grouped convolution for the batch) instead of the activations before
            and after one shared convolution. Same result; the latter is faster, on a GPU from two images on.

    Returns:
        (N, C', H', W') of x's type.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if not fused:
        x, factors = convolve_styled(
            x,
            weight,
            styles,
            up=up,
            down=down,
            padding=padding,
            resample_filter=resample_filter,
            demodulate=demodulate,
            flip_weight=flip_weight,
        )
        if factors is not None and noise is not None:
            return torch.addcmul(noise.to(x.dtype), x, factors.to(x.dtype)[:, :, None, None])
        if factors is not None:
            return x * factors.to(x.dtype)[:, :, None, None]
        return x if noise is None else x + noise.to(x.dtype)

    n, c, h, w = x.shape
    out_channels, in_channels, kernel_h, kernel_w = weight.shape
    weight, styles, factors = _modulation(x, weight, styles, demodulate)
    own = weight * styles[:, None, :, None, None]  # (N, C', C, kernel, kernel)
    if factors is not None:
        own = own * factors[:, :, None, None, None]
    x = conv2d_resample(
        x.reshape(1, n * c, h, w),
        own.reshape(n * out_channels, in_channels, kernel_h, kernel_w).to(x.dtype),
        resample_filter,
        up=up,
        down=down,
        padding=padding,
        groups=n,
        flip_weight=flip_weight,
    )
    x = x.reshape(n, out_channels, *x.shape[2:])
    return x if noise is None else x + noise.to(x.dtype)


def convolve_styled(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    resample_filter: Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """The modulated convolution up to the demodulation, which is left to whoever works on the result anyway.

    Returns:
        The convolution of x * styles, (N, C', H', W'), and the factors (N, C') that it has to be multiplied
        with; None without demodulation.
    """
    weight, styles, factors = _modulation(x, weight, styles, demodulate)
    x = conv2d_resample(
        x * styles.to(x.dtype)[:, :, None, None],
        weight.to(x.dtype),
        resample_filter,
        up=up,
        down=down,
        padding=padding,
        flip_weight=flip_weight,
    )
    return x, factors


def _modulation(
    x: Tensor, weight: Tensor, styles: Tensor, demodulate: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Weight and styles in a range that suits x's type, and the factors of the demodulation."""
    _, in_channels, kernel_h, kernel_w = weight.shape
    if x.shape[1] != in_channels or styles.shape != (len(x), in_channels):
        raise ValueError(
            f"a weight for {in_channels} channels needs (N, {in_channels}, H, W) features and "
            f"(N, {in_channels}) styles, got {tuple(x.shape)} and {tuple(styles.shape)}"
        )
    if not demodulate:
        return weight, styles, None
    if x.dtype == torch.float16:
        # Demodulation cancels any common factor; bounded factors keep half precision from overflowing.
        largest = weight.abs().amax([1, 2, 3], keepdim=True)
        weight = weight / (largest * math.sqrt(in_channels * kernel_h * kernel_w))
        styles = styles / styles.abs().amax(1, keepdim=True)
    power = weight.square().sum([2, 3])  # (C', C)
    return weight, styles, (styles.square() @ power.t() + DEMODULATION_EPSILON).rsqrt()  # (N, C')
