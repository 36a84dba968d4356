"""The batches of a training, as fastai's `DataLoaders` take them: whole index arrays, never single images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from classifier.augment import Augmentation, augment_batch
from classifier.config import ClassifierConfig
from classifier.data import LabeledImages, shuffled_indices
from classifier.mixing import Mixer
from classifier.preprocess import PreparedImages, Preprocessing
from extract.seeds import derive_seed


def predict_batch(device: torch.device) -> int:
    """Images to score at once: on a CPU few enough for its caches, which is half as fast again."""
    return 256 if device.type == "cuda" else 64


class TrainingBatches:
    """The training side: an "epoch" is the stretch of steps up to the next look at the validation part.

    A batch is one gather of a whole index array, one conversion and one augmentation. It yields images
    (N, C, H, W) float32, targets (N, num_classes) float32 and weights (N,) float32.
    """

    n_inp = 1  # of (images, targets, weights) only the first goes into the network

    def __init__(
        self,
        images: LabeledImages,
        targets: np.ndarray,
        preprocessing: Preprocessing,
        config: ClassifierConfig,
        device: torch.device,
        num_steps: int | None = None,
    ) -> None:
        """Args: num_steps: batches at most; None = as many as `config.steps`."""
        self.device, self.bs = device, config.batch_size
        self._images = PreparedImages(images.images, preprocessing)
        self._targets = torch.from_numpy(targets).to(device)
        self._weights = torch.from_numpy(sample_weights(images, targets, config.balance_classes)).to(device)
        self._augmentation = Augmentation(mirror=config.mirror) if config.augment else None
        self._generator = torch.Generator().manual_seed(derive_seed(config.seed, "augment"))
        order_seed = derive_seed(config.seed, "order")
        self._order = shuffled_indices(len(images), config.batch_size, num_steps or config.steps, order_seed)
        self._mixer: Mixer | None = None
        if config.mixup or config.cutmix:
            self._mixer = Mixer(config.mixup, config.cutmix, derive_seed(config.seed, "mix"))
        self._stretches: list[int] = []
        self.num_drawn = 0  # batches so far

    def begin_phase(self, stretches: Sequence[int]) -> None:
        """Set how many steps each of the coming passes has."""
        self._stretches = list(stretches)

    def __len__(self) -> int:
        """Steps of the coming stretch."""
        return self._stretches[0] if self._stretches else 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for _ in range(self._stretches.pop(0)):
            indices = next(self._order)
            self.num_drawn += 1
            batch = self._images.batch(indices, self.device)
            if self._augmentation is not None:
                batch = augment_batch(batch, self._augmentation, self._generator)
            rows = torch.from_numpy(indices).to(self.device)
            drawn = batch, self._targets[rows], self.weights_of(rows)
            yield drawn if self._mixer is None else self._mixer(*drawn)

    def weights_of(self, rows: Tensor) -> Tensor:
        """(N,) what the images at `rows` weigh in the batch that was drawn last."""
        return self._weights[rows]

    def generators(self) -> dict[str, Tensor]:
        """The states of what is drawn from, by name."""
        states = {"generator_augment": self._generator.get_state()}
        return states | ({} if self._mixer is None else {"generator_mix": self._mixer.generator.get_state()})

    def restore(self, num_drawn: int, generators: Mapping[str, Tensor]) -> None:
        """Go to where so many batches have been drawn."""
        for _ in range(num_drawn):
            next(self._order)
        self.num_drawn = num_drawn
        self._generator.set_state(generators["generator_augment"])
        if self._mixer is not None:
            self._mixer.generator.set_state(generators["generator_mix"])


class ValidationBatches:
    """The validation side: all images in their order, as they are, with their targets."""

    n_inp = 1

    def __init__(
        self, images: LabeledImages, num_classes: int, preprocessing: Preprocessing, device: torch.device
    ) -> None:
        self.device, self.bs = device, predict_batch(device)
        self._num_images = len(images)
        self._images = PreparedImages(images.images, preprocessing)
        self._targets = torch.from_numpy(images.soft_labels(num_classes)).to(device)

    def __len__(self) -> int:
        return -(-self._num_images // self.bs)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, self._num_images, self.bs):
            rows = np.arange(start, min(start + self.bs, self._num_images))
            batch = self._images.batch(rows, self.device)
            yield batch, self._targets[start : start + self.bs]


def sample_weights(images: LabeledImages, targets: np.ndarray, balance_classes: bool) -> np.ndarray:
    """(N,) float32 weights: those given, times the inverse frequency of the image's class where asked.

    Balanced, every class has the same total weight; a soft label counts for each class by its share. Images
    that only have negative labels keep their weight.

    Args:
        targets: (N, C), or (N, 2 C) with excluded classes behind.
    """
    weights = np.ones(len(images)) if images.weights is None else np.asarray(images.weights, dtype=np.float64)
    if balance_classes:
        if images.excluded is not None:
            targets = targets[:, : images.excluded.shape[1]]
        frequency = (targets * weights[:, None]).sum(axis=0)  # (C,)
        factors = targets @ (frequency.sum() / (targets.shape[1] * frequency))
        weights = weights * (factors if images.excluded is None else np.where(images.is_negative, 1, factors))
    return weights.astype(np.float32)
