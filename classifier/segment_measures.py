"""How well a mask agrees with the one that an expert drew, and how sure one can be of the mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from extract.seeds import derive_seed

MEASURES = ("dice", "iou", "hd95_px", "asd_px")
EDGE_PERCENTILE = 95


def overlap(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Dice and IoU of two (H, W) masks; NaN where the truth is empty, for there is nothing to agree with."""
    predicted, truth = _checked(predicted, truth)
    if not truth.any():
        return float("nan"), float("nan")
    both, total = int((predicted & truth).sum()), int(predicted.sum()) + int(truth.sum())
    return 2 * both / total, both / (total - both)


def edge_distances(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each edge pixel of the one mask to the other's edge, in pixels, both ways.

    An edge pixel belongs to the mask and has one of its four neighbours, or the picture's border, outside it.
    Empty arrays where either mask is empty.
    """
    predicted, truth = _checked(predicted, truth)
    edge_a, edge_b = _edge(predicted), _edge(truth)
    if not edge_a.any() or not edge_b.any():
        return np.empty(0), np.empty(0)
    to_b = ndimage.distance_transform_edt(~edge_b)
    to_a = ndimage.distance_transform_edt(~edge_a)
    return to_b[edge_a], to_a[edge_b]


def measure_mask(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The `MEASURES` of one image.

    `hd95_px` is the 95 % Hausdorff distance: the larger of the two ways' 95th percentiles. `asd_px` is the
    mean distance over both edges together. Both are NaN where a mask is empty.

    Source: Maier-Hein et al. 2024, "Metrics reloaded", Nature Methods 21.
    """
    dice, iou = overlap(predicted, truth)
    there, back = edge_distances(predicted, truth)
    if len(there) == 0:
        return {"dice": dice, "iou": iou, "hd95_px": float("nan"), "asd_px": float("nan")}
    farthest = max(np.percentile(there, EDGE_PERCENTILE), np.percentile(back, EDGE_PERCENTILE))
    return {
        "dice": dice,
        "iou": iou,
        "hd95_px": float(farthest),
        "asd_px": float(np.concatenate([there, back]).mean()),
    }


@dataclass(frozen=True)
class MeanMeasure:
    """A mean over images with its 95 % interval by subject."""

    mean: float
    low: float
    high: float
    num_images: int  # that the measure is defined for
    num_undefined: int

    def to_json(self) -> dict[str, float | int | list[float]]:
        return {
            "mean": self.mean,
            "interval_95": [self.low, self.high],
            "num_images": self.num_images,
            "num_undefined": self.num_undefined,
        }


def mean_measures(
    rows: Sequence[Mapping[str, float]], subjects: Sequence[str], *, num_draws: int = 2000, seed: int = 0
) -> dict[str, MeanMeasure]:
    """Mean of each measure over the images, and a percentile interval by drawing whole subjects again.

    Images for which a measure is undefined do not count for it, and are counted. With one subject there is no
    interval (NaN).

    Source: Field and Welsh 2007, "Bootstrapping clustered data", J. R. Stat. Soc. B 69(3).
    """
    _, owner = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    num_subjects = int(owner.max()) + 1 if len(owner) else 0
    rng = np.random.default_rng(derive_seed("segment measures", seed))
    times = rng.multinomial(num_subjects, np.full(num_subjects, 1 / num_subjects), num_draws)  # (B, subjects)
    return {name: _mean(np.array([row[name] for row in rows]), owner, times) for name in MEASURES}


def _mean(values: np.ndarray, owner: np.ndarray, times: np.ndarray) -> MeanMeasure:
    defined = np.isfinite(values)
    num_subjects = times.shape[1]
    if not defined.any():
        return MeanMeasure(float("nan"), float("nan"), float("nan"), 0, len(values))
    total = np.bincount(owner[defined], values[defined], minlength=num_subjects)
    count = np.bincount(owner[defined], minlength=num_subjects)
    low = high = float("nan")
    if num_subjects > 1:
        drawn = times @ count
        means = (times @ total)[drawn > 0] / drawn[drawn > 0]
        low, high = (float(value) for value in np.percentile(means, [2.5, 97.5]))
    return MeanMeasure(float(values[defined].mean()), low, high, int(defined.sum()), int((~defined).sum()))


def _edge(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)  # beyond the border counts as outside


def _checked(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = np.asarray(predicted, bool), np.asarray(truth, bool)
    if predicted.ndim != 2 or predicted.shape != truth.shape:
        raise ValueError(f"masks must be (H, W) of one size, got {predicted.shape} and {truth.shape}")
    return predicted, truth
