"""The layers of a network by name, which of them to explain by, and what comes out of one while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from classifier.errors import ClassifierError
from classifier.network import OwnNetwork
from extract.errors import SettingsError

SMALLEST_MAP = 4  # cells a side below which a map says next to nothing of where


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, with gradients whatever is set outside; afterwards each module has its own mode again.

    Nothing in here may call `backward`: with `torch.autograd.grad` the parameters' own gradients and their
    `requires_grad` stay as they are, so that a frozen body is explained like any other.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


class LayerOutput:
    """What a layer gave in the last forward pass, as a leaf that gradients can be taken for.

    The graph is cut here: what lies before the layer keeps nothing in memory and needs no gradient.
    """

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def __call__(self, module: nn.Module, inputs: object, output: object) -> Tensor:
        if not isinstance(output, Tensor):
            raise SettingsError(
                f"the layer gives a {type(output).__name__} rather than one tensor: choose another with "
                "--layer"
            )
        self.value = output.detach().requires_grad_(True)
        return self.value.clone()  # a step in place behind the layer must not change what was kept


@contextmanager
def watch_layer(model: nn.Module, name: str) -> Iterator[LayerOutput]:
    """Keep the output of a layer in each forward pass of the block; the hook is gone afterwards."""
    kept = LayerOutput()
    handle = find_layer(model, name).register_forward_hook(kept)
    try:
        yield kept
    finally:
        handle.remove()


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The layer of that name, such as `layer3.1` or `blocks.11.norm1`.

    Raises:
        SettingsError: if the network has none of that name.
    """
    layers = dict(model.named_modules())
    if not name or name not in layers:
        close = get_close_matches(name, layers, n=3, cutoff=0.4)
        hint = (
            f"did you mean {', '.join(close)}?" if close else f"the last one is {default_layer_hint(layers)}"
        )
        raise SettingsError(f'the network has no layer named "{name}": {hint}')
    return layers[name]


def default_layer_hint(layers: dict[str, nn.Module]) -> str:
    """The name of the last layer that holds others, for an error."""
    holders = [name for name, module in layers.items() if name and any(True for _ in module.children())]
    return (holders or [name for name in layers if name])[-1]


def default_layer(model: nn.Module, input_shape: tuple[int, int, int]) -> str:
    """The layer by which to explain: the last that still knows where.

    Of a transformer it is the norm before the last block's attention: behind that block only the class token
    reaches the output, and the patches' gradients are zero. Of a convolutional network it is the last stage
    whose map has at least 4 cells a side: at 64 pixels a ResNet ends in 2x2 cells, which point nowhere. Where
    all maps are smaller, it is the one with the most cells.

    Args:
        input_shape: (channels, height, width) of the network's input.

    Raises:
        SettingsError: if no layer has a map.
    """
    blocks = getattr(model, "blocks", None)
    if num_prefix_tokens(model) is not None and isinstance(blocks, nn.Sequential | nn.ModuleList):
        last = f"blocks.{len(blocks) - 1}.norm1"
        if last in dict(model.named_modules()):
            return last
    sides = {name: min(shape[2:]) for name, shape in spatial_stages(model, input_shape).items()}
    if not sides:
        raise SettingsError("the network has no layer with a map, so that it cannot be explained by one")
    wanted = min(SMALLEST_MAP, max(sides.values()))
    return [name for name, side in sides.items() if side >= wanted][-1]


def spatial_stages(model: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """The network's stages with a map, in the order in which they end: their (N, C, h, w) for one image.

    Stages are the network's own parts and, of plain sequences, their parts; pooling and whatever only hands
    on what another stage gave is left out.
    """
    stages = dict(_stages(model))
    if isinstance(model, OwnNetwork):  # one whose encoder hands over several depths at once, for instance
        own = {id(stage) for stage in model.stages()}
        stages |= {name: module for name, module in model.named_modules() if id(module) in own}
    found: dict[str, tuple[Tensor, tuple[int, ...]]] = {}

    def note(name: str) -> None:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if not isinstance(output, Tensor) or output.ndim != 4:
                return
            shape = to_grid(model, output).shape
            if min(shape[2:]) < 2:
                return
            same = [other for other, (value, _) in found.items() if value is output]
            if same and not same[0].startswith(f"{name}."):
                return  # an identity behind the stage
            for other in same:  # the whole stands for its last part
                del found[other]
            found[name] = (output, tuple(shape))

        handles.append(stages[name].register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    device = next(model.parameters()).device
    try:
        for name in stages:
            note(name)
        with undisturbed(model), torch.no_grad():
            model(torch.zeros((1, *input_shape), device=device))
    finally:
        for handle in handles:
            handle.remove()
    return {name: shape for name, (_, shape) in found.items()}


POOLING = (
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d, nn.Dropout,
    nn.Dropout2d, nn.Flatten,
)  # fmt: skip


def _stages(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, POOLING) or "pool" in name:
            continue
        yield f"{prefix}{name}", child
        if type(child) in (nn.Sequential, nn.ModuleList):
            yield from _stages(child, f"{prefix}{name}.")


def num_prefix_tokens(model: nn.Module) -> int | None:
    """How many tokens of a vision transformer stand before those of the patches; None for other networks."""
    count = getattr(model, "num_prefix_tokens", None)
    return int(count) if count is not None and token_grid(model) is not None else None


def token_grid(model: nn.Module) -> tuple[int, int] | None:
    """Rows and columns of a vision transformer's patches; None for other networks."""
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    return (int(grid[0]), int(grid[1])) if grid is not None else None


def to_grid(model: nn.Module, output: Tensor) -> Tensor:
    """A layer's output as (N, channels, h, w): maps as they are, tokens put back in their places.

    Raises:
        SettingsError: if the output has no places.
    """
    if output.ndim == 4:
        return output.permute(0, 3, 1, 2) if getattr(model, "output_fmt", None) == "NHWC" else output
    prefix, grid = num_prefix_tokens(model), token_grid(model)
    if output.ndim == 3 and prefix is not None and grid is not None:
        patches = output[:, prefix:]
        if patches.shape[1] == grid[0] * grid[1]:
            return patches.transpose(1, 2).unflatten(2, grid)
    raise SettingsError(
        f"the layer gives {tuple(output.shape)[1:]} for each image, which is no map of places: choose a "
        "layer of convolutions or a transformer's block with --layer"
    )


def kept_output(kept: LayerOutput, name: str) -> Tensor:
    """What was kept of a layer, or an error where the network never used it."""
    if kept.value is None:
        raise ClassifierError(f"the layer {name} was not used by the network: choose another with --layer")
    return kept.value
