"""What a layer makes of an image: its strongest channels."""

from __future__ import annotations

import numpy as np
import torch

from classifier.data import ImageTable
from classifier.gradcam import EXPLAIN_BATCH, batches, explained_layer
from classifier.layers import kept_output, to_grid, undisturbed, watch_layer
from classifier.run import Classifier

NUM_CHANNELS = 16


def layer_activations(
    classifier: Classifier,
    images: ImageTable,
    *,
    layer: str | None = None,
    num_channels: int = NUM_CHANNELS,
    batch_size: int = EXPLAIN_BATCH,
) -> tuple[np.ndarray, np.ndarray]:
    """The channels of a layer that answer most to each image, strongest first.

    Returns:
        (N, K, h', w') float32, by their mean size downwards, K = `num_channels` or all there are; and (N, K)
        int, which channels they are.

    Raises:
        SettingsError: if there is no such layer, or it has no map.
    """
    maps, numbers = [], []
    name = explained_layer(classifier, layer)
    with undisturbed(classifier.model), watch_layer(classifier.model, name) as kept, torch.no_grad():
        for _, batch in batches(classifier, images, batch_size):
            classifier.model(batch)
            values = to_grid(classifier.model, kept_output(kept, name).detach()).float()  # (N, C, h', w')
            strength = values.abs().mean(dim=(2, 3))
            order = strength.argsort(dim=1, descending=True, stable=True)[:, :num_channels]
            maps.append(
                values.gather(1, order[:, :, None, None].expand(-1, -1, *values.shape[2:])).cpu().numpy()
            )
            numbers.append(order.cpu().numpy())
    if not maps:
        return np.zeros((0, 0, 1, 1), np.float32), np.zeros((0, 0), np.int64)
    return np.concatenate(maps), np.concatenate(numbers)


def mean_activation(
    classifier: Classifier, images: ImageTable, *, layer: str | None = None, batch_size: int = EXPLAIN_BATCH
) -> np.ndarray:
    """(N, h', w') float32: the mean size over all channels of a layer, in its own cells."""
    maps = []
    name = explained_layer(classifier, layer)
    with undisturbed(classifier.model), watch_layer(classifier.model, name) as kept, torch.no_grad():
        for _, batch in batches(classifier, images, batch_size):
            classifier.model(batch)
            values = to_grid(classifier.model, kept_output(kept, name).detach()).float()
            maps.append(values.abs().mean(dim=1).cpu().numpy())
    return np.concatenate(maps) if maps else np.zeros((0, 1, 1), np.float32)
