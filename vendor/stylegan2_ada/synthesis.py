"""The synthesis network: intermediate latents w to images.

Source: Karras et al. 2019, arXiv:1912.04958, Sections 2.2 and 4.1, Figures 2 and 7.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .activations import ACTIVATIONS, bias_act, scaled_lrelu
from .convolution import convolve_styled, modulated_conv2d
from .filters import setup_filter, upsample2d
from .layers import (
    Conv2dLayer,
    FullyConnectedLayer,
    block_resolutions,
    channels_at,
    in_fast_layout,
    parse_dtype,
    uses_low_precision,
)

ARCHITECTURES = ("skip", "resnet", "orig")
NOISE_MODES = ("random", "const", "none")


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias and leaky ReLU; one style input."""

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        w_dim: int,
        resolution: int,
        up: int,
        use_noise: bool,
        resample_filter: Sequence[float],
        conv_clamp: float | None,
    ) -> None:
        super().__init__()
        self.resolution, self.up, self.use_noise, self.conv_clamp = resolution, up, use_noise, conv_clamp
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn([out_channels, in_channels, 3, 3]))
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        if use_noise:
            self.register_buffer("noise_const", torch.randn([resolution, resolution]))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros([out_channels]))

    def forward(
        self, x: Tensor, w: Tensor, *, noise_mode: str, fused_modconv: bool, gain: float = 1.0
    ) -> Tensor:
        """(N, in, H, W) and (N, w_dim) to (N, out, resolution, resolution)."""
        noise = None
        if self.use_noise and noise_mode == "const":
            noise = self.noise_const * self.noise_strength
        elif self.use_noise and noise_mode == "random":
            shape = [len(x), 1, self.resolution, self.resolution]
            noise = torch.randn(shape, device=x.device) * self.noise_strength
        lrelu = ACTIVATIONS["lrelu"]
        gain = lrelu.gain * gain
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain / lrelu.gain
        if fused_modconv:
            x = modulated_conv2d(
                x,
                self.weight,
                self.affine(w),
                noise=noise,
                up=self.up,
                padding=1,
                resample_filter=self.resample_filter,
                flip_weight=self.up == 1,  # what is upsampled is convolved, all else correlated
            )
            return bias_act(x, self.bias, act="lrelu", gain=gain, clamp=clamp)
        x, factors = convolve_styled(
            x,
            self.weight,
            self.affine(w),
            up=self.up,
            padding=1,
            resample_filter=self.resample_filter,
            flip_weight=self.up == 1,
        )
        assert factors is not None
        noise = None if noise is None else noise * gain
        return scaled_lrelu(x, factors * gain, self.bias * gain, noise, alpha=lrelu.alpha, clamp=clamp)


