"""Weights of a network turned into those of one with other colours or classes, which first does what it did.

A layer scales its stored weights by 1 / sqrt(inputs) when it uses them; hence the roots where the number of
inputs changes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from extract.errors import name_some
from vendor.stylegan2_ada.layers import normalize_second_moment

# Of a new label in the first mapping layer, relative to its share in a network made for labels. With 0 the
# classes were still alike after 2 kimg (pixels 0.002 apart, of a range of 2), with 0.3 they were 0.06 apart.
LABEL_SHARE = 0.3
LR_MULTIPLIER = 0.01  # of the mapping networks' layers, weight and bias alike


@dataclass
class Report:
    """What became of the weights."""

    num_copied: int = 0
    converted: list[str] = field(default_factory=list)  # what was done
    fresh: list[str] = field(default_factory=list)  # names

    def lines(self, path: Path) -> list[str]:
        """For the log."""
        lines = [f"Starting weights: {self.num_copied} tensors of G, D and G_ema copied from {path}"]
        lines += [f"  {text}" for text in dict.fromkeys(self.converted)]
        if self.fresh:
            lines.append(f"  freshly drawn: {name_some(self.fresh)}")
        return lines


def convert_colors(weights: dict[str, Tensor], name: str, before: int, after: int, report: Report) -> None:
    """RGB to grey and back, so that a grey picture stays what it is."""
    if before == after:
        return
    for key in list(weights):
        layer = key.split(".")[-2] if "." in key else ""
        is_weight = key.endswith(".weight")
        if layer == "torgb" and (is_weight or key.endswith(".bias")):  # (colours, ...)
            mean = weights[key].mean(0, keepdim=True)
            weights[key] = mean.expand(after, *mean.shape[1:])
        elif layer == "fromrgb" and is_weight:  # (features, colours, 1, 1)
            total = weights[key].sum(1, keepdim=True) / after * math.sqrt(after / before)
            weights[key] = total.expand(-1, after, -1, -1)
    how = "the same for grey pictures"
    if name != "D":
        how = "the mean of its colours" if after == 1 else "its grey in each colour"
    report.converted.append(f"{name}: from {before} to {after} colour channels, {how}")


class ClassRows:
    """Which classes of the starting network are which of the training's.

    Args:
        before: names of the classes, or their numbers.
        has_names: whether they are names.
    """

    def __init__(self, before: Sequence[str], has_names: bool, classes: Sequence[str]) -> None:
        self.num_before, self.num_after = len(before), len(classes)
        by_name = has_names and all(not name.isdecimal() for name in classes)
        if by_name:
            self.pairs = [(before.index(name), index) for index, name in enumerate(classes) if name in before]
        elif self.num_before == self.num_after:  # numbers: taken in their order
            self.pairs = [(index, index) for index in range(self.num_after)]
        else:
            self.pairs = []

    @property
    def are_the_same(self) -> bool:
        return self.num_before == self.num_after and self.pairs == [(i, i) for i in range(self.num_after)]


def convert_generator_labels(
    weights: dict[str, Tensor],
    network: nn.Module,
    settings: Mapping[str, Any],
    classes: ClassRows,
    report: Report,
) -> None:
    """The label enters the mapping network beside z, in the first layer."""
    before, after = classes.num_before, classes.num_after
    if before and after:
        _convert_embedding(weights, network, classes, "G", report)
    elif before:
        _drop_generator_labels(weights, settings)
        report.converted.append("G: without classes, each layer as for the average of the classes it knew")
    elif after:
        w_dim, z_dim = weights["mapping.fc0.weight"].shape
        fresh = network.get_parameter("mapping.fc0.weight").detach().cpu()
        label = fresh[:, z_dim:] * LABEL_SHARE  # none at all would hardly grow: these layers learn slowly
        z_part = weights["mapping.fc0.weight"] * math.sqrt((z_dim + w_dim) / z_dim)
        weights["mapping.fc0.weight"] = torch.cat([z_part, label], 1)
        report.converted.append(f"G: now with {after} classes, at first much alike; their embedding is fresh")


def _drop_generator_labels(weights: dict[str, Tensor], settings: Mapping[str, Any]) -> None:
    """Move the mean effect of the classes into the first layer's bias; a layer scales by 1 / sqrt(inputs)."""
    z_dim = settings["z_dim"]
    weight = weights["mapping.fc0.weight"]  # (w_dim, z_dim + w_dim)
    embedded = _embedded_classes(weights)  # (classes, w_dim)
    effect = (embedded.mean(0) @ weight[:, z_dim:].t()) * LR_MULTIPLIER / math.sqrt(weight.shape[1])
    weights["mapping.fc0.bias"] = weights["mapping.fc0.bias"] + effect / LR_MULTIPLIER
    weights["mapping.fc0.weight"] = weight[:, :z_dim] * math.sqrt(z_dim / weight.shape[1])
    del weights["mapping.embed.weight"], weights["mapping.embed.bias"]


