"""Where in an image a network finds what speaks for a class: Grad-CAM and guided Grad-CAM.

Sources: Selvaraju et al. 2017, "Grad-CAM", arXiv:1610.02391; guided backpropagation: Springenberg et al.
2015, "Striving for simplicity", arXiv:1412.6806.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from classifier.data import ImageTable
from classifier.layers import default_layer, kept_output, to_grid, undisturbed, watch_layer
from classifier.run import Classifier

EXPLAIN_BATCH = 32
BRIGHT_SHARE = 0.995  # quantile of a guided map that is shown as 1: single pixels would darken the rest


def grad_cam(
    classifier: Classifier,
    images: ImageTable,
    targets: np.ndarray | None = None,
    *,
    layer: str | None = None,
    batch_size: int = EXPLAIN_BATCH,
) -> tuple[np.ndarray, tuple[int, int]]:
    """Grad-CAM of each image at the size of the network's input.

    The channels of a layer, weighted by the mean gradient of the class's output before any softmax, summed,
    and what is negative left out.

    Args:
        images: as archives hold them; they take the classifier's own preprocessing.
        targets: (N,) int, the class to explain for each image; None = the one it is given.
        layer: name of the module; None = `layers.default_layer`.

    Returns:
        (N, h, w) float32 in [0, 1], each map scaled to its own maximum; all 0 where nothing speaks for the
        class. And the cells (h', w') of the layer, which the maps are interpolated from.

    Raises:
        SettingsError: if there is no such layer, or it has no map.
    """
    model, size = classifier.model, classifier.preprocessing.input_size
    name = explained_layer(classifier, layer)
    maps, cells = np.zeros((len(images), *size), np.float32), (0, 0)
    with undisturbed(model), watch_layer(model, name) as kept:
        for rows, batch in batches(classifier, images, batch_size):
            logits = model(batch)
            output = kept_output(kept, name)
            (gradient,) = torch.autograd.grad(_scores(logits, targets, rows), output)
            values, slopes = to_grid(model, output.detach()), to_grid(model, gradient)
            weights = slopes.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
            coarse = torch.relu((weights * values).sum(dim=1))  # (N, h', w')
            cells = (coarse.shape[1], coarse.shape[2])
            maps[rows] = scale_to_maximum(enlarge(coarse, size)).cpu().numpy()
    return maps, cells


def guided_gradients(
    classifier: Classifier,
    images: ImageTable,
    targets: np.ndarray | None = None,
    *,
    batch_size: int = EXPLAIN_BATCH,
) -> tuple[np.ndarray, str]:
    """Guided backpropagation: the gradient of a class's output by the input, held back at each ReLU.

    The rule is defined for ReLU alone: a gradient passes where it and the unit's input are positive. Other
    activations (GELU, SiLU, ...) keep their own gradient; without any ReLU this is the plain gradient of
    Simonyan et al. 2013, arXiv:1312.6034.

    Returns:
        (N, c, h, w) float32 at the network's input, signed and unscaled; and a sentence where the rule did
        not cover all activations, otherwise "".
    """
    model = classifier.model
    shape = (classifier.preprocessing.input_channels, *classifier.preprocessing.input_size)
    gradients, rule = np.zeros((len(images), *shape), np.float32), GuidedRule()
    with undisturbed(model):
        for rows, batch in batches(classifier, images, batch_size):
            pixels = batch.detach().requires_grad_(True)
            with rule:
                logits = model(pixels)
            (gradient,) = torch.autograd.grad(_scores(logits, targets, rows), pixels)
            gradients[rows] = gradient.cpu().numpy()
    return gradients, rule.note()


def guided_grad_cam(
    classifier: Classifier,
    images: ImageTable,
    targets: np.ndarray | None = None,
    *,
    layer: str | None = None,
    batch_size: int = EXPLAIN_BATCH,
) -> tuple[np.ndarray, str]:
    """Guided Grad-CAM: the size of the guided gradient, where Grad-CAM points.

    Returns:
        (N, h, w) float32 in [0, 1], 1 at each map's 99.5th percentile and above; and the note of
        `guided_gradients`.
    """
    maps, _ = grad_cam(classifier, images, targets, layer=layer, batch_size=batch_size)
    gradients, note = guided_gradients(classifier, images, targets, batch_size=batch_size)
    sharp = np.abs(gradients).max(axis=1) * maps  # (N, h, w)
    bright = np.quantile(sharp, BRIGHT_SHARE, axis=(1, 2), keepdims=True)
    top = np.where(bright > 0, bright, sharp.max(axis=(1, 2), keepdims=True))
    scaled = np.divide(sharp, top, out=np.zeros_like(sharp), where=top > 0)
    return np.minimum(scaled, 1).astype(np.float32), note


class _GuidedRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clamp(min=0)
        ctx.save_for_backward(y > 0)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        (is_positive,) = ctx.saved_tensors
        return gradients[0].clamp(min=0) * is_positive


RELUS: frozenset[Callable[..., Any]] = frozenset({
    nn.functional.relu, nn.functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_,
})  # fmt: skip
OTHERS: dict[Callable[..., Any], str] = {
    nn.functional.gelu: "GELU", nn.functional.silu: "SiLU", nn.functional.relu6: "ReLU6",
    nn.functional.hardswish: "hard swish", nn.functional.leaky_relu: "leaky ReLU", nn.functional.elu: "ELU",
    nn.functional.hardtanh: "ReLU6", nn.functional.mish: "Mish", nn.functional.selu: "SELU",
    nn.functional.softplus: "softplus",
}  # fmt: skip


class GuidedRule(TorchFunctionMode):
    """Within the block every ReLU, module or function, passes gradients by the guided rule.

    Nothing of the network is touched, so that nothing has to be put back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_relus = 0
        self.others: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in RELUS:
            self.num_relus += 1
            return _GuidedRelu.apply(args[0] if args else kwargs["input"])
        if func in OTHERS:
            self.others.add(OTHERS[func])
        return func(*args, **(kwargs or {}))

    def note(self) -> str:
        """What the rule did not cover."""
        if not self.others:
            return ""
        names = " and ".join(sorted(self.others))
        if not self.num_relus:
            return (
                f"the network has no ReLU but {names}: its plain gradient is shown, without the guided rule"
            )
        return f"the guided rule holds at the network's ReLUs; its {names} units keep their plain gradient"


