"""How much of what a classifier looks at lies outside a mask, the lungs for instance: one number for a part.

A map of 4x4 cells, enlarged, reaches beyond any mask, and a map that is the same everywhere has some share
outside as well. Both are measured beside, so that the number can be judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from classifier.data import ImageTable
from classifier.errors import ClassifierError
from classifier.gradcam import EXPLAIN_BATCH, enlarge, explained_layer, grad_cam
from classifier.run import Classifier
from extract.pixel_steps import place_mask
from extract.progress import Progress, no_progress

NUM_DRAWS = 1000
LEVEL = 0.95
MIN_INSIDE = 1 / 256  # of the picture; below it there is no mask to speak of


@dataclass(frozen=True)
class MaskShare:
    """Shares of the maps' mass outside the masks, means over images."""

    share: float
    interval: tuple[float, float] | None  # 95 %, by subject; None with one subject
    uniform: float  # of a map that is the same everywhere: what looking nowhere in particular gives
    attainable: float  # of the masks themselves at the map's resolution: the best that can be had
    num_images: int
    num_subjects: int
    num_without_mask: int  # images without a mask, or with an empty one
    num_without_map: int  # images where nothing speaks for the class
    cells: tuple[int, int]  # rows and columns of the maps before they were enlarged

    def sentence(self) -> str:
        """The result in words."""
        spread = "" if self.interval is None else f" [{self.interval[0]:.1%}, {self.interval[1]:.1%}]"
        return (
            f"{self.share:.1%}{spread} of Grad-CAM's mass lies outside the masks ({self.num_images} images "
            f"of {self.num_subjects} subjects); looking everywhere alike would give {self.uniform:.1%}, "
            f"looking at the masks alone, in {self.cells[0]}x{self.cells[1]} cells, {self.attainable:.1%}"
        )

    def to_json(self) -> dict[str, Any]:
        """As `metrics.json` holds it under "explanation"."""
        interval = list(self.interval) if self.interval is not None else []
        return {
            "method": "grad-cam",
            "text": f"{self.sentence()}.",
            "numbers": {
                "share of Grad-CAM mass outside the mask": [self.share, *interval]
                if interval
                else self.share,
                "of a uniform map": self.uniform,
                "of the masks themselves, in the map's cells": self.attainable,
            },
            "num_images": self.num_images,
            "num_subjects": self.num_subjects,
            "num_without_mask": self.num_without_mask,
            "num_without_map": self.num_without_map,
            "cells": list(self.cells),
        }


