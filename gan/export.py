"""Snapshots of ours become files that the official PyTorch code reads.

The file carries no source: where an official one holds the text of its modules, this one says to import the
reader's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from extract.atomic import replace_file
from extract.errors import SettingsError
from gan.errors import GanError
from gan.networks import build_augment_pipe, build_discriminator, build_generator
from gan.official_attributes import attributes_of, attributes_of_parts
from gan.pickle_writer import ORDERED_DICT, Made, Name, parameter, tensor, write_pickle
from gan.pickled_modules import PERSISTENCE_VERSION
from gan.snapshot import Snapshot, load_weights, read_snapshot

MODULE_SOURCE = "from training.networks import *\nfrom training.augment import *\n"
HOOKS = (
    "_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs",
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)  # what PyTorch expects in a module; versions that lack some ignore them  # fmt: skip


@dataclass(frozen=True)
class ExportSummary:
    """What `export_network` made."""

    dest: Path
    snapshot: Snapshot
    notes: tuple[str, ...]  # what differs from the snapshot


def export_network(network: Path, dest: Path, *, overwrite: bool = False) -> ExportSummary:
    """Write a snapshot as a network file of the official PyTorch code.

    Args:
        network: a snapshot, or a run folder for its newest one.
        dest: file to write (.pkl).

    Raises:
        SettingsError: if dest is no name for such a file.
        GanError: if dest exists and may not be overwritten, or the snapshot cannot be used.
    """
    if dest.suffix != ".pkl":
        raise SettingsError(f"expected a network file to write (.pkl), got '{dest}'")
    if dest.exists() and not overwrite:
        raise GanError(f"{dest} exists already and is left alone; choose another name or pass --overwrite")
    snapshot = read_snapshot(network)
    settings, notes = _exported_settings(snapshot.config)
    content = write_pickle(_content(settings, _filled_modules(snapshot, settings)))
    with replace_file(dest) as temporary:
        temporary.write_bytes(content)
    return ExportSummary(dest, snapshot, notes)


def _exported_settings(config: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings without what the official code does not have: bf16."""
    settings = {**config, "G": dict(config["G"]), "D": dict(config["D"])}
    if config["G"].get("low_precision") != "bf16":
        return settings, ()
    for name in ("G", "D"):
        settings[name] |= {"num_fp16_res": 0, "low_precision": "fp32"}
    return settings, ("trained in bf16, which the official code does not have; the copy computes in float32",)


def _filled_modules(snapshot: Snapshot, settings: Mapping[str, Any]) -> dict[str, nn.Module | None]:
    try:
        modules: dict[str, nn.Module | None] = {
            "G": build_generator(settings),
            "D": build_discriminator(settings),
            "G_ema": build_generator(settings),
            "augment_pipe": build_augment_pipe(settings),
        }
    except (TypeError, ValueError, KeyError) as error:
        raise GanError(
            f"{snapshot.path}: expected network settings in the header, got {error!r}; the file was changed "
            "or made by another version"
        ) from error
    weights = load_weights(snapshot.path)
    for name, module in modules.items():
        if module is None:
            continue
        own = {
            key.removeprefix(f"{name}."): tensor
            for key, tensor in weights.items()
            if key.startswith(f"{name}.")
        }
        try:
            module.load_state_dict(own, strict=name != "augment_pipe")
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise GanError(
                f"{snapshot.path}: expected the weights that its header describes, got: {reason}"
            ) from error
        module.eval()
    return modules


def _content(settings: Mapping[str, Any], modules: Mapping[str, nn.Module | None]) -> dict[str, Any]:
    """The dictionary of an official file, in its order."""
    generator, discriminator = _generator_arguments(settings["G"]), _discriminator_arguments(settings["D"])
    content: dict[str, Any] = {"training_set_kwargs": None}
    arguments = {
        "G": generator, "D": discriminator, "G_ema": generator, "augment_pipe": settings["augment"] or {},
    }  # fmt: skip
    for name, kwargs in arguments.items():
        module = modules[name]
        content[name] = None if module is None else _persistent(module, plain(kwargs))
    return content


def plain(value: Any) -> Any:
    """Tuples of settings as lists."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _generator_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    names = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")
    synthesis = (
        "channel_base", "channel_max", "num_fp16_res", "conv_clamp", "architecture", "resample_filter",
        "use_noise",
    )  # fmt: skip
    return {
        **_picked(settings, names),
        "mapping_kwargs": {"num_layers": settings.get("num_mapping_layers", 8)},
        "synthesis_kwargs": _picked(settings, synthesis),
    }


def _discriminator_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "c_dim", "img_resolution", "img_channels", "architecture", "channel_base", "channel_max",
        "num_fp16_res", "conv_clamp",
    )  # fmt: skip
    return {
        **_picked(settings, names),
        "block_kwargs": _picked(settings, ("freeze_layers", "resample_filter")),
        "mapping_kwargs": {"num_layers": settings.get("num_mapping_layers", 8)},
        "epilogue_kwargs": {"mbstd_group_size": settings.get("mbstd_group_size", 4)},
    }


def _picked(settings: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: settings[name] for name in names if name in settings}


def _persistent(
    module: nn.Module, kwargs: Mapping[str, Any], known: Mapping[str, Any] = MappingProxyType({})
) -> Made:
    """The note from which the official code makes a module: its class by name, and its instance dictionary.

    known: attributes that the module around it knows.
    """
    parts = attributes_of_parts(module)
    state = {
        "training": False,
        "_parameters": {
            name: None if value is None else parameter(value.detach().numpy())
            for name, value in module._parameters.items()
        },
        "_buffers": {
            name: None if value is None else tensor(value.numpy()) for name, value in module._buffers.items()
        },
        "_non_persistent_buffers_set": set(module._non_persistent_buffers_set),
        "_is_full_backward_hook": None,
        **{name: Made(ORDERED_DICT, ()) for name in HOOKS},
        "_modules": {
            name: None if part is None else _persistent(part, {}, parts.get(name, {}))
            for name, part in module._modules.items()
        },
        **attributes_of(module),
        **known,
        "_init_args": (),
        "_init_kwargs": dict(kwargs),
    }
    meta = {
        "type": "class",
        "version": PERSISTENCE_VERSION,
        "module_src": MODULE_SOURCE,
        "class_name": type(module).__name__,
        "state": state,
    }
    return Made(Name("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,))
