"""The discriminator: images and labels to logits.

Source: Karras et al. 2019, arXiv:1912.04958, Section 4.1 and Figure 7; Karras et al. 2017, arXiv:1710.10196,
Section 3 (minibatch standard deviation); Miyato and Koyama 2018, arXiv:1802.05637 (projection of the label);
Mo et al. 2020, arXiv:2002.10964 (frozen layers).
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from .filters import downsample2d, setup_filter
from .layers import (
    Conv2dLayer,
    FullyConnectedLayer,
    block_resolutions,
    channels_at,
    check_network_settings,
    in_fast_layout,
    parse_dtype,
    uses_low_precision,
)
from .mapping import MappingNetwork

ARCHITECTURES = ("orig", "skip", "resnet")


class DiscriminatorBlock(nn.Module):
    """All layers of one resolution; the first block (in_channels 0) starts from the image.

    Args:
        trainable: yields for each layer in turn (from RGB, conv0, conv1, skip) whether it is trained.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        features: int,
        out_channels: int,
        *,
        img_channels: int,
        architecture: str,
        resample_filter: Sequence[float],
        conv_clamp: float | None,
        trainable: Iterator[bool],
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.in_channels, self.architecture, self.dtype = in_channels, architecture, dtype
        self.register_buffer("resample_filter", setup_filter(resample_filter))

        def layer(channels: int, out: int, kernel: int, down: int = 1) -> Conv2dLayer:
            return Conv2dLayer(
                channels,
                out,
                kernel,
                activation="lrelu",
                down=down,
                resample_filter=resample_filter,
                conv_clamp=conv_clamp,
                is_trainable=next(trainable),
            )

        if in_channels == 0 or architecture == "skip":
            self.fromrgb = layer(img_channels, features, 1)
        self.conv0 = layer(features, features, 3)
        self.conv1 = layer(features, out_channels, 3, down=2)
        if architecture == "resnet":
            self.skip = Conv2dLayer(
                features,
                out_channels,
                1,
                has_bias=False,
                down=2,
                resample_filter=resample_filter,
                is_trainable=next(trainable),
            )

    def forward(
        self, x: Tensor | None, img: Tensor | None, force_fp32: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Features (None in the first block) and image at this resolution to those at half of it."""
        dtype = torch.float32 if force_fp32 else self.dtype
        if x is not None:
            x = in_fast_layout(x.to(dtype))
        if img is not None:
            y = in_fast_layout(self.fromrgb(in_fast_layout(img.to(dtype))))
            x = y if x is None else x + y
            img = downsample2d(img, self.resample_filter) if self.architecture == "skip" else None
        if self.architecture == "resnet":
            half = math.sqrt(0.5)
            y = self.skip(x, gain=half)
            x = self.conv1(self.conv0(x), gain=half)
            return y.add_(x), img  # y is the fresh result of a convolution that nobody remembers
        return self.conv1(self.conv0(x)), img


class MinibatchStdLayer(nn.Module):
    """Appends one channel: how much the images of a group differ from one another.

    Args:
        group_size: images in a group, at most the batch; None = the whole batch.
    """

    def __init__(self, group_size: int | None, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.group_size, self.epsilon = group_size, epsilon

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C + 1, H, W). Members of a group are N / group_size apart in the batch."""
        n, c, h, w = x.shape
        group = n if self.group_size is None else min(self.group_size, n)
        if n % group:
            raise ValueError(
                f"a batch of {n} cannot be divided into groups of {group} images (mbstd_group_size)"
            )
        y = x.reshape(group, n // group, c, h, w)
        y = y - y.mean(0)
        y = (y.square().mean(0) + self.epsilon).sqrt()  # (N / group, C, H, W)
        y = y.mean([1, 2, 3]).repeat(group)  # (N,)
        return torch.cat([x, y[:, None, None, None].expand(n, 1, h, w).to(x.dtype)], 1)


class DiscriminatorEpilogue(nn.Module):
    """The layers at 4x4 and the logit, in float32.

    Args:
        cmap_dim: size of the mapped label; 0 = unconditional.
        has_fromrgb: whether an image enters here.
    """

    def __init__(
        self,
        channels: int,
        *,
        cmap_dim: int,
        img_channels: int,
        has_fromrgb: bool,
        resample_filter: Sequence[float],
        conv_clamp: float | None,
        mbstd_group_size: int | None,
    ) -> None:
        super().__init__()
        self.cmap_dim = cmap_dim
        if has_fromrgb:
            self.fromrgb = Conv2dLayer(
                img_channels, channels, 1, activation="lrelu", resample_filter=resample_filter
            )
        self.mbstd = MinibatchStdLayer(mbstd_group_size)
        self.conv = Conv2dLayer(
            channels + 1,
            channels,
            3,
            activation="lrelu",
            resample_filter=resample_filter,
            conv_clamp=conv_clamp,
        )
        self.fc = FullyConnectedLayer(channels * 4 * 4, channels, activation="lrelu")
        self.out = FullyConnectedLayer(channels, cmap_dim or 1)

    def forward(self, x: Tensor | None, img: Tensor | None, cmap: Tensor | None) -> Tensor:
        """(N, channels, 4, 4) features, image and (N, cmap_dim) mapped label to (N, 1) logits."""
        if x is not None:
            x = x.to(torch.float32)
        if img is not None:
            y = self.fromrgb(img.to(torch.float32))
            x = y if x is None else x + y
        x = self.conv(self.mbstd(x))
        x = self.out(self.fc(x.flatten(1)))
        if cmap is None:
            return x
        return (x * cmap).sum(1, keepdim=True) / math.sqrt(self.cmap_dim)


class Discriminator(nn.Module):
    """Images and labels to logits; positive = looks real.

    Args:
        c_dim, img_resolution, img_channels, channel_base, channel_max, num_fp16_res, conv_clamp,
            resample_filter, low_precision_dtype: as in `Generator`.
        architecture: "resnet", "skip" or "orig" (arXiv:1912.04958, Figure 7).
        num_mapping_layers: depth of the network that maps labels, 0 = embedded alone; unused without labels.
        mbstd_group_size: images compared in the minibatch standard deviation; None = the whole batch.
        freeze_layers: layers counted from the image that are not trained; they keep their names, but
            weight and bias are buffers. At 4x4 nothing is frozen.

    Raises:
        ValueError: if a setting is not as described.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        *,
        architecture: str = "resnet",
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        conv_clamp: float | None = None,
        num_mapping_layers: int = 8,
        mbstd_group_size: int | None = 4,
        freeze_layers: int = 0,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        low_precision_dtype: torch.dtype | str = torch.float16,
    ) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
        if mbstd_group_size is not None and mbstd_group_size < 1:
            raise ValueError(f"mbstd_group_size must be at least 1 or None, got {mbstd_group_size}")
        if freeze_layers < 0:
            raise ValueError(f"freeze_layers must not be negative, got {freeze_layers}")
        check_network_settings(
            img_channels=img_channels,
            c_dim=c_dim,
            num_fp16_res=num_fp16_res,
            num_mapping_layers=num_mapping_layers or 1,
            conv_clamp=conv_clamp,
        )
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        self.resolutions = block_resolutions(img_resolution)[:0:-1]  # from the image down to 8
        self.architecture = architecture
        trainable = _after(freeze_layers)
        in_channels = 0
        for resolution in self.resolutions:
            low = uses_low_precision(resolution, img_resolution, num_fp16_res)
            block = DiscriminatorBlock(
                in_channels,
                channels_at(resolution, channel_base, channel_max),
                channels_at(resolution // 2, channel_base, channel_max),
                img_channels=img_channels,
                architecture=architecture,
                resample_filter=resample_filter,
                conv_clamp=conv_clamp,
                trainable=trainable,
                dtype=parse_dtype(low_precision_dtype) if low else torch.float32,
            )
            self.add_module(f"b{resolution}", block)
            in_channels = channels_at(resolution // 2, channel_base, channel_max)
        channels = channels_at(4, channel_base, channel_max)
        if c_dim > 0:
            self.mapping = MappingNetwork(0, c_dim, channels, None, num_layers=num_mapping_layers)
        self.b4 = DiscriminatorEpilogue(
            channels,
            cmap_dim=channels if c_dim > 0 else 0,
            img_channels=img_channels,
            has_fromrgb=architecture == "skip" or not self.resolutions,
            resample_filter=resample_filter,
            conv_clamp=conv_clamp,
            mbstd_group_size=mbstd_group_size,
        )

    def forward(self, img: Tensor, c: Tensor | None = None, force_fp32: bool = False) -> Tensor:
        """(N, img_channels, side, side) images in [-1, 1] and (N, c_dim) labels to (N, 1) logits."""
        side = self.img_resolution
        if img.ndim != 4 or img.shape[1:] != (self.img_channels, side, side):
            raise ValueError(
                f"images must have shape (N, {self.img_channels}, {side}, {side}), got {tuple(img.shape)}"
            )
        x: Tensor | None = None
        image: Tensor | None = img
        for resolution in self.resolutions:
            x, image = getattr(self, f"b{resolution}")(x, image, force_fp32=force_fp32)
        cmap = self.mapping(None, c) if self.c_dim > 0 else None
        return self.b4(x, image, cmap)  # type: ignore[no-any-return]


def _after(freeze_layers: int) -> Iterator[bool]:
    """False for the frozen layers, True for all that follow."""
    index = 0
    while True:
        yield index >= freeze_layers
        index += 1
