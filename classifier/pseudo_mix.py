"""How pseudo-labeled images enter a training: with a weight that rises, and as a fixed share of every batch.

Sources: the ramp of Laine and Aila 2017, "Temporal Ensembling for Semi-Supervised Learning",
arXiv:1610.02242, Section 2; two streams in every batch as in Tarvainen and Valpola 2017, "Mean teachers",
arXiv:1703.01780, and FixMatch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from classifier.batches import TrainingBatches
from classifier.config import ClassifierConfig
from classifier.data import LabeledImages, shuffled_indices
from classifier.errors import ClassifierError
from classifier.preprocess import Preprocessing
from extract.seeds import derive_seed


@dataclass(frozen=True)
class PseudoMix:
    """What a training does with its pseudo-labeled images beside their weights; None = nothing."""

    ramp: float | None = None  # share of the steps over which their weight rises to its full value, in (0, 1]
    quota: float | None = None  # share of each batch that they are, in (0, 1); None = as they come


def ramp_factor(step: int, num_steps: int, share: float) -> float:
    """exp(-5 (1 - t)^2) with t the part of the ramp that is done: 0.0067 at first, 1 from its end on."""
    done = min(1.0, step / (share * num_steps))
    return math.exp(-5 * (1 - done) ** 2)


def quota_indices(
    is_pseudo: np.ndarray, quota: float, batch_size: int, num_steps: int, seed: int
) -> Iterator[np.ndarray]:
    """Batches of two streams, each in shuffled passes of its own: labeled images, then pseudo-labeled ones.

    Args:
        is_pseudo: (N,) bool.
        quota: share of a batch that is pseudo-labeled; at least one image of either kind is in each.

    Raises:
        ClassifierError: if there is no image of either kind.
    """
    rows = np.flatnonzero(~is_pseudo), np.flatnonzero(is_pseudo)
    if not len(rows[0]) or not len(rows[1]):
        raise ClassifierError(
            f"a quota takes labeled and pseudo-labeled images, got {len(rows[0])} and {len(rows[1])}"
        )
    num_pseudo = min(max(round(quota * batch_size), 1), batch_size - 1)
    labeled = shuffled_indices(len(rows[0]), batch_size - num_pseudo, num_steps, seed)
    pseudo = shuffled_indices(len(rows[1]), num_pseudo, num_steps, derive_seed(seed, "pseudo"))
    for first, second in zip(labeled, pseudo, strict=True):
        yield np.concatenate([rows[0][first], rows[1][second]])


class MixedBatches(TrainingBatches):
    """Training batches in which pseudo-labeled images have a quota, or a weight that rises, or both."""

    def __init__(
        self,
        images: LabeledImages,
        targets: np.ndarray,
        preprocessing: Preprocessing,
        config: ClassifierConfig,
        device: torch.device,
        mix: PseudoMix,
    ) -> None:
        super().__init__(images, targets, preprocessing, config, device)
        self._ramp, self._num_steps = mix.ramp, config.steps
        self._is_pseudo = torch.from_numpy(images.is_pseudo).to(device)
        self.counted_share: Tensor | float = 1.0  # of the last batch's full weight
        if mix.quota is not None:
            self._order = quota_indices(
                images.is_pseudo,
                mix.quota,
                config.batch_size,
                config.steps,
                derive_seed(config.seed, "order"),
            )

    def weights_of(self, rows: Tensor) -> Tensor:
        weights = super().weights_of(rows)
        if self._ramp is None:
            return weights
        factor = ramp_factor(self.num_drawn - 1, self._num_steps, self._ramp)
        ramped = torch.where(self._is_pseudo[rows], weights * factor, weights)
        self.counted_share = ramped.sum() / weights.sum()
        return ramped


class RampedLoss(nn.Module):
    """A weighted mean that is divided by the full weights, not by those of the ramp.

    So labeled images count from the first step as much as at the end, whatever a batch holds; else a batch
    of pseudo-labeled images alone would count in full.
    """

    def __init__(self, loss: nn.Module, batches: MixedBatches) -> None:
        super().__init__()
        self.loss, self.batches = loss, batches

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Args: outputs (N, K), targets (N, K), weights (N,) of a training batch, none at a look."""
        loss = self.loss(outputs, targets, weights)
        return loss if weights is None else loss * self.batches.counted_share
