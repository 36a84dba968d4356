"""What settings mean together with the data and the machine: refused before work starts, or warned about."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from extract.errors import SettingsError, name_some
from extract.sides import names_a_side
from gan.config import Recipe, TrainConfig
from gan.data import TrainingImages
from gan.networks import fastest_precision


def check_fit(config: TrainConfig, recipe: Recipe, data: TrainingImages) -> None:
    """Refuse what the options ask of this data and these networks and cannot be.

    Raises:
        SettingsError: in the words of the flags.
    """
    if config.cond and data.c_dim == 1:
        raise SettingsError(
            f"--cond=True requires at least two classes; {config.data} has only '{data.classes[0]}'. Train "
            "without --cond"
        )
    num_layers = num_freezable_layers(recipe)
    if recipe.freeze_layers > num_layers:
        raise SettingsError(
            f"--freezed must be between 0 and {num_layers}, the layers that the discriminator has above 4x4 "
            f"at {recipe.resolution} pixels, got {recipe.freeze_layers}"
        )


def num_freezable_layers(recipe: Recipe) -> int:
    """Layers of the discriminator that `--freezed` can count: from RGB, then those of each block."""
    num_blocks = recipe.resolution.bit_length() - 3  # from the image down to 8x8
    a_block = {"resnet": 3, "orig": 2, "skip": 3}[recipe.d_architecture]
    own_from_rgb = 0 if recipe.d_architecture == "skip" else 1  # skip: each block has one, counted above
    return num_blocks * a_block + own_from_rgb


def check_continuation(header: Mapping[str, Any], config: TrainConfig, run_dir: Path) -> None:
    """Refuse a `--kimg` that the run to go on with is past already.

    Raises:
        SettingsError: naming what the run has.
    """
    seen, before = int(header["images_seen"]), header["config"].get("kimg")
    if config.kimg is not None and config.kimg != before and config.kimg * 1000 < seen:
        raise SettingsError(
            f"--kimg={config.kimg:g}: the run in {run_dir} has {seen / 1000:g} kimg already; give more to go "
            "on, or choose one of its snapshots"
        )


def list_warnings(
    config: TrainConfig, recipe: Recipe, data: TrainingImages, device: torch.device
) -> list[str]:
    """Sentences on options that work, but probably not as meant."""
    warnings = []
    if config.mirror and (sided := [name for name in data.archive_classes if names_a_side(name)]):
        warnings.append(
            f"--mirror shows images mirrored left-right, but classes name a side ({name_some(sided)}): a "
            "mirrored left looks like a right; leave --mirror off unless that is meant"
        )
    if device.type == "cpu" and recipe.low_precision == "fp16":
        warnings.append(
            "--precision=fp16 is about 16 times slower than fp32 on a CPU; use --precision=fp32 or bf16"
        )
    if device.type == "cpu" and recipe.low_precision == "bf16" and fastest_precision(device) != "bf16":
        warnings.append(
            "--precision=bf16: this processor has no bf16 arithmetic, so that it is slower than fp32"
        )
    idle = [flag for flag, is_on in _only_on_gpu(config).items() if is_on and device.type == "cpu"]
    if idle:
        warnings.append(f"no effect on a CPU: {', '.join(idle)}")
    if recipe.mbstd_group == 1:
        warnings.append(
            f"--batch={recipe.batch_size}: no group of images divides the {recipe.batch_gpu} that pass at a "
            "time, so that the minibatch deviation, which works against mode collapse, sees single images; "
            "use an even --batch"
        )
    if recipe.freeze_layers and (config.is_new_start or config.resume in ("latest", "auto")):
        warnings.append(
            f"--freezed={recipe.freeze_layers} without a snapshot to --resume from keeps random layers as "
            "they are; it is meant for fine-tuning"
        )
    if recipe.snap * config.tick_kimg >= recipe.total_kimg > config.tick_kimg:
        warnings.append(
            f"--snap={recipe.snap} ticks of {config.tick_kimg:g} kimg are longer than the whole training "
            f"({recipe.total_kimg:g} kimg): there will be a snapshot at its start and at its end alone"
        )
    return warnings


def _only_on_gpu(config: TrainConfig) -> dict[str, bool]:
    return {
        "--nhwc (always so there)": config.nhwc,
        "--nobench": config.nobench,
        "--allow-tf32": config.allow_tf32,
    }
