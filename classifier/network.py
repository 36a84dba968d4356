"""What every network of ours offers beyond its logits, so that the rest need not know which one it is."""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class OwnNetwork(Protocol):
    """A network of this package; those of timm answer the same questions in their own way."""

    def penultimate(self, x: Tensor) -> Tensor:
        """The features (N, D) that the last layer decides by."""

    def stages(self) -> list[nn.Module]:
        """The body from input to output; the head is what is in none of them."""
