"""The operators of StyleGAN2-ADA written as the papers state them, for comparison.

This is what a port of the method to current PyTorch without custom CUDA kernels amounts to: every FIR filter
a depthwise convolution over an image with zeros inserted, bias, activation, gain and clamp one after the
other, demodulation from a weight tensor an image, derivatives left to autograd, memory in PyTorch's default
layout, optimiser and moving average parameter by parameter. It is slower than what `vendor` and `gan` do and
computes the same numbers; `install` puts it in their place for the rest of the process.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gan.job
import vendor.stylegan2_ada.convolution as convolution
import vendor.stylegan2_ada.discriminator as discriminator
import vendor.stylegan2_ada.filters as filters
import vendor.stylegan2_ada.layers as layers
import vendor.stylegan2_ada.synthesis as synthesis
from gan.config import Recipe
from vendor.stylegan2_ada import winograd
from vendor.stylegan2_ada.activations import ACTIVATIONS
from vendor.stylegan2_ada.augment import AugmentPipe, _margins
from vendor.stylegan2_ada.transforms import scale_2d, translate_2d


def upfirdn2d(
    x: Tensor,
    f: Tensor | None,
    *,
    up: filters.Factor = 1,
    down: filters.Factor = 1,
    padding: filters.Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Insert zeros, pad, convolve each channel with the filter, drop pixels."""
    n, c, h, w = x.shape
    f = torch.ones([1, 1]) if f is None else f
    (up_x, up_y), (down_x, down_y) = filters.per_axis(up, "up"), filters.per_axis(down, "down")
    left, right, top, bottom = filters.per_side(padding)
    x = F.pad(x.reshape(n, c, h, 1, w, 1), [0, up_x - 1, 0, 0, 0, up_y - 1])
    x = x.reshape(n, c, h * up_y, w * up_x)
    x = F.pad(x, [max(left, 0), max(right, 0), max(top, 0), max(bottom, 0)])
    x = x[:, :, max(-top, 0) : x.shape[2] - max(-bottom, 0), max(-left, 0) : x.shape[3] - max(-right, 0)]
    f = (f * gain ** (f.ndim / 2)).to(x.dtype)
    f = f if flip_filter else f.flip(list(range(f.ndim)))
    if f.ndim == 2:
        x = F.conv2d(x, f[None, None].repeat(c, 1, 1, 1), groups=c)
    else:
        x = F.conv2d(x, f[None, None, None].repeat(c, 1, 1, 1), groups=c)
        x = F.conv2d(x, f[None, None, :, None].repeat(c, 1, 1, 1), groups=c)
    return x[:, :, ::down_y, ::down_x]


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
    """Bias, activation, gain, clamp: four operations."""
    chosen = ACTIVATIONS[act]
    if b is not None:
        x = x + b.to(x.dtype).reshape([-1 if axis == dim % x.ndim else 1 for axis in range(x.ndim)])
    x = chosen.function(x, chosen.alpha if alpha is None else alpha)
    gain = chosen.gain if gain is None else gain
    x = x if gain == 1 else x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


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
    """Scale the weights for each image and take their norm for the demodulation."""
    n, c, h, w = x.shape
    own: Tensor | None = None
    factors: Tensor | None = None
    if demodulate or fused:
        own = weight[None] * styles[:, None, :, None, None]  # (N, C', C, kernel, kernel)
    if demodulate:
        assert own is not None
        factors = (own.square().sum([2, 3, 4]) + convolution.DEMODULATION_EPSILON).rsqrt()  # (N, C')
    if not fused:
        x = x * styles.to(x.dtype)[:, :, None, None]
        x = convolution.conv2d_resample(
            x, weight.to(x.dtype), resample_filter, up=up, down=down, padding=padding, flip_weight=flip_weight
        )
        if factors is not None:
            x = x * factors.to(x.dtype)[:, :, None, None]
        return x if noise is None else x + noise.to(x.dtype)
    assert own is not None
    if factors is not None:
        own = own * factors[:, :, None, None, None]
    x = convolution.conv2d_resample(
        x.reshape(1, n * c, h, w), own.reshape(-1, *own.shape[2:]).to(x.dtype), resample_filter,
        up=up, down=down, padding=padding, groups=n, flip_weight=flip_weight,
    )  # fmt: skip
    x = x.reshape(n, -1, *x.shape[2:])
    return x if noise is None else x + noise.to(x.dtype)


