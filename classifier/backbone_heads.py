"""Classifiers on the encoder of a denoising autoencoder: squeeze-and-excitation at three depths, or plain.

The encoder's file (`classifier pretrain`) names its tensors as they are named here, so that it fills the body
of either network; the heads start from chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from classifier.autoencoder import STAGE_WIDTHS, Encoder
from classifier.network import before_last, dense_head

NUM_DEPTHS = 3  # last stages of the encoder that the first kind of head looks at
REDUCTION = 8  # of the channels inside a squeeze-and-excitation (16 in the paper, whose nets are wider)


class SqueezeExcitation(nn.Module):
    """Weigh channels by what the whole image shows.

    Source: Hu et al. 2018, "Squeeze-and-Excitation Networks", arXiv:1709.01507, Section 3.
    """

    def __init__(self, width: int, reduction: int = REDUCTION) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, max(1, width // reduction))
        self.excite = nn.Linear(max(1, width // reduction), width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) with each image's channels times weights in (0, 1)."""
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean(dim=(2, 3))))))  # (N, C)
        return x * weights[:, :, None, None]


class DenoiserClassifier(nn.Module):
    """The encoder, and a head on its last stage or, weighed channel by channel, on its last three.

    Fine structure (ribs, vessels, small opacities) is in the earlier stages alone: joining three depths lets
    the head see it. Of each depth the mean and, as an opacity may be small, the maximum over the image count.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        widths: Sequence[int] = (),
        dropout: float = 0.0,
        *,
        has_excitation: bool,
    ) -> None:
        """Make the network for images of any size of at least a few pixels.

        Args:
            widths: of hidden dense layers after the pooled features.
            has_excitation: squeeze-and-excitation at three depths; False = the last stage's mean.
        """
        super().__init__()
        self.encoder = Encoder(channels)
        depths = STAGE_WIDTHS[-NUM_DEPTHS:] if has_excitation else STAGE_WIDTHS[-1:]
        self.excitations = nn.ModuleList(map(SqueezeExcitation, depths)) if has_excitation else None
        num_features = 2 * sum(depths) if has_excitation else depths[0]
        self.head = dense_head(num_features, widths, dropout, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pooled(x))  # (N, num_classes)

    def penultimate(self, x: Tensor) -> Tensor:
        """The features that the last layer decides by: (N, 448) with excitation, (N, 128) without."""
        return before_last(self.head, self.pooled(x))

    def pooled(self, x: Tensor) -> Tensor:
        """What the head is given, (N, D)."""
        features = self.encoder(x)
        if self.excitations is None:
            return features[-1].mean(dim=(2, 3))
        weighed = [
            excite(depth) for excite, depth in zip(self.excitations, features[-NUM_DEPTHS:], strict=True)
        ]
        pooled = [part for depth in weighed for part in (depth.mean(dim=(2, 3)), depth.amax(dim=(2, 3)))]
        return torch.cat(pooled, dim=1)

    def stages(self) -> list[nn.Module]:
        """The encoder's stages; excitations and dense layers are the head."""
        return list(self.encoder.stages)


# Name as `arch` -> whether the head has excitations at three depths.
DENOISER_NETWORKS = {"denoiser_se": True, "denoiser_plain": False}
