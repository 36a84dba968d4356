"""FIR filters, and the operator that upsamples, filters and downsamples images with them.

Source: Karras et al. 2018, arXiv:1812.04948, Section 2 (filtered up- and downsampling); Karras et al.
2019, arXiv:1912.04958, Section 4.1 (the same filters inside skip and residual networks).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Factor = int | tuple[int, int]  # both axes, or (x, y)
Padding = (
    int | tuple[int, int] | tuple[int, int, int, int]
)  # all sides, (x, y), or (left, right, top, bottom)

MIN_SEPARABLE_TAPS = 8  # from here on two 1-D passes are cheaper than one 2-D pass


def setup_filter(
    taps: Sequence[float] | Sequence[Sequence[float]] | np.ndarray | Tensor | float | None,
    *,
    normalize: bool = True,
    flip: bool = False,
    gain: float = 1.0,
    separable: bool | None = None,
) -> Tensor:
    """Make the filter tensor that `upfirdn2d` and the networks take.

    Args:
        taps: one row of taps, a 2-D array of taps, a single number, or None for the identity.
        normalize: divide by the sum, so that a constant image keeps its value.
        flip: reverse both axes.
        gain: factor on the filtered image, shared between the two passes of a separable filter.
        separable: keep a row of taps as it is (filtered along x, then y) instead of making the outer
            product; None = from eight taps on.

    Returns:
        (taps,) or (height, width) float32.

    Raises:
        ValueError: for an empty or more than two-dimensional filter, or a separable 2-D one.
    """
    f = torch.as_tensor(np.asarray(1.0 if taps is None else taps), dtype=torch.float32)
    if f.ndim > 2 or f.numel() == 0:
        raise ValueError(f"a filter has one or two axes and at least one tap, got shape {tuple(f.shape)}")
    if f.ndim == 0:
        f = f.reshape(1)
    if separable is None:
        separable = f.ndim == 1 and len(f) >= MIN_SEPARABLE_TAPS
    if separable and f.ndim == 2:
        raise ValueError("a separable filter is one row of taps, got a 2-D array")
    if f.ndim == 1 and not separable:
        f = f.outer(f)
    if normalize:
        f = f / f.sum()
    if flip:
        f = f.flip(list(range(f.ndim)))
    return f * gain ** (f.ndim / 2)


def upfirdn2d(
    x: Tensor,
    f: Tensor | None,
    *,
    up: Factor = 1,
    down: Factor = 1,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Upsample by inserting zeros, pad, filter, and keep every `down`-th pixel.

    Args:
        x: (N, C, H, W) images.
        f: filter from `setup_filter`; None = identity.
        up: zeros inserted after each pixel, plus one.
        down: distance of the pixels that are kept.
        padding: zeros added around the upsampled image; negative values crop.
        flip_filter: correlate instead of convolving.
        gain: factor on the result.

    Returns:
        (N, C, H', W') with W' = ceil((W * up + left + right - taps + 1) / down), H' alike. Differentiable any
        number of times with respect to x, not with respect to f.

    Raises:
        ValueError: if the arguments are not as described, or nothing would be left of the image.
    """
    if x.ndim != 4:
        raise ValueError(f"images must be (N, C, H, W), got shape {tuple(x.shape)}")
    up_x, up_y = per_axis(up, "up")
    down_x, down_y = per_axis(down, "down")
    left, right, top, bottom = per_side(padding)
    taps_x, taps_y = filter_size(f)
    width = x.shape[3] * up_x + left + right - taps_x + 1
    height = x.shape[2] * up_y + top + bottom - taps_y + 1
    if width < 1 or height < 1:
        raise ValueError(
            f"a {x.shape[3]}x{x.shape[2]} image with up={up}, padding={padding} is smaller than its "
            f"{taps_x}x{taps_y} filter"
        )
    if f is None:
        f = torch.ones([1, 1], device=x.device)
    return _UpFirDn.apply(
        x, f, (up_x, up_y), (down_x, down_y), (left, right, top, bottom), flip_filter, float(gain)
    )  # type: ignore[no-any-return]


