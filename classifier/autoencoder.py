"""A convolutional autoencoder whose decoder sees the bottleneck and nothing else.

Skip connections past the bottleneck, as a U-Net has them, let an autoencoder copy its input: the encoder then
learns nothing that a classifier could use. Here the decoder is given the code and the size of the picture.

Source: Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising Autoencoders".
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from extract.errors import SettingsError

STAGE_WIDTHS = (16, 32, 64, 128)  # channels of the encoder's stages, each of which halves the side
CODE_WIDTH = 16  # channels of the bottleneck: a sixteenth of a gray picture's numbers
LEAST_SQUEEZE = 4.0  # the code holds at most a quarter of the picture's numbers


class EncoderStage(nn.Module):
    """Two 3x3 convolutions with BatchNorm; the first halves the side (rounded up)."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(x)))


class Encoder(nn.Module):
    """The part that a classifier reuses: stages of growing width and falling size."""

    def __init__(self, channels: int, widths: Sequence[int] = STAGE_WIDTHS) -> None:
        super().__init__()
        self.channels, self.widths = channels, tuple(widths)
        self.stages = nn.ModuleList(map(EncoderStage, (channels, *widths[:-1]), widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of each stage for (N, channels, h, w): (N, widths[k], h / 2^(k+1), w / 2^(k+1))."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class DecoderStage(nn.Module):
    """Repeat pixels up to a given size, then one 3x3 convolution with BatchNorm."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        # Nearest neighbours and a convolution instead of a transposed one, which leaves checkerboards.
        x = nn.functional.interpolate(x, size=size, mode="nearest")
        return torch.relu(self.norm(self.conv(x)))


class Decoder(nn.Module):
    """From the code back to the picture."""

    def __init__(self, channels: int, code_width: int, widths: Sequence[int] = STAGE_WIDTHS) -> None:
        super().__init__()
        rising = (code_width, *reversed(widths[:-1]), widths[0])  # 16, 64, 32, 16, 16 by default
        self.stages = nn.ModuleList(map(DecoderStage, rising[:-1], rising[1:]))
        self.last = nn.Conv2d(widths[0], channels, 3, padding=1)  # linear: standardised gray has no bounds

    def forward(self, code: Tensor, size: tuple[int, int]) -> Tensor:
        """The (N, channels, *size) picture that a (N, code_width, h, w) code stands for."""
        for stage, target in zip(self.stages, reversed(side_chain(size, len(self.stages))[:-1]), strict=True):
            code = stage(code, target)
        return self.last(code)


class Autoencoder(nn.Module):
    """Encoder, bottleneck and decoder; `decode(encode(x), size)` is all there is to `forward`."""

    def __init__(
        self, channels: int, code_width: int = CODE_WIDTH, widths: Sequence[int] = STAGE_WIDTHS
    ) -> None:
        super().__init__()
        squeeze = channels * 4 ** len(widths) / code_width
        if squeeze < LEAST_SQUEEZE:
            raise SettingsError(
                f"the bottleneck must hold at most 1/{LEAST_SQUEEZE:g} of the picture's numbers, or the "
                f"autoencoder could copy: with {len(widths)} stages and {channels} channels its width can be "
                f"{int(channels * 4 ** len(widths) / LEAST_SQUEEZE)} at most, got {code_width}"
            )
        self.encoder = Encoder(channels, widths)
        # No ReLU after it: a code of both signs carries more in as few numbers.
        self.bottleneck = nn.Conv2d(widths[-1], code_width, 1)
        self.decoder = Decoder(channels, code_width, widths)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x), (x.shape[2], x.shape[3]))  # as x

    def encode(self, x: Tensor) -> Tensor:
        """The code of (N, C, h, w) pictures: (N, code_width, h / 2^stages, w / 2^stages), rounded up."""
        return self.bottleneck(self.encoder(x)[-1])

    def decode(self, code: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures of `size` (height, width) from codes alone."""
        return self.decoder(code, size)


def side_chain(size: tuple[int, int], num_stages: int) -> list[tuple[int, int]]:
    """Height and width of the picture and after each stage, halved and rounded up."""
    chain = [size]
    for _ in range(num_stages):
        height, width = chain[-1]
        chain.append((-(-height // 2), -(-width // 2)))
    return chain


def code_numbers(
    size: tuple[int, int], code_width: int = CODE_WIDTH, num_stages: int = len(STAGE_WIDTHS)
) -> int:
    """How many numbers the code of one picture has: all that the decoder learns of it."""
    return code_width * prod(side_chain(size, num_stages)[-1])
