"""Published weights into a network: those of timm from its hub or from a file, and a file into our own.

timm's own loading renames other spellings, folds RGB kernels into one channel and fits position tables to the
image size; the classifier of the publication is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from classifier.errors import ClassifierError
from classifier.stages import head_parameters
from classifier.weights import read_weights
from extract.errors import name_some

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

PROBE_SEC = 5.0  # the hub's own client would try for most of a minute where there is no network
COUNTERS = "num_batches_tracked"  # of training; no result depends on them
AUXILIARY = "AuxLogits."  # Inception's second classifier, which only its own training needs
ERROR_LENGTH = 300  # characters of a long error of torch's that are shown


def timm_from_hub(arch: str, settings: dict[str, Any]) -> nn.Module:
    """A network of timm with its published weights, from the hub's cache on this machine or from the hub.

    Args:
        settings: of `timm.create_model`.

    Raises:
        ClassifierError: if the weights are neither in the cache nor to be had from the hub; within seconds.
    """
    import timm

    try:
        _refuse_unreachable_hub(_publication(arch).hf_hub_id)
        return timm.create_model(arch, pretrained=True, **settings)
    except Exception as error:
        raise ClassifierError(
            f"the published weights of {arch} could not be fetched ({type(error).__name__}): this takes a "
            "network connection to timm's hub, or its filled cache. Download the file (model.safetensors) "
            "where there is a network and give it with --weights FILE, or leave --pretrained out"
        ) from error


def timm_from_file(
    arch: str, path: Path, settings: dict[str, Any], not_needed: tuple[str, ...] = ()
) -> nn.Module:
    """A network of timm with weights of a file, in timm's names or in others that timm knows to rename.

    Args:
        settings: of `timm.create_model`; `num_classes` is that of the new task.
        not_needed: modules that the caller is going to replace, so that the file may lack them.

    Raises:
        ClassifierError: if the file is damaged, carries code, or holds the weights of another network.
    """
    import timm

    weights = read_weights(path)
    with torch.device("meta"):
        own = timm.create_model(arch, pretrained=False, **settings).state_dict()
    published = _publication(arch)
    classifiers = _names(published.classifier)
    left_out = (*(f"{name}." for name in (*classifiers, *not_needed)), AUXILIARY)
    problems = _differences(own, weights, left_out)
    try:
        if problems:
            return _from_other_names(arch, weights, settings, published.num_classes)
        overlay: dict[str, Any] = {
            # timm knows its own spelling by the classifier's name, and discards what stands there.
            "state_dict": {f"{name}.weight": torch.zeros(1) for name in classifiers}
            | {name: value for name, value in weights.items() if not name.startswith(left_out)},
            "num_classes": -1,  # whatever it is, the classifier of the file is left out
            "label_offset": 0,
        }
        for first in _names(published.first_conv):
            if f"{first}.weight" in weights:
                overlay["input_size"] = (weights[f"{first}.weight"].shape[1], *published.input_size[1:])
        return timm.create_model(arch, pretrained=True, pretrained_cfg_overlay=overlay, **settings)
    except (RuntimeError, KeyError, ValueError, AttributeError, NotImplementedError) as error:
        told = " ".join(str(error).split())[:ERROR_LENGTH]
        raise _unfit(path, arch, problems or [told]) from error


def fill_own(model: nn.Module, arch: str, path: Path) -> None:
    """Give the body of a network of ours the weights of a file; its head stays as it is.

    Raises:
        ClassifierError: if the file is damaged, carries code, or holds the weights of another network.
    """
    weights, state = read_weights(path), model.state_dict()
    in_head = {id(parameter) for parameter in head_parameters(model)}
    own = {name: value for name, value in state.items() if name not in _names_of(model, in_head)}
    heads = tuple(sorted({f"{name.partition('.')[0]}." for name in state.keys() - own.keys()}))
    problems = _differences(own, weights, heads)
    problems += [
        f"{name} of shape {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if problems:
        raise _unfit(path, arch, problems)
    model.load_state_dict({name: weights[name] for name in own if name in weights}, strict=False)


def _names_of(model: nn.Module, parameters: set[int]) -> set[str]:
    return {name for name, parameter in model.named_parameters() if id(parameter) in parameters}


def _from_other_names(
    arch: str, weights: dict[str, Tensor], settings: dict[str, Any], num_published: int
) -> nn.Module:
    """Hold the file against the whole network, as published; it loses its classifier afterwards."""
    import timm

    whole = settings | {"num_classes": num_published}
    state = torch.get_rng_state()
    fresh = _sums(timm.create_model(arch, pretrained=False, **whole))
    torch.set_rng_state(state)
    to_rename = {name: value for name, value in weights.items() if not name.endswith(COUNTERS)}
    overlay: dict[str, Any] = {"state_dict": to_rename, "label_offset": 0}
    model = timm.create_model(arch, pretrained=True, pretrained_cfg_overlay=overlay, **whole)
    untouched = [name for name, value in _sums(model).items() if value == fresh[name]]
    if untouched:  # timm is lenient with some networks
        raise ValueError(f"no {name_some(untouched)}")
    model.reset_classifier(settings["num_classes"])  # type: ignore[operator]
    return model


def _sums(model: nn.Module) -> dict[str, float]:
    """One number for each kernel and matrix, by which to see whether it was replaced."""
    return {
        name: float(p.detach().sum(dtype=torch.float64)) for name, p in model.named_parameters() if p.ndim > 1
    }


def _differences(own: dict[str, Tensor], weights: dict[str, Tensor], left_out: tuple[str, ...]) -> list[str]:
    """What the file lacks of the network, has beyond it, or holds damaged."""

    def of_body(names: Iterable[str]) -> list[str]:
        return [name for name in names if not (name.startswith(left_out) or name.endswith(COUNTERS))]

    problems = [f"no {name}" for name in of_body(own) if name not in weights]
    problems += [f"unknown {name}" for name in of_body(weights) if name not in own]
    return problems + [
        f"{name} that is not finite" for name, value in weights.items() if not value.isfinite().all()
    ]


def _publication(arch: str) -> PretrainedCfg:
    """What timm says about the weights it publishes of a network: where they are, for which input."""
    import timm
    from timm.models import PretrainedCfg

    return timm.get_pretrained_cfg(arch) or PretrainedCfg()


def _names(told: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if told is None else (told,) if isinstance(told, str) else tuple(told)


def _unfit(path: Path, arch: str, problems: list[str]) -> ClassifierError:
    return ClassifierError(
        f"{path}: expected the weights of {arch}, got {name_some(problems)}; take the file of this "
        "network, or name the network of this file with --arch"
    )


def _refuse_unreachable_hub(repository: str | None) -> None:
    """Raise soon where weights are neither in the hub's cache nor to be had from the hub."""
    if repository is None:  # a few old networks lie on plain servers
        return
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    name, _, revision = repository.partition("@")
    file = "model.safetensors"
    if not isinstance(try_to_load_from_cache(name, file, revision=revision or None), str):
        get_hf_file_metadata(hf_hub_url(name, file, revision=revision or None), timeout=PROBE_SEC)