class _UpFirDn(torch.autograd.Function):
    """The operator with its closed-form gradient.

    It is linear, and its transpose is the same operator with up and down exchanged and the filter reversed;
    so each further derivative is one more call, where differentiating the depthwise convolution inside
    would loop over channels.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        f: Tensor,
        up: tuple[int, int],
        down: tuple[int, int],
        padding: tuple[int, int, int, int],
        flip_filter: bool,
        gain: float,
    ) -> Tensor:
        ctx.save_for_backward(f)
        ctx.settings = (up, down, padding, flip_filter, gain)
        y = _resample(x, f, up, down, padding, flip_filter, gain)
        ctx.sizes = (x.shape, y.shape)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (f,) = ctx.saved_tensors
        up, down, (left, _, top, _), flip_filter, gain = ctx.settings
        (_, _, in_h, in_w), (_, _, out_h, out_w) = ctx.sizes
        taps_x, taps_y = filter_size(f)
        padding = (
            taps_x - 1 - left,
            (in_w - 1) * up[0] + 1 - out_w * down[0] + left,
            taps_y - 1 - top,
            (in_h - 1) * up[1] + 1 - out_h * down[1] + top,
        )
        dx = _UpFirDn.apply(dy, f, down, up, padding, not flip_filter, gain)
        return dx, None, None, None, None, None, None


def _resample(
    x: Tensor,
    f: Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip_filter: bool,
    gain: float,
) -> Tensor:
    c, h, w = x.shape[1:]
    (up_x, up_y), (down_x, down_y) = up, down
    left, right, top, bottom = padding
    if up != (1, 1) and down == (1, 1) and f.ndim == 2 and _transposed_is_fast(x):
        return _upsample(x, f if not flip_filter else f.flip([0, 1]), up, padding, gain)
    if up != (1, 1):
        before_x, after_x, before_y, after_y = (max(side, 0) for side in padding)
        spread = _zeros_like_layout(x, h * up_y + before_y + after_y, w * up_x + before_x + after_x)
        spread[:, :, before_y : before_y + h * up_y : up_y, before_x : before_x + w * up_x : up_x] = x
        x = spread
        left, right, top, bottom = (min(side, 0) for side in padding)
    if left == right and top == bottom and left >= 0 and top >= 0:
        pad_x, pad_y = left, top  # the convolution pads on the way
    else:
        x = F.pad(x, (left, right, top, bottom))
        pad_x = pad_y = 0
    if not flip_filter:
        f = f.flip(list(range(f.ndim)))
    f = (f * gain ** (f.ndim / 2)).to(x.dtype)
    if f.ndim == 1:
        x = F.conv2d(x, f.expand(c, 1, 1, -1), stride=(1, down_x), padding=(0, pad_x), groups=c)
        return F.conv2d(x, f[:, None].expand(c, 1, -1, 1), stride=(down_y, 1), padding=(pad_y, 0), groups=c)
    return F.conv2d(x, f.expand(c, 1, -1, -1), stride=(down_y, down_x), padding=(pad_y, pad_x), groups=c)


def _transposed_is_fast(x: Tensor) -> bool:
    """Whether depthwise transposed convolutions of this type are: on CPUs those below float32 are not.

    They take 20 times as long as filtering an image full of zeros.
    """
    return x.device.type != "cpu" or x.dtype == torch.float32


def _zeros_like_layout(x: Tensor, height: int, width: int) -> Tensor:
    """Black images of another size in the type and memory layout of x."""
    is_last = x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if is_last else torch.contiguous_format
    shape = [*x.shape[:2], height, width]
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout).zero_()


def _upsample(
    x: Tensor, f: Tensor, up: tuple[int, int], padding: tuple[int, int, int, int], gain: float
) -> Tensor:
    """Upsample and convolve in one transposed convolution, which never touches the inserted zeros.

    Up to seven times faster than filtering an image full of zeros.
    """
    (up_x, up_y), (left, right, top, bottom), (taps_x, taps_y) = up, padding, filter_size(f)
    # The transposed convolution returns the full overlap; this much is missing (or, below zero, too much).
    left, right = left + 1 - taps_x, right + up_x - taps_x
    top, bottom = top + 1 - taps_y, bottom + up_y - taps_y
    crop_x, crop_y = max(min(-left, -right), 0), max(min(-top, -bottom), 0)
    x = F.conv_transpose2d(
        x,
        (f * gain).to(x.dtype).expand(x.shape[1], 1, -1, -1),
        stride=(up_y, up_x),
        padding=(crop_y, crop_x),
        groups=x.shape[1],
    )
    rest = (left + crop_x, right + crop_x, top + crop_y, bottom + crop_y)
    return F.pad(x, rest) if any(rest) else x


def upsample2d(
    x: Tensor,
    f: Tensor | None,
    *,
    up: Factor = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Enlarge images by a whole factor; pixels keep their place and a constant image its value.

    `padding` is added to what keeps the result at exactly `up` times the size.
    """
    up_x, up_y = per_axis(up, "up")
    taps_x, taps_y = filter_size(f)
    pad = added(
        padding,
        ((taps_x + up_x - 1) // 2, (taps_x - up_x) // 2, (taps_y + up_y - 1) // 2, (taps_y - up_y) // 2),
    )
    return upfirdn2d(x, f, up=(up_x, up_y), padding=pad, flip_filter=flip_filter, gain=gain * up_x * up_y)


def downsample2d(
    x: Tensor,
    f: Tensor | None,
    *,
    down: Factor = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Shrink images by a whole factor after low-pass filtering; `padding` as in `upsample2d`."""
    down_x, down_y = per_axis(down, "down")
    taps_x, taps_y = filter_size(f)
    pad = added(
        padding,
        (
            (taps_x - down_x + 1) // 2,
            (taps_x - down_x) // 2,
            (taps_y - down_y + 1) // 2,
            (taps_y - down_y) // 2,
        ),
    )
    return upfirdn2d(x, f, down=(down_x, down_y), padding=pad, flip_filter=flip_filter, gain=gain)


def filter2d(
    x: Tensor,
    f: Tensor | None,
    *,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Filter images at their size; `padding` as in `upsample2d`."""
    taps_x, taps_y = filter_size(f)
    pad = added(padding, (taps_x // 2, (taps_x - 1) // 2, taps_y // 2, (taps_y - 1) // 2))
    return upfirdn2d(x, f, padding=pad, flip_filter=flip_filter, gain=gain)


def filter_size(f: Tensor | None) -> tuple[int, int]:
    """Taps along x and y; the identity has one."""
    if f is None:
        return 1, 1
    if f.ndim not in (1, 2):
        raise ValueError(f"a filter has one or two axes, got shape {tuple(f.shape)}")
    return f.shape[-1], f.shape[0]


def per_axis(factor: Factor, name: str) -> tuple[int, int]:
    """Factors along x and y, checked."""
    x, y = (factor, factor) if isinstance(factor, int) else factor
    if x < 1 or y < 1:
        raise ValueError(f"{name} must be at least 1 on both axes, got {factor}")
    return x, y


def per_side(padding: Padding) -> tuple[int, int, int, int]:
    """Padding as (left, right, top, bottom)."""
    if isinstance(padding, int):
        return padding, padding, padding, padding
    if len(padding) == 2:
        return padding[0], padding[0], padding[1], padding[1]
    return padding


def added(padding: Padding, sides: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Two paddings, side by side."""
    left, right, top, bottom = per_side(padding)
    return left + sides[0], right + sides[1], top + sides[2], bottom + sides[3]
