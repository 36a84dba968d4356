"""The state that a killed pretraining goes on from: one safetensors file with JSON in its header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from classifier.errors import ClassifierError
from classifier.pretraining import Pretraining
from extract.atomic import replace_file

STATE = "pretraining-state.safetensors"
FORMAT = "synthlabel-pretraining-state-1"


def write_state(folder: Path, job: Pretraining, made_with: dict[str, Any]) -> None:
    """Replace the state, whole or not at all.

    Args:
        made_with: settings and hashes of the data; a state is gone on from only where they are the same.
    """
    tensors = {f"model.{name}": tensor for name, tensor in job.model.state_dict().items()}
    for index, moments in job.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": moment for name, moment in moments.items()}
    tensors["loss_sum"] = job.loss_sum
    header = {
        "format": FORMAT,
        "made_with": made_with,
        "step": job.step,
        "history": job.history,
        "seconds": job.seconds,
    }
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replace_file(folder / STATE) as temporary:
        temporary.write_bytes(save(plain, metadata={"state": json.dumps(header)}))


def restore_state(folder: Path, job: Pretraining, made_with: dict[str, Any]) -> bool:
    """Bring a freshly started job to where the state was written; False where there is no state.

    Raises:
        ClassifierError: if the state is damaged, or was made with other settings or data.
    """
    path = folder / STATE
    if not path.exists():
        return False
    try:
        with safe_open(path, framework="pt") as opened:
            header = json.loads((opened.metadata() or {})["state"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no iterator)
        if header["format"] != FORMAT:
            raise ValueError(f"the format {header['format']!r}")
        before = header["made_with"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ClassifierError(
            f"{path}: expected the state of a pretraining, got a fault at {error}; begin anew with "
            "--overwrite"
        ) from error
    _refuse_other_settings(folder, before, made_with)
    try:
        job.model.load_state_dict(
            {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        )
        _restore_moments(job.optimizer, tensors)
        job.loss_sum = tensors["loss_sum"]
        job.step, job.seconds = int(header["step"]), float(header["seconds"])
        job.history = list(header["history"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise ClassifierError(
            f"{path}: expected the state of a pretraining with these settings, got one that does not fit "
            f"({error}); begin anew with --overwrite"
        ) from error
    return True


def _refuse_other_settings(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    now = json.loads(json.dumps(now))  # as it would read back
    changed = [
        f"{name} was {json.dumps(before.get(name))}, now {json.dumps(now.get(name))}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise ClassifierError(
            f"{folder}: holds a pretraining that was begun otherwise ({'; '.join(changed)}); give the same "
            "settings to go on with it, name another --outdir, or begin anew with --overwrite"
        )


def _restore_moments(optimizer: torch.optim.AdamW, tensors: dict[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, tensor in tensors.items():
        if not name.startswith("optimizer."):
            continue
        _, index, key = name.split(".", 2)
        parameter = parameters[int(index)]
        if key == "step":
            value = tensor.to(parameter.device)
        else:  # in the parameter's own memory layout: fused Adam walks both alike
            value = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        optimizer.state[parameter][key] = value
