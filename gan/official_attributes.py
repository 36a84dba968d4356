"""Attributes that the official classes keep beside their tensors, for each of our modules.

The official code installs them as they are in the file, so that a network computes with them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from vendor.stylegan2_ada import AugmentPipe, Discriminator, Generator
from vendor.stylegan2_ada.activations import ACTIVATIONS
from vendor.stylegan2_ada.discriminator import DiscriminatorBlock, DiscriminatorEpilogue, MinibatchStdLayer
from vendor.stylegan2_ada.layers import Conv2dLayer, FullyConnectedLayer
from vendor.stylegan2_ada.mapping import MappingNetwork
from vendor.stylegan2_ada.synthesis import SynthesisBlock, SynthesisLayer, SynthesisNetwork, ToRGBLayer

PIPE_ATTRIBUTES = (
    "xflip", "rotate90", "xint", "xint_max", "scale", "rotate", "aniso", "xfrac", "scale_std", "rotate_max",
    "aniso_std", "xfrac_std", "brightness", "contrast", "lumaflip", "hue", "saturation", "brightness_std",
    "contrast_std", "hue_max", "saturation_std", "imgfilter", "imgfilter_bands", "imgfilter_std", "noise",
    "cutout", "noise_std", "cutout_size",
)  # fmt: skip

Attributes = dict[str, Any]


def _generator(module: Generator) -> Attributes:
    names = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "num_ws")
    return {name: getattr(module, name) for name in names}


def _mapping(module: MappingNetwork) -> Attributes:
    return {
        "z_dim": module.z_dim,
        "c_dim": module.c_dim,
        "w_dim": module.w_dim,
        "num_ws": module.num_ws,
        "num_layers": len(module.layers),
        "w_avg_beta": None if module.num_ws is None else module.w_avg_beta,
    }


def _fully_connected(module: FullyConnectedLayer) -> Attributes:
    return {
        "activation": module.activation,
        "weight_gain": module.weight_gain,
        "bias_gain": module.bias_gain,
    }


def _convolution(module: Conv2dLayer) -> Attributes:
    own: Attributes = {
        "activation": module.activation,
        "up": module.up,
        "down": module.down,
        "conv_clamp": module.conv_clamp,
        "padding": module.padding,
        "weight_gain": module.weight_gain,
        "act_gain": module.activation_gain,
    }
    has_bias = "bias" in module._parameters or "bias" in module._buffers
    return own if has_bias else {**own, "bias": None}


def _synthesis_layer(module: SynthesisLayer) -> Attributes:
    return {
        "resolution": module.resolution,
        "up": module.up,
        "use_noise": module.use_noise,
        "activation": "lrelu",
        "conv_clamp": module.conv_clamp,
        "padding": module.weight.shape[2] // 2,
        "act_gain": ACTIVATIONS["lrelu"].gain,
    }


def _to_rgb(module: ToRGBLayer) -> Attributes:
    return {"conv_clamp": module.conv_clamp, "weight_gain": module.style_gain}


def _synthesis_block(module: SynthesisBlock) -> Attributes:
    return {
        "in_channels": module.in_channels,
        "w_dim": module.conv1.affine.weight.shape[1],
        "resolution": module.resolution,
        "architecture": module.architecture,
        "use_fp16": module.dtype == torch.float16,
        "channels_last": False,
        "num_conv": module.num_conv,
        "num_torgb": module.num_torgb,
    }


def _synthesis(module: SynthesisNetwork) -> Attributes:
    resolutions = list(module.resolutions)
    return {
        "w_dim": module.w_dim,
        "img_resolution": resolutions[-1],
        "img_resolution_log2": resolutions[-1].bit_length() - 1,
        "img_channels": _image_channels(module),
        "block_resolutions": resolutions,
        "num_ws": module.num_ws,
    }


def _image_channels(module: SynthesisNetwork) -> int:
    last = getattr(module, f"b{module.resolutions[-1]}")
    return int(last.torgb.weight.shape[0])


def _discriminator(module: Discriminator) -> Attributes:
    return {
        "c_dim": module.c_dim,
        "img_resolution": module.img_resolution,
        "img_resolution_log2": module.img_resolution.bit_length() - 1,
        "img_channels": module.img_channels,
        "block_resolutions": list(module.resolutions),
    }


def _discriminator_block(module: DiscriminatorBlock) -> Attributes:
    return {
        "in_channels": module.in_channels,
        "architecture": module.architecture,
        "use_fp16": module.dtype == torch.float16,
        "channels_last": False,
        "num_layers": len(module._modules),
    }


def _epilogue(module: DiscriminatorEpilogue) -> Attributes:
    return {"cmap_dim": module.cmap_dim, "in_channels": module.fc.weight.shape[0], "resolution": 4}


def _minibatch_std(module: MinibatchStdLayer) -> Attributes:
    return {"group_size": module.group_size, "num_channels": 1}


def _pipe(module: AugmentPipe) -> Attributes:
    values = {name: getattr(module, name) for name in PIPE_ATTRIBUTES}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


_READERS: dict[type[nn.Module], Callable[[Any], Attributes]] = {
    Generator: _generator,
    MappingNetwork: _mapping,
    FullyConnectedLayer: _fully_connected,
    Conv2dLayer: _convolution,
    SynthesisLayer: _synthesis_layer,
    ToRGBLayer: _to_rgb,
    SynthesisBlock: _synthesis_block,
    SynthesisNetwork: _synthesis,
    Discriminator: _discriminator,
    DiscriminatorBlock: _discriminator_block,
    DiscriminatorEpilogue: _epilogue,
    MinibatchStdLayer: _minibatch_std,
    AugmentPipe: _pipe,
}


def attributes_of(module: nn.Module) -> Attributes:
    """What a module knows about itself."""
    return _READERS[type(module)](module)


def attributes_of_parts(module: nn.Module) -> dict[str, Attributes]:
    """What a module knows about its parts and they do not, by the part's name."""
    if isinstance(module, SynthesisNetwork):
        channels = _image_channels(module)
        return {
            f"b{resolution}": {"img_channels": channels, "is_last": resolution == module.resolutions[-1]}
            for resolution in module.resolutions
        }
    if isinstance(module, Discriminator):
        return _parts_of_discriminator(module)
    return {}


def _parts_of_discriminator(module: Discriminator) -> dict[str, Attributes]:
    parts: dict[str, Attributes] = {}
    first_layer = 0  # counted from the image, as `--freezed` counts
    for resolution in module.resolutions:
        parts[f"b{resolution}"] = {
            "resolution": resolution,
            "img_channels": module.img_channels,
            "first_layer_idx": first_layer,
        }
        first_layer += len(getattr(module, f"b{resolution}")._modules)
    parts["b4"] = {"img_channels": module.img_channels, "architecture": module.architecture}
    return parts
