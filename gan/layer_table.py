"""The networks layer by layer: parameters, buffers, what comes out and in which type."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gan.job import Job

COLUMNS = ("Parameters", "Buffers", "Output shape", "Datatype")
RULE = "---"


def layer_tables(job: Job) -> tuple[str, str]:
    """Tables of the generator and the discriminator, as `log.txt` shows them.

    One image passes through each network to learn the shapes; neither weights, nor `w_avg`, nor the random
    states of the training are touched by it. The first number of a shape is the images at a time.
    """
    recipe, device = job.recipe, job.device
    z = torch.zeros([1, recipe.latent_dim], device=device)
    c = torch.zeros([1, recipe.c_dim], device=device)
    shape = [1, recipe.img_channels, recipe.resolution, recipe.resolution]
    image = torch.zeros(shape, device=device)
    generator, discriminator = job.players.G, job.players.D
    with _evaluating(generator), _outputs(generator) as made:
        generator(z, c, noise_mode="const")
    with _evaluating(discriminator), _outputs(discriminator) as judged:
        discriminator(image, c)
    return (
        layer_table("Generator", generator, made, recipe.batch_gpu),
        layer_table("Discriminator", discriminator, judged, recipe.batch_gpu),
    )


def layer_table(name: str, network: nn.Module, outputs: dict[str, Tensor], batch: int) -> str:
    """One table: a row a layer that has numbers or an output of its own, and their totals.

    Args:
        outputs: layer name to its output for one image.
        batch: images at a time, shown in place of that one.
    """
    rows = [(name, *COLUMNS), (RULE,) * 5]
    totals = [0, 0]
    for layer_name, layer in network.named_modules():
        own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
        parameters = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
        buffers = sum(buffer.numel() for buffer in layer.buffers(recurse=False))
        totals = [totals[0] + parameters, totals[1] + buffers]
        output = outputs.get(layer_name)
        is_wrapper = next(layer.children(), None) is not None
        if not own and (output is None or is_wrapper):
            continue
        shape = "-" if output is None else str([batch, *output.shape[1:]])
        dtype = own[0].dtype if output is None else output.dtype
        rows.append(
            (
                layer_name,
                str(parameters or "-"),
                str(buffers or "-"),
                shape,
                str(dtype).removeprefix("torch."),
            )
        )
    rows += [(RULE,) * 5, ("Total", str(totals[0]), str(totals[1]), "-", "-")]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Without gradients, and without what training moves at each pass."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(was_training)


@contextmanager
def _outputs(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collects the first tensor that each layer returns, by the layer's name."""
    outputs: dict[str, Tensor] = {}
    hooks = []
    for name, layer in network.named_modules():

        def keep(layer: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            values = output if isinstance(output, tuple | list) else [output]
            tensor = next((value for value in values if isinstance(value, Tensor)), None)
            if tensor is not None:
                outputs[name] = tensor

        hooks.append(layer.register_forward_hook(keep))
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
