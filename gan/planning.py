"""What a training would do, told before anything is created."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from extract.progress import Progress, no_progress
from gan.checks import check_continuation, list_warnings
from gan.config import TrainConfig, continued_config
from gan.features import FeatureExtractor
from gan.job import Job
from gan.layer_table import layer_tables
from gan.log import format_time
from gan.measures import NO_EXTRACTORS, choose_measures
from gan.networks import choose_device
from gan.pace import ticks_to_come
from gan.preparation import (
    check_same_data,
    open_data,
    overview,
    prepare_job,
    run_description,
    tune_device,
)
from gan.probe import DEFAULT_PROBE_SEC, Cost, measure_cost
from gan.runfolder import find_run_to_resume, training_options
from gan.session import grid_size
from gan.state import read_state_header, stored_config, stored_recipe


@dataclass(frozen=True)
class Extent:
    """How much there is to do, and what it leaves on the disk."""

    kimg_left: float
    iterations: int
    ticks: int
    snapshots: int
    snapshot_bytes: int  # of one
    state_bytes: int
    grid_bytes: int  # of one, at most


def plan(
    config: TrainConfig,
    progress: Progress = no_progress,
    probe_sec: float = DEFAULT_PROBE_SEC,
    extractors: Mapping[str, FeatureExtractor] = NO_EXTRACTORS,
) -> tuple[dict[str, Any], str]:
    """What `train` would do, without creating anything: the official options, and a summary in lines.

    Args:
        probe_sec: train a scratch copy for about so long to tell time and memory; 0 = do not.
        extractors: by name, the networks that `config.metrics` look through.

    Raises:
        SettingsError: for what `train` would refuse.
        GanError: if a file to start from cannot be used.
    """
    run_dir = find_run_to_resume(config)
    header = None
    if run_dir is not None:
        header = read_state_header(run_dir)
        check_continuation(header, config, run_dir)
        config = continued_config(stored_config(header), config, run_dir)
    device = choose_device(config.device)
    data = open_data(config, progress)
    if header is not None and run_dir is not None:
        check_same_data(header, data, config, run_dir)
    measures = choose_measures(config, data, device, extractors)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        tune_device(device, config)
        job = prepare_job(config, data, device, None if header is None else stored_recipe(header, config))
        if header is not None:
            job.images_seen, job.tick = int(header["images_seen"]), int(header["tick"])
        options = training_options(config, job, run_dir)
        extent = measure_extent(config, job)
        tables = layer_tables(job)
        place = run_dir or Path(config.outdir) / ("?????-" + run_description(config, data))
        lines = overview(config, data, job, place)
        lines += _extent_lines(job, extent)
        lines.append(f"Metrics:            {', '.join(metric.text for metric in measures.metrics) or 'none'}")
        lines += job.start_notes
        warnings = [*list_warnings(config, job.recipe, data, device), *_missing_devices(config)]
        lines += [f"Warning: {text}." for text in warnings]
        lines += ["", tables[0], "", tables[1], ""]
        lines += _cost_lines(job, extent, probe_sec, config.gpus, progress)
    return options, "\n".join(lines)


def measure_training(
    config: TrainConfig, probe_sec: float, progress: Progress = no_progress
) -> tuple[Extent, Cost | None, float]:
    """What a whole training would take: its extent, its cost, and seconds for each image drawn after it.

    Args:
        probe_sec: train a scratch copy for about so long; 0 = do not: no cost, and 0 seconds an image.

    Raises:
        SettingsError, GanError: for what `train` would refuse.
    """
    device = choose_device(config.device)
    data = open_data(config, progress)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        tune_device(device, config)
        job = prepare_job(replace(config, resume=None), data, device)
        extent = measure_extent(config, job)
        if probe_sec <= 0:
            return extent, None, 0.0
        cost = measure_cost(job, probe_sec, config.gpus, progress)
        return extent, cost, _seconds_an_image(job)


def _seconds_an_image(job: Job, num_images: int = 16) -> float:
    G = job.G_ema
    z = torch.randn(num_images, G.z_dim, device=job.device)
    c = torch.zeros(num_images, G.c_dim, device=job.device)
    with torch.no_grad():
        for _ in range(2):  # a first time that does not count
            started = time.perf_counter()
            G(z, c).cpu()
    return (time.perf_counter() - started) / num_images


def _missing_devices(config: TrainConfig) -> list[str]:
    """A plan may be made on another machine than the training's; there it would be refused."""
    found = torch.cuda.device_count()
    if config.gpus == 1 or config.device == "cpu" or found >= config.gpus:
        return []
    return [
        f"--gpus={config.gpus}: this machine has {found} CUDA devices, so that the training cannot start "
        f"here; with --device=cpu it would take {config.gpus} processes on the CPU"
    ]


