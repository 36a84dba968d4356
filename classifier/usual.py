"""How the training images look in a few numbers, to tell when an image to judge looks like none of them.

This catches gross mistakes (another modality, an inverted or blank picture, a screenshot), no more: an image
within all ranges may still be of a kind that the classifier has never seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from classifier.data import ImageTable

FEATURES = {
    "mean": "mean gray level",
    "contrast": "standard deviation of its gray levels",
    "black": "share of black pixels",
    "edges": "mean difference between neighbouring pixels",
}
QUANTILES = (0.01, 0.99)  # of the training images: what counts as usual
MARGIN = 0.5  # of that range, which an image may lie outside on either side
SMALLEST_MARGIN = {"mean": 4.0, "contrast": 2.0, "black": 0.02, "edges": 1.0}
MAX_MEASURED = 500  # training images, evenly spread: a tenth of a second
BLACK_LEVEL = 8


@dataclass(frozen=True)
class UsualInputs:
    """The ranges of the training images' numbers, gray levels on the scale 0 ... 255."""

    low: Mapping[str, float]
    high: Mapping[str, float]

    def describe_strange(self, pixels: np.ndarray) -> list[str]:
        """For each of (N, C, H, W) uint8 what is far outside the training's ranges; "" where nothing is."""
        sentences: list[list[str]] = [[] for _ in pixels]
        for name, values in measure(pixels).items():
            margin = max(MARGIN * (self.high[name] - self.low[name]), SMALLEST_MARGIN[name])
            low, high = self.low[name], self.high[name]
            for row in np.flatnonzero((values < low - margin) | (values > high + margin)):
                sentences[row].append(
                    f"{FEATURES[name]} {values[row]:.3g}, in training {low:.3g} to {high:.3g}"
                )
        return ["; ".join(said) for said in sentences]

    def to_json(self) -> dict[str, Any]:
        """As `model.json` holds it."""
        return {name: [self.low[name], self.high[name]] for name in FEATURES}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> UsualInputs:
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: if it is anything else.
        """
        ranges = {name: (float(content[name][0]), float(content[name][1])) for name in FEATURES}
        return UsualInputs(
            {name: low for name, (low, _) in ranges.items()},
            {name: high for name, (_, high) in ranges.items()},
        )


def measure_usual(images: ImageTable) -> UsualInputs | None:
    """The ranges of the training images; None where there is no image."""
    if not len(images):
        return None
    rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), MAX_MEASURED)).astype(np.int64))
    parts = [measure(images.gather(rows[start : start + 256])) for start in range(0, len(rows), 256)]
    low, high = {}, {}
    for name in FEATURES:
        values = np.concatenate([part[name] for part in parts])
        low[name], high[name] = (float(value) for value in np.quantile(values, QUANTILES))
    return UsualInputs(low, high)


def measure(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The features by name, each (N,), of (N, C, H, W) uint8."""
    gray = (pixels[:, 0] if pixels.shape[1] == 1 else pixels.mean(axis=1)).astype(np.float32)  # (N, H, W)
    steps = np.abs(np.diff(gray, axis=2)).mean(axis=(1, 2)) + np.abs(np.diff(gray, axis=1)).mean(axis=(1, 2))
    return {
        "mean": gray.mean(axis=(1, 2)),
        "contrast": gray.std(axis=(1, 2)),
        "black": (gray <= BLACK_LEVEL).mean(axis=(1, 2)),
        "edges": steps / 2,
    }
