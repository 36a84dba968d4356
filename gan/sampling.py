"""A generator that is ready to sample: seeds and classes to latents, latents to images."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from extract.errors import SettingsError
from gan.allocator import keep_freed_memory
from gan.config import PRECISIONS
from gan.images import to_pixels
from gan.networks import choose_device
from gan.seeds import latents
from gan.snapshot import Snapshot, load_generator
from vendor.stylegan2_ada import Generator

NOISE_MODES = ("const", "random", "none")


@dataclass(frozen=True)
class Sampler:
    """A generator ready to sample, and the class it is asked for."""

    generator: Generator
    snapshot: Snapshot
    device: torch.device
    label: Tensor  # (1, c_dim)
    class_name: str  # empty = unconditional
    precision: str  # of the highest resolutions: fp32, bf16, fp16

    @torch.inference_mode()
    def batches(
        self,
        seeds: Sequence[int],
        truncation_psi: float,
        noise_mode: str,
        batch_size: int,
        classes: Sequence[int] | None = None,
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Seeds and their (n, C, H, W) uint8 images, batch by batch.

        The last batch is filled up, so that every image is computed in a batch of the same size.

        Args:
            classes: number of the class of each seed; None = the sampler's own for all.
        """
        for start in range(0, len(seeds), batch_size):
            part = [int(seed) for seed in seeds[start : start + batch_size]]
            num_missing = min(batch_size, len(seeds)) - len(part)
            filled = part + [part[-1]] * num_missing
            z = torch.from_numpy(latents(filled, self.generator.z_dim)).to(self.device)
            own = None if classes is None else list(classes[start : start + len(part)])
            c = self.labels(len(filled), None if own is None else own + [own[-1]] * num_missing)
            images = self.generator(z, c, truncation_psi=truncation_psi, noise_mode=noise_mode)
            pixels = to_pixels(images.float().cpu().numpy())
            yield part, pixels[: len(part)]

    def labels(self, count: int, classes: Sequence[int] | None = None) -> Tensor:
        """(count, c_dim) labels: of the numbered classes, or of the sampler's own class."""
        if classes is None:
            return self.label.expand(count, -1)
        return torch.eye(self.generator.c_dim, device=self.device)[list(classes)]

    @torch.no_grad()
    def map_seeds(
        self, seeds: Sequence[int], truncation_psi: float = 1.0, classes: Sequence[int] | None = None
    ) -> Tensor:
        """(N, num_ws, w_dim): the intermediate latents of seeds."""
        z = torch.from_numpy(latents(seeds, self.generator.z_dim)).to(self.device)
        mapped = self.generator.mapping(z, self.labels(len(z), classes), truncation_psi=truncation_psi)
        return mapped  # type: ignore[no-any-return]

    @torch.no_grad()
    def synthesize(self, ws: Tensor, noise_mode: str = "const", batch_size: int = 32) -> np.ndarray:
        """(N, num_ws, w_dim) intermediate latents to (N, C, H, W) uint8 images."""
        parts = [
            to_pixels(
                self.generator.synthesis(part.to(self.device), noise_mode=noise_mode).float().cpu().numpy()
            )
            for part in ws.split(batch_size)
        ]
        return np.concatenate(parts)


def open_sampler(
    network: Path,
    *,
    class_name: str | None = None,
    device: str = "cpu",
    precision: str | None = None,
    several_classes: bool = False,
) -> Sampler:
    """Load the generator of a snapshot or run folder and settle which class to sample.

    Args:
        precision: `fp32`, `bf16` or `fp16`; None = float32 on a CPU, elsewhere what it was trained in.
        several_classes: the caller will name the class of each image; the sampler has none of its own.

    Raises:
        SettingsError: if the class is missing or unknown for a conditional generator, or the precision is
            none that the device has.
    """
    chosen = choose_device(device)
    check_precision(precision, chosen)
    if chosen.type == "cpu":
        keep_freed_memory()
    generator, snapshot = load_generator(network, chosen, precision)
    label = torch.zeros([1, generator.c_dim], device=chosen)
    name = ""
    if generator.c_dim > 0 and not several_classes:
        index = _class_index(snapshot, class_name)
        label[0, index] = 1
        name = snapshot.classes[index]
    trained_in = str(snapshot.config["G"].get("low_precision", "fp32"))
    used = precision or ("fp32" if chosen.type == "cpu" else trained_in)
    return Sampler(generator, snapshot, chosen, label, name, used)


def _class_index(snapshot: Snapshot, class_name: str | None) -> int:
    names = list(snapshot.classes)
    if class_name is None:
        raise SettingsError(
            "Must specify class label with --class when using a conditional network: one of "
            + ", ".join(names)
        )
    if class_name in names:
        return names.index(class_name)
    if class_name.isdecimal() and int(class_name) < len(names):
        return int(class_name)
    raise SettingsError(
        f"--class must be one of {', '.join(names)} (or its number from 0), got '{class_name}'"
    )


def check_precision(precision: str | None, device: torch.device) -> None:
    """Refuse a precision that there is not, or not on this device.

    Raises:
        SettingsError: naming `--precision`.
    """
    if precision is None:
        return
    if precision not in PRECISIONS:
        raise SettingsError(f"--precision must be one of {', '.join(PRECISIONS)}, got '{precision}'")
    if precision == "fp16" and device.type == "cpu":
        raise SettingsError(
            "--precision=fp16 is for GPUs and very slow on a CPU; take bf16, or fp32 for the exact images"
        )


def check_sampling(
    seeds: Sequence[int], noise_mode: str, batch_size: int, truncation_psi: float = 1.0
) -> None:
    """Refuse settings that cannot be sampled, before any work.

    Raises:
        SettingsError: naming the flag.
    """
    if len(seeds) == 0:
        raise SettingsError("--seeds must name at least one seed, got none")
    if min(seeds) < 0 or max(seeds) >= 2**32:
        raise SettingsError(f"--seeds must be between 0 and {2**32 - 1}, got {min(seeds)} to {max(seeds)}")
    if noise_mode not in NOISE_MODES:
        raise SettingsError(f"--noise-mode must be one of {', '.join(NOISE_MODES)}, got '{noise_mode}'")
    if batch_size < 1:
        raise SettingsError(f"--batch must be at least 1, got {batch_size}")
    if not math.isfinite(truncation_psi):
        raise SettingsError(f"--trunc must be a number such as 0.7, got {truncation_psi}")
