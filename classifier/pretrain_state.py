"""The state that a killed pretraining goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from classifier.errors import ClassifierError
from classifier.pretraining import Pretraining
from classifier.state_file import optimizer_tensors, read_state_file, restore_optimizer, write_state_file

STATE = "pretraining-state.safetensors"
FORMAT = "synthlabel-pretraining-state-2"


def write_state(folder: Path, job: Pretraining, made_with: dict[str, Any]) -> None:
    """Replace the state, whole or not at all.

    Args:
        made_with: settings and hashes of the data; a state is gone on from only where they are the same.
    """
    tensors = {f"model.{name}": tensor for name, tensor in job.model.state_dict().items()}
    tensors |= optimizer_tensors(job.optimizer)
    tensors["loss_sum"] = job.loss_sum
    described = {"step": job.step, "history": job.history, "seconds": job.seconds}
    write_state_file(folder / STATE, tensors, described, {"format": FORMAT, **made_with})


def restore_state(folder: Path, job: Pretraining, made_with: dict[str, Any]) -> bool:
    """Bring a freshly started job to where the state was written; False where there is no state.

    Raises:
        ClassifierError: if the state is damaged, or was made with other settings or data.
    """
    path = folder / STATE
    found = read_state_file(path, {"format": FORMAT, **made_with})
    if found is None:
        return False
    tensors, described = found
    try:
        job.model.load_state_dict(
            {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        )
        restore_optimizer(job.optimizer, tensors)
        job.loss_sum = tensors["loss_sum"]
        job.step, job.seconds = int(described["step"]), float(described["seconds"])
        job.history = list(described["history"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise ClassifierError(
            f"{path}: expected the state of a pretraining with these settings, got one that does not fit "
            f"({error}); begin anew with --overwrite"
        ) from error
    return True
