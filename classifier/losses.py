"""The training loss: cross entropy against soft labels, with a weight an image."""

import torch
from fastai.losses import BaseLoss
from torch import Tensor, nn


class SoftCrossEntropy(nn.Module):
    """Weighted mean of -sum_c target_c log softmax(logits)_c over a batch.

    Integer labels are one-hot rows here, so hard and soft labels train by the same arithmetic.
    """

    def __init__(self, label_smoothing: float = 0.0, reduction: str = "mean") -> None:
        super().__init__()
        self.label_smoothing, self.reduction = label_smoothing, reduction

    def forward(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Args: logits (N, C), targets (N, C) that sum to 1, weights (N,) relative, none = all alike."""
        if self.label_smoothing:
            targets = targets * (1 - self.label_smoothing) + self.label_smoothing / targets.shape[1]
        losses = -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1)  # (N,)
        if weights is not None:
            losses = losses * weights
        if self.reduction == "none":
            return losses
        if self.reduction == "sum":
            return losses.sum()
        return losses.sum() / weights.sum() if weights is not None else losses.mean()


class SoftCrossEntropyFlat(BaseLoss):
    """`SoftCrossEntropy` as fastai expects a loss: with activation, decoding and a `reduction`."""

    y_int = False

    def __init__(self, label_smoothing: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(
            SoftCrossEntropy, label_smoothing=label_smoothing, reduction=reduction, flatten=False
        )

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        return self.func(logits, targets, weights)

    def activation(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits, dim=-1)

    def decodes(self, logits: Tensor) -> Tensor:
        return logits.argmax(dim=-1)
