"""Gates: which images of the pool may be looked at by the rule at all.

Each gate is a pure function over feature arrays or hashes; where the features come from (a classifier's last
layer, pixels) is the caller's affair, as long as both sides come from the same. It answers for every image of
the pool, with the number that decided, so that the report can count and show examples. Several gates are
combined in their order: an image keeps the first reason for which it was turned away."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PASSED = ""
SAME_PICTURE = "same picture"
NEAR_DUPLICATE = "near duplicate"
CORRELATED = "correlated duplicate"
MEMORISED = "memorised"
OFF_MANIFOLD = "off manifold"

BLOCK = 1024  # rows of the pool compared at once


@dataclass(frozen=True)
class Gate:
    """What one gate says about each of the N images of the pool."""

    reason: str  # decision in the ledger of those that it turns away
    is_out: np.ndarray  # (N,) bool
    value: np.ndarray  # (N,) float, what was measured: distance, correlation, ...
    limit: float  # where the gate turns away
    nearest: np.ndarray  # (N,) int, row of the training image that it was measured against, -1 = none
    text: str  # what is measured and which side of the limit is out, for the report


@dataclass(frozen=True)
class Gated:
    """All gates together."""

    gates: tuple[Gate, ...]
    reason: np.ndarray  # (N,) str, of the first gate that turned an image away; "" = passed all

    @property
    def passes(self) -> np.ndarray:
        """(N,) bool."""
        return self.reason == PASSED

    def counts(self) -> dict[str, int]:
        """How many images each gate turned away first, in the gates' order, zeros included."""
        return {gate.reason: int((self.reason == gate.reason).sum()) for gate in self.gates}

    def examples(self, reason: str, num: int, seed: int = 0) -> np.ndarray:
        """Rows of at most `num` images with this reason, drawn at random and not picked, in pool order."""
        rows = np.flatnonzero(self.reason == reason)
        drawn = np.random.default_rng(seed).permutation(len(rows))[:num]
        return np.sort(rows[drawn])


def combine(gates: Sequence[Gate]) -> Gated:
    """Put gates one after the other; an image keeps the first reason.

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
    return Gated(tuple(gates), reason.astype(str))


def same_picture(hashes: Sequence[str], train_hashes: Sequence[str]) -> Gate:
    """Turn away images whose file is that of a training image, to the byte.

    Args:
        hashes: (N,) sha256 of the pool's images; `train_hashes` (M,) those of the labeled images.
    """
    row_of = {value: row for row, value in reversed(list(enumerate(train_hashes)))}
    nearest = np.array([row_of.get(value, -1) for value in hashes], dtype=np.int64)
    is_out = nearest >= 0
    return Gate(SAME_PICTURE, is_out, is_out.astype(float), 1.0, nearest, "1 = the file of a training image")


def flagged_as_memorised(hashes: Sequence[str], flagged: Sequence[str]) -> Gate:
    """Turn away images that `gan audit` flagged as copies of a training image.

    Args:
        hashes: (N,) sha256 of the pool's images; `flagged` those of the column `sha256` of copies.csv.
    """
    known = set(flagged)
    is_out = np.array([value in known for value in hashes], dtype=bool)
    nearest = np.full(len(is_out), -1)
    return Gate(MEMORISED, is_out, is_out.astype(float), 1.0, nearest, "1 = flagged by gan audit")


def near_duplicates(features: np.ndarray, train_features: np.ndarray, max_distance: float) -> Gate:
    """Turn away images within a distance of a training image: they bring nothing new, but count twice.

    Args:
        features: (N, D) of the pool.
        train_features: (M, D) of the labeled images.
        max_distance: Euclidean; an image at this very distance is turned away too. See
            `duplicate_distance`.

    Raises:
        ValueError: if an argument is not as described.
    """
    _check_features(features, train_features)
    if not (np.isfinite(max_distance) and max_distance >= 0):
        raise ValueError(f"max_distance must be at least 0, got {max_distance}")
    distance, nearest = _nearest(features, train_features)
    text = f"distance to the nearest training image; out at {max_distance:.4g} or less"
    return Gate(NEAR_DUPLICATE, distance <= max_distance, distance, max_distance, nearest, text)


def duplicate_distance(train_features: np.ndarray, subjects: np.ndarray, share: float = 0.01) -> float:
    """A distance at which real images of different people are rarely alike.

    Args:
        train_features: (M, D).
        subjects: (M,) whom each shows.
        share: of the real images that have an image of somebody else as near as this, in [0, 1).

    Returns:
        That quantile of the distances from each training image to the nearest one of another subject.

    Raises:
        ValueError: if there are fewer than two subjects, or an argument is not as described.
    """
    _check_features(train_features, train_features)
    subjects = np.asarray(subjects)
    if len(subjects) != len(train_features):
        raise ValueError(f"expected a subject for each of {len(train_features)} images, got {len(subjects)}")
    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1), got {share}")
    if len(np.unique(subjects)) < 2:
        raise ValueError("expected images of at least two subjects, got one: nobody to compare with")
    nearest = np.empty(len(subjects))
    for start in range(0, len(subjects), BLOCK):
        rows = slice(start, start + BLOCK)
        distance = _distances(train_features[rows], train_features)
        distance[subjects[rows, None] == subjects[None]] = np.inf
        nearest[rows] = distance.min(axis=1)
    return float(np.quantile(nearest, share, method="lower"))


def correlated_duplicates(
    pixels: np.ndarray, train_pixels: np.ndarray, min_correlation: float = 0.98
) -> Gate:
    """Turn away images whose pixels correlate with those of a training image, brightness and contrast aside.

    Args:
        pixels: (N, D) of the pool, one row an image; `train_pixels` (M, D) of the labeled images.
        min_correlation: Pearson's, in (0, 1]; at this correlation an image is turned away.

    Raises:
        ValueError: if an argument is not as described.
    """
    if not 0 < min_correlation <= 1:
        raise ValueError(f"min_correlation must be in (0, 1], got {min_correlation}")
    _check_features(pixels, train_pixels)
    train = _standardised(train_pixels)
    value, nearest = np.empty(len(pixels)), np.empty(len(pixels), dtype=np.int64)
    for start in range(0, len(pixels), BLOCK):
        rows = slice(start, start + BLOCK)
        correlation = _standardised(pixels[rows]) @ train.T  # (n, M)
        nearest[rows] = correlation.argmax(axis=1)
        value[rows] = correlation.max(axis=1)
    text = f"correlation with the most alike training image; out at {min_correlation:g} or more"
    return Gate(CORRELATED, value >= min_correlation - 1e-9, value, min_correlation, nearest, text)


def off_manifold(features: np.ndarray, train_features: np.ndarray, num_neighbours: int = 3) -> Gate:
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


def _nearest(features: np.ndarray, train_features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) distance to the nearest training image, and its row."""
    distance, row = np.empty(len(features)), np.empty(len(features), dtype=np.int64)
    for start in range(0, len(features), BLOCK):
        rows = slice(start, start + BLOCK)
        block = _distances(features[rows], train_features)
        row[rows], distance[rows] = block.argmin(axis=1), block.min(axis=1)
    return distance, row


def _standardised(pixels: np.ndarray) -> np.ndarray:
    """Rows with mean 0 and length 1; a row without contrast becomes 0 and correlates with nothing."""
    centred = np.asarray(pixels, dtype=np.float64)
    centred = centred - centred.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(length > 1e-9, centred / np.where(length > 1e-9, length, 1), 0.0)
