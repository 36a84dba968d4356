"""The generator: mapping and synthesis network under their official names."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .layers import check_network_settings
from .mapping import MappingNetwork
from .synthesis import SynthesisNetwork


class Generator(nn.Module):
    """z and label to images.

    Args:
        z_dim, w_dim: sizes of the latents.
        c_dim: number of classes; 0 = unconditional.
        img_resolution: side in pixels, a power of two of at least 4.
        img_channels: 1 grey, 3 RGB.
        num_mapping_layers: depth of the mapping network.
        channel_base, channel_max: min(channel_base // resolution, channel_max) channels at each resolution.
        num_fp16_res: how many of the highest resolutions compute in low_precision_dtype.
        conv_clamp: bound of the activations; None = none. 256 is usual with float16.
        architecture: "skip", "resnet" or "orig" (arXiv:1912.04958, Figure 7).
        resample_filter: taps of the filter used for upsampling.
        use_noise: whether the layers have noise inputs.
        fused_modconv: default of `SynthesisNetwork.forward`.
        low_precision_dtype: "float16" or "bfloat16", or the torch type.

    Raises:
        ValueError: if a setting is not as described.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        *,
        num_mapping_layers: int = 8,
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
        if z_dim < 1 or w_dim < 1:
            raise ValueError(f"z_dim and w_dim must be at least 1, got {z_dim} and {w_dim}")
        check_network_settings(
            img_channels=img_channels,
            c_dim=c_dim,
            num_fp16_res=num_fp16_res,
            num_mapping_layers=num_mapping_layers,
            conv_clamp=conv_clamp,
        )
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.synthesis = SynthesisNetwork(
            w_dim,
            img_resolution,
            img_channels,
            channel_base=channel_base,
            channel_max=channel_max,
            num_fp16_res=num_fp16_res,
            conv_clamp=conv_clamp,
            architecture=architecture,
            resample_filter=resample_filter,
            use_noise=use_noise,
            fused_modconv=fused_modconv,
            low_precision_dtype=low_precision_dtype,
        )
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, num_layers=num_mapping_layers)

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "random",
        fused_modconv: bool | None = None,
        force_fp32: bool = False,
    ) -> Tensor:
        """(N, z_dim) latents and (N, c_dim) labels to (N, img_channels, side, side) images, about -1 to 1."""
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(  # type: ignore[no-any-return]
            ws, noise_mode=noise_mode, fused_modconv=fused_modconv, force_fp32=force_fp32
        )
