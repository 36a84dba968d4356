"""Why a classifier says what it says: one map an image, by one of several methods."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
import torch

from classifier.activations import layer_activations, mean_activation
from classifier.attention import attention_maps, patch_size
from classifier.data import ImageTable
from classifier.gradcam import (
    EXPLAIN_BATCH,
    enlarge,
    explained_layer,
    grad_cam,
    guided_grad_cam,
    scale_to_maximum,
)
from classifier.run import Classifier
from extract.errors import SettingsError

METHODS = ("grad-cam", "guided", "activations", "attention", "patches")
COLORS = "inferno"  # even steps of brightness, told apart by colour-blind eyes and on gray prints
OPACITY = 0.6


@dataclass(frozen=True)
class Explained:
    """Maps of some images, and how they were made."""

    maps: np.ndarray  # (N, h, w) float32 in [0, 1], at the network's input
    method: str
    layer: str = ""  # that they were made by; empty where none was
    note: str = ""  # a sentence where a method does not hold in full
    details: np.ndarray | None = None  # (N, K, h', w'): channels of a layer, or heads of the last attention
    detail_names: tuple[tuple[str, ...], ...] = ()  # (N, K)
    remarks: tuple[str, ...] = ()  # (N,) what a map's colors do not tell; or none


def explain_images(
    classifier: Classifier,
    images: ImageTable,
    *,
    method: str = "grad-cam",
    targets: np.ndarray | None = None,
    layer: str | None = None,
    batch_size: int = EXPLAIN_BATCH,
) -> np.ndarray:
    """One map an image: (N, h, w) float32 in [0, 1] at the network's input, 1 where it matters most.

    The picture beneath, what the network was given, is
    `classifier.preprocessing.prepare(images.gather(rows))`.

    Args:
        images: as archives hold them.
        method: grad-cam; guided (Grad-CAM times guided gradient); activations (mean of a layer); attention
            (rollout, of vision transformers). The last two are stretched from their smallest value to their
            largest, because every place has some.
        targets: (N,) int, the class to explain for each image; None = the one it is given.
        layer: of grad-cam, guided and activations; None = the last stage with a useful map.

    Raises:
        SettingsError: if the method does not fit the network, or there is no such layer.
    """
    return explain_batch(
        classifier, images, method=method, targets=targets, layer=layer, batch_size=batch_size
    ).maps


def explain_batch(
    classifier: Classifier,
    images: ImageTable,
    *,
    method: str = "grad-cam",
    targets: np.ndarray | None = None,
    layer: str | None = None,
    batch_size: int = EXPLAIN_BATCH,
) -> Explained:
    """The same with how the maps were made, and with what lies beneath them; see `explain_images`."""
    check_method(method)
    match method:
        case "grad-cam":
            layer = explained_layer(classifier, layer)
            maps, _ = grad_cam(classifier, images, targets, layer=layer, batch_size=batch_size)
            return Explained(maps, method, layer, remarks=_empty_maps(maps))
        case "guided":
            layer = explained_layer(classifier, layer)
            maps, note = guided_grad_cam(classifier, images, targets, layer=layer, batch_size=batch_size)
            return Explained(maps, method, layer, note, remarks=_empty_maps(maps))
        case "activations":
            layer = explained_layer(classifier, layer)
            coarse = mean_activation(classifier, images, layer=layer, batch_size=batch_size)
            channels, numbers = layer_activations(classifier, images, layer=layer, batch_size=batch_size)
            names = tuple(tuple(f"channel {number}" for number in row) for row in numbers)
            spread = tuple(_activation_range(heat) for heat in coarse)
            return Explained(_stretched(classifier, coarse), method, layer, "", channels, names, spread)
        case "attention":
            attention = attention_maps(classifier, images, batch_size=batch_size)
            heads = tuple(f"head {number + 1}" for number in range(attention.heads.shape[1]))
            return Explained(
                _stretched(classifier, attention.rollout),
                method,
                details=attention.heads,
                detail_names=(heads,) * len(images),
                remarks=tuple(_attention_range(rollout) for rollout in attention.rollout),
            )
    patch_size(classifier.model)  # says so where the network has no patches
    raise SettingsError("--method patches shows how images are cut, which is no map of what matters")


def check_method(method: str) -> None:
    """Raise SettingsError unless it is one of `METHODS`."""
    if method not in METHODS:
        raise SettingsError(f"--method must be one of {', '.join(METHODS)}, got {method!r}")


def overlay(image: np.ndarray, heat: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
    """Lay a map over an image: color where the map is high, the image itself where it is 0.

    Args:
        image: (h, w), (h, w, 3), (1, h, w) or (3, h, w) uint8.
        heat: (h, w) in [0, 1].
        opacity: of the color where the map is 1, in [0, 1].

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        ValueError: if the two differ in size, or opacity is not in [0, 1].
    """
    base = to_rgb(image).astype(np.float32)
    if heat.shape != base.shape[:2]:
        raise ValueError(f"expected a map of the image's size {base.shape[:2]}, got {heat.shape}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be in [0, 1], got {opacity}")
    share = (opacity * np.clip(heat, 0, 1))[:, :, None]
    return np.rint((1 - share) * base + share * heat_colors(heat)).astype(np.uint8)


def heat_colors(heat: np.ndarray) -> np.ndarray:
    """(h, w) in [0, 1] to (h, w, 3) uint8 colors, black to bright yellow."""
    table = (matplotlib.colormaps[COLORS](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return table[np.rint(np.clip(heat, 0, 1) * 255).astype(np.uint8)]


def to_rgb(image: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 of an image in any of the layouts in use."""
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
        image = image.transpose(1, 2, 0)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"expected an image of 1 or 3 channels, got shape {image.shape}")
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def _stretched(classifier: Classifier, coarse: np.ndarray) -> np.ndarray:
    lowest = coarse.min(axis=(1, 2), keepdims=True) if len(coarse) else coarse
    raised = torch.from_numpy(coarse - lowest)
    return scale_to_maximum(enlarge(raised, classifier.preprocessing.input_size)).numpy()


def _empty_maps(maps: np.ndarray) -> tuple[str, ...]:
    return tuple(
        "" if heat.any() else "the map is empty: nothing in this layer speaks for it" for heat in maps
    )


def _activation_range(coarse: np.ndarray) -> str:
    return f"mean activation {coarse.min():.3g} to {coarse.max():.3g}"


def _attention_range(rollout: np.ndarray) -> str:
    return (
        f"a patch gets {rollout.min():.1%} to {rollout.max():.1%} of the attention "
        f"({rollout.mean():.1%} if all were alike)"
    )
