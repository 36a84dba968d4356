"""From settings to a job at its first iteration: data, device, networks, starting weights."""

from pathlib import Path
from typing import Any

import torch

from extract.errors import SettingsError
from extract.progress import Progress
from gan.allocator import keep_freed_memory
from gan.checks import check_fit
from gan.config import Recipe, TrainConfig, describe, make_recipe
from gan.data import TrainingImages, open_training_images
from gan.distributed import Ranks
from gan.job import Job, build_job, rank_seed
from gan.runfolder import snapshot_to_start_from
from gan.transfer import copy_weights, fit_recipe, open_start


def open_data(config: TrainConfig, progress: Progress) -> TrainingImages:
    return open_training_images(
        Path(config.data),
        None if config.split is None else Path(config.split),
        config.fold,
        fraction=config.fraction,
        cond=config.cond,
        mirror=config.mirror,
        subset=config.subset,
        seed=config.seed,
        progress=progress,
    )


def check_same_data(header: dict[str, Any], data: TrainingImages, config: TrainConfig, run_dir: Path) -> None:
    for name, flag, path in (
        ("archive_sha256", "--data", config.data),
        ("split_sha256", "--split", config.split),
    ):
        if header[name] != getattr(data, name):
            raise SettingsError(
                f"{flag}: the run in {run_dir} was trained with another file than {path} is now (SHA-256 "
                f"{str(header[name])[:12]}, not {str(getattr(data, name))[:12]}); give the same file, or "
                f"start a new run"
            )


def tune_device(device: torch.device, config: TrainConfig) -> None:
    if device.type == "cpu":
        keep_freed_memory()
        return
    torch.backends.cudnn.benchmark = not config.nobench
    torch.backends.cuda.matmul.allow_tf32 = config.allow_tf32
    torch.backends.cudnn.allow_tf32 = config.allow_tf32


def prepare_job(
    config: TrainConfig,
    data: TrainingImages,
    device: torch.device,
    recipe: Recipe | None = None,
    ranks: Ranks | None = None,
) -> Job:
    """A job at its first iteration, with fresh or a snapshot's weights.

    Args:
        recipe: of a run gone on.
        ranks: the processes that train together; None = this one alone.
    """
    ranks = ranks or Ranks()
    start_path = snapshot_to_start_from(config)
    start = None if start_path is None else open_start(start_path)
    channels, _, resolution = data.image_shape
    recipe = recipe or make_recipe(
        config,
        resolution,
        channels,
        data.c_dim,
        on_gpu=device.type == "cuda",
        from_snapshot=start is not None,
    )
    if start is not None:
        recipe = fit_recipe(recipe, start)
    check_fit(config, recipe, data)
    torch.manual_seed(rank_seed(config.seed, ranks))
    job = build_job(recipe, data, device, config.seed, ranks)
    if start is not None:
        job.start_notes = tuple(copy_weights(start, job).lines(start.path))
    return job


def share_weights(job: Job) -> None:
    """Start every process from the networks of the first."""
    job.ranks.copy_from_first(*job.networks.values())


def open_data_in_turn(config: TrainConfig, ranks: Ranks, progress: Progress) -> TrainingImages:
    """Open the archive in every process; the first of each host decodes it for the others."""
    data = None
    for first_of_host in (True, False):
        with ranks.together():
            if (ranks.place.local_rank == 0) is first_of_host:
                data = open_data(config, progress)
    assert data is not None
    return data


def run_description(config: TrainConfig, data: TrainingImages) -> str:
    return describe(config, data.name, config.subset)


def overview(config: TrainConfig, data: TrainingImages, job: Job, place: Path) -> list[str]:
    """What is about to be trained, as the official code prints it before it starts.

    Args:
        place: the run folder, or what it will be.
    """
    return [
        f"Output directory:   {place}",
        f"Training data:      {config.data}",
        f"Training part:      {describe_part(config, data)}",
        f"Training duration:  {job.recipe.total_kimg:g} kimg",
        f"Number of GPUs:     {config.gpus if job.device.type == 'cuda' else 0}",
        f"Number of images:   {len(data)}",
        f"Image resolution:   {job.recipe.resolution}",
        f"Conditional model:  {config.cond}",
        f"Dataset x-flips:    {config.mirror}",
    ]


def describe_part(config: TrainConfig, data: TrainingImages) -> str:
    subjects = f"{len(data.subjects)} subjects" if data.subjects else "subjects unknown"
    if config.split is None:
        return f"all real images ({len(data.rows)}), {subjects}; no split, so nothing is held out"
    return f"fold {config.fold} of {config.split}: {len(data.rows)} images, {subjects}"
