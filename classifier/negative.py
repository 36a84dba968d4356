"""Learning what an image is not: the loss of negative labels beside that of the others.

Source: Rizve et al. 2021, "In Defense of Pseudo-Labeling" (UPS), arXiv:2101.06329, equation 4, summed
over the excluded classes.
"""

import torch
from torch import Tensor, nn

from classifier.losses import ClassificationLoss


def log_not(logits: Tensor) -> Tensor:
    """log(1 - p_c) of each class, p the softmax of (N, K) logits, without cancellation: (N, K)."""
    num_classes = logits.shape[1]
    own = torch.eye(num_classes, dtype=torch.bool, device=logits.device)
    others = logits[:, None, :].expand(-1, num_classes, -1).masked_fill(own, -torch.inf)  # (N, K, K)
    return torch.logsumexp(others, dim=2) - torch.logsumexp(logits, dim=1, keepdim=True)


def exclusion(outputs: Tensor, excluded: Tensor, loss: str) -> Tensor:
    """-sum over the excluded classes of log(1 - p_c), (N, K) and (N, K) to (N,).

    With `loss` "binary" p_c is the class's sigmoid, and the sum is divided by K as that loss is.
    """
    if loss == "binary":
        return -(excluded * nn.functional.logsigmoid(-outputs)).sum(dim=1) / outputs.shape[1]
    return -(excluded * log_not(outputs)).sum(dim=1)


class NegativeLoss(nn.Module):
    """The training's loss for images with a label, `exclusion` for those that are known not to be something.

    Targets are (N, 2 K): the label's distribution, zeros where there is none, then 1 for each excluded class.
    Mixtures of such rows (mixup) have the mixture of their losses. Targets (N, K), as at a look at the
    validation part, have the training's loss.
    """

    def __init__(self, supervised: ClassificationLoss, loss: str) -> None:
        super().__init__()
        self.supervised, self.loss = supervised, loss

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Args: outputs (N, K), targets (N, 2 K) or (N, K), weights (N,) relative, none = all alike."""
        num_classes = outputs.shape[1]
        if targets.shape[1] == num_classes:
            return self.supervised(outputs, targets, weights)
        labels, excluded = targets[:, :num_classes], targets[:, num_classes:]
        share = labels.sum(dim=1)  # (N,) of the image that has a label: 1, 0, or between where two are mixed
        labels = torch.where(share[:, None] > 0, labels / share.clamp_min(1e-6)[:, None], 1 / num_classes)
        smoothing = self.supervised.func.label_smoothing
        labels = labels * (1 - smoothing) + smoothing / num_classes
        losses = share * self.supervised.func.per_image(outputs, labels)
        losses = losses + exclusion(outputs, excluded, self.loss)  # (N,)
        if weights is None:
            return losses.mean()
        return (losses * weights).sum() / weights.sum()
