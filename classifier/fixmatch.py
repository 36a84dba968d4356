"""FixMatch: what the network says of a weakly changed unlabeled image is its target for a stronger change.

Every batch holds labeled images, and `mu` times as many unlabeled ones in two views. Where the most probable
class of the weak view reaches the threshold, the strong view is trained towards it; all else is as in the
supervised training: steps, rates, looks at the validation part, batches of labeled images in the same order.

Source: Sohn et al. 2020, "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence",
arXiv:2001.07685, Section 2, with its threshold 0.95, mu 7, loss weight 1 and averaged weights of decay 0.999.
Departures: the strong view is what another positioning, exposure and detector might give (no flips, no
inverted or posterised greys), followed by cutout as there; optimiser and schedule are those of the arms that
it is compared with; labeled images are not among the unlabeled ones as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from classifier.augment import Augmentation, augment_batch
from classifier.batches import TrainingBatches
from classifier.config import ClassifierConfig
from classifier.data import ImageTable, LabeledImages, shuffled_indices
from classifier.fixmatch_config import FixMatchConfig
from classifier.losses import ClassificationLoss, log_probability_scores
from classifier.preprocess import PreparedImages, Preprocessing
from extract.seeds import derive_seed

MAX_NOISE = 0.25  # standard deviation of the strong view's noise, in standard deviations of the images
MAX_CUTOUT = 0.5  # side of the square that the strong view loses, of the image's side


@dataclass
class Agreement:
    """How many weak views reached the threshold in the course of a training, and as which class."""

    num_seen: int = 0
    per_class: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # (C,)

    def note(self, labels: Tensor, passed: Tensor, num_classes: int) -> None:
        """Count the (N,) predicted classes of those that passed."""
        counts = np.bincount(labels[passed].cpu().numpy(), minlength=num_classes)
        self.per_class = counts if not len(self.per_class) else self.per_class + counts
        self.num_seen += len(labels)

    @property
    def share(self) -> float:
        """Share of all weak views that reached the threshold."""
        return float(self.per_class.sum()) / self.num_seen if self.num_seen else 0.0


@dataclass(frozen=True)
class Unlabeled:
    """What a FixMatch training takes beside the labeled images."""

    images: ImageTable
    subjects: np.ndarray  # (N,) str
    config: FixMatchConfig
    agreement: Agreement = field(default_factory=Agreement)  # filled in by the training


def strong_augmentation(mirror: bool) -> Augmentation:
    """Further than the weak view goes, and still what a scanner could give."""
    return Augmentation(
        max_shift=0.125, max_turn_deg=20.0, max_zoom=0.25, max_brightness=0.5, max_contrast=0.5, mirror=mirror
    )


def strong_view(batch: Tensor, mirror: bool, generator: torch.Generator) -> Tensor:
    """Move and re-expose (N, C, H, W) standardised images strongly, add noise, cut a square out of each."""
    n, _, height, width = batch.shape
    batch = augment_batch(batch, strong_augmentation(mirror), generator)
    amount = torch.rand(n, 1, 1, 1, generator=generator) * MAX_NOISE
    noise = torch.randn(batch.shape, generator=generator) * amount
    batch = batch + noise.to(batch.device)
    side, down, across = torch.rand(3, n, generator=generator)
    inside = []
    for length, middle in ((height, down), (width, across)):
        place = (torch.arange(length) + 0.5) / length  # (length,)
        inside.append((place - middle[:, None]).abs() < side[:, None] * MAX_CUTOUT / 2)
    square = (inside[0][:, :, None] & inside[1][:, None, :])[:, None].to(batch.device)  # (N, 1, H, W)
    batch = batch.masked_fill(square, 0.0)  # the mean of the training images
    return batch.contiguous(memory_format=torch.channels_last)


class FixMatchBatches(TrainingBatches):
    """Labeled batches as ever, each followed by the weak and the strong views of unlabeled images.

    Yields images (B + 2 mu B, C, H, W): labeled, weak, strong; targets (B, K) and weights (B,) of the first.
    """

    def __init__(
        self,
        images: LabeledImages,
        targets: np.ndarray,
        preprocessing: Preprocessing,
        config: ClassifierConfig,
        device: torch.device,
        unlabeled: Unlabeled,
    ) -> None:
        super().__init__(images, targets, preprocessing, config, device)
        self._unlabeled = PreparedImages(unlabeled.images, preprocessing)
        self._unlabeled_order = shuffled_indices(
            len(unlabeled.images),
            unlabeled.config.mu * config.batch_size,
            config.steps,
            derive_seed(config.seed, "unlabeled order"),
        )
        self._views = torch.Generator().manual_seed(derive_seed(config.seed, "views"))
        self._mirror = config.mirror

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for labeled, targets, weights in super().__iter__():
            batch = self._unlabeled.batch(next(self._unlabeled_order), self.device)
            weak = batch
            if self._augmentation is not None:
                weak = augment_batch(batch, self._augmentation, self._views)
            strong = strong_view(batch, self._mirror, self._views)
            yield torch.cat([labeled, weak, strong]), targets, weights

    def generators(self) -> dict[str, Tensor]:
        return super().generators() | {"generator_views": self._views.get_state()}

    def restore(self, num_drawn: int, generators: Mapping[str, Tensor]) -> None:
        super().restore(num_drawn, generators)
        for _ in range(num_drawn):
            next(self._unlabeled_order)
        self._views.set_state(generators["generator_views"])


class FixMatchLoss(nn.Module):
    """The supervised loss of the labeled rows plus the weighted consistency of the others.

    Outputs of a batch without unlabeled rows, as at a look at the validation part, have the supervised loss.
    """

    def __init__(self, supervised: ClassificationLoss, loss: str, unlabeled: Unlabeled) -> None:
        super().__init__()
        self.supervised, self.loss = supervised, loss
        self.config, self.agreement = unlabeled.config, unlabeled.agreement

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Args: outputs (B + 2 mu B, K), targets (B, K), weights (B,)."""
        num_labeled, num_classes = targets.shape
        labeled, unlabeled = outputs[:num_labeled], outputs[num_labeled:]
        loss = self.supervised(labeled, targets, weights)
        if not len(unlabeled):
            return loss
        weak, strong = unlabeled.chunk(2)
        with torch.no_grad():
            probs = torch.softmax(log_probability_scores(weak.detach().float(), self.loss), dim=1)
            confidence, labels = probs.max(dim=1)
            passed = confidence >= self.config.threshold
            self.agreement.note(labels, passed, num_classes)
        one_hot = nn.functional.one_hot(labels, num_classes).to(strong.dtype)
        losses = self.supervised.func.per_image(strong, one_hot)  # (mu B,)
        return loss + self.config.weight * (losses * passed).mean()  # over all, those below the threshold too
