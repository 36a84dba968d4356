"""Four plain convolutional nets for X-rays of the lungs, trained from scratch.

Each is the stack that most courses begin with: convolution, ReLU and max pooling four times, then dense
layers. They differ in their filters alone, so that a comparison says what filters are worth.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from classifier.network import before_last, dense_head
from extract.errors import SettingsError

FILTERS = {  # of the four convolutions; the second net differs from the first in its recipe: class weights
    "lung_convnet_1": (32, 64, 128, 128),
    "lung_convnet_2": (32, 64, 128, 128),
    "lung_convnet_3": (64, 96, 128, 128),  # more early filters
    "lung_convnet_4": (64, 128, 256, 256),  # more filters everywhere
}
SMALLEST_SIDE = 32
LARGEST_GRID = 8  # positions a side that the dense layers see: beyond 128 px they would hold all parameters


class LungConvNet(nn.Module):
    """Four times convolution 3x3, ReLU and max pooling; all positions side by side go into the head."""

    def __init__(
        self,
        filters: Sequence[int],
        num_classes: int,
        channels: int,
        size: tuple[int, int],
        widths: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        """Make the net for images of `size` (height, width), and of no other.

        Raises:
            SettingsError: for images of less than 32 pixels a side.
        """
        super().__init__()
        if min(size) < SMALLEST_SIDE:
            raise SettingsError(
                f"the lung convnets halve the image four times and take {SMALLEST_SIDE} pixels a side or "
                f"more, got {size[0]}x{size[1]}: use larger images, or small_resnet"
            )
        in_widths = (channels, *filters[:-1])
        self.blocks = nn.Sequential(*map(_convolve_and_halve, in_widths, filters))
        height, width = (side // 2 ** len(filters) for side in size)
        stride = -(-max(height, width) // LARGEST_GRID)
        self.coarsen = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        num_features = filters[-1] * max(height // stride, 1) * max(width // stride, 1)
        self.head = dense_head(num_features, widths, dropout, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(x))  # (N, num_classes)

    def penultimate(self, x: Tensor) -> Tensor:
        """The features that the last layer decides by, (N, D)."""
        return before_last(self.head, self.flat(x))

    def flat(self, x: Tensor) -> Tensor:
        """What the body gives at all positions, (N, D)."""
        return self.coarsen(self.blocks(x)).flatten(1)

    def stages(self) -> list[nn.Module]:
        """The four convolutions."""
        return list(self.blocks)


def _convolve_and_halve(in_width: int, width: int) -> nn.Module:
    convolution = nn.Conv2d(in_width, width, 3, padding=1)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")  # there is no normalisation to rely on
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # it has one
    return nn.Sequential(convolution, nn.ReLU(inplace=True), nn.MaxPool2d(2))
