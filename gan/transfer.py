"""A training starts from the weights of another network: other colours, other classes, some layers frozen.

What fits is copied. Where colours or classes differ, the weights are converted so that the network first does
what it did: grey in place of RGB is the mean of the colours, RGB in place of grey repeats it, and a network
without classes is the average of one with them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from extract.errors import SettingsError, name_some
from gan.config import Recipe
from gan.errors import GanError
from gan.job import Job
from gan.networks import network_settings
from gan.official import read_official
from gan.snapshot import load_weights, read_snapshot
from vendor.stylegan2_ada.layers import normalize_second_moment

PICKLE_SUFFIXES = (".pkl", ".pickle")


@dataclass(frozen=True)
class Start:
    """Networks to start from, and whom they saw."""

    path: Path
    settings: Mapping[str, Any]  # G, D, augment
    weights: Mapping[str, Tensor]  # `G.*`, `D.*`, `G_ema.*`
    classes: tuple[str, ...]
    has_class_names: bool  # False: numbers in place of names
    subjects: tuple[str, ...]
    archives: tuple[str, ...]  # hashes, or markers where unknown


def open_start(path: Path) -> Start:
    """Read a snapshot of ours, or an official network file as data.

    Raises:
        GanError: if it is neither, or cannot be used.
        RefusedPickle: if an official file is damaged or names what an honest one does not.
    """
    if path.suffix.lower() in PICKLE_SUFFIXES:
        foreign = read_official(path)
        return Start(
            path=path,
            settings=foreign.settings,
            weights=foreign.weights,
            classes=foreign.classes,
            has_class_names=False,
            subjects=(),
            archives=(foreign.archive_marker,),
        )
    snapshot = read_snapshot(path)  # refuses what is no snapshot, in a sentence
    return Start(
        path=snapshot.path,
        settings=snapshot.config,
        weights=load_weights(snapshot.path),
        classes=snapshot.classes,
        has_class_names=any(not name.isdecimal() for name in snapshot.classes),
        subjects=snapshot.subjects,
        archives=(snapshot.archive_sha256, *snapshot.earlier_archives),
    )


def fit_recipe(recipe: Recipe, start: Start) -> Recipe:
    """The recipe with the starting network's number of mapping layers, for which there is no option.

    Raises:
        SettingsError: if the network's size is another than the recipe's, naming the flags that would fit.
    """
    where = f"--resume={start.path}"
    theirs, ours = start.settings, network_settings(recipe)
    resolution = theirs["G"]["img_resolution"]
    if resolution != ours["G"]["img_resolution"]:
        raise SettingsError(
            f"{where}: the network makes images of {resolution} pixels, --data has "
            f"{ours['G']['img_resolution']}; prepare an archive of {resolution} pixels, or take another "
            "network"
        )
    channels = (theirs["G"]["img_channels"], ours["G"]["img_channels"])
    if channels[0] != channels[1] and set(channels) != {1, 3}:
        raise SettingsError(
            f"{where}: the network makes images of {channels[0]} channels, --data has {channels[1]}; only "
            "grey and RGB can be turned into each other"
        )
    _check_kind(where, theirs)
    if theirs["G"]["z_dim"] != theirs["G"]["w_dim"]:
        raise SettingsError(
            f"{where}: expected z and w of one size, got {theirs['G']['z_dim']} and {theirs['G']['w_dim']}; "
            "such a network can be sampled, not trained on"
        )
    wrong = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in (
            ("latent_dim", theirs["G"]["z_dim"]),
            ("channel_base", theirs["G"]["channel_base"]),
            ("channel_max", theirs["G"]["channel_max"]),
        )
        if not _is_same_size(name, theirs, ours)
    ]
    if theirs["D"].get("architecture", "resnet") != ours["D"]["architecture"]:
        wrong.append(
            "--cfg=cifar" if theirs["D"].get("architecture") == "orig" else "another --cfg than cifar"
        )
    if wrong:
        raise SettingsError(
            f"{where}: expected a network of the size that is trained, got another; with {' '.join(wrong)} "
            "it fits"
        )
    return replace(recipe, mapping_layers=theirs["G"].get("num_mapping_layers", 8))


def _check_kind(where: str, theirs: Mapping[str, Any]) -> None:
    """What training has no option for."""
    for network, name, ours in (
        ("G", "architecture", "skip"),
        ("G", "use_noise", True),
        ("G", "resample_filter", [1, 3, 3, 1]),
        ("D", "resample_filter", [1, 3, 3, 1]),
    ):
        value = theirs[network].get(name, ours)
        if (list(value) if isinstance(value, tuple) else value) != ours:
            raise SettingsError(
                f"{where}: expected {name} {ours} in {network}, got {value}; such a network can be "
                "sampled, not trained on"
            )
    if theirs["D"].get("architecture", "resnet") == "skip":
        raise SettingsError(
            f"{where}: expected a discriminator of architecture resnet or orig, got skip; such a network can "
            "be sampled, not trained on"
        )
    if _channels(theirs["G"]) != _channels(theirs["D"]):
        raise SettingsError(
            f"{where}: expected as many channels in G as in D, got other numbers; such a network can be "
            "sampled, not trained on"
        )


def _is_same_size(name: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether a setting leads to the same layers; channels are compared at each resolution."""
    if name == "latent_dim":
        return bool(theirs["G"]["z_dim"] == ours["G"]["z_dim"])
    return all(_channels(theirs[network]) == _channels(ours[network]) for network in ("G", "D"))