class ToRGBLayer(nn.Module):
    """Modulated 1x1 convolution to colours, without demodulation; one style input."""

    def __init__(self, in_channels: int, img_channels: int, *, w_dim: int, conv_clamp: float | None) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn([img_channels, in_channels, 1, 1]))
        self.bias = nn.Parameter(torch.zeros([img_channels]))
        self.style_gain = 1 / math.sqrt(in_channels)  # in place of what demodulation does elsewhere

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(N, in, H, W) and (N, w_dim) to (N, img_channels, H, W).

        A matrix an image: there are so few colours that scaling the weights costs nothing.
        """
        styles = self.affine(w) * self.style_gain
        own = (self.weight.flatten(1) * styles[:, None]).to(x.dtype)  # (N, img_channels, in)
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)  # (N, in, H * W)
        colors = torch.baddbmm(self.bias.to(x.dtype)[:, None], own, pixels).unflatten(2, x.shape[2:])
        return colors if self.conv_clamp is None else colors.clamp(-self.conv_clamp, self.conv_clamp)


class SynthesisBlock(nn.Module):
    """All layers of one resolution; the first block (in_channels 0) starts from a learned constant.

    Attributes:
        num_conv, num_torgb: how many style inputs the convolutions and the colour layer take.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        w_dim: int,
        resolution: int,
        img_channels: int,
        is_last: bool,
        architecture: str,
        resample_filter: Sequence[float],
        conv_clamp: float | None,
        use_noise: bool,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.in_channels, self.architecture, self.dtype = in_channels, architecture, dtype
        self.resolution = resolution
        self.register_buffer("resample_filter", setup_filter(resample_filter))

        def layer(channels: int, up: int) -> SynthesisLayer:
            return SynthesisLayer(
                channels,
                out_channels,
                w_dim=w_dim,
                resolution=resolution,
                up=up,
                use_noise=use_noise,
                resample_filter=resample_filter,
                conv_clamp=conv_clamp,
            )

        if in_channels == 0:
            self.const = nn.Parameter(torch.randn([out_channels, resolution, resolution]))
        else:
            self.conv0 = layer(in_channels, up=2)
        self.conv1 = layer(out_channels, up=1)
        self.num_conv = 1 if in_channels == 0 else 2
        self.num_torgb = int(is_last or architecture == "skip")
        if self.num_torgb:
            self.torgb = ToRGBLayer(out_channels, img_channels, w_dim=w_dim, conv_clamp=conv_clamp)
        if in_channels > 0 and architecture == "resnet":
            self.skip = Conv2dLayer(
                in_channels, out_channels, 1, has_bias=False, up=2, resample_filter=resample_filter
            )

    def forward(
        self,
        x: Tensor | None,
        img: Tensor | None,
        ws: Tensor,
        *,
        noise_mode: str,
        fused_modconv: bool,
        force_fp32: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Features and running image of the resolution below to those of ours.

        ws: (N, num_conv + num_torgb, w_dim), one row a layer.
        """
        dtype = torch.float32 if force_fp32 else self.dtype
        styles = iter(ws.unbind(1))
        is_first = x is None
        x = self.const.to(dtype).expand(len(ws), -1, -1, -1) if x is None else x.to(dtype)
        if not fused_modconv:  # grouped convolutions are slower with channels last
            x = in_fast_layout(x)
        if is_first:
            x = self.conv1(x, next(styles), noise_mode=noise_mode, fused_modconv=fused_modconv)
        elif self.architecture == "resnet":
            half = math.sqrt(0.5)
            y = self.skip(x, gain=half)
            x = self.conv0(x, next(styles), noise_mode=noise_mode, fused_modconv=fused_modconv)
            x = self.conv1(x, next(styles), noise_mode=noise_mode, fused_modconv=fused_modconv, gain=half)
            x = y.add_(x)  # y is the fresh result of a convolution that nobody remembers
        else:
            x = self.conv0(x, next(styles), noise_mode=noise_mode, fused_modconv=fused_modconv)
            x = self.conv1(x, next(styles), noise_mode=noise_mode, fused_modconv=fused_modconv)

        if img is not None:
            img = upsample2d(img, self.resample_filter)
        if self.num_torgb:
            colors = self.torgb(x, next(styles)).to(torch.float32)
            img = colors if img is None else img + colors
        return x, img


class SynthesisNetwork(nn.Module):
    """w to images.

    Attributes:
        num_ws: style inputs, 2 * log2(img_resolution) - 2.
    """

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        *,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        conv_clamp: float | None = None,
        architecture: str = "skip",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        use_noise: bool = True,
        fused_modconv: bool | None = None,
        low_precision_dtype: torch.dtype | str = torch.float16,
    ) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
        self.resolutions = block_resolutions(img_resolution)
        self.w_dim, self.fused_modconv = w_dim, fused_modconv
        self.num_ws = 0
        in_channels = 0
        for resolution in self.resolutions:
            low = uses_low_precision(resolution, img_resolution, num_fp16_res)
            block = SynthesisBlock(
                in_channels,
                channels_at(resolution, channel_base, channel_max),
                w_dim=w_dim,
                resolution=resolution,
                img_channels=img_channels,
                is_last=resolution == img_resolution,
                architecture=architecture,
                resample_filter=resample_filter,
                conv_clamp=conv_clamp,
                use_noise=use_noise,
                dtype=parse_dtype(low_precision_dtype) if low else torch.float32,
            )
            self.add_module(f"b{resolution}", block)
            in_channels = channels_at(resolution, channel_base, channel_max)
            self.num_ws += block.num_conv
        self.num_ws += 1  # the colour layer of the last block; the others share the input of the next block

    def forward(
        self,
        ws: Tensor,
        noise_mode: str = "random",
        fused_modconv: bool | None = None,
        force_fp32: bool = False,
    ) -> Tensor:
        """Make images.

        Args:
            ws: (N, num_ws, w_dim).
            noise_mode: "random" = fresh noise, "const" = the noise stored with the network, "none".
            fused_modconv: see `modulated_conv2d`; None = what the constructor was told, and if that is None
                too, whichever is faster.
            force_fp32: compute the low-precision blocks in float32.

        Returns:
            (N, img_channels, img_resolution, img_resolution) float32, about -1 to 1.
        """
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(f"ws must have shape (N, {self.num_ws}, {self.w_dim}), got {tuple(ws.shape)}")
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode must be one of {', '.join(NOISE_MODES)}, got {noise_mode!r}")
        if fused_modconv is None:
            fused_modconv = self.fused_modconv
        if fused_modconv is None:
            fused_modconv = ws.is_cuda and not self.training and len(ws) == 1

        ws = ws.to(torch.float32)
        x: Tensor | None = None
        img: Tensor | None = None
        first = 0
        for resolution in self.resolutions:
            block = getattr(self, f"b{resolution}")
            own = ws[:, first : first + block.num_conv + block.num_torgb]
            first += block.num_conv
            x, img = block(
                x, img, own, noise_mode=noise_mode, fused_modconv=fused_modconv, force_fp32=force_fp32
            )
        assert img is not None  # the last block has a colour layer
        return img.contiguous()
