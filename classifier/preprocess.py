"""The one way from stored pixels to a network's input, fitted once and saved with the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.data import ImageTable
from classifier.errors import ClassifierError
from extract.pixel_steps import apply_steps
from extract.preprocessing import PLAIN, VERSION, PreprocessConfig, parse_preprocessing

if TYPE_CHECKING:
    import torch

FIRST_VERSION = 1  # no steps, and a resize of its own; models of that time give the numbers they always gave
FIT_BATCH = 1024
SMALLEST_STD = 1 / 255  # a constant channel or image stays finite
MAX_PREPARED_BYTES = 2**30  # of memory for images whose steps are done once, not in each batch
# What published networks expect: mean and deviation by channel on the scale [0, 1]; gray takes their mean.
FIXED = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # to [-1, 1]
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # stays in [0, 1]
}


@dataclass(frozen=True)
class Preprocessing:
    """Do the steps, scale to [0, 1], subtract a mean and divide by a standard deviation.

    Training, validation, prediction and every later use apply this object and nothing else. Each image's
    result depends on that image alone, so that batches, their order and workers make no difference.
    """

    version: int
    channels: int
    height: int  # of the images it takes
    width: int
    mean: tuple[float, ...]  # one a channel of the network's input, on the scale [0, 1]
    std: tuple[float, ...]
    resize: int | None = None  # version 1 alone: side of the network's input, pixels
    steps: PreprocessConfig = PLAIN

    def __post_init__(self) -> None:
        if self.version not in (FIRST_VERSION, VERSION):
            raise ClassifierError(
                f"the preprocessing has version {self.version}, this release knows versions {FIRST_VERSION} "
                f"and {VERSION}; use the release that trained the model, or train it again"
            )

    @property
    def input_channels(self) -> int:
        """Channels of the network's input."""
        return self.steps.output_shape((self.channels, self.height, self.width))[0]

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        if self.resize:
            return self.resize, self.resize
        return self.steps.output_shape((self.channels, self.height, self.width))[1:]

    def to_batch(self, pixels: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
        """Turn (N, C, H, W) uint8 into the network's (N, c, h, w) float32 input, channels last in memory.

        Raises:
            ClassifierError: if the images have another shape than those of the training.
        """
        return self.scale_prepared(self.prepare(pixels), device)

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Do the steps: (N, C, H, W) uint8 as in archives to (N, c, h, w) uint8.

        Raises:
            ClassifierError: if the images have another shape than those of the training.
        """
        expected = (self.channels, self.height, self.width)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != expected:
            raise ClassifierError(
                f"expected uint8 images of shape (channels, height, width) {expected} as in training, "
                f"got {pixels.dtype} {tuple(pixels.shape[1:])}: make the archive alike (--size, channels)"
            )
        return apply_steps(pixels, self.steps) if self.steps.changes_pixels else pixels

    def scale_prepared(self, pixels: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
        """The rest of the way, from what `prepare` gave to float32."""
        import torch

        batch = torch.from_numpy(pixels).to(device, torch.float32)
        if self.steps.normalize != "image":
            return self._standardise(batch)
        mean, std = _moments_of_each(pixels)  # (N,), whole sums: no order of addition changes them
        batch.sub_(torch.from_numpy(mean).to(device).view(-1, 1, 1, 1))
        batch.div_(torch.from_numpy(std).to(device).view(-1, 1, 1, 1))
        return batch.contiguous(memory_format=torch.channels_last)

    def scale(self, batch: torch.Tensor) -> torch.Tensor:
        """The same as `to_batch` from (N, C, H, W) float32 on the scale 0 ... 255, which is overwritten.

        Raises:
            ClassifierError: if there are steps that need whole gray levels.
        """
        if self.steps.changes_pixels or self.steps.normalize == "image":
            raise ClassifierError(
                "expected a classifier whose preprocessing only standardises by fixed numbers, got one with "
                "steps that need finished images: train one with --preprocessing plain for this measure"
            )
        return self._standardise(batch)

    def _standardise(self, batch: torch.Tensor) -> torch.Tensor:
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
        """As `model.json` holds it; what is read back gives the same numbers, in its own version."""
        content: dict[str, Any] = {
            "version": self.version,
            "channels": self.channels,
            "height": self.height,
            "width": self.width,
            "mean": list(self.mean),
            "std": list(self.std),
        }
        if self.version == FIRST_VERSION:
            return content | {"resize": self.resize}
        return content | {"steps": self.steps.to_json()}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Preprocessing:
        """Read what `to_json` wrote, of this version or the first.

        Raises:
            ClassifierError: for a version that this release does not know.
            SettingsError, TypeError: for settings that it does not know.
        """
        steps = parse_preprocessing(values["steps"]) if "steps" in values else PLAIN
        return Preprocessing(
            **{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"]), "steps": steps}
        )


class PreparedImages:
    """A table of images with the steps done: all at once where memory allows it, else batch by batch."""

    def __init__(
        self, images: ImageTable, preprocessing: Preprocessing, max_bytes: int = MAX_PREPARED_BYTES
    ) -> None:
        self._images, self._preprocessing = images, preprocessing
        self._done: np.ndarray | None = None
        shape = (preprocessing.input_channels, *preprocessing.input_size)
        if preprocessing.steps.changes_pixels and len(images) * int(np.prod(shape)) <= max_bytes:
            self._done = np.empty((len(images), *shape), np.uint8)
            for start in range(0, len(images), FIT_BATCH):
                rows = np.arange(start, min(start + FIT_BATCH, len(images)))
                self._done[rows] = preprocessing.prepare(images.gather(rows))

    def batch(self, indices: np.ndarray, device: torch.device | str) -> torch.Tensor:
        """The network's input for the images at `indices`."""
        if self._done is not None:
            return self._preprocessing.scale_prepared(self._done[indices], device)
        return self._preprocessing.to_batch(self._images.gather(indices), device)


def fit_preprocessing(images: ImageTable, steps: PreprocessConfig = PLAIN) -> Preprocessing:
    """Fix the numbers that the scaling needs; `images` must be the training part alone.

    With `normalize` "dataset", mean and standard deviation of each channel are measured after the steps; the
    sums are whole numbers, so neither order nor batching changes the result. The other ways need no data.
    """
    channels, height, width = images.image_shape
    made = steps.output_shape(images.image_shape)
    if steps.normalize == "dataset":
        mean, std = _measure(images, steps, made)
    elif steps.normalize == "image":
        mean, std = (0.0,) * made[0], (1.0,) * made[0]  # each image has its own
    else:
        mean, std = (_for_channels(values, made[0]) for values in FIXED[steps.normalize])
    return Preprocessing(VERSION, channels, height, width, mean, std, steps=steps)


def _measure(
    images: ImageTable, steps: PreprocessConfig, made: tuple[int, int, int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    channels, height, width = made
    total, squares = np.zeros(channels, dtype=np.int64), np.zeros(channels, dtype=np.int64)
    values = np.arange(256)
    for start in range(0, len(images), FIT_BATCH):
        batch = images.gather(np.arange(start, min(start + FIT_BATCH, len(images))))
        if steps.changes_pixels:
            batch = apply_steps(batch, steps)
        for channel in range(channels):
            counts = np.bincount(batch[:, channel].ravel(), minlength=256)
            total[channel] += counts @ values
            squares[channel] += counts @ values**2
    count = len(images) * height * width
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return (
        tuple(float(value) for value in mean / 255),
        tuple(float(value) for value in np.maximum(std / 255, SMALLEST_STD)),
    )


def _for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values if channels == 3 else (round(sum(values) / 3, 6),)


def _moments_of_each(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) float32 mean and standard deviation of each image on the scale 0 ... 255."""
    flat = pixels.reshape(len(pixels), -1)
    mean = flat.sum(axis=1, dtype=np.int64) / flat.shape[1]
    squares = np.square(flat, dtype=np.uint32).sum(axis=1, dtype=np.uint64).astype(np.float64) / flat.shape[1]
    std = np.sqrt(np.maximum(squares - mean**2, 0.0))
    return mean.astype(np.float32), np.maximum(std, 255 * SMALLEST_STD).astype(np.float32)
