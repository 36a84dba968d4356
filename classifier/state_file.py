"""The state of a training that may be killed: one safetensors file, with JSON in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from classifier.errors import ClassifierError
from extract.atomic import replace_file


def write_state_file(
    path: Path, tensors: Mapping[str, Tensor], described: Mapping[str, Any], made_with: Mapping[str, Any]
) -> None:
    """Replace the state, whole or not at all.

    Args:
        described: what else the training goes on from, as JSON takes it.
        made_with: format, settings and hashes of the data; a state is gone on from only where they are alike.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = json.dumps({"described": described, "made_with": made_with})
    with replace_file(path) as temporary:
        temporary.write_bytes(save(plain, metadata={"state": header}))


def read_state_file(
    path: Path, made_with: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and description of a state; None where there is no file.

    Raises:
        ClassifierError: if the file is damaged, or the training was begun with other settings or data.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as opened:
            header = json.loads((opened.metadata() or {})["state"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no iterator)
        described, before = dict(header["described"]), dict(header["made_with"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ClassifierError(
            f"{path}: expected the state of a training, got a fault at {error}; begin anew with --overwrite"
        ) from error
    _refuse_other_settings(path.parent, before, made_with)
    return tensors, described


def changed_settings(before: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What differs between settings that were written and those of now, in words."""
    now = json.loads(json.dumps(given))  # as it would read back
    return [
        f"{name} was {json.dumps(before.get(name))}, now {json.dumps(now.get(name))}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _refuse_other_settings(folder: Path, before: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    changed = changed_settings(before, given)
    if changed:
        raise ClassifierError(
            f"{folder}: holds a training that was begun otherwise ({'; '.join(changed)}); give the same "
            "settings to go on with it, name another --outdir, or begin anew with --overwrite"
        )


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str = "optimizer") -> dict[str, Tensor]:
    """The moments of every parameter by name, for `restore_optimizer`."""
    return {
        f"{prefix}.{index}.{name}": moment
        for index, moments in optimizer.state_dict()["state"].items()
        for name, moment in moments.items()
        if isinstance(moment, Tensor)
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str = "optimizer"
) -> None:
    """Give a fresh optimiser over the same parameters the moments that were written."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, tensor in tensors.items():
        if not name.startswith(f"{prefix}."):
            continue
        _, index, key = name.split(".", 2)
        parameter = parameters[int(index)]
        if key == "step":
            value = tensor.clone()
        else:  # in the parameter's own memory layout: fused Adam walks both alike
            value = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        optimizer.state[parameter][key] = value
