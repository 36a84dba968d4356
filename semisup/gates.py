"""Gates: which images of the pool may be looked at by the rule at all.

Each gate is a pure function over arrays that the caller measured (hashes, scores, features). It answers for
every image of the pool, with the number that decided, so that the report can count and show examples. Several
gates are combined in their order: an image keeps the first reason for which it was turned away."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

PASSED = ""
SAME_PICTURE = "same picture"
NEAR_DUPLICATE = "near duplicate"
MEMORISED = "memorised"
OFF_MANIFOLD = "off manifold"

NUM_NEIGHBOURS = 3  # of the paper's balls
BLOCK = 1024  # rows of the pool compared at once


@dataclass(frozen=True)
class Gate:
    """What one gate says about each of the N images of the pool."""

    reason: str  # decision in the ledger of those that it turns away
    is_out: np.ndarray  # (N,) bool
    value: np.ndarray  # (N,) float, what was measured: distance, correlation, ...; NaN = nothing was
    limit: float  # where the gate turns away; NaN = it could not be measured
    nearest: np.ndarray  # (N,) int, row of the training image that it was measured against, -1 = none
    text: str  # what is measured and which side of the limit is out, for the report
    real_share: float | None = None  # of real images that it was not made from, that it would turn away
    num_asked: int | None = None  # images that it was asked about; None = all N


@dataclass(frozen=True)
class Gated:
    """All gates together."""

    gates: tuple[Gate, ...]
    reason: np.ndarray  # (N,) str, of the first gate that turned an image away; "" = passed all
    train_files: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=str))  # (M,) for `nearest`

    @property
    def passes(self) -> np.ndarray:
        """(N,) bool."""
        return self.reason == PASSED

    def counts(self) -> dict[str, int]:
        """How many images each gate turned away first, in the gates' order, zeros included."""
        return {gate.reason: int((self.reason == gate.reason).sum()) for gate in self.gates}

    @property
    def value(self) -> np.ndarray:
        """(N,) what the gate measured that turned an image away; NaN where none did."""
        found = np.full(len(self.reason), np.nan)
        for gate in self.gates:
            own = self.reason == gate.reason
            found[own] = gate.value[own]
        return found

    @property
    def nearest_file(self) -> np.ndarray:
        """(N,) str, the training image that it was measured against; empty where there is none."""
        found = np.full(len(self.reason), "", dtype=object)
        for gate in self.gates:
            own = np.flatnonzero((self.reason == gate.reason) & (gate.nearest >= 0))
            if len(own) and len(self.train_files):
                found[own] = self.train_files[gate.nearest[own]]
        return found.astype(str)


def combine(gates: Sequence[Gate], train_files: np.ndarray | None = None) -> Gated:
    """Put gates one after the other; an image keeps the first reason.

    Args:
        train_files: (M,) names of the training images that the gates' `nearest` counts.

    Raises:
        ValueError: if there is none, they speak of different pools, or two have the same reason.
    """
    if not gates or len({len(gate.is_out) for gate in gates}) != 1:
        raise ValueError(f"expected gates over one pool, got {[len(gate.is_out) for gate in gates]} images")
    names = [gate.reason for gate in gates]
    if len(set(names)) < len(names):
        raise ValueError(f"expected a reason for each gate, got {', '.join(names)}")
    reason = np.full(len(gates[0].is_out), PASSED, dtype=object)
    for gate in reversed(gates):
        reason[gate.is_out] = gate.reason
    files = np.zeros(0, dtype=str) if train_files is None else np.asarray(train_files, dtype=str)
    return Gated(tuple(gates), reason.astype(str), files)


def spread(gate: Gate, rows: np.ndarray, num_images: int) -> Gate:
    """What a gate says about some images, as a gate about the whole pool that lets the others pass.

    Args:
        rows: (n,) places of the gate's images in the pool of `num_images`.
    """
    is_out, value = np.zeros(num_images, dtype=bool), np.full(num_images, np.nan)
    nearest = np.full(num_images, -1, dtype=np.int64)
    is_out[rows], value[rows], nearest[rows] = gate.is_out, gate.value, gate.nearest
    return replace(gate, is_out=is_out, value=value, nearest=nearest, num_asked=len(rows))


def not_measured(reason: str, num_images: int, why: str) -> Gate:
    """A gate that could not be measured: everybody passes, and the report says why."""
    nothing = np.full(num_images, np.nan)
    nobody = np.full(num_images, -1, dtype=np.int64)
    return Gate(reason, np.zeros(num_images, dtype=bool), nothing, np.nan, nobody, f"not measured: {why}")


