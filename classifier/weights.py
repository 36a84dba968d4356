"""Published weights on this machine: where they are looked for, and reading them without running anything."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from classifier.errors import ClassifierError
from extract.cache import cache_dir
from extract.errors import name_some

FOLDER = "extractors"  # below the cache folder
WRAPPERS = ("state_dict", "model")  # what saved dictionaries call the state dict in them
PARALLEL = "module."  # what torch's parallel models put before all names
IGNORED = ("num_batches_tracked",)  # counters of training that no result depends on


def find_weights(name: str, given: Path | None, files: tuple[str, ...], hub_repository: str | None) -> Path:
    """The file given, or the first of `files` where such weights usually lie; nothing is downloaded.

    Args:
        name: of the extractor, for the error.
        files: names that the weights are published under.
        hub_repository: of a model hub, whose local cache is looked into for model.safetensors.

    Raises:
        ClassifierError: naming the file and all places.
    """
    if given is not None:
        if not given.is_file():
            raise ClassifierError(
                f"--extractor {name}={given}: expected a file of weights, got nothing there"
            )
        return given
    places = [cache_dir() / FOLDER, Path(torch.hub.get_dir()) / "checkpoints"]
    found = [place / file for place in places for file in files if (place / file).is_file()]
    if hub_repository is not None:
        hub = _hub_cache() / f"models--{hub_repository.replace('/', '--')}"
        places.append(hub)
        found += sorted(hub.glob("snapshots/*/model.safetensors"))
    if not found:
        raise ClassifierError(
            f"--extractor {name}: expected its weights ({' or '.join(files)}) in one of "
            f"{', '.join(map(str, places))}, got none there; they are not downloaded: copy the file to the "
            f"first of these folders, or give --extractor {name}=PATH"
        )
    return found[0]


def _hub_cache() -> Path:
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(home) / "hub"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a saved state dict, by name.

    Raises:
        ClassifierError: if the file carries code (TorchScript, other pickles) or is damaged.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise ClassifierError(f"{path}: expected weights as safetensors, got {error}") from error
    if _is_torchscript(path):
        raise ClassifierError(
            f"{path}: expected the weights alone (a state dict, .pth or .safetensors), got a TorchScript "
            "program, which would be run; for inception take pt_inception-2015-12-05-6726825d.pth"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ClassifierError(
            f"{path}: expected a state dict that holds tensors alone, got a file that is damaged or would "
            f"run code ({first_line})"
        ) from error
    if isinstance(content, dict):
        content = _unwrapped(content)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ClassifierError(f"{path}: expected a state dict of tensors, got {type(content).__name__}")
    return content


def _unwrapped(content: dict[str, Any]) -> dict[str, Any]:
    """The state dict inside what scripts save: beside an epoch or an optimiser, of a parallel model."""
    for key in WRAPPERS:
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    return {
        name.removeprefix(PARALLEL) if isinstance(name, str) else name: value
        for name, value in content.items()
    }


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as opened:
        names = opened.namelist()
    return any("/code/" in name or name.endswith("/constants.pkl") for name in names)


def fill(model: nn.Module, weights: dict[str, Tensor], path: Path, left_out: tuple[str, ...] = ()) -> None:
    """Give a network, which may be on the meta device, its weights; evaluation mode, no gradients.

    Args:
        left_out: beginnings of names in the file that the network does not need.

    Raises:
        ClassifierError: naming what is missing, unknown or of another shape.
    """
    wanted = {name: value for name, value in model.state_dict().items() if not name.endswith(IGNORED)}
    offered = {
        name: value
        for name, value in weights.items()
        if not name.endswith(IGNORED) and not name.startswith(left_out)
    }
    problems = [f"no {name}" for name in wanted if name not in offered]
    problems += [f"unknown {name}" for name in offered if name not in wanted]
    problems += [
        f"{name} of shape {tuple(offered[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in offered and offered[name].shape != value.shape
    ]
    if problems:
        raise ClassifierError(
            f"{path}: expected the weights of {type(model).__name__}, got {name_some(problems)}; take the "
            "file of this network"
        )
    if not all(value.isfinite().all() for value in offered.values()):
        raise ClassifierError(
            f"{path}: expected finite weights, got NaN or infinite ones; the file is damaged"
        )
    counters = {
        name: torch.zeros(value.shape, dtype=value.dtype)
        for name, value in model.state_dict().items()
        if name.endswith(IGNORED)
    }
    model.load_state_dict({name: value.float() for name, value in offered.items()} | counters, assign=True)
    model.eval().requires_grad_(False)
