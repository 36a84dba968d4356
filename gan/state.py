"""The resumable state of a training: one file that a killed run goes on from, bit for bit on a CPU.

Of a training in several processes it is still one file. What is equal in all of them stands in it once; what
each has of its own (random states, what it has counted since the last tick) once for each, those of the first
where a single process has its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extract.seeds import derive_seed
from gan.config import Recipe, TrainConfig, config_from_json, config_to_json, share_recipe
from gan.errors import GanError
from gan.job import Job
from gan.snapshot import load_weights, read_header, write_tensors

STATE_NAME = "training-state.safetensors"
FORMAT = "synthlabel-training-state-1"


def write_state(
    run_dir: Path, job: Job, config: TrainConfig, num_stats_lines: int, elapsed_sec: float
) -> None:
    """Write everything that the next iteration depends on, whole or not at all; replaces the state before.

    All processes of a training take part; the first writes.
    """
    gathered = job.ranks.gather(_own_state(job))
    if gathered is None:
        return
    first, *others = gathered
    tensors: dict[str, Tensor] = {"pl_mean": job.players.pl_mean}
    for prefix, module in job.networks.items():
        tensors |= {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}
    for prefix, optimizer in _optimizers(job).items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{prefix}.{index}.{name}": moment for name, moment in moments.items()}
    sampler = job.sampler.state()  # the same in all processes
    tensors["sampler.order"] = torch.from_numpy(sampler["order"])
    tensors["random.sampler"] = torch.from_numpy(sampler["random"][1].astype(np.int64))
    for rank, own in enumerate(gathered):
        tensors |= {_own_name(rank, name): tensor for name, tensor in own.random.items()}
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
        "random": {
            "sampler": [sampler["random"][0], *sampler["random"][2:]],
            "labels": first.labels_random,
        },
        "ada": first.ada,
        "statistics": first.statistics,
        "other_ranks": [
            {"labels_random": own.labels_random, "ada": own.ada, "statistics": own.statistics}
            for own in others
        ],
        "num_ranks": job.ranks.count,
        "num_threads": torch.get_num_threads(),
    }
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_tensors(run_dir / STATE_NAME, plain, header)


@dataclass
class _OwnState:
    """What one process of a training does not share with the others."""

    random: dict[str, Tensor]  # states of torch's generators and of the one that draws labels
    labels_random: list[Any]  # the rest of the latter
    ada: dict[str, float]
    statistics: dict[str, Any]


def _own_state(job: Job) -> _OwnState:
    labels: Any = job.label_random.get_state()
    random = {"torch": torch.get_rng_state(), "labels": torch.from_numpy(labels[1].astype(np.int64))}
    if job.device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(job.device)
    return _OwnState(random, [labels[0], *labels[2:]], job.ada.state(), job.statistics.state())


def _own_name(rank: int, name: str) -> str:
    return f"random.{name}" if rank == 0 else f"rank{rank}.random.{name}"


def read_state_header(run_dir: Path) -> dict[str, Any]:
    """Settings and counters of a run's state.

    Raises:
        GanError: if the folder holds no state, or one that is not whole.
    """
    path = run_dir / STATE_NAME
    if not path.is_file():
        raise GanError(
            f"{run_dir}: expected a run folder with {STATE_NAME} to go on from, got none; a run that was "
            f"ended before it wrote one is started again without --resume, or with --resume=auto"
        )
    return read_header(path, FORMAT, "a training state")


def how_to_go_on(run_dir: Path | None) -> str:
    """What is left of a run whose processes are gone."""
    if run_dir is None or not (run_dir / STATE_NAME).exists():
        return "no state was written yet, start it again"
    return (
        f"the state written last is whole, and this goes on with it: synthlabel gan train --resume {run_dir}"
    )


def stored_config(header: Mapping[str, Any]) -> TrainConfig:
    return config_from_json(header["config"])


def stored_recipe(header: Mapping[str, Any], config: TrainConfig) -> Recipe:
    """The numbers that the run was started with, whatever its preset says today; its length may change."""
    values = dict(header["recipe"])
    for name in ("augmentations", "adam_betas"):
        values[name] = tuple(values[name])
    recipe = Recipe(**values)
    recipe = replace(recipe, total_kimg=config.kimg or recipe.total_kimg, snap=config.snap or recipe.snap)
    if config.gpus != header.get("num_ranks", 1):
        recipe = share_recipe(recipe, config.gpus, config.cfg)
    return recipe


def restore_state(run_dir: Path, header: Mapping[str, Any], job: Job) -> None:
    """Bring a freshly built job to where the state was written; the first process reads it for all.

    With another number of processes than before the random states begin anew, and what each had counted
    since the last tick goes to the first.
    """
    path = run_dir / STATE_NAME
    tensors = job.ranks.from_first(lambda: load_weights(path))
    is_same_number = header.get("num_ranks", 1) == job.ranks.count
    try:
        _restore_tensors(tensors, job)
        _restore_sampler(tensors, header, job)
        if is_same_number:
            _restore_random(tensors, header, job)
        else:
            _renew_random(header, job)
            _scale_moments(header, job)
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
    if is_same_number and job.ranks.rank > 0:
        own = header["other_ranks"][job.ranks.rank - 1]
        job.ada.restore(own["ada"], job.device)
        job.statistics.restore(own["statistics"], job.device)
        return
    job.ada.restore(header["ada"], job.device)
    if job.ranks.is_first:
        job.statistics.restore(header["statistics"], job.device)
    else:
        job.ada.forget_signs()
    if job.ranks.is_first and not is_same_number:
        for own in header.get("other_ranks", ()):
            job.ada.add_signs(own["ada"])
            job.statistics.add(own["statistics"]["sums"])


def _restore_tensors(tensors: Mapping[str, Tensor], job: Job) -> None:
    for prefix, module in job.networks.items():
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


def _restore_sampler(tensors: Mapping[str, Tensor], header: Mapping[str, Any], job: Job) -> None:
    job.sampler.restore(
        {
            "order": tensors["sampler.order"].numpy(),
            "position": header["sampler_position"],
            "random": _numpy_state(header["random"]["sampler"], tensors["random.sampler"]),
        }
    )


def _restore_random(tensors: Mapping[str, Tensor], header: Mapping[str, Any], job: Job) -> None:
    rank = job.ranks.rank
    torch.set_rng_state(tensors[_own_name(rank, "torch")])
    cuda = tensors.get(_own_name(rank, "cuda"))
    if cuda is not None and job.device.type == "cuda":
        torch.cuda.set_rng_state(cuda, job.device)
    rest = header["random"]["labels"] if rank == 0 else header["other_ranks"][rank - 1]["labels_random"]
    job.label_random.set_state(_numpy_state(rest, tensors[_own_name(rank, "labels")]))


def _numpy_state(rest: Sequence[Any], key: Tensor) -> tuple[Any, ...]:
    return (rest[0], key.numpy().astype(np.uint32), *rest[1:])


def _renew_random(header: Mapping[str, Any], job: Job) -> None:
    parts = (header["config"]["seed"], job.ranks.count, job.ranks.rank, header["iteration"])
    torch.manual_seed(derive_seed("other number of processes", *parts))
    job.label_random.seed(derive_seed("labels of another number of processes", *parts))


def _scale_moments(header: Mapping[str, Any], job: Job) -> None:
    """Fit Adam's moments to gradients that are the sum of another number of rounds than before."""
    before = header["recipe"]["batch_size"] / header.get("num_ranks", 1) / header["recipe"]["batch_gpu"]
    now = job.recipe.batch_size / job.ranks.count / job.recipe.batch_gpu
    for optimizer in _optimizers(job).values():
        for moments in optimizer.state.values():
            moments["exp_avg"].mul_(now / before)
            moments["exp_avg_sq"].mul_((now / before) ** 2)


def _optimizers(job: Job) -> dict[str, torch.optim.Adam]:
    return {"G_opt": job.G_opt, "D_opt": job.D_opt}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = prefix + "."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