def same_picture(hashes: Sequence[str], train_hashes: Sequence[str]) -> Gate:
    """Turn away images whose file is that of a training image, to the byte.

    Args:
        hashes: (N,) sha256 of the pool's images; `train_hashes` (M,) those of the labeled images.
    """
    row_of = {value: row for row, value in reversed(list(enumerate(train_hashes)))}
    nearest = np.array([row_of.get(value, -1) for value in hashes], dtype=np.int64)
    is_out = nearest >= 0
    return Gate(SAME_PICTURE, is_out, is_out.astype(float), 1.0, nearest, "1 = the file of a training image")


def memorised(scores: np.ndarray, nearest: np.ndarray, threshold: float) -> Gate:
    """Turn away images that are far more like a training image than another person's image ever is.

    Args:
        scores: (N,) copy scores of `gan audit`: 0 = the same picture, 1 = as alike as two people.
        nearest: (N,) the training image of that score.
        threshold: below it an image is out.
    """
    text = f"copy score (0 = the same picture, 1 = as alike as two people); out below {threshold:.3f}"
    return Gate(MEMORISED, scores < threshold, np.asarray(scores, float), threshold, nearest, text)


def near_duplicates(correlations: np.ndarray, nearest: np.ndarray, min_correlation: float) -> Gate:
    """Turn away images that lie on a training image: they bring nothing new, but count twice.

    Args:
        correlations: (N,) Pearson's, with the most alike training image, over small shifts.
        nearest: (N,) that image.
        min_correlation: in (0, 1]; at this correlation an image is out.

    Raises:
        ValueError: if the limit is not as described.
    """
    if not 0 < min_correlation <= 1:
        raise ValueError(f"min_correlation must be in (0, 1], got {min_correlation}")
    text = f"correlation with the most alike training image; out at {min_correlation:.3f} or more"
    value = np.asarray(correlations, float)
    return Gate(NEAR_DUPLICATE, value >= min_correlation - 1e-9, value, min_correlation, nearest, text)


def off_manifold(
    features: np.ndarray, train_features: np.ndarray, num_neighbours: int = NUM_NEIGHBOURS
) -> Gate:
    """Turn away images that lie in no ball around a real training image that reaches to its k-th neighbour.

    Such an image is unlike anything that the labels speak about. The training images themselves lie inside;
    of fresh real images some do not, so look at the share among the validation images before blaming the
    generator.

    Args:
        features: (N, D) of the pool.
        train_features: (M, D) of the real training images, more than `num_neighbours`.
        num_neighbours: k, at least 1; 3 in the paper.

    Returns:
        A gate whose value is the smallest ratio of the distance to a training image over that image's radius:
        out where it is more than 1. Images at distance 0 of a training image have value 0.

    Raises:
        ValueError: if an argument is not as described.

    Source: Kynkaanniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models",
        arXiv:1904.06991, equation 1.
    """
    from sklearn.neighbors import NearestNeighbors

    _check_features(features, train_features)
    if not 1 <= num_neighbours < len(train_features):
        raise ValueError(
            f"num_neighbours must be in 1 ... {len(train_features) - 1} for {len(train_features)} training "
            f"images, got {num_neighbours}"
        )
    train = np.asarray(train_features, dtype=np.float64)
    among = NearestNeighbors(n_neighbors=num_neighbours).fit(train)
    radius = among.kneighbors()[0][:, -1]  # (M,) without the image itself
    value, nearest = np.empty(len(features)), np.empty(len(features), dtype=np.int64)
    for start in range(0, len(features), BLOCK):
        rows = slice(start, start + BLOCK)
        distance = _distances(features[rows], train)  # (n, M)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(distance == 0, 0.0, distance / radius)
        nearest[rows] = ratio.argmin(axis=1)
        value[rows] = ratio.min(axis=1)
    text = (
        f"distance to a training image over that to its neighbour number {num_neighbours}; out where it is "
        "more than 1 for all"
    )
    return Gate(OFF_MANIFOLD, value > 1, value, 1.0, nearest, text)


def _check_features(features: np.ndarray, train_features: np.ndarray) -> None:
    if features.ndim != 2 or train_features.ndim != 2 or features.shape[1] != train_features.shape[1]:
        raise ValueError(
            f"expected features (N, D) and (M, D) of one extractor, got {features.shape} and "
            f"{train_features.shape}"
        )
    if not len(train_features):
        raise ValueError("expected at least one training image to compare with, got none")
    for name, values in (("the pool", features), ("the training images", train_features)):
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(wrong):
            raise ValueError(f"features of {name} must be finite, row {wrong[0]} is not ({len(wrong)} such)")


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, M) Euclidean distances, exact also where two rows are nearly equal."""
    from scipy.spatial.distance import cdist

    return cdist(np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))
