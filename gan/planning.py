"""What a training would do, told before anything is created."""

from pathlib import Path
from typing import Any

import torch

from extract.progress import Progress, no_progress
from gan.config import TrainConfig
from gan.networks import choose_device
from gan.preparation import describe_part, open_data, prepare_job, run_description
from gan.runfolder import training_options


def plan(config: TrainConfig, progress: Progress = no_progress) -> tuple[dict[str, Any], str]:
    """What `train` would do, without creating anything: the official options, and a summary in lines."""
    data = open_data(config, progress)
    job = prepare_job(config, data, choose_device(config.device))
    options = training_options(config, job, None)
    lines = [
        f"Output directory:   {Path(config.outdir) / ('?????-' + run_description(config, data))}",
        f"Training data:      {config.data}",
        f"Training part:      {describe_part(config, data)}",
        f"Training duration:  {job.recipe.total_kimg:g} kimg",
        f"Number of GPUs:     {config.gpus if job.device.type == 'cuda' else 0}",
        f"Number of images:   {len(data)}",
        f"Image resolution:   {job.recipe.resolution}",
        f"Conditional model:  {config.cond}",
        f"Dataset x-flips:    {config.mirror}",
        f"Parameters:         G {_num_parameters(job.players.G):,}, D {_num_parameters(job.players.D):,}",
    ]
    return options, "\n".join(lines)


def _num_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
