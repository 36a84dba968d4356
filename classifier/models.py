"""Networks: an own small residual net for small images on a CPU, and every one that timm knows."""

from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from classifier.config import SMALL_RESNET
from classifier.errors import ClassifierError
from extract.errors import SettingsError

STEM_WIDTH, STAGE_WIDTHS = 16, (24, 48, 96)  # 0.17 M parameters; 14 ms a step at 32 px, batch 64, one core


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions that halve the side, beside an averaged 1x1 shortcut.

    Source: He et al. 2016, arXiv:1512.03385; the averaging shortcut is ResNet-D of He et al. 2018,
    arXiv:1812.01187.
    """

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Conv2d(in_width, width, 1, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm2.weight)  # each block starts as its shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        x = nn.functional.avg_pool2d(x, 2, ceil_mode=True)
        return torch.relu_(y + self.shortcut_norm(self.shortcut(x)))


class SmallResNet(nn.Module):
    """A 5x5 stem and three residual blocks, each halving the side; for images of about 16 to 128 pixels."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, STEM_WIDTH, 5, stride=2, padding=2, bias=False)
        self.stem_norm = nn.BatchNorm2d(STEM_WIDTH)
        widths = (STEM_WIDTH, *STAGE_WIDTHS)
        self.blocks = nn.Sequential(*map(ResidualBlock, widths[:-1], widths[1:]))
        self.head = nn.Linear(STAGE_WIDTHS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.penultimate(x))  # (N, num_classes)

    def penultimate(self, x: Tensor) -> Tensor:
        """The features that the last layer decides by, (N, 96)."""
        x = torch.relu_(self.stem_norm(self.stem(x)))
        return self.blocks(x).mean(dim=(2, 3))

    def stages(self) -> list[nn.Module]:
        """The stem and the three blocks."""
        return [nn.ModuleList([self.stem, self.stem_norm]), *self.blocks]


def build_model(
    arch: str,
    num_classes: int,
    channels: int,
    size: tuple[int, int],
    *,
    pretrained: bool = False,
    seed: int = 0,
) -> nn.Module:
    """Make a network that takes (N, channels, *size) and gives (N, num_classes) logits.

    Args:
        arch: "small_resnet" or a timm name.
        channels: 1 or 3; timm folds published RGB weights into one channel where it is 1.
        seed: of the initial weights; torch's global generator is left as it was.

    Raises:
        SettingsError: if no network has that name, or it has no published weights.
        ClassifierError: if published weights cannot be fetched.
    """
    check_arch(arch, pretrained)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = SmallResNet(num_classes, channels) if arch == SMALL_RESNET else _build_timm(
            arch, num_classes, channels, size, pretrained
        )  # fmt: skip
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


def check_arch(arch: str, pretrained: bool = False) -> None:
    """Raise a SettingsError where `arch` names no network, or none with published weights."""
    if arch == SMALL_RESNET:
        if pretrained:
            raise SettingsError(
                f"{SMALL_RESNET} has no published weights: leave pretrained out or choose a timm model"
            )
        return
    import timm

    known = timm.list_models()
    if arch.split(".")[0] not in known:
        close = get_close_matches(arch, [SMALL_RESNET, *known], n=4, cutoff=0.5)
        hint = (
            f"did you mean {', '.join(close)}?"
            if close
            else f"use {SMALL_RESNET} or a name of timm.list_models()"
        )
        raise SettingsError(f'there is no network named "{arch}": {hint}')
    if pretrained and not timm.list_pretrained(f"{arch.split('.')[0]}*"):
        raise SettingsError(
            f"timm publishes no weights for {arch}: leave pretrained out or choose another model"
        )


def _build_timm(
    arch: str, num_classes: int, channels: int, size: tuple[int, int], pretrained: bool
) -> nn.Module:
    import timm

    defaults = timm.get_pretrained_cfg(arch)
    # Networks with position embeddings are built for one size; the others take any.
    sized: dict[str, Any] = {"img_size": size} if defaults is not None and defaults.fixed_input_size else {}
    try:
        return timm.create_model(
            arch, pretrained=pretrained, num_classes=num_classes, in_chans=channels, **sized
        )
    except Exception as error:
        if not pretrained:
            raise SettingsError(
                f"{arch} cannot be built for {channels}-channel images of {size[0]}x{size[1]} pixels "
                f"({error}); choose another network or image size"
            ) from error
        raise ClassifierError(
            f"the published weights of {arch} could not be fetched ({type(error).__name__}): a network "
            "connection to the model hub or a filled cache is needed; otherwise leave pretrained out"
        ) from error
