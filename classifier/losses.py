"""Training losses against soft labels, with a weight an image; integer labels are one-hot rows here."""

from collections.abc import Callable
from functools import partial

import torch
from fastai.losses import BaseLoss
from torch import Tensor, nn

from classifier.config import ClassifierConfig


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum_c target_c log p_c with p the softmax of the logits; (N, C) and (N, C) to (N,)."""
    return -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1)


def focal(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """-sum_c target_c (1 - p_c)^gamma log p_c: what is classified well already counts less.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", arXiv:1708.02002, Section 3.2, over
    several classes; gamma 0 is cross entropy.
    """
    log_probs = torch.log_softmax(logits, dim=1)
    missing = -torch.expm1(log_probs)  # 1 - p without cancellation
    return -(targets * missing.clamp_min(1e-12).pow(gamma) * log_probs).sum(dim=1)


def binary(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the classes of each one's own binary cross entropy: every class has a sigmoid to itself."""
    losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return losses.mean(dim=1)


def log_probability_scores(outputs: Tensor, loss: str) -> Tensor:
    """What a network's outputs say, as logits of a softmax.

    Outputs of sigmoids become their logarithms: the softmax of those are the sigmoids divided by their sum.
    So calibration, selection and every measure treat all networks alike.
    """
    return nn.functional.logsigmoid(outputs) if loss == "binary" else outputs


PerImage = Callable[[Tensor, Tensor], Tensor]


class WeightedLoss(nn.Module):
    """Weighted mean of a loss an image over a batch."""

    def __init__(
        self, per_image: PerImage = cross_entropy, label_smoothing: float = 0.0, reduction: str = "mean"
    ) -> None:
        super().__init__()
        self.per_image, self.label_smoothing, self.reduction = per_image, label_smoothing, reduction

    def forward(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Args: logits (N, C), targets (N, C) that sum to 1, weights (N,) relative, none = all alike."""
        if self.label_smoothing:
            targets = targets * (1 - self.label_smoothing) + self.label_smoothing / targets.shape[1]
        losses = self.per_image(logits, targets)  # (N,)
        if weights is not None:
            losses = losses * weights
        if self.reduction == "none":
            return losses
        if self.reduction == "sum":
            return losses.sum()
        return losses.sum() / weights.sum() if weights is not None else losses.mean()


class ClassificationLoss(BaseLoss):
    """`WeightedLoss` as fastai expects a loss: with activation, decoding and a `reduction`."""

    y_int = False

    def __init__(
        self, per_image: PerImage = cross_entropy, label_smoothing: float = 0.0, reduction: str = "mean"
    ) -> None:
        super().__init__(
            WeightedLoss,
            per_image=per_image,
            label_smoothing=label_smoothing,
            reduction=reduction,
            flatten=False,
        )

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        return self.func(logits, targets, weights)

    def activation(self, logits: Tensor) -> Tensor:
        scores = log_probability_scores(logits, "binary" if self.func.per_image is binary else "")
        return torch.softmax(scores, dim=-1)

    def decodes(self, logits: Tensor) -> Tensor:
        return logits.argmax(dim=-1)


def make_loss(config: ClassifierConfig) -> ClassificationLoss:
    """The loss that the settings name."""
    match config.loss:
        case "focal":
            return ClassificationLoss(partial(focal, gamma=config.focal_gamma), config.label_smoothing)
        case "binary":
            return ClassificationLoss(binary, config.label_smoothing)
    return ClassificationLoss(cross_entropy, config.label_smoothing)