def measure_extent(config: TrainConfig, job: Job) -> Extent:
    """Counts from here to the end of the training; nothing is trained for it."""
    recipe = job.recipe
    images_left = max(recipe.total_kimg * 1000 - job.images_seen, 0)
    iterations = math.ceil(images_left / recipe.batch_size)
    tick_images = config.tick_kimg * 1000
    of_this_tick = recipe.batch_size if job.tick == 0 else tick_images  # the first is one iteration long
    snapshots, others = ticks_to_come(job.tick, max(images_left - of_this_tick, 0), tick_images, recipe.snap)
    if images_left == 0:
        snapshots, others = 0, 0
    networks: list[nn.Module] = [job.players.G, job.players.D, job.G_ema]
    weights = sum(_num_bytes(network) for network in networks)
    moments = 2 * sum(p.numel() * 4 for network in networks[:2] for p in network.parameters())
    columns, rows = grid_size(job, config)
    return Extent(
        kimg_left=images_left / 1000,
        iterations=iterations,
        ticks=snapshots + others,
        snapshots=snapshots if config.keep is None else min(snapshots, config.keep + 1),
        snapshot_bytes=weights,
        state_bytes=weights + moments,
        grid_bytes=columns * rows * int(np.prod(job.data.image_shape)),
    )


def _num_bytes(network: nn.Module) -> int:
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _extent_lines(job: Job, extent: Extent) -> list[str]:
    recipe = job.recipe
    lines = []
    if job.images_seen:
        lines.append(f"Goes on at:         {job.kimg:.1f} of {recipe.total_kimg:g} kimg")
    stored = extent.snapshots * (extent.snapshot_bytes + extent.grid_bytes) + 2 * extent.state_bytes
    return [
        *lines,
        f"Iterations:         {extent.iterations:,} of {recipe.batch_size} images "
        f"({recipe.batch_gpu} at a time)",
        f"Ticks, snapshots:   {extent.ticks:,}, of which {extent.snapshots:,} with a snapshot",
        f"Disk space:         at most {_size(stored)}: {extent.snapshots:,} snapshots of "
        f"{_size(extent.snapshot_bytes)}, their grids of {_size(extent.grid_bytes)} at most, and a state of "
        f"{_size(extent.state_bytes)} (twice while it is replaced)",
    ]


def _cost_lines(
    job: Job, extent: Extent, probe_sec: float, num_processes: int, progress: Progress
) -> list[str]:
    share = job.recipe.batch_size // num_processes
    weights = _size(extent.state_bytes)
    if probe_sec <= 0:
        return [
            f"Memory:             not measured (--probe=0); weights, averages and moments take {weights}",
            "Time:               not measured (--probe=0)",
        ]
    if extent.kimg_left == 0:
        return ["Time:               nothing is left to do"]
    cost = measure_cost(job, probe_sec, num_processes, progress)
    return [
        f"Memory:             {cost.memory_gb:.2f} GiB at the peak of the trial; weights, averages and "
        f"moments take {weights} of it",
        f"Time:               about {_about(cost.sec_per_kimg)} per kimg, "
        f"{_about(cost.sec_per_kimg * extent.kimg_left)} in all, without metrics",
        f"                    {_basis(cost, share, num_processes)}",
    ]


def _basis(cost: Cost, share: int, num_processes: int) -> str:
    text = f"An estimate from {cost.num_iterations} iterations just now"
    if cost.is_scaled:
        text += (
            f" on {cost.batch_size} instead of {share} images, which costs more an image: expect less "
            "time, and more memory"
        )
    if num_processes > 1:
        text += f"; one process of {num_processes} was measured, without what they tell one another"
    return text + "; what else this machine does at the time changes it."


def _about(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < 20 else format_time(seconds)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"
