"""A training starts from the weights of another network: other colours, other classes, some layers frozen.

What fits is copied. Where colours or classes differ, the weights are converted so that the network first does
what it did: grey in place of RGB is the mean of the colours, RGB in place of grey repeats it, and a network
without classes is the average of one with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from extract.errors import SettingsError
from gan.config import Recipe
from gan.conversion import (
    ClassRows,
    Report,
    convert_colors,
    convert_discriminator_labels,
    convert_generator_labels,
)
from gan.errors import GanError
from gan.job import Job
from gan.networks import network_settings
from gan.official import read_official
from gan.snapshot import load_weights, read_snapshot

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


@torch.no_grad()
def copy_weights(start: Start, job: Job) -> Report:
    """Fill a job's networks from others of the same size, and note whom those saw.

    Raises:
        GanError: if a tensor's shape differs although the settings agree: a damaged file.
    """
    job.earlier_subjects = start.subjects
    job.earlier_archives = tuple(sorted(set(start.archives) - {job.data.archive_sha256}))
    report = Report()
    classes = ClassRows(start.classes, start.has_class_names, job.data.classes)
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
        convert_colors(weights, name, settings["img_channels"], job.recipe.img_channels, report)
        if name == "D":
            convert_discriminator_labels(weights, network, settings, classes, report)
        else:
            convert_generator_labels(weights, network, settings, classes, report)
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
