"""Networks from plain settings, the settings that a snapshot records and can be rebuilt from."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from extract.errors import SettingsError
from gan.config import DEVICES, Recipe
from vendor.stylegan2_ada import AugmentPipe, Discriminator, Generator

LOW_PRECISION_RESOLUTIONS = 4  # the highest ones, as in the official training
LOW_PRECISION_DTYPES = {"fp32": torch.float16, "fp16": torch.float16, "bf16": torch.bfloat16}


def network_settings(recipe: Recipe) -> dict[str, Any]:
    """JSON-able settings of the three modules: `G`, `D`, and `augment` (None where there is none)."""
    common = {
        "channel_base": recipe.channel_base,
        "channel_max": recipe.channel_max,
        "num_fp16_res": recipe.num_fp16_res,
        "conv_clamp": recipe.conv_clamp,
        "low_precision": recipe.low_precision,
    }
    return {
        "G": {
            "z_dim": recipe.latent_dim,
            "c_dim": recipe.c_dim,
            "w_dim": recipe.latent_dim,
            "img_resolution": recipe.resolution,
            "img_channels": recipe.img_channels,
            "num_mapping_layers": recipe.mapping_layers,
            **common,
        },
        "D": {
            "c_dim": recipe.c_dim,
            "img_resolution": recipe.resolution,
            "img_channels": recipe.img_channels,
            "architecture": recipe.d_architecture,
            "mbstd_group_size": recipe.mbstd_group,
            "freeze_layers": recipe.freeze_layers,
            **common,
        },
        "augment": None if recipe.augment_p is None else dict.fromkeys(recipe.augmentations, 1),
    }


def build_generator(settings: Mapping[str, Any], precision: str | None = None) -> Generator:
    """The generator of `settings["G"]`.

    Args:
        precision: compute in `fp32`, or the highest resolutions in `bf16` or `fp16`, whatever the generator
            was trained in; None = as it was trained. The clamp that it was trained with stays.
    """
    wanted = dict(settings["G"])
    trained_in = wanted.pop("low_precision", "fp32")
    if precision is not None:
        wanted["num_fp16_res"] = 0 if precision == "fp32" else LOW_PRECISION_RESOLUTIONS
    return Generator(**wanted, low_precision_dtype=LOW_PRECISION_DTYPES[precision or trained_in])


def build_discriminator(settings: Mapping[str, Any]) -> Discriminator:
    wanted = dict(settings["D"])
    dtype = LOW_PRECISION_DTYPES[wanted.pop("low_precision", "fp32")]
    return Discriminator(**wanted, low_precision_dtype=dtype)


def use_channels_last(*networks: nn.Module) -> None:
    """Store the weights of convolutions as CPUs and tensor cores read them; values stay as they are."""
    for network in networks:
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.to(memory_format=torch.channels_last)


def build_augment_pipe(settings: Mapping[str, Any]) -> AugmentPipe | None:
    return None if settings["augment"] is None else AugmentPipe(**settings["augment"])


def choose_device(name: str) -> torch.device:
    """The device that `--device auto|cpu|cuda` means on this machine."""
    if name not in DEVICES:
        raise SettingsError(f"--device must be one of {', '.join(DEVICES)}, got '{name}'")
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "--device=cuda: no CUDA device was found on this machine; use --device=cpu or auto"
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def fastest_precision(device: torch.device) -> str:
    """What usually trains fastest here: bf16 where the processor multiplies it, fp16 on a GPU, else fp32.

    On a CPU bf16 pays for networks with many channels; for those of `--cfg small` fp32 is as quick.
    """
    if device.type == "cuda":
        return "fp16"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"
