"""Networks by name: our own, and every one that timm knows."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from classifier.backbone_heads import DENOISER_NETWORKS, DenoiserClassifier
from classifier.config import SMALL_RESNET
from classifier.lung_convnets import FILTERS, LungConvNet
from classifier.network import dense_head
from classifier.published import fill_own, timm_from_file, timm_from_hub
from classifier.small_resnet import SmallResNet
from extract.errors import SettingsError

OwnBuilder = Callable[[int, int, tuple[int, int], Sequence[int], float], nn.Module]


def _small_resnet(
    num_classes: int, channels: int, size: tuple[int, int], head: Sequence[int], dropout: float
) -> nn.Module:
    return SmallResNet(num_classes, channels, head, dropout)


def _denoiser(
    has_excitation: bool,
    num_classes: int,
    channels: int,
    size: tuple[int, int],
    head: Sequence[int],
    dropout: float,
) -> nn.Module:
    return DenoiserClassifier(num_classes, channels, head, dropout, has_excitation=has_excitation)


# Name -> what makes it from (classes, channels, image size, widths of hidden dense layers, dropout). The
# networks are `classifier.network.OwnNetwork`s.
OWN_NETWORKS: dict[str, OwnBuilder] = {
    SMALL_RESNET: _small_resnet,
    **{name: partial(LungConvNet, filters) for name, filters in FILTERS.items()},
    **{name: partial(_denoiser, has_excitation) for name, has_excitation in DENOISER_NETWORKS.items()},
}
# VGG under global average pooling, without its two hidden layers of 4096 (120 of its 138 M parameters).
POOLED_VGG = {f"{name}_pooled": name for name in ("vgg16", "vgg19")}
HIDDEN_OF_VGG = "pre_logits"


def build_model(
    arch: str,
    num_classes: int,
    channels: int,
    size: tuple[int, int],
    *,
    pretrained: bool = False,
    weights: Path | None = None,
    head: Sequence[int] = (),
    dropout: float = 0.0,
    seed: int = 0,
) -> nn.Module:
    """Make a network that takes (N, channels, *size) and gives (N, num_classes) logits.

    Args:
        arch: of `OWN_NETWORKS`, "vgg16_pooled", "vgg19_pooled", or a timm name.
        channels: 1 or 3; timm folds published RGB weights into one channel where it is 1.
        pretrained: start from timm's published weights, fetched from its hub or taken from its cache.
        weights: start from this file of published weights (.safetensors, .pth) instead; the classifier in
            it is left out, nothing in it is executed.
        head: widths of hidden dense layers between the pooled features and the last layer. VGG's own two
            hidden layers give way to them.
        dropout: after each hidden layer, and before the last layer where there is none.
        seed: of the initial weights; torch's global generator is left as it was.

    Raises:
        SettingsError: if no network has that name, or it has no published weights, or not such a head.
        ClassifierError: if published weights cannot be fetched, or those of the file do not fit.
    """
    check_arch(arch, pretrained)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if arch in OWN_NETWORKS:
            model = OWN_NETWORKS[arch](num_classes, channels, size, head, dropout)
            if weights is not None:
                fill_own(model, arch, weights)
        else:
            model = _build_timm(arch, num_classes, channels, size, pretrained, weights, head, dropout)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU


def choose_device(name: str) -> torch.device:
    """The device that "auto", "cpu" or "cuda" (or "cuda:1") names; "auto" is CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] not in ("cpu", "cuda"):
        raise SettingsError(f'device must be "auto", "cpu" or "cuda", got "{name}"')
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f'device must be "auto", "cpu" or "cuda", got "{name}"') from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SettingsError(f"device {name} was asked for, but torch sees no CUDA device: use cpu or auto")
    return device


def device_name(name: str) -> str:
    """What `auto`, `cpu` or `cuda` stands for on this machine: "cpu", or a GPU by its name."""
    device = choose_device(name)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def check_arch(arch: str, pretrained: bool = False) -> None:
    """Raise a SettingsError where `arch` names no network, or none with published weights."""
    if arch in OWN_NETWORKS:
        if pretrained:
            raise SettingsError(
                f"{arch} has no published weights: leave pretrained out or choose a timm model"
            )
        return
    import timm

    known = timm.list_models()
    name = timm_name(arch).split(".")[0]
    if name not in known:
        ours = [*OWN_NETWORKS, *POOLED_VGG]
        close = get_close_matches(arch, [*ours, *known], n=4, cutoff=0.5)
        hint = (
            f"did you mean {', '.join(close)}?"
            if close
            else f"use {', '.join(ours)} or a name of timm.list_models()"
        )
        raise SettingsError(f'there is no network named "{arch}": {hint}')
    if pretrained and not timm.list_pretrained(f"{name}*"):
        raise SettingsError(
            f"timm publishes no weights for {arch}: leave pretrained out or choose another model"
        )


def network_bytes(
    arch: str, num_classes: int, channels: int, size: tuple[int, int], head: Sequence[int] = ()
) -> int:
    """What the weights and buffers of a network take, in memory as on the disk."""
    model = build_model(arch, num_classes, channels, size, head=head, seed=0)
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def timm_name(arch: str) -> str:
    """What timm calls a network that is not one of our own."""
    return POOLED_VGG.get(arch, arch)


def _build_timm(
    arch: str,
    num_classes: int,
    channels: int,
    size: tuple[int, int],
    pretrained: bool,
    weights: Path | None,
    head: Sequence[int],
    dropout: float,
) -> nn.Module:
    import timm

    name = timm_name(arch)
    settings: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
    published = timm.get_pretrained_cfg(name)
    if published is not None and published.fixed_input_size:  # there is a table of positions
        settings["img_size"] = size
    is_pooled_vgg = name.startswith("vgg") and bool(arch in POOLED_VGG or head or dropout)
    if is_pooled_vgg and not (pretrained or weights):
        settings["mlp_ratio"] = 1 / 4096  # what is thrown away need not be made at full width first
    if weights is not None:
        model = timm_from_file(name, weights, settings, (HIDDEN_OF_VGG,) if is_pooled_vgg else ())
    elif pretrained:
        model = timm_from_hub(name, settings)
    else:
        try:
            model = timm.create_model(name, **settings)
        except Exception as error:
            raise SettingsError(
                f"{arch} cannot be built for {channels}-channel images of {size[0]}x{size[1]} pixels "
                f"({error}); choose another network or image size"
            ) from error
    if is_pooled_vgg:
        setattr(model, HIDDEN_OF_VGG, nn.Identity())
        model.head_hidden_size = model.num_features
        _replace_last(model, arch, num_classes, head, dropout, int(model.num_features))  # type: ignore[arg-type]
    elif head or dropout:
        _replace_last(model, arch, num_classes, head, dropout)
    return model


def _replace_last(
    model: nn.Module,
    arch: str,
    num_classes: int,
    widths: Sequence[int],
    dropout: float,
    num_features: int | None = None,
) -> None:
    """Put a head of ours in the place of the last layer, for as many features as that took or as given."""
    last = model.get_classifier()  # type: ignore[operator]
    if not isinstance(last, nn.Linear):
        raise SettingsError(
            f"head and dropout replace a last layer that is dense, {arch} ends otherwise: leave them out, or "
            "choose another network"
        )
    name = next(name for name, module in model.named_modules() if module is last)
    container, _, attribute = name.rpartition(".")
    head = dense_head(num_features or last.in_features, widths, dropout, num_classes)
    setattr(model.get_submodule(container), attribute, head)