def share_outside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The share of each map's mass outside its mask.

    Args:
        maps: (N, h, w), not negative.
        masks: (N, h, w) bool, True inside.

    Returns:
        (N,) float64 in [0, 1]; NaN where a map is 0 throughout.

    Raises:
        ValueError: if the two differ in shape.
    """
    if maps.shape != masks.shape:
        raise ValueError(f"expected masks of the maps' shape {maps.shape}, got {masks.shape}")
    mass = maps.sum(axis=(1, 2), dtype=np.float64)
    outside = np.where(masks, 0, maps).sum(axis=(1, 2), dtype=np.float64)
    return np.divide(outside, mass, out=np.full(len(maps), np.nan), where=mass > 0)


def measure_mask_share(
    classifier: Classifier,
    images: ImageTable,
    read_mask: Callable[[int], np.ndarray | None],
    subjects: np.ndarray,
    *,
    targets: np.ndarray | None = None,
    layer: str | None = None,
    batch_size: int = EXPLAIN_BATCH,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    progress: Progress = no_progress,
) -> MaskShare:
    """Grad-CAM of every image, and how much of it lies outside the image's mask.

    Args:
        images: as archives hold them.
        read_mask: the mask of the image at a place of the table, (H, W), 0 outside; None where it has none.
            It is cropped and resized as its image is by the classifier's preprocessing.
        subjects: (N,) str, for the interval: whole subjects are drawn with replacement.
        targets: (N,) int, the class to explain for each image; None = the one it is given.

    Raises:
        ClassifierError: if no image has a mask, or no map has any mass.
    """
    layer = explained_layer(classifier, layer)
    found: list[tuple[int, float, float, float]] = []  # row, share, uniform, attainable
    num_without_mask, num_without_map, cells = 0, 0, (0, 0)
    for start in range(0, len(images), batch_size):
        rows = np.arange(start, min(start + batch_size, len(images)))
        pixels = images.gather(rows)
        seen = [
            _as_seen(classifier, image, read_mask(int(row))) for row, image in zip(rows, pixels, strict=True)
        ]
        kept = [place for place, mask in enumerate(seen) if mask is not None and mask.mean() >= MIN_INSIDE]
        num_without_mask += len(rows) - len(kept)
        progress(int(rows[-1]) + 1, len(images), "Grad-CAM")
        if not kept:
            continue
        chosen = None if targets is None else np.asarray(targets)[rows[kept]]
        maps, cells = grad_cam(
            classifier, ImageTable(pixels[kept]), chosen, layer=layer, batch_size=batch_size
        )
        masks = np.stack([mask for mask in seen if mask is not None and mask.mean() >= MIN_INSIDE])
        coarse = share_outside(_in_cells(masks, cells), masks)
        for place, share, mask, least in zip(kept, share_outside(maps, masks), masks, coarse, strict=True):
            if np.isnan(share):
                num_without_map += 1
            else:
                found.append((int(rows[place]), float(share), float(1 - mask.mean()), float(least)))
    if not found:
        raise ClassifierError(
            f"expected masks of the {len(images)} images and maps with some mass, got {num_without_mask} "
            f"without a mask and {num_without_map} where nothing speaks for the class: are the masks white "
            "inside, and named as the archive's images?"
        )
    values = np.array([row[1:] for row in found])  # (K, 3)
    known = np.asarray(subjects)[[row[0] for row in found]]
    return MaskShare(
        share=float(values[:, 0].mean()),
        interval=mean_interval(values[:, 0], known, num_draws=num_draws, seed=seed),
        uniform=float(values[:, 1].mean()),
        attainable=float(values[:, 2].mean()),
        num_images=len(found),
        num_subjects=len(set(_owners(known))),
        num_without_mask=num_without_mask,
        num_without_map=num_without_map,
        cells=cells,
    )


def mean_interval(
    values: np.ndarray, subjects: np.ndarray, *, num_draws: int = NUM_DRAWS, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile interval of a mean over images, by drawing whole subjects; None with fewer than two."""
    _, owner = np.unique(_owners(subjects), return_inverse=True)
    num_subjects = int(owner.max()) + 1
    if num_subjects < 2:
        return None
    sums = np.bincount(owner, values, minlength=num_subjects)
    counts = np.bincount(owner, minlength=num_subjects)
    drawn = np.random.default_rng(seed).integers(num_subjects, size=(num_draws, num_subjects))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def _owners(subjects: np.ndarray) -> list[str]:
    """Subjects by name; an image without one is its own."""
    return [str(subject) or f"\x00{row}" for row, subject in enumerate(subjects)]


def _as_seen(classifier: Classifier, image: np.ndarray, mask: np.ndarray | None) -> np.ndarray | None:
    """(h, w) bool: a mask in the geometry of the network's input."""
    if mask is None:
        return None
    height, width = image.shape[1:]
    inside = (mask > 0).astype(np.uint8)
    if inside.shape != (height, width):
        inside = cv2.resize(inside, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    placed = place_mask(image, inside, classifier.preprocessing.steps)
    size = classifier.preprocessing.input_size
    if placed.shape != size:  # the resize of preprocessing's first version
        return cv2.resize(placed, size[::-1], interpolation=cv2.INTER_NEAREST) > 0
    return placed > 0


def _in_cells(masks: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """The masks as a map of so many cells would show them: averaged in each, and enlarged again."""
    coarse = torch.nn.functional.adaptive_avg_pool2d(
        torch.from_numpy(masks.astype(np.float32))[:, None], cells
    )
    return enlarge(coarse[:, 0], (masks.shape[1], masks.shape[2])).numpy()
