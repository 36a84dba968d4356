"""What every network offers beyond its logits, so that the rest need not know which one it is."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class OwnNetwork(Protocol):
    """A network of this package; those of timm answer the same questions in their own way."""

    def penultimate(self, x: Tensor) -> Tensor:
        """The features (N, D) that the last layer decides by."""

    def stages(self) -> list[nn.Module]:
        """The body from input to output; the head is what is in none of them."""


def dense_head(num_features: int, widths: Sequence[int], dropout: float, num_classes: int) -> nn.Module:
    """From pooled features (N, num_features) to logits: one layer, or hidden dense ones before it.

    Args:
        widths: of the hidden layers, each followed by ReLU and dropout.
        dropout: also before the last layer where there is no hidden one; in [0, 1).
    """
    if not widths and not dropout:
        return nn.Linear(num_features, num_classes)
    layers: list[nn.Module] = [] if widths else [nn.Dropout(dropout)]
    for width in widths:
        layers += [nn.Linear(num_features, width), nn.ReLU(), nn.Dropout(dropout)]
        num_features = width
    return nn.Sequential(*layers, nn.Linear(num_features, num_classes))


def before_last(head: nn.Module, features: Tensor) -> Tensor:
    """What reaches the last layer of a `dense_head` from pooled features (N, D)."""
    return head[:-1](features) if isinstance(head, nn.Sequential) else features


def penultimate(model: nn.Module, x: Tensor) -> Tensor:
    """The features (N, D) that the last layer decides by, of any network that `build_model` makes."""
    if isinstance(model, OwnNetwork):
        return model.penultimate(x)
    pooled = model.forward_head(model.forward_features(x), pre_logits=True)  # type: ignore[operator]
    return before_last(model.get_classifier(), pooled.flatten(1))  # type: ignore[operator]