def _channels(settings: Mapping[str, Any]) -> list[int]:
    sides = [2**i for i in range(2, settings["img_resolution"].bit_length())]
    return [min(settings["channel_base"] // side, settings["channel_max"]) for side in sides]


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


@torch.no_grad()
def copy_weights(start: Start, job: Job) -> Report:
    """Fill a job's networks from others of the same size, and note whom those saw.

    Raises:
        GanError: if a tensor's shape differs although the settings agree: a damaged file.
    """
    job.earlier_subjects = start.subjects
    job.earlier_archives = tuple(sorted(set(start.archives) - {job.data.archive_sha256}))
    report = Report()
    classes = _ClassRows(start, job.data.classes)
    if classes.are_the_same and classes.num_after and start.classes != job.data.classes:
        report.converted.append(
            f"its classes have no names; taken in the order {', '.join(job.data.classes)}"
        )
    for name, network in (("G", job.players.G), ("D", job.players.D), ("G_ema", job.G_ema)):
        prefix = f"{name}."
        weights = {
            key.removeprefix(prefix): tensor
            for key, tensor in start.weights.items()
            if key.startswith(prefix)
        }
        settings = start.settings["D" if name == "D" else "G"]
        _convert_colors(weights, name, settings["img_channels"], job.recipe.img_channels, report)
        if name == "D":
            _convert_discriminator_labels(weights, network, settings, classes, report)
        else:
            _convert_generator_labels(weights, network, settings, classes, report)
        _fill(network, weights, name, start.path, report)
    return report


def _fill(network: nn.Module, weights: Mapping[str, Tensor], name: str, path: Path, report: Report) -> None:
    for key, tensor in network.state_dict().items():
        source = weights.get(key)
        if source is None:
            report.fresh.append(f"{name}.{key}")
        elif source.shape != tensor.shape:
            raise GanError(
                f"--resume={path}: {name}.{key} has shape {tuple(source.shape)} there, this training needs "
                f"{tuple(tensor.shape)}; choose the --cfg and an archive of the size it was trained with"
            )
        else:
            tensor.copy_(source)
            report.num_copied += 1


def _convert_colors(weights: dict[str, Tensor], name: str, before: int, after: int, report: Report) -> None:
    """RGB to grey and back, so that a grey picture stays what it is.

    Stored weights are scaled by 1 / sqrt(inputs) when used, hence the roots for the discriminator.
    """
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


class _ClassRows:
    """Which classes of the starting network are which of the training's."""

    def __init__(self, start: Start, classes: Sequence[str]) -> None:
        self.num_before, self.num_after = len(start.classes), len(classes)
        by_name = start.has_class_names and all(not name.isdecimal() for name in classes)
        if by_name:
            self.pairs = [
                (start.classes.index(name), index)
                for index, name in enumerate(classes)
                if name in start.classes
            ]
        elif self.num_before == self.num_after:  # numbers: taken in their order
            self.pairs = [(index, index) for index in range(self.num_after)]
        else:
            self.pairs = []

    @property
    def are_the_same(self) -> bool:
        return self.num_before == self.num_after and self.pairs == [(i, i) for i in range(self.num_after)]


def _convert_generator_labels(
    weights: dict[str, Tensor],
    network: nn.Module,
    settings: Mapping[str, Any],
    classes: _ClassRows,
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
        label = torch.zeros(w_dim, network.get_parameter("mapping.embed.weight").shape[0])
        z_part = weights["mapping.fc0.weight"] * math.sqrt((z_dim + w_dim) / z_dim)
        weights["mapping.fc0.weight"] = torch.cat([z_part, label], 1)
        report.converted.append(
            f"G: now with {after} classes, at first drawn alike; their embedding is fresh"
        )


def _drop_generator_labels(weights: dict[str, Tensor], settings: Mapping[str, Any]) -> None:
    """Move the mean effect of the classes into the first layer's bias; a layer scales by 1 / sqrt(inputs)."""
    z_dim = settings["z_dim"]
    multiplier = 0.01  # learning rate of the mapping layers, of weight and bias alike
    weight = weights["mapping.fc0.weight"]  # (w_dim, z_dim + w_dim)
    embedded = _embedded_classes(weights)  # (classes, w_dim)
    effect = (embedded.mean(0) @ weight[:, z_dim:].t()) * multiplier / math.sqrt(weight.shape[1])
    weights["mapping.fc0.bias"] = weights["mapping.fc0.bias"] + effect / multiplier
    weights["mapping.fc0.weight"] = weight[:, :z_dim] * math.sqrt(z_dim / weight.shape[1])
    del weights["mapping.embed.weight"], weights["mapping.embed.bias"]


def _embedded_classes(weights: Mapping[str, Tensor]) -> Tensor:
    """(classes, features): each class as it enters the mapping network."""
    weight, bias = weights["mapping.embed.weight"], weights["mapping.embed.bias"]
    return normalize_second_moment(weight.t() / math.sqrt(weight.shape[1]) + bias)


def _convert_discriminator_labels(
    weights: dict[str, Tensor],
    network: nn.Module,
    settings: Mapping[str, Any],
    classes: _ClassRows,
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
        del weights["b4.out.weight"], weights["b4.out.bias"]
        report.converted.append(f"D: now with {after} classes; its last layer and label mapping are fresh")


def _mapped_classes(weights: Mapping[str, Tensor], num_layers: int) -> Tensor:
    """(classes, features): the discriminator's mapping network on each class."""
    rows = _embedded_classes(weights)
    for index in range(num_layers):
        weight, bias = weights[f"mapping.fc{index}.weight"], weights[f"mapping.fc{index}.bias"]
        rows = rows @ weight.t() * (0.01 / math.sqrt(weight.shape[1])) + bias * 0.01
        rows = nn.functional.leaky_relu(rows, 0.2) * math.sqrt(2)
    return rows


def _convert_embedding(
    weights: dict[str, Tensor], network: nn.Module, classes: _ClassRows, name: str, report: Report
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
