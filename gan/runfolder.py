"""Run folders: their numbers and names, and the record of what a run was asked for."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extract.atomic import write_text
from extract.errors import SettingsError
from gan.config import TrainConfig, config_to_json
from gan.data import TrainingImages
from gan.errors import GanError
from gan.job import Job
from gan.official_files import find_network
from gan.state import STATE_NAME

OPTIONS_NAME = "training_options.json"


def create_run_dir(outdir: Path, description: str) -> Path:
    """Make `<outdir>/<number>-<description>`, its number one more than the largest there."""
    outdir.mkdir(parents=True, exist_ok=True)
    while True:
        numbers = [int(match[0]) for entry in outdir.iterdir() if (match := re.match(r"\d+", entry.name))]
        run_dir = outdir / f"{max(numbers, default=-1) + 1:05d}-{description}"
        try:
            run_dir.mkdir()
            return run_dir
        except FileExistsError:  # another process was quicker
            continue


def find_latest_run(outdir: Path) -> Path | None:
    """The run of `outdir` with the highest number among those that have a state to go on from."""
    runs = [path.parent for path in Path(outdir).glob(f"*/{STATE_NAME}")]
    return max(runs, key=lambda run: (_leading_number(run.name), run.name), default=None)


def _leading_number(name: str) -> int:
    match = re.match(r"\d+", name)
    return int(match[0]) if match else -1


def find_run_to_resume(config: TrainConfig) -> Path | None:
    """The run folder that `--resume` means to continue exactly; None for a new run.

    Raises:
        GanError: if it names a folder that has no state, or `latest` finds none.
    """
    if config.is_new_start or config.resume is None:
        return None
    if config.resume in ("latest", "auto"):
        found = find_latest_run(config.outdir)
        if found is None and config.resume == "latest":
            raise GanError(
                f"--resume=latest: expected a run with {STATE_NAME} in {config.outdir}, got none; start one "
                "without --resume"
            )
        return found
    path = Path(config.resume)
    return path if path.is_dir() else None


def snapshot_to_start_from(config: TrainConfig) -> Path | None:
    """The snapshot whose weights a new run starts from; None = fresh weights.

    Raises:
        SettingsError: for a published network that no cache holds, or a file that does not exist.
    """
    if config.is_new_start or config.resume is None or config.resume in ("latest", "auto"):
        return None
    path = find_network(config.resume, "--resume=")
    if not path.exists():
        raise SettingsError(
            f"--resume: expected a snapshot, an official network file (.pkl), a run folder, 'latest', 'auto' "
            f"or 'noresume', got '{path}', which does not exist"
        )
    return None if path.is_dir() else path


def write_options(run_dir: Path, config: TrainConfig, job: Job) -> None:
    """Write `training_options.json`: the official keys in their order, then ours."""
    write_text(run_dir / OPTIONS_NAME, json.dumps(training_options(config, job, run_dir), indent=2) + "\n")


def training_options(config: TrainConfig, job: Job, run_dir: Path | None) -> dict[str, Any]:
    recipe, data = job.recipe, job.data
    options: dict[str, Any] = {
        "num_gpus": config.gpus,
        "image_snapshot_ticks": recipe.snap,
        "network_snapshot_ticks": recipe.snap,
        "metrics": [],
        "random_seed": config.seed,
        "training_set_kwargs": _training_set(config, data),
        "data_loader_kwargs": {"pin_memory": False, "num_workers": config.workers, "prefetch_factor": 2},
        **_network_options(job.settings, config),
    }
    for name, optimizer in (("G_opt_kwargs", recipe), ("D_opt_kwargs", recipe)):
        options[name] = {
            "class_name": "torch.optim.Adam",
            "lr": optimizer.lr,
            "betas": list(optimizer.adam_betas),
            "eps": optimizer.adam_eps,
        }
    options["loss_kwargs"] = {
        "class_name": "training.loss.StyleGAN2Loss",
        "r1_gamma": recipe.r1_gamma,
        "pl_weight": recipe.pl_weight,
        "style_mixing_prob": recipe.style_mixing_prob,
    }
    options |= {
        "total_kimg": recipe.total_kimg,
        "batch_size": recipe.batch_size,
        "batch_gpu": recipe.batch_gpu,
        "ema_kimg": recipe.ema_kimg,
        "ema_rampup": recipe.ema_ramp,
    }
    if recipe.ada_target is not None:
        options["ada_target"] = recipe.ada_target
    if recipe.augment_p:
        options["augment_p"] = recipe.augment_p
    if recipe.augment_p is not None:
        pipe = dict.fromkeys(recipe.augmentations, 1)
        options["augment_kwargs"] = {"class_name": "training.augment.AugmentPipe", **pipe}
    if config.resume is not None:
        options["resume_pkl"] = config.resume
    options["ada_kimg"] = recipe.ada_kimg
    if config.nobench:
        options["cudnn_benchmark"] = False
    if config.allow_tf32:
        options["allow_tf32"] = True
    options["run_dir"] = None if run_dir is None else str(run_dir)
    options["synthlabel"] = {
        "options": config_to_json(config),
        "archive_sha256": data.archive_sha256,
        "split_sha256": data.split_sha256,
        "fold": config.fold if config.split is not None else None,
        "num_images": len(data),
        "num_subjects": len(data.subjects),
        "device": str(job.device),
        "versions": _versions(),
    }
    return options


def _training_set(config: TrainConfig, data: TrainingImages) -> dict[str, Any]:
    is_limited = len(data.rows) < data.num_available
    values: dict[str, Any] = {
        "class_name": "training.dataset.ImageFolderDataset",
        "path": str(config.data),
        "use_labels": config.cond,
        "max_size": len(data.rows),
        "xflip": config.mirror,
        "resolution": data.image_shape[1],
    }
    return values | ({"random_seed": config.seed} if is_limited else {})


def _network_options(settings: Mapping[str, Any], config: TrainConfig) -> dict[str, Any]:
    g, d = settings["G"], settings["D"]
    sizes = ("channel_base", "channel_max", "num_fp16_res", "conv_clamp")
    nhwc = {"fp16_channels_last": True} if config.nhwc else {}
    freeze = {"freeze_layers": d["freeze_layers"]} if d["freeze_layers"] else {}
    return {
        "G_kwargs": {
            "class_name": "training.networks.Generator",
            "z_dim": g["z_dim"],
            "w_dim": g["w_dim"],
            "mapping_kwargs": {"num_layers": g["num_mapping_layers"]},
            "synthesis_kwargs": {name: g[name] for name in sizes} | nhwc,
        },
        "D_kwargs": {
            "class_name": "training.networks.Discriminator",
            "block_kwargs": freeze | nhwc,
            "mapping_kwargs": {},
            "epilogue_kwargs": {"mbstd_group_size": d["mbstd_group_size"]},
            **{name: d[name] for name in sizes},
            "architecture": d["architecture"],
        },
    }


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy")}}
