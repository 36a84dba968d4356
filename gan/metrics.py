"""Measures of sample quality and diversity, as pure functions over feature rows.

Nothing here knows where features come from: an extractor is chosen by the caller and has to be named beside
every figure, since figures of different extractors cannot be compared.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """Squared Frechet distance of two Gaussians fitted to features (N, D), (M, D): FID on Inception features.

    Covariances are divided by N, not N - 1.

    Source: Heusel et al. 2017, arXiv:1706.08500, Equation 6.
    """
    _check_rows(real, fake)
    mean_difference = np.square(
        real.mean(axis=0, dtype=np.float64) - fake.mean(axis=0, dtype=np.float64)
    ).sum()
    cov_real = np.cov(real.astype(np.float64), rowvar=False, bias=True).reshape(real.shape[1], -1)
    cov_fake = np.cov(fake.astype(np.float64), rowvar=False, bias=True).reshape(fake.shape[1], -1)
    # Trace of the root of a product of two covariances = sum of the roots of its (non-negative) eigenvalues.
    eigenvalues = scipy.linalg.eigvals(cov_real @ cov_fake)
    root_trace = np.sqrt(np.maximum(eigenvalues.real, 0)).sum()
    return float(mean_difference + np.trace(cov_real) + np.trace(cov_fake) - 2 * root_trace)


@dataclass(frozen=True)
class KernelDistance:
    """KID and how sure it is."""

    mean: float
    standard_error: float  # of the mean over subsets


def kernel_distance(
    real: np.ndarray,
    fake: np.ndarray,
    num_subsets: int = 100,
    max_subset_size: int = 1000,
    random: np.random.RandomState | None = None,
) -> KernelDistance:
    """Unbiased squared maximum mean discrepancy, kernel (x.y / D + 1)^3, averaged over random subsets.

    Source: Binkowski et al. 2018, arXiv:1801.01401, Section 4.
    """
    _check_rows(real, fake)
    random = random or np.random.RandomState(0)
    size = min(len(real), len(fake), max_subset_size)
    values = np.empty(num_subsets)
    for index in range(num_subsets):
        x = fake[random.choice(len(fake), size, replace=False)].astype(np.float64)
        y = real[random.choice(len(real), size, replace=False)].astype(np.float64)
        within = _cubic_kernel(x, x) + _cubic_kernel(y, y)
        across = _cubic_kernel(x, y)
        values[index] = (within.sum() - np.trace(within)) / (size * (size - 1)) - 2 * across.mean()
    spread = values.std(ddof=1) / np.sqrt(num_subsets) if num_subsets > 1 else float("nan")
    return KernelDistance(float(values.mean()), float(spread))


def _cubic_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of fakes inside the manifold of reals, and of reals inside that of the fakes."""

    precision: float
    recall: float


def precision_recall(
    real: np.ndarray, fake: np.ndarray, num_neighbors: int = 3, block: int = 4096
) -> PrecisionRecall:
    """Improved precision and recall: a manifold is the union of balls that reach to the k-th neighbour.

    Computed in float16 as the official measure is: features, distances and radii.

    Source: Kynkaanniemi et al. 2019, arXiv:1904.06991, Section 2.
    """
    _check_rows(real, fake)
    if min(len(real), len(fake)) <= num_neighbors:
        raise ValueError(
            f"expected more than {num_neighbors} rows on each side, got {len(real)} and {len(fake)}"
        )
    real, fake = real.astype(np.float16), fake.astype(np.float16)
    return PrecisionRecall(
        precision=_share_inside(real, fake, num_neighbors, block),
        recall=_share_inside(fake, real, num_neighbors, block),
    )


def _share_inside(manifold: np.ndarray, probes: np.ndarray, num_neighbors: int, block: int) -> float:
    radii = np.concatenate(
        [
            np.partition(_distances(rows, manifold), num_neighbors, axis=1)[
                :, num_neighbors
            ]  # 0th is the row itself
            for rows in _blocks(manifold, block)
        ]
    )
    inside = [(_distances(rows, manifold) <= radii).any(axis=1) for rows in _blocks(probes, block)]
    return float(np.concatenate(inside).mean())


def _blocks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pairwise distances (N, M): squared norms and distances are rounded to float16, sums are float32.

    The rounding decides near ties, so that figures agree with published ones only where it is done alike.
    """
    x_norms = np.square(x).sum(axis=1, dtype=np.float32).astype(np.float16).astype(np.float32)
    y_norms = np.square(y).sum(axis=1, dtype=np.float32).astype(np.float16).astype(np.float32)
    squared = x_norms[:, None] + y_norms[None] - 2 * (x.astype(np.float32) @ y.astype(np.float32).T)
    return np.sqrt(np.maximum(squared.astype(np.float16), np.float16(0)))


@dataclass(frozen=True)
class InceptionScore:
    mean: float
    std: float


def inception_score(probs: np.ndarray, num_splits: int = 10) -> InceptionScore:
    """Exponential of the mean divergence of class probabilities (N, C) from their average, over equal splits.

    Source: Salimans et al. 2016, arXiv:1606.03498, Section 4.
    """
    scores = []
    for index in range(num_splits):
        part = probs[index * len(probs) // num_splits : (index + 1) * len(probs) // num_splits].astype(
            np.float64
        )
        divergence = part * (np.log(part) - np.log(part.mean(axis=0, keepdims=True)))
        scores.append(np.exp(divergence.sum(axis=1).mean()))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def trimmed_path_length(distances: np.ndarray) -> float:
    """Mean of perceptual path lengths without those below the 1st and above the 99th percentile.

    Source: Karras et al. 2019, arXiv:1812.04948, Section 4.1.
    """
    low = np.percentile(distances, 1, method="lower")
    high = np.percentile(distances, 99, method="higher")
    return float(distances[(distances >= low) & (distances <= high)].astype(np.float64).mean())


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray | float) -> np.ndarray:
    """Walk along the unit sphere from the direction of a (..., D) to that of b by the share t (..., 1)."""
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    cosine = np.clip((a * b).sum(axis=-1, keepdims=True), -1, 1)
    angle = t * np.arccos(cosine)
    across = b - cosine * a
    across = across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-12)
    point = a * np.cos(angle) + across * np.sin(angle)
    return point / np.linalg.norm(point, axis=-1, keepdims=True)


def _check_rows(real: np.ndarray, fake: np.ndarray) -> None:
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"expected features (N, D) and (M, D), got {real.shape} and {fake.shape}")
