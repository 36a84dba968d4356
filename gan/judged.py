"""The images that measures look at: real ones, a generator's, stored ones, and how many of each."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch

from extract.seeds import derive_seed
from gan.images import to_pixels
from gan.metric_names import Metric
from vendor.stylegan2_ada import Generator


class RealImages(Protocol):
    """What is compared with: `gan.data.TrainingImages` is one."""

    @property
    def rows(self) -> np.ndarray: ...

    @property
    def mirror(self) -> bool: ...

    def __len__(self) -> int:
        """How many there are; twice the rows where mirrored copies are shown, which come second."""
        ...

    def pixels(self, items: np.ndarray) -> np.ndarray:
        """(n, C, H, W) uint8."""
        ...

    def one_hot(self, items: np.ndarray) -> np.ndarray:
        """(n, c_dim) float32."""
        ...


def count_images(metric: Metric, num_rows: int, num_with_mirrored: int, num: int) -> tuple[int, int]:
    """How many reals and how many fakes a measure takes."""
    if metric.num_fakes is None:
        equal = min(num_rows, num)
        return (0 if metric.kind == "ppl" else equal), equal
    available = num_with_mirrored if metric.has_mirrored else num_rows
    n_real = available if metric.max_reals is None else min(available, metric.max_reals)
    return (0 if metric.kind in ("is", "ppl") else n_real), metric.num_fakes


class Fakes(Protocol):
    """The images that are judged."""

    def batches(self, num: int, batch_size: int) -> Iterator[np.ndarray]:
        """`num` images in batches (n, C, H, W) uint8."""
        ...


class GeneratedImages:
    """Fakes of a generator; a seed and a batch size always give the same ones, in the same order."""

    def __init__(
        self, G: Generator, reals: RealImages, seed: int, truncation_psi: float, device: torch.device
    ) -> None:
        self.G, self.device, self.seed = G, device, seed
        self._reals, self._psi = reals, truncation_psi

    def labels(self, num: int, random: np.random.RandomState) -> torch.Tensor:
        """One-hot labels (num, c_dim) of randomly chosen real images."""
        if self.G.c_dim == 0:
            return torch.zeros([num, 0], device=self.device)
        items = random.randint(len(self._reals), size=num)
        return torch.from_numpy(self._reals.one_hot(items)).to(self.device)

    def batches(self, num: int, batch_size: int) -> Iterator[np.ndarray]:
        random = torch.Generator().manual_seed(derive_seed("latents of fakes", self.seed))
        label_random = np.random.RandomState(derive_seed("labels of fakes", self.seed))
        for start in range(0, num, batch_size):
            count = min(batch_size, num - start)
            z = torch.randn([count, self.G.z_dim], generator=random).to(self.device)
            images = self.G(
                z, self.labels(count, label_random), truncation_psi=self._psi, noise_mode="random"
            )
            yield to_pixels(images.float().cpu().numpy())


class StoredFakes:
    """Fakes that exist already, in random order where not all are wanted."""

    def __init__(self, images: RealImages, seed: int) -> None:
        self._images, self._seed = images, seed

    def batches(self, num: int, batch_size: int) -> Iterator[np.ndarray]:
        items = choose_images(len(self._images.rows), num, self._seed)
        for start in range(0, num, batch_size):
            yield self._images.pixels(items[start : start + batch_size])


def choose_images(available: int, num: int, seed: int) -> np.ndarray:
    """`num` different places of those available; all of them in order where all are wanted."""
    if num == available:
        return np.arange(available)
    return np.random.RandomState(derive_seed("images measured", seed)).permutation(available)[:num]