def batches(
    classifier: Classifier, images: ImageTable, batch_size: int
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Rows of the table and the network's input for them."""
    device = next(classifier.model.parameters()).device
    for start in range(0, len(images), batch_size):
        rows = np.arange(start, min(start + batch_size, len(images)))
        yield rows, classifier.preprocessing.to_batch(images.gather(rows), device)


def enlarge(coarse: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, h', w') maps interpolated to (N, *size)."""
    return nn.functional.interpolate(coarse[:, None].float(), size=size, mode="bilinear")[:, 0]


def scale_to_maximum(maps: Tensor) -> Tensor:
    """Divide each (h, w) map by its own maximum; one that is 0 throughout stays so."""
    top = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(top > 0, maps / top.clamp(min=torch.finfo(maps.dtype).tiny), torch.zeros_like(maps))


def explained_layer(classifier: Classifier, layer: str | None = None) -> str:
    """The name of the layer to explain by: the one that is asked for, or `layers.default_layer`."""
    preprocessing = classifier.preprocessing
    return layer or default_layer(classifier.model, (preprocessing.input_channels, *preprocessing.input_size))


def _scores(logits: Tensor, targets: np.ndarray | None, rows: np.ndarray) -> Tensor:
    """The sum over the batch of each image's own class output: no image's gradient depends on another."""
    if targets is None:
        chosen = logits.argmax(dim=1)
    else:
        chosen = torch.from_numpy(np.asarray(targets, np.int64)[rows]).to(logits.device)
    return logits.gather(1, chosen[:, None]).sum()
