"""Sampling: seeds to images, as an archive for the next stage or as official PNG files."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from extract.archive import ArchiveWriter, ImageRecord
from extract.errors import SettingsError, name_some
from extract.progress import Progress, no_progress
from gan.allocator import keep_freed_memory
from gan.class_shares import assign_classes, shares_of
from gan.errors import GanError
from gan.images import save_png, to_pixels
from gan.networks import choose_device
from gan.snapshot import Snapshot, load_generator, read_snapshot
from vendor.stylegan2_ada import Generator

NOISE_MODES = ("const", "random", "none")
MAX_NUM_SEEDS = 10_000_000


@dataclass(frozen=True)
class GenerateSummary:
    """What a call made."""

    dest: Path  # archive or folder
    num_images: int
    network: Path
    snapshot_sha256: str
    class_name: str  # empty = unconditional, or several classes
    seconds: float
    counts: dict[str, int] = field(default_factory=dict)  # images by class, of a conditional generator


def generate_archive(
    network: Path,
    seeds: Sequence[int],
    dest: Path,
    *,
    truncation_psi: float = 1.0,
    class_name: str | None = None,
    class_shares: Mapping[str, float] | None = None,
    noise_mode: str = "const",
    batch_size: int = 32,
    device: str = "cpu",
    progress: Progress = no_progress,
    overwrite: bool = False,
) -> GenerateSummary:
    """Sample one image a seed into an archive of synthetic images.

    Images are labeled only where the generator is conditional, with the class that was asked for. An image
    depends on its seed alone, not on the other seeds; between batch sizes and devices it may differ by one
    grey level in rare pixels, where a value falls on the edge of two levels.

    Args:
        network: a snapshot, or a run folder for its newest one.
        truncation_psi: how far from the average w to go; 1 = as far as in training, 0 = the average image.
        class_name: name (or number) of the class, for a conditional generator; `all` = every class in turn.
        class_shares: share of the images by class name, instead of one class; they need not add up to 1.

    Raises:
        SettingsError: for a wrong class, noise mode, seed or batch size.
        GanError: if the snapshot cannot be used.
        ExtractError: if dest exists and may not be overwritten.
    """
    started = time.monotonic()
    check_sampling(seeds, noise_mode, batch_size, truncation_psi)
    sampler, classes = _open_for(network, class_name, class_shares, device, len(seeds))
    snapshot = sampler.snapshot
    writer = ArchiveWriter(dest, overwrite=overwrite, classes=snapshot.classes or None)
    with writer:
        batches = sampler.batches(seeds, truncation_psi, noise_mode, batch_size, classes)
        images = _with_progress(batches, len(seeds), progress)
        for index, (seed, pixels) in enumerate(images):
            label = sampler.class_name if classes is None else snapshot.classes[classes[index]]
            writer.add(
                channels_last(pixels),
                ImageRecord(
                    label=label,
                    origin="synthetic",
                    seed=seed,
                    truncation_psi=truncation_psi,
                    class_name=label,
                    snapshot_sha256=snapshot.sha256,
                ),
            )
    return _summary(sampler, dest, len(seeds), started, classes)


def generate_png_files(
    network: Path,
    seeds: Sequence[int],
    outdir: Path,
    *,
    truncation_psi: float = 1.0,
    class_name: str | None = None,
    class_shares: Mapping[str, float] | None = None,
    noise_mode: str = "const",
    batch_size: int = 32,
    device: str = "cpu",
    progress: Progress = no_progress,
    overwrite: bool = False,
) -> GenerateSummary:
    """Sample one image a seed into `seed0000.png`, `seed0001.png`, ..., as the official tool names them.

    Raises:
        GanError: if one of the pictures exists and may not be overwritten, or the snapshot cannot be used.
    """
    started = time.monotonic()
    check_sampling(seeds, noise_mode, batch_size, truncation_psi)
    sampler, classes = _open_for(network, class_name, class_shares, device, len(seeds))
    prepare_outdir(outdir, [_png_name(seed) for seed in seeds], overwrite)
    batches = sampler.batches(seeds, truncation_psi, noise_mode, batch_size, classes)
    for seed, pixels in _with_progress(batches, len(seeds), progress):
        save_png(outdir / _png_name(seed), channels_last(pixels))
    return _summary(sampler, outdir, len(seeds), started, classes)


@dataclass(frozen=True)
class Sampler:
    """A generator ready to sample, and the class it is asked for."""

    generator: Generator
    snapshot: Snapshot
    device: torch.device
    label: Tensor  # (1, c_dim)
    class_name: str  # empty = unconditional

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
    network: Path, *, class_name: str | None = None, device: str = "cpu", several_classes: bool = False
) -> Sampler:
    """Load the generator of a snapshot or run folder and settle which class to sample.

    Args:
        several_classes: the caller will name the class of each image; the sampler has none of its own.

    Raises:
        SettingsError: if the class is missing or unknown for a conditional generator.
    """
    chosen = choose_device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
    generator, snapshot = load_generator(network, chosen)
    label = torch.zeros([1, generator.c_dim], device=chosen)
    name = ""
    if generator.c_dim > 0 and not several_classes:
        index = _class_index(snapshot, class_name)
        label[0, index] = 1
        name = snapshot.classes[index]
    return Sampler(generator, snapshot, chosen, label, name)


def _open_for(
    network: Path,
    class_name: str | None,
    class_shares: Mapping[str, float] | None,
    device: str,
    num_images: int,
) -> tuple[Sampler, list[int] | None]:
    """The sampler, and the number of each image's class where they are of several."""
    shares = shares_of(read_snapshot(network), class_name, class_shares)
    if shares is None:
        return open_sampler(network, class_name=class_name, device=device), None
    return open_sampler(network, device=device, several_classes=True), assign_classes(num_images, shares)


