"""The official reader as it is described, with stand-ins for its classes.

It unpickles, runs the source text in a fresh module, makes the class without its constructor and installs the
state. The stand-ins compute with the attributes that the state brings and with nothing else.
"""

import io
import math
import pickle
import sys
import types
from typing import Any

import torch
from torch import nn

from vendor.stylegan2_ada.activations import bias_act
from vendor.stylegan2_ada.convolution import conv2d_resample, modulated_conv2d
from vendor.stylegan2_ada.filters import downsample2d, upsample2d


class FullyConnectedLayer(nn.Module):
    def forward(self, x):
        x = x @ (self.weight * self.weight_gain).t()
        return bias_act(x, self.bias * self.bias_gain, act=self.activation)


class Conv2dLayer(nn.Module):
    def forward(self, x, gain=1):
        x = conv2d_resample(
            x, self.weight * self.weight_gain, self.resample_filter, up=self.up, down=self.down,
            padding=self.padding, flip_weight=self.up == 1,
        )  # fmt: skip
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return bias_act(x, self.bias, act=self.activation, gain=self.act_gain * gain, clamp=clamp)


class MappingNetwork(nn.Module):
    def forward(self, z, c):
        parts = []
        if self.z_dim > 0:
            parts.append(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())
        if self.c_dim > 0:
            y = self.embed(c)
            parts.append(y * (y.square().mean(1, keepdim=True) + 1e-8).rsqrt())
        x = torch.cat(parts, 1)
        for index in range(self.num_layers):
            x = getattr(self, f"fc{index}")(x)
        assert (self.w_avg_beta is None) == (self.num_ws is None)
        return x if self.num_ws is None else x[:, None].repeat(1, self.num_ws, 1)


class SynthesisLayer(nn.Module):
    def forward(self, x, w, gain=1):
        noise = self.noise_const * self.noise_strength if self.use_noise else None
        assert x.shape[2] * self.up == self.resolution
        x = modulated_conv2d(
            x, self.weight, self.affine(w), noise=noise, up=self.up, padding=self.padding,
            resample_filter=self.resample_filter, flip_weight=self.up == 1, fused=False,
        )  # fmt: skip
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return bias_act(x, self.bias, act=self.activation, gain=self.act_gain * gain, clamp=clamp)


class ToRGBLayer(nn.Module):
    def forward(self, x, w):
        styles = self.affine(w) * self.weight_gain
        x = modulated_conv2d(x, self.weight, styles, demodulate=False, fused=False)
        return bias_act(x, self.bias, clamp=self.conv_clamp)


class SynthesisBlock(nn.Module):
    def forward(self, x, img, ws):
        assert ws.shape[1:] == (self.num_conv + self.num_torgb, self.w_dim)
        assert not self.use_fp16 and not self.channels_last
        styles = iter(ws.unbind(1))
        if self.in_channels == 0:
            x = self.conv1(self.const[None].repeat(len(ws), 1, 1, 1), next(styles))
        elif self.architecture == "resnet":
            y = self.skip(x, gain=math.sqrt(0.5))
            x = self.conv1(self.conv0(x, next(styles)), next(styles), gain=math.sqrt(0.5)) + y
        else:
            x = self.conv1(self.conv0(x, next(styles)), next(styles))
        if img is not None:
            img = upsample2d(img, self.resample_filter)
        if self.is_last or self.architecture == "skip":
            y = self.torgb(x, next(styles))
            assert y.shape[1:] == (self.img_channels, self.resolution, self.resolution)
            img = y if img is None else img + y
        return x, img


class SynthesisNetwork(nn.Module):
    def forward(self, ws):
        assert ws.shape[1:] == (self.num_ws, self.w_dim)
        assert self.block_resolutions == [2**i for i in range(2, self.img_resolution_log2 + 1)]
        x = img = None
        first = 0
        for resolution in self.block_resolutions:
            block = getattr(self, f"b{resolution}")
            x, img = block(x, img, ws[:, first : first + block.num_conv + block.num_torgb])
            first += block.num_conv
        assert img.shape[1:] == (self.img_channels, self.img_resolution, self.img_resolution)
        return img


