"""The U-Net: a network that gives every pixel a logit, sized for a CPU.

Source: Ronneberger, Fischer, Brox 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
arXiv:1505.04597. Departures: padded convolutions, so that the output is as large as the input; a
normalisation after each convolution; few channels.
"""

import torch
from torch import Tensor, nn

from extract.errors import SettingsError

NORMS = ("group", "batch")
MAX_GROUPS = 8


class UNet(nn.Module):
    """Two 3x3 convolutions a level, `depth` halvings with a doubled width each, and the way back up.

    Images of any size go in: they are padded with their border to a multiple of 2 ** depth, and the output is
    cut to the image again.
    """

    def __init__(self, channels: int = 1, width: int = 12, depth: int = 4, norm: str = "group") -> None:
        """Build the network.

        Args:
            channels: of the images.
            width: channels of the first level.
            depth: number of halvings.
            norm: "group" (each image by itself, so that small batches and other scanners do no harm) or
                "batch".

        Raises:
            SettingsError: if a setting is outside its range.
        """
        super().__init__()
        if norm not in NORMS:
            raise SettingsError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
        if width < 1 or not 1 <= depth <= 7 or channels < 1:
            raise SettingsError(
                f"expected channels and width of at least 1 and a depth of 1 to 7, got {channels}, {width} "
                f"and {depth}"
            )
        self.depth = depth
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _double_convolution(channels if level == 0 else widths[level - 1], widths[level], norm)
            for level in range(depth + 1)
        )
        self.widen = nn.ModuleList(
            nn.ConvTranspose2d(widths[level + 1], widths[level], 2, stride=2) for level in range(depth)
        )
        self.up = nn.ModuleList(
            _double_convolution(2 * widths[level], widths[level], norm) for level in range(depth)
        )
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) float32 to (N, 1, h, w) logits."""
        height, width = x.shape[-2:]
        step = 2**self.depth
        below, right = -height % step, -width % step
        if below or right:
            x = nn.functional.pad(x, (0, right, 0, below), mode="replicate")
        kept: list[Tensor] = []
        for level, convolve in enumerate(self.down):
            x = convolve(x if level == 0 else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        for level in reversed(range(self.depth)):
            x = self.up[level](torch.cat([kept[level], self.widen[level](x)], dim=1))
        return self.head(x)[..., :height, :width]


def build_unet(channels: int, width: int, depth: int, norm: str, seed: int) -> UNet:
    """A U-Net whose first weights follow from the seed; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = UNet(channels, width, depth, norm)
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on a CPU


def _double_convolution(in_width: int, width: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_width, width, 3, padding=1, bias=False), _norm(width, norm), nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False), _norm(width, norm), nn.ReLU(inplace=True),
    )  # fmt: skip


def _norm(width: int, norm: str) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(width)
    # Groups of one channel would lose each channel's own level, which tells lung from air.
    most = min(MAX_GROUPS, width // 2)
    return nn.GroupNorm(next((count for count in range(most, 1, -1) if width % count == 0), 1), width)