def prepare_outdir(outdir: Path, names: Sequence[str], overwrite: bool) -> None:
    """Make the folder, unless one of the files to come stands there and may not be replaced.

    Raises:
        GanError: naming those that exist.
    """
    there = [name for name in names if (outdir / name).exists()]
    if there and not overwrite:
        raise GanError(
            f"{outdir}: {name_some(there)} exist already and are left alone; choose another folder or pass "
            "--overwrite"
        )
    outdir.mkdir(parents=True, exist_ok=True)


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


def latents(seeds: Sequence[int], z_dim: int) -> np.ndarray:
    """(N, z_dim) float32: normal draws of a legacy NumPy generator a seed, as in the official tools."""
    return np.concatenate([np.random.RandomState(seed).randn(1, z_dim) for seed in seeds]).astype(np.float32)


def parse_seeds(text: str, flag: str = "--seeds") -> list[int]:
    """`a-b` (inclusive) or a comma-separated list of numbers and such ranges.

    Args:
        flag: named in the error.

    Raises:
        SettingsError: for anything else.
    """
    example = "0-1999" if flag == "--seeds" else "0-6"
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise SettingsError(
                f"{flag} must be a range such as {example} or a list such as 3,7,12, got '{text}' (at "
                f"'{part}')"
            )
        start, stop = int(first), int(last if dash else first) + 1
        if len(seeds) + stop - start > MAX_NUM_SEEDS:  # before they fill the memory
            raise SettingsError(f"{flag} must name at most {MAX_NUM_SEEDS:,} seeds a call, got '{text}'")
        seeds.extend(range(start, stop))
    return seeds


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


def _with_progress(
    batches: Iterator[tuple[list[int], np.ndarray]], total: int, progress: Progress
) -> Iterator[tuple[int, np.ndarray]]:
    done = 0
    for seeds, images in batches:
        yield from zip(seeds, images, strict=True)
        done += len(seeds)
        progress(done, total, "images sampled")


def _png_name(seed: int) -> str:
    return f"seed{seed:04d}.png"


def channels_last(pixels: np.ndarray) -> np.ndarray:
    """(C, H, W) to (H, W) or (H, W, 3)."""
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _summary(
    sampler: Sampler, dest: Path, num_images: int, started: float, classes: Sequence[int] | None
) -> GenerateSummary:
    counts = {sampler.class_name: num_images} if sampler.class_name else {}
    if classes is not None:
        names = sampler.snapshot.classes
        counts = {name: classes.count(number) for number, name in enumerate(names) if number in classes}
    return GenerateSummary(
        dest=dest,
        num_images=num_images,
        network=sampler.snapshot.path,
        snapshot_sha256=sampler.snapshot.sha256,
        class_name=sampler.class_name,
        seconds=time.monotonic() - started,
        counts=counts,
    )