class Generator(nn.Module):
    def forward(self, z, c):
        assert z.shape[1] == self.z_dim and c.shape[1] == self.c_dim
        ws = self.mapping(z, c)
        assert ws.shape[1:] == (self.num_ws, self.w_dim)
        img = self.synthesis(ws)
        assert img.shape[1:] == (self.img_channels, self.img_resolution, self.img_resolution)
        return img


class DiscriminatorBlock(nn.Module):
    def forward(self, x, img):
        assert not self.use_fp16 and not self.channels_last
        assert self.num_layers == 2 + (self.in_channels == 0 or self.architecture == "skip") + (
            self.architecture == "resnet"
        )
        if self.in_channels == 0 or self.architecture == "skip":
            assert img.shape[1:] == (self.img_channels, self.resolution, self.resolution)
            y = self.fromrgb(img)
            x = y if x is None else x + y
            img = downsample2d(img, self.resample_filter) if self.architecture == "skip" else None
        if self.architecture == "resnet":
            y = self.skip(x, gain=math.sqrt(0.5))
            return self.conv1(self.conv0(x), gain=math.sqrt(0.5)) + y, img
        return self.conv1(self.conv0(x)), img


class MinibatchStdLayer(nn.Module):
    def forward(self, x):
        n, c, h, w = x.shape
        group = n if self.group_size is None else min(self.group_size, n)
        y = x.reshape(group, -1, self.num_channels, c // self.num_channels, h, w)
        y = ((y - y.mean(0)).square().mean(0) + 1e-8).sqrt().mean([2, 3, 4])
        y = y.reshape(-1, self.num_channels, 1, 1).repeat(group, 1, h, w)
        return torch.cat([x, y], 1)


class DiscriminatorEpilogue(nn.Module):
    def forward(self, x, img, cmap):
        if self.architecture == "skip":
            assert img.shape[1] == self.img_channels
            x = x + self.fromrgb(img)
        assert x.shape[1:] == (self.in_channels, self.resolution, self.resolution)
        x = self.out(self.fc(self.conv(self.mbstd(x)).flatten(1)))
        return x if self.cmap_dim == 0 else (x * cmap).sum(1, keepdim=True) / math.sqrt(self.cmap_dim)


class Discriminator(nn.Module):
    def forward(self, img, c):
        assert img.shape[1:] == (self.img_channels, self.img_resolution, self.img_resolution)
        assert self.block_resolutions == [2**i for i in range(self.img_resolution_log2, 2, -1)]
        x = None
        for resolution in self.block_resolutions:
            x, img = getattr(self, f"b{resolution}")(x, img)
        return self.b4(x, img, self.mapping(None, c) if self.c_dim > 0 else None)


class AugmentPipe(nn.Module):
    pass


CLASSES = (
    FullyConnectedLayer, Conv2dLayer, MappingNetwork, SynthesisLayer, ToRGBLayer, SynthesisBlock,
    SynthesisNetwork, Generator, DiscriminatorBlock, MinibatchStdLayer, DiscriminatorEpilogue, Discriminator,
)  # fmt: skip


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> nn.Module:
    assert meta["type"] == "class" and meta["version"] == 6
    module = types.ModuleType("made_from_source")
    exec(meta["module_src"], vars(module))
    made = getattr(module, meta["class_name"])
    state = meta["state"]
    assert isinstance(state["_init_args"], tuple) and isinstance(state["_init_kwargs"], dict)
    obj = made.__new__(made)
    obj.__dict__.update(state)
    return obj


def read(data: bytes) -> dict[str, Any]:
    """What the official code would have after reading the file."""
    modules = {name: types.ModuleType(name) for name in ("training", "training.networks", "training.augment")}
    vars(modules["training.networks"]).update({one.__name__: one for one in CLASSES})
    vars(modules["training.augment"]).update(AugmentPipe=AugmentPipe)
    modules["torch_utils"] = types.ModuleType("torch_utils")
    modules["torch_utils.persistence"] = types.ModuleType("torch_utils.persistence")
    vars(modules["torch_utils.persistence"]).update(_reconstruct_persistent_obj=_reconstruct_persistent_obj)
    assert not set(modules) & set(sys.modules)
    sys.modules.update(modules)
    try:
        return pickle.load(io.BytesIO(data))
    finally:
        for name in modules:
            del sys.modules[name]
