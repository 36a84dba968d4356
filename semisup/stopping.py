"""Reasons to end the rounds early."""

from dataclasses import dataclass

import numpy as np

from semisup.select import Selection


@dataclass(frozen=True)
class ClassDrift:
    """How far the classes of the pseudo-labels may be from those of the labeled images."""

    limit: float  # total variation distance, in (0, 1)
    labeled_shares: np.ndarray  # (C,) share of each class among the labeled images
    classes: tuple[str, ...]

    def reason(self, selection: Selection) -> str:
        """Why the rounds end here; empty where the classes are near enough, or nothing is selected."""
        if not len(selection):
            return ""
        shares = np.bincount(selection.labels, minlength=len(self.classes)) / len(selection)  # (C,)
        drift = class_drift(shares, self.labeled_shares)
        if drift <= self.limit:
            return ""
        most = int(np.abs(shares - self.labeled_shares).argmax())
        return (
            f"class drift {drift:.2f}, more than {self.limit:g}: {self.classes[most]} is {shares[most]:.0%} "
            f"of the pseudo-labels and {self.labeled_shares[most]:.0%} of the labels"
        )


def class_drift(shares: np.ndarray, others: np.ndarray) -> float:
    """Total variation distance of two (C,) distributions: 0 where equal, 1 where no class is in both."""
    return float(np.abs(shares - others).sum() / 2)


@dataclass(frozen=True)
class StopRules:
    """When to end before the last round; None = never for that reason."""

    flip_rate: float | None = None  # at most this share of the pseudo-labels would change; 0 = none would
    without_gain: int | None = None  # rounds in a row that are no better than an earlier one
    class_drift: ClassDrift | None = None


NEVER = StopRules()


def flip_rate(before: Selection, after: Selection, pool_size: int) -> float:
    """Share of the images selected in either of two rounds that left, came, or changed their label."""
    labels = np.full((2, pool_size), -1, dtype=np.int64)
    for row, selection in zip(labels, (before, after), strict=True):
        row[selection.indices] = selection.labels
    chosen = (labels >= 0).any(axis=0)  # (N,)
    return float((labels[0] != labels[1])[chosen].mean()) if chosen.any() else 0.0
