"""The resumable state of a training: one file that a killed run goes on from, bit for bit on a CPU."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gan.config import Recipe, TrainConfig, config_from_json, config_to_json
from gan.errors import GanError
from gan.job import Job
from gan.snapshot import load_weights, read_header, write_tensors

STATE_NAME = "training-state.safetensors"
FORMAT = "synthlabel-training-state-1"


def write_state(
    run_dir: Path, job: Job, config: TrainConfig, num_stats_lines: int, elapsed_sec: float
) -> None:
    """Write everything that the next iteration depends on, whole or not at all; replaces the state before."""
    tensors: dict[str, Tensor] = {"pl_mean": job.players.pl_mean}
    for prefix, module in _modules(job).items():
        tensors |= {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}
    for prefix, optimizer in _optimizers(job).items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{prefix}.{index}.{name}": moment for name, moment in moments.items()}
    tensors["random.torch"] = torch.get_rng_state()
    if job.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(job.device)
    sampler = job.sampler.state()
    tensors["sampler.order"] = torch.from_numpy(sampler["order"])
    numpy_states = {"sampler": sampler["random"], "labels": job.label_random.get_state()}
    for name, state in numpy_states.items():
        tensors[f"random.{name}"] = torch.from_numpy(state[1].astype(np.int64))
    header = {
        "format": FORMAT,
        "config": config_to_json(config),
        "recipe": asdict(job.recipe),
        "archive_sha256": job.data.archive_sha256,
        "split_sha256": job.data.split_sha256,
        "earlier_subjects": list(job.earlier_subjects),
        "earlier_archives": list(job.earlier_archives),
        "images_seen": job.images_seen,
        "iteration": job.iteration,
        "tick": job.tick,
        "tick_start_images": job.tick_start_images,
        "elapsed_sec": elapsed_sec,
        "num_stats_lines": num_stats_lines,
        "sampler_position": sampler["position"],
        "random": {name: [state[0], *state[2:]] for name, state in numpy_states.items()},
        "ada": job.ada.state(),
        "statistics": job.statistics.state(),
    }
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_tensors(run_dir / STATE_NAME, plain, header)


def read_state_header(run_dir: Path) -> dict[str, Any]:
    """Settings and counters of a run's state.

    Raises:
        GanError: if the folder holds no state, or one that is not whole.
    """
    path = run_dir / STATE_NAME
    if not path.is_file():
        raise GanError(f"{run_dir}: expected a run folder with {STATE_NAME} to go on from, got none")
    return read_header(path, FORMAT, "a training state")


def stored_config(header: Mapping[str, Any]) -> TrainConfig:
    return config_from_json(header["config"])


def stored_recipe(header: Mapping[str, Any], config: TrainConfig) -> Recipe:
    """The numbers that the run was started with, whatever its preset says today; its length may change."""
    values = dict(header["recipe"])
    for name in ("augmentations", "adam_betas"):
        values[name] = tuple(values[name])
    recipe = Recipe(**values)
    return replace(recipe, total_kimg=config.kimg or recipe.total_kimg, snap=config.snap or recipe.snap)


def restore_state(run_dir: Path, header: Mapping[str, Any], job: Job) -> None:
    """Bring a freshly built job to where the state was written."""
    path = run_dir / STATE_NAME
    tensors = load_weights(path)
    try:
        _restore_tensors(tensors, job)
        _restore_random(tensors, header, job)
    except (KeyError, RuntimeError, ValueError) as error:
        raise GanError(
            f"{path}: expected the state of a training with these settings, got one that does not fit: "
            f"{error}"
        ) from error
    job.earlier_subjects = tuple(header.get("earlier_subjects", ()))
    job.earlier_archives = tuple(header.get("earlier_archives", ()))
    job.images_seen, job.iteration = int(header["images_seen"]), int(header["iteration"])
    job.tick, job.tick_start_images = int(header["tick"]), int(header["tick_start_images"])
    job.elapsed_sec = float(header["elapsed_sec"])
    job.ada.restore(header["ada"], job.device)
    job.statistics.restore(header["statistics"], job.device)


def _restore_tensors(tensors: Mapping[str, Tensor], job: Job) -> None:
    for prefix, module in _modules(job).items():
        module.load_state_dict(_part(tensors, prefix))
    for prefix, optimizer in _optimizers(job).items():
        _restore_moments(_part(tensors, prefix), optimizer)
    job.players.pl_mean = tensors["pl_mean"].to(job.device)


def _restore_moments(tensors: Mapping[str, Tensor], optimizer: torch.optim.Adam) -> None:
    """Give each parameter its Adam moments, in its own memory layout: fused Adam walks both alike."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        parameter = parameters[int(index)]
        if key == "step":
            value = tensor.to(parameter.device)
        else:
            value = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        optimizer.state[parameter][key] = value


def _restore_random(tensors: Mapping[str, Tensor], header: Mapping[str, Any], job: Job) -> None:
    torch.set_rng_state(tensors["random.torch"])
    if "random.cuda" in tensors and job.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], job.device)

    def numpy_state(name: str) -> tuple[Any, ...]:
        kind, *rest = header["random"][name]
        return (kind, tensors[f"random.{name}"].numpy().astype(np.uint32), *rest)

    job.sampler.restore(
        {
            "order": tensors["sampler.order"].numpy(),
            "position": header["sampler_position"],
            "random": numpy_state("sampler"),
        }
    )
    job.label_random.set_state(numpy_state("labels"))


def _modules(job: Job) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {"G": job.players.G, "D": job.players.D, "G_ema": job.G_ema}
    if job.players.augment is not None:
        modules["augment"] = job.players.augment
    return modules


def _optimizers(job: Job) -> dict[str, torch.optim.Adam]:
    return {"G_opt": job.G_opt, "D_opt": job.D_opt}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = prefix + "."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
