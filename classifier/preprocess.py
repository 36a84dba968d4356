"""The one way from stored pixels to a network's input, fitted once and saved with the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.data import ImageTable
from classifier.errors import ClassifierError

if TYPE_CHECKING:
    import torch

VERSION = 1  # raise it whenever the same settings would give other numbers
FIT_BATCH = 1024
SMALLEST_STD = 1 / 255  # a constant channel stays finite


@dataclass(frozen=True)
class Preprocessing:
    """Scale to [0, 1], resize if asked, subtract the mean and divide by the standard deviation.

    Training, validation, prediction and every later use apply this object and nothing else.
    """

    version: int
    channels: int
    height: int  # of the images it takes
    width: int
    mean: tuple[float, ...]  # one a channel, of the training part, on the scale [0, 1]
    std: tuple[float, ...]
    resize: int | None = None  # side of the network's input, pixels; None = as the images are

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ClassifierError(
                f"the preprocessing has version {self.version}, this release knows version {VERSION}; "
                "use the release that trained the model, or train it again"
            )

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return (self.resize, self.resize) if self.resize else (self.height, self.width)

    def to_batch(self, pixels: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
        """Turn (N, C, H, W) uint8 into the network's (N, C, h, w) float32 input, channels last in memory.

        Raises:
            ClassifierError: if the images have another shape than those of the training.
        """
        import torch

        expected = (self.channels, self.height, self.width)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != expected:
            raise ClassifierError(
                f"expected uint8 images of shape (channels, height, width) {expected} as in training, "
                f"got {pixels.dtype} {tuple(pixels.shape[1:])}: make the archive alike (--size, channels)"
            )
        return self.scale(torch.from_numpy(pixels).to(device, torch.float32))

    def scale(self, batch: torch.Tensor) -> torch.Tensor:
        """The same from (N, C, H, W) float32 on the scale 0 ... 255, which is overwritten."""
        import torch

        device = batch.device
        if self.resize and (self.height, self.width) != (self.resize, self.resize):
            batch = torch.nn.functional.interpolate(
                batch, size=(self.resize, self.resize), mode="bilinear", antialias=True
            )
        mean = torch.tensor(self.mean, device=device).mul(255).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=device).mul(255).view(1, -1, 1, 1)
        return batch.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> Preprocessing:
        return Preprocessing(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


def fit_preprocessing(images: ImageTable, resize: int | None = None) -> Preprocessing:
    """Measure mean and standard deviation of each channel; `images` must be the training part alone.

    The sums are whole numbers, so neither order nor batching changes the result.
    """
    channels, height, width = images.image_shape
    total, squares = np.zeros(channels, dtype=np.int64), np.zeros(channels, dtype=np.int64)
    values = np.arange(256)
    for start in range(0, len(images), FIT_BATCH):
        batch = images.gather(np.arange(start, min(start + FIT_BATCH, len(images))))
        for channel in range(channels):
            counts = np.bincount(batch[:, channel].ravel(), minlength=256)
            total[channel] += counts @ values
            squares[channel] += counts @ values**2
    count = len(images) * height * width
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return Preprocessing(
        version=VERSION,
        channels=channels,
        height=height,
        width=width,
        mean=tuple(float(value) for value in mean / 255),
        std=tuple(float(value) for value in np.maximum(std / 255, SMALLEST_STD)),
        resize=resize,
    )
