"""Sampling: seeds to images, as an archive for the next stage or as official PNG files."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from extract.archive import ArchiveWriter, ImageRecord
from extract.progress import Progress, no_progress
from gan.class_shares import assign_classes, shares_of
from gan.images import channels_last, prepare_outdir, save_png
from gan.sampling import Sampler, check_sampling, open_sampler
from gan.snapshot import read_snapshot


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
    precision: str | None = None,
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
        precision: `fp32`, `bf16` or `fp16`; None = float32 on a CPU, elsewhere what the generator was trained
            in. The archive's settings name it.

    Raises:
        SettingsError: for a wrong class, noise mode, precision, seed or batch size.
        GanError: if the snapshot cannot be used.
        ExtractError: if dest exists and may not be overwritten.
    """
    started = time.monotonic()
    check_sampling(seeds, noise_mode, batch_size, truncation_psi)
    sampler, classes = _open_for(network, class_name, class_shares, device, precision, len(seeds))
    snapshot = sampler.snapshot
    writer = ArchiveWriter(
        dest,
        overwrite=overwrite,
        classes=snapshot.classes or None,
        preparation={"kind": "synthetic", "noise_mode": noise_mode, "precision": sampler.precision},
    )
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
    precision: str | None = None,
    progress: Progress = no_progress,
    overwrite: bool = False,
) -> GenerateSummary:
    """Sample one image a seed into `seed0000.png`, `seed0001.png`, ..., as the official tool names them.

    Raises:
        GanError: if one of the pictures exists and may not be overwritten, or the snapshot cannot be used.
    """
    started = time.monotonic()
    check_sampling(seeds, noise_mode, batch_size, truncation_psi)
    sampler, classes = _open_for(network, class_name, class_shares, device, precision, len(seeds))
    prepare_outdir(outdir, [_png_name(seed) for seed in seeds], overwrite)
    batches = sampler.batches(seeds, truncation_psi, noise_mode, batch_size, classes)
    for seed, pixels in _with_progress(batches, len(seeds), progress):
        save_png(outdir / _png_name(seed), channels_last(pixels))
    return _summary(sampler, outdir, len(seeds), started, classes)


def _open_for(
    network: Path,
    class_name: str | None,
    class_shares: Mapping[str, float] | None,
    device: str,
    precision: str | None,
    num_images: int,
) -> tuple[Sampler, list[int] | None]:
    """The sampler, and the number of each image's class where they are of several."""
    shares = shares_of(read_snapshot(network), class_name, class_shares)
    if shares is None:
        return open_sampler(network, class_name=class_name, device=device, precision=precision), None
    sampler = open_sampler(network, device=device, precision=precision, several_classes=True)
    return sampler, assign_classes(num_images, shares)


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