def convolution_layer(self: layers.Conv2dLayer, x: Tensor, gain: float = 1.0) -> Tensor:
    x = convolution.conv2d_resample(
        x, (self.weight * self.weight_gain).to(x.dtype), self.resample_filter, up=self.up, down=self.down,
        padding=self.padding, flip_weight=self.up == 1,
    )  # fmt: skip
    clamp = None if self.conv_clamp is None else self.conv_clamp * gain
    return bias_act(x, self.bias, act=self.activation, gain=self.activation_gain * gain, clamp=clamp)


def synthesis_layer(
    self: synthesis.SynthesisLayer,
    x: Tensor,
    w: Tensor,
    *,
    noise_mode: str,
    fused_modconv: bool,
    gain: float = 1.0,
) -> Tensor:
    noise = None
    if noise_mode == "const":
        noise = self.noise_const * self.noise_strength
    elif noise_mode == "random":
        noise = (
            torch.randn([len(x), 1, self.resolution, self.resolution], device=x.device) * self.noise_strength
        )
    x = modulated_conv2d(
        x, self.weight, self.affine(w), noise=noise, up=self.up, padding=1, fused=fused_modconv,
        resample_filter=self.resample_filter, flip_weight=self.up == 1,
    )  # fmt: skip
    clamp = None if self.conv_clamp is None else self.conv_clamp * gain
    return bias_act(x, self.bias, act="lrelu", gain=ACTIVATIONS["lrelu"].gain * gain, clamp=clamp)


def color_layer(self: synthesis.ToRGBLayer, x: Tensor, w: Tensor) -> Tensor:
    styles = self.affine(w) * self.style_gain
    x = modulated_conv2d(x, self.weight, styles, demodulate=False, fused=False)
    return bias_act(x, self.bias, clamp=self.conv_clamp)


def warp(pipe: AugmentPipe, images: Tensor, inverse: Tensor) -> Tensor:
    """The geometric part with padding and filters as convolutions on a canvas for the whole batch."""
    n, c, height, width = images.shape
    device = images.device
    reach = len(pipe.Hz_geom) // 4
    left, right, top, bottom = _margins(inverse, width, height, 2 * reach)
    images = F.pad(images, [left, right, top, bottom], mode="reflect")
    inverse = translate_2d((left - right) / 2, (top - bottom) / 2, device) @ inverse
    images = filters.upsample2d(images, pipe.Hz_geom)
    inverse = scale_2d(2, 2, device) @ inverse @ scale_2d(0.5, 0.5, device)
    inverse = translate_2d(-0.5, -0.5, device) @ inverse @ translate_2d(0.5, 0.5, device)
    out_w, out_h = 2 * (width + 2 * reach), 2 * (height + 2 * reach)
    large = scale_2d(2 / images.shape[3], 2 / images.shape[2], device)
    inverse = large @ inverse @ scale_2d(out_w / 2, out_h / 2, device)
    grid = F.affine_grid(inverse[:, :2], [n, c, out_h, out_w], align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return filters.downsample2d(images, pipe.Hz_geom, padding=-2 * reach, flip_filter=True)


def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Clean the gradients one by one, then step."""
    for parameter in network.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Parameter by parameter."""
    for target, source in zip(average.parameters(), network.parameters(), strict=True):
        target.copy_(source.lerp(target, decay))
    for target, source in zip(average.buffers(), network.buffers(), strict=True):
        target.copy_(source)


def plain_adam(network: nn.Module, recipe: Recipe, interval: int) -> torch.optim.Adam:
    """The optimiser as PyTorch makes it unasked."""
    share = interval / (interval + 1)
    betas = (recipe.adam_betas[0] ** share, recipe.adam_betas[1] ** share)
    return torch.optim.Adam(network.parameters(), lr=recipe.lr * share, betas=betas, eps=recipe.adam_eps)


def install() -> None:
    """Replace the operators of `vendor` and the steps of `gan` in this process."""

    def as_it_is(x: Tensor) -> Tensor:
        return x

    for module in (filters, convolution):
        module.upfirdn2d = upfirdn2d  # type: ignore[attr-defined]
    layers.bias_act = bias_act  # type: ignore[assignment]
    layers.Conv2dLayer.forward = convolution_layer  # type: ignore[method-assign]
    synthesis.SynthesisLayer.forward = synthesis_layer  # type: ignore[method-assign]
    synthesis.ToRGBLayer.forward = color_layer  # type: ignore[method-assign]
    for module in (layers, synthesis, discriminator):
        module.in_fast_layout = as_it_is  # type: ignore[attr-defined]
    winograd.pays = lambda x, weight: False
    AugmentPipe._warp = warp  # type: ignore[method-assign,assignment]
    gan.job.step = step
    gan.job.update_ema = update_ema
    gan.job.use_channels_last = lambda *networks: None
    gan.job._lazy_adam = plain_adam
