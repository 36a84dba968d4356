"""Several predictions of one image, by changed views of it or by dropout masks: where they differ, doubt.

What is random is drawn once a prediction and is the same for all images: a view is one change, a dropout mask
one thinned network. So what is said of an image depends on that image alone, whatever the order or the batch,
and the network stays in inference mode: no stored moment of BatchNorm moves.

Sources: Wang et al. 2019, "Aleatoric uncertainty estimation with test-time augmentation for medical image
segmentation with convolutional neural networks", Neurocomputing 338; Gal and Ghahramani 2016, "Dropout as a
Bayesian Approximation", arXiv:1506.02142, where a mask is a draw of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from classifier.data import ImageTable
from classifier.errors import ClassifierError
from classifier.run import Classifier
from classifier.views import views_of
from extract.seeds import derive_seed


def predict_views(classifier: Classifier, images: ImageTable, num_samples: int, seed: int) -> np.ndarray:
    """Logits of every image as it is and of `num_samples` - 1 changed views: (S, N, C) float32.

    The changes are those that the training's augmentation allows, at half their range; mirrored where the
    classifier's settings say so. One sample is the plain prediction.
    """
    own_seed = derive_seed(seed, "uncertain views")

    def predict(batch: Tensor) -> list[Tensor]:
        views = views_of(batch, num_samples - 1, classifier.config.mirror, own_seed)
        return [classifier.network_output(view) for view in views]

    return _predict(classifier, images, num_samples, predict)


def predict_dropout(classifier: Classifier, images: ImageTable, num_samples: int, seed: int) -> np.ndarray:
    """Logits of every image by `num_samples` networks thinned by dropout: (S, N, C) float32.

    One sample is the plain prediction, of the whole network.

    Raises:
        ClassifierError: if the network has no dropout.
    """
    layers = dropout_layers(classifier.model)
    if not layers:
        raise ClassifierError(
            f"expected a network with dropout, got {classifier.config.arch} without, which no mask can make "
            "unsure: train it with dropout (such as 0.2), or take another method"
        )

    def predict(batch: Tensor) -> list[Tensor]:
        if num_samples == 1:
            return [classifier.network_output(batch)]
        outputs = []
        for sample in range(num_samples):
            with _thinned(layers, derive_seed(seed, "dropout", sample)):
                outputs.append(classifier.network_output(batch))
        return outputs

    return _predict(classifier, images, num_samples, predict)


def dropout_layers(model: nn.Module) -> dict[str, _DropoutNd]:
    """The layers of a network that drop something in training, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _DropoutNd) and module.p > 0
    }


def _predict(
    classifier: Classifier, images: ImageTable, num_samples: int, predict: Callable[[Tensor], list[Tensor]]
) -> np.ndarray:
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    logits = np.empty((num_samples, len(images), len(classifier.classes)), dtype=np.float32)
    for rows, batch in classifier.prepared_batches(images):
        with torch.inference_mode():
            logits[:, rows] = torch.stack(predict(batch)).cpu().numpy()
    return logits


@contextmanager
def _thinned(layers: dict[str, _DropoutNd], seed: int) -> Iterator[None]:
    """Let each dropout layer, though in inference mode, use one mask for whatever passes it."""
    handles = [
        layer.register_forward_hook(_mask_of(layer, derive_seed(seed, name)))
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mask_of(layer: _DropoutNd, seed: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        values = inputs[0]
        # nn.Dropout drops single values, its relatives whole channels.
        shape = values.shape[1:] if type(layer) is nn.Dropout else (values.shape[1], *[1] * (values.ndim - 2))
        kept = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) >= layer.p
        return values * (kept / (1 - layer.p)).to(values.device, values.dtype)

    return hook
