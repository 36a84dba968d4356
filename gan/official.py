"""Official network files (.pkl) become snapshots of ours; nothing in them is run."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extract.errors import SettingsError, name_some
from extract.restricted_pickle import printable, read_pickle
from gan.errors import GanError
from gan.legacy_tensorflow import TENSORFLOW_NAMES, NetworkRecord, legacy_networks
from gan.networks import build_augment_pipe, build_discriminator, build_generator
from gan.official_settings import (
    augment_settings,
    discriminator_settings,
    generator_settings,
    with_half_precision,
)
from gan.pickled_modules import MODULE_NAMES, ModuleRecord
from gan.snapshot import FORMAT, IMPORTED_PREFIX, Snapshot, read_snapshot, write_tensors

LARGEST_FILE = 8 * 2**30  # bytes; the largest published network has 0.4 GB
NETWORKS = ("G", "D", "G_ema")
EXPECTED_CLASS = {"G": "Generator", "G_ema": "Generator", "D": "Discriminator"}


@dataclass(frozen=True)
class ForeignNetworks:
    """The networks of a file that was not written by us."""

    settings: dict[str, Any]  # G, D, augment, as snapshots record them
    weights: dict[str, Tensor]  # `G_ema.*`, `G.*`, `D.*`, `augment_pipe.p`, float32
    source: Path
    sha256: str  # of the file
    kind: str  # "PyTorch" or "TensorFlow"
    notes: tuple[str, ...]  # what is worth telling

    @property
    def archive_marker(self) -> str:
        """Stands for the hash of an archive that nobody knows."""
        return IMPORTED_PREFIX + self.sha256

    @property
    def image_shape(self) -> tuple[int, int, int]:
        side = self.settings["G"]["img_resolution"]
        return self.settings["G"]["img_channels"], side, side

    @property
    def classes(self) -> tuple[str, ...]:
        """Numbers: such files do not name their classes."""
        return tuple(str(index) for index in range(self.settings["G"]["c_dim"]))


@dataclass(frozen=True)
class ImportSummary:
    """What `import_network` made."""

    snapshot: Snapshot
    networks: ForeignNetworks


def import_network(
    source: Path, dest: Path, *, force_fp16: bool = False, overwrite: bool = False
) -> ImportSummary:
    """Write an official network file as a snapshot of ours.

    Whom the network was trained on is not in such a file: the snapshot has no subjects, and a marker instead
    of the archive's hash, so that `refuse_overlap` refuses to judge anything with it unless allowed.

    Args:
        source: file of the official PyTorch code, or of the TensorFlow code before it.
        dest: snapshot to write (.safetensors).
        force_fp16: let the four highest resolutions compute in float16 on a GPU, with the clamp for it.

    Raises:
        SettingsError: if dest is no name for a snapshot.
        GanError: if dest exists and may not be overwritten, or the file cannot be taken over.
        RefusedPickle: if the file is damaged or names what an honest one does not.
    """
    if dest.suffix != ".safetensors":
        raise SettingsError(f"expected a snapshot to write (.safetensors), got '{dest}'")
    if dest.exists() and not overwrite:
        raise GanError(f"{dest} exists already and is left alone; choose another name or pass --overwrite")
    networks = read_official(source, force_fp16=force_fp16)
    header = {
        "config": networks.settings,
        "kimg": 0.0,  # unknown
        "classes": list(networks.classes),
        "archive_sha256": networks.archive_marker,
        "split_sha256": None,
        "fold": None,
        "part": "unknown",
        "subjects": [],
        "seed": 0,
        "image_shape": list(networks.image_shape),
        "imported": {"file": source.name, "sha256": networks.sha256, "kind": networks.kind},
    }
    write_tensors(dest, networks.weights, {"format": FORMAT, **header})
    return ImportSummary(read_snapshot(dest), networks)


def read_official(source: Path, *, force_fp16: bool = False) -> ForeignNetworks:
    """Read an official network file, as data.

    Raises:
        GanError: if there is no such file, or our networks cannot be what it describes.
        RefusedPickle: if it is damaged or names what an honest one does not.
    """
    data = _read_file(source)
    where = str(source)
    found = read_pickle(data, {**MODULE_NAMES, **TENSORFLOW_NAMES}, what=where)
    if isinstance(found, dict):
        kind = "PyTorch"
        settings, states, notes = _modules(found, where)
    elif (
        isinstance(found, tuple) and len(found) == 3 and all(isinstance(one, NetworkRecord) for one in found)
    ):
        kind = "TensorFlow"
        settings, states, notes = legacy_networks(found, where)
    else:
        raise GanError(
            f"{where}: expected a file with the networks G, D and G_ema, got {_kind(found)}; take a network "
            "file of the official StyleGAN2-ADA code"
        )
    if force_fp16:
        settings = {
            **settings,
            "G": with_half_precision(settings["G"]),
            "D": with_half_precision(settings["D"]),
        }
    return ForeignNetworks(
        settings=settings,
        weights=_checked_weights(settings, states, where, len(data)),
        source=source,
        sha256=hashlib.sha256(data).hexdigest(),
        kind=kind,
        notes=tuple(dict.fromkeys(notes)),
    )


def _read_file(source: Path) -> bytes:
    if not source.is_file():
        got = "a folder" if source.is_dir() else "nothing there"
        raise GanError(f"{source}: expected an official network file (.pkl), got {got}")
    size = source.stat().st_size
    if size > LARGEST_FILE:
        raise GanError(
            f"{source}: expected a network file of at most {LARGEST_FILE // 2**30} GB, got one of "
            f"{size / 2**30:.1f} GB"
        )
    data = source.read_bytes()
    if data.startswith(b"PK"):
        raise GanError(
            f"{source}: expected an official network file, got a zip, a checkpoint as torch.save writes it, "
            "of another program; only files of the official StyleGAN2-ADA code can be taken over"
        )
    if source.suffix == ".safetensors":
        raise GanError(
            f"{source}: expected an official network file, got a snapshot of ours, which needs no import"
        )
    return data


def _kind(value: object) -> str:
    return "one network alone" if isinstance(value, ModuleRecord) else f"a {type(value).__name__}"


States = dict[str, dict[str, np.ndarray]]


def _modules(found: Mapping[Any, Any], where: str) -> tuple[dict[str, Any], States, list[str]]:
    """Settings and state dictionaries of the modules in an official PyTorch file."""
    for name in NETWORKS:
        record = found.get(name)
        if not isinstance(record, ModuleRecord) or record.class_name != EXPECTED_CLASS[name]:
            got = record.class_name if isinstance(record, ModuleRecord) else type(record).__name__
            raise GanError(
                f"{where}: expected the network '{name}' ({EXPECTED_CLASS[name]}), got {printable(got)}; "
                "take a network file of the official StyleGAN2-ADA code"
            )
    pipe = found.get("augment_pipe")
    if pipe is not None and (not isinstance(pipe, ModuleRecord) or pipe.class_name != "AugmentPipe"):
        raise GanError(f"{where}: expected an AugmentPipe as 'augment_pipe', got something else")
    g, notes = generator_settings(found["G_ema"], where)
    d, more = discriminator_settings(found["D"], where)
    if generator_settings(found["G"], where)[0] != g:
        raise GanError(f"{where}: expected G and G_ema to be the same network, got different settings")
    settings = {"G": g, "D": d, "augment": augment_settings(pipe, where)}
    states = {name: found[name].state_dict() for name in NETWORKS}
    if pipe is not None:
        states["augment_pipe"] = {"p": pipe.tensors["p"]} if "p" in pipe.tensors else {}
    return settings, states, notes + more


def _checked_weights(
    settings: Mapping[str, Any], states: States, where: str, file_size: int
) -> dict[str, Tensor]:
    """The tensors that the networks of these settings have, and no others, by the names of a snapshot."""
    weights: dict[str, Tensor] = {}
    _refuse_more_than_the_file(settings, where, file_size)
    for name, shapes in _expected_shapes(settings, where).items():
        state = states.get(name, {})
        _check_names(name, shapes, state, where)
        _check_size(name, state, where, file_size)
        for key in shapes:
            array = np.array(state[key], dtype=np.float32, order="C")  # a copy, in the usual order
            if not np.isfinite(array).all():
                raise GanError(
                    f"{where}: expected finite weights, got NaN or infinite ones in {name}.{key}; the "
                    "network diverged or the file is damaged: take another one"
                )
            weights[f"{name}.{key}"] = torch.from_numpy(array)
    return weights


def _refuse_more_than_the_file(settings: Mapping[str, Any], where: str, file_size: int) -> None:
    """Networks whose largest weights alone exceed the file are refused before they are built."""
    for name in ("G", "D"):
        values = settings[name]
        channels = [
            min(values["channel_base"] // side, values["channel_max"])
            for side in (2**i for i in range(2, values["img_resolution"].bit_length()))
        ]
        features = values.get("w_dim", channels[0] if channels else 0)  # of the mapping network
        has_mapping = name == "G" or values["c_dim"] > 0
        num_weights = 9 * sum(one * one + one * two for one, two in pairwise(channels))
        num_weights += has_mapping * features * (values["c_dim"] + features * values["num_mapping_layers"])
        num_weights += values.get("z_dim", 0) * features + values.get("w_dim", 0) * sum(channels)
        if num_weights * 4 > file_size:
            raise GanError(
                f"{where}: expected for the settings of {name} weights of {num_weights * 4:,} bytes or more, "
                f"got a file of {file_size:,}; it is damaged or was made to do harm"
            )


def _expected_shapes(settings: Mapping[str, Any], where: str) -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes of all tensors, from networks of these settings."""
    try:
        with torch.random.fork_rng(devices=[]):  # their first weights are drawn and thrown away
            generator = build_generator(settings)
            discriminator = build_discriminator(settings)
        augment = build_augment_pipe(settings)
    except (ValueError, RuntimeError) as error:
        raise GanError(f"{where}: expected settings that our networks can have, got: {error}") from error
    shapes = {
        name: {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
        for name, module in (("G_ema", generator), ("G", generator), ("D", discriminator))
    }
    return shapes if augment is None else {**shapes, "augment_pipe": {"p": ()}}


def _check_names(
    network: str, shapes: Mapping[str, tuple[int, ...]], state: Mapping[str, np.ndarray], where: str
) -> None:
    missing = [key for key in shapes if key not in state]
    unknown = [printable(key) for key in state if key not in shapes]
    if missing or unknown:
        problem = f"no {name_some(missing)}" if missing else f"{name_some(unknown)} as well"
        raise GanError(
            f"{where}: expected in {network} the tensors that its settings ask for, got {problem}; a network "
            "of another kind cannot be taken over"
        )
    for key, shape in shapes.items():
        if state[key].shape != shape:
            raise GanError(
                f"{where}: expected {network}.{key} of shape {shape} by the network's settings, got "
                f"{state[key].shape}; a network of another kind cannot be taken over"
            )


def _check_size(network: str, state: Mapping[str, np.ndarray], where: str, file_size: int) -> None:
    """Each tensor has bytes of its own in an honest file; shared ones could multiply without end."""
    size = sum(math.prod(array.shape) * 4 for array in state.values())
    if size > file_size:
        raise GanError(
            f"{where}: expected weights that are in the file, got {network} of {size} bytes in a file of "
            f"{file_size}; it was made to do harm"
        )
