"""Layers with an equalised learning rate, and what the networks agree on.

Weights are stored with unit variance and scaled when used, so that Adam moves all of them equally fast.

Source: Karras et al. 2017, arXiv:1710.10196, Section 4.1; Karras et al. 2019, arXiv:1912.04958, Appendix B.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .activations import ACTIVATIONS, bias_act, lrelu_in_place
from .convolution import conv2d_resample
from .filters import setup_filter

LOW_PRECISION_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class FullyConnectedLayer(nn.Module):
    """Affine map and activation, (N, in_features) -> (N, out_features).

    Args:
        lr_multiplier: learning rate of this layer relative to the others.
        bias_init: initial value of the bias.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.randn([out_features, in_features]) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init)))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight * self.weight_gain).to(x.dtype)
        bias = self.bias if self.bias_gain == 1 else self.bias * self.bias_gain
        if self.activation == "linear":
            return torch.addmm(bias.to(x.dtype), x, weight.t())
        return bias_act(x @ weight.t(), bias, act=self.activation)


class Conv2dLayer(nn.Module):
    """Convolution with resampling, bias and activation, (N, in, H, W) -> (N, out, H * up / down, ...).

    Args:
        activation: "linear" or "lrelu".
        conv_clamp: bound of the activations at gain 1; None = no bound.
        is_trainable: False keeps weight and bias as buffers of the same names.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        has_bias: bool = True,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        is_trainable: bool = True,
    ) -> None:
        super().__init__()
        self.activation, self.up, self.down, self.conv_clamp = activation, up, down, conv_clamp
        self.padding = kernel_size // 2
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.activation_gain = ACTIVATIONS[activation].gain
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        weight = torch.randn([out_channels, in_channels, kernel_size, kernel_size])
        bias = torch.zeros([out_channels]) if has_bias else None
        self.weight: Tensor
        self.bias: Tensor | None
        if is_trainable:
            self.weight = nn.Parameter(weight)
            self.bias = None if bias is None else nn.Parameter(bias)
        else:
            self.register_buffer("weight", weight)
            self.register_buffer("bias", bias)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        # The gain is taken ahead: it then costs nothing, and linear and leaky ReLU let it pass.
        gain = self.activation_gain * gain
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain / self.activation_gain
        x = conv2d_resample(
            x,
            (self.weight * (self.weight_gain * gain)).to(x.dtype),
            self.resample_filter,
            up=self.up,
            down=self.down,
            padding=self.padding,
            flip_weight=self.up == 1,  # what is upsampled is convolved, all else correlated
            bias=None if self.bias is None else (self.bias * gain).to(x.dtype),
        )
        if self.activation == "lrelu":
            return lrelu_in_place(x, ACTIVATIONS["lrelu"].alpha, clamp)
        return x if clamp is None else x.clamp(-clamp, clamp)


def normalize_second_moment(x: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Scale each row of (N, features) to a mean square of one."""
    return x * (x.square().mean(1, keepdim=True) + epsilon).rsqrt()


def in_fast_layout(x: Tensor) -> Tensor:
    """The same (N, C, H, W) tensor with the memory layout in which its device convolves fastest.

    Channels last is 1.1 to 3 times faster on CPUs, and what tensor cores want in low precision.
    """
    if x.device.type == "cpu" or x.dtype != torch.float32:
        return x.contiguous(memory_format=torch.channels_last)
    return x


def block_resolutions(img_resolution: int) -> list[int]:
    """4, 8, ... img_resolution.

    Raises:
        ValueError: unless img_resolution is a power of two of at least 4.
    """
    if img_resolution < 4 or img_resolution & (img_resolution - 1):
        raise ValueError(f"img_resolution must be a power of two of at least 4, got {img_resolution}")
    return [2**i for i in range(2, img_resolution.bit_length())]


def channels_at(resolution: int, channel_base: int, channel_max: int) -> int:
    """Feature channels at a resolution."""
    channels = min(channel_base // resolution, channel_max)
    if channels < 1:
        raise ValueError(
            f"channel_base={channel_base} and channel_max={channel_max} leave no channel at resolution "
            f"{resolution}"
        )
    return channels


def uses_low_precision(resolution: int, img_resolution: int, num_fp16_res: int) -> bool:
    """Whether a resolution is among the num_fp16_res highest; 4x4 never is."""
    return resolution >= max(img_resolution * 2 // 2**num_fp16_res, 8)


def check_network_settings(
    *, img_channels: int, c_dim: int, num_fp16_res: int, num_mapping_layers: int, conv_clamp: float | None
) -> None:
    """Refuse settings that both networks refuse, with a ValueError that names the setting."""
    if img_channels < 1:
        raise ValueError(f"img_channels must be at least 1, got {img_channels}")
    if c_dim < 0:
        raise ValueError(f"c_dim must not be negative, got {c_dim}")
    if num_fp16_res < 0:
        raise ValueError(f"num_fp16_res must not be negative, got {num_fp16_res}")
    if num_mapping_layers < 1:
        raise ValueError(f"num_mapping_layers must be at least 1, got {num_mapping_layers}")
    if conv_clamp is not None and conv_clamp <= 0:
        raise ValueError(f"conv_clamp must be positive or None, got {conv_clamp}")


def parse_dtype(low_precision_dtype: torch.dtype | str) -> torch.dtype:
    """The type of the low-precision blocks from its name or itself."""
    name = str(low_precision_dtype).removeprefix("torch.")
    if name not in LOW_PRECISION_DTYPES:
        raise ValueError(f"low_precision_dtype must be one of {', '.join(LOW_PRECISION_DTYPES)}, got {name}")
    return LOW_PRECISION_DTYPES[name]