def _embedded_classes(weights: Mapping[str, Tensor]) -> Tensor:
    """(classes, features): each class as it enters the mapping network."""
    weight, bias = weights["mapping.embed.weight"], weights["mapping.embed.bias"]
    return normalize_second_moment(weight.t() / math.sqrt(weight.shape[1]) + bias)


def convert_discriminator_labels(
    weights: dict[str, Tensor],
    network: nn.Module,
    settings: Mapping[str, Any],
    classes: ClassRows,
    report: Report,
) -> None:
    """The mapped label is multiplied with the features that the last layer gives."""
    before, after = classes.num_before, classes.num_after
    num_layers = settings.get("num_mapping_layers", 8)
    if before and after and num_layers == len(network.get_submodule("mapping").layers):  # type: ignore[arg-type]
        _convert_embedding(weights, network, classes, "D", report)
    elif before and after:
        for key in [key for key in weights if key.startswith("mapping.")]:
            del weights[key]
        report.converted.append(f"D: its {num_layers} mapping layers do not fit, they are fresh")
    elif before:
        cmap = _mapped_classes(weights, num_layers).mean(0)  # (features,)
        scale = 1 / math.sqrt(len(cmap))
        weights["b4.out.weight"] = (cmap @ weights["b4.out.weight"])[None] * scale
        weights["b4.out.bias"] = (cmap @ weights["b4.out.bias"])[None] * scale
        for key in [key for key in weights if key.startswith("mapping.")]:
            del weights[key]
        report.converted.append("D: without classes, the mean of what it said of each class")
    elif after:
        _add_discriminator_labels(weights, network)
        report.converted.append(
            f"D: now with {after} classes, over which the mean is what it said; its label mapping is fresh"
        )


def _add_discriminator_labels(weights: dict[str, Tensor], network: nn.Module) -> None:
    """A fresh last layer whose mean over the classes is the layer that there was."""
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    num_layers = len(network.get_submodule("mapping").layers)  # type: ignore[arg-type]
    mean = _mapped_classes(state, num_layers).mean(0)  # (features,)
    power = mean.square().sum()
    fresh = state["b4.out.weight"]  # (features, features)
    fresh = fresh - torch.outer(mean, mean @ fresh) / power  # tells the classes apart, says nothing of all
    as_before = mean * math.sqrt(len(mean)) / power
    weights["b4.out.weight"] = fresh + torch.outer(as_before, weights["b4.out.weight"][0])
    weights["b4.out.bias"] = as_before * weights["b4.out.bias"][0]


def _mapped_classes(weights: Mapping[str, Tensor], num_layers: int) -> Tensor:
    """(classes, features): the discriminator's mapping network on each class."""
    rows = _embedded_classes(weights)
    for index in range(num_layers):
        weight, bias = weights[f"mapping.fc{index}.weight"], weights[f"mapping.fc{index}.bias"]
        rows = rows @ weight.t() * (LR_MULTIPLIER / math.sqrt(weight.shape[1]))
        rows = rows + bias * LR_MULTIPLIER
        rows = nn.functional.leaky_relu(rows, 0.2) * math.sqrt(2)
    return rows


def _convert_embedding(
    weights: dict[str, Tensor], network: nn.Module, classes: ClassRows, name: str, report: Report
) -> None:
    """Classes of the same name keep their column; the embedding is scaled by 1 / sqrt(classes) when used."""
    if classes.are_the_same:
        return
    fresh = network.get_parameter("mapping.embed.weight").detach().cpu().clone()  # (features, classes)
    scale = math.sqrt(classes.num_after / classes.num_before)
    for before, after in classes.pairs:
        fresh[:, after] = weights["mapping.embed.weight"][:, before] * scale
    weights["mapping.embed.weight"] = fresh
    if not classes.pairs:
        del weights["mapping.embed.bias"]
    report.converted.append(
        f"{name}: from {classes.num_before} to {classes.num_after} classes, {len(classes.pairs)} of them of "
        "a name that it knew; the embedding of the others is fresh"
    )
