"""Measures of sample quality and diversity, as pure functions over feature rows.

Nothing here knows where features come from: an extractor is chosen by the caller and has to be named beside
every figure, since figures of different extractors cannot be compared.
"""

from dataclasses import dataclass

import numpy as np


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """Squared Frechet distance of two Gaussians fitted to features (N, D), (M, D): FID on Inception features.

    Covariances are divided by N, not N - 1.

    Source: Heusel et al. 2017, arXiv:1706.08500, Equation 6.
    """
    _check_rows(real, fake)
    mean_real, cov_real = _moments(real)
    mean_fake, cov_fake = _moments(fake)
    # Trace of the root of a product of two covariances = sum of the roots of the eigenvalues of a symmetric
    # matrix that is similar to it.
    values, vectors = np.linalg.eigh(cov_real)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ cov_fake @ root)
    root_trace = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    distance = np.square(mean_real - mean_fake).sum() + np.trace(cov_real) + np.trace(cov_fake)
    return float(distance - 2 * root_trace)


def _moments(rows: np.ndarray, block: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and covariance (D, D) in float64, a block at a time: the rows are never copied."""
    mean = rows.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((rows.shape[1], rows.shape[1]))
    for part in _blocks(rows, block):
        centred = part - mean
        covariance += centred.T @ centred
    return mean, covariance / len(rows)


@dataclass(frozen=True)
class KernelDistance:
    """KID and how sure it is."""

    mean: float
    standard_error: float  # for images that are independent; NaN where a subset is the whole


def kernel_distance(
    real: np.ndarray,
    fake: np.ndarray,
    num_subsets: int = 100,
    max_subset_size: int = 1000,
    random: np.random.RandomState | None = None,
) -> KernelDistance:
    """Unbiased squared maximum mean discrepancy, kernel (x.y / D + 1)^3, averaged over random subsets.

    Subsets overlap, so that their spread is not that of independent ones: the standard error is that of
    subsampling, s sqrt(m / (n - m)) for subsets of m out of n. It does not know that slices of one subject
    are alike, and is too small where they are.

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
    left_out = min(len(real), len(fake)) - size
    error = values.std(ddof=1) * np.sqrt(size / left_out) if num_subsets > 1 and left_out else float("nan")
    return KernelDistance(float(values.mean()), float(error))


def _cubic_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of fakes inside the manifold of reals, and of reals inside that of the fakes."""

    precision: float
    recall: float


def precision_recall(
    real: np.ndarray, fake: np.ndarray, num_neighbors: int = 3, block: int = 1024
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
class DensityCoverage:
    """How many balls of reals a fake lies in, and the share of reals whose ball holds a fake."""

    density: float
    coverage: float


def density_coverage(
    real: np.ndarray, fake: np.ndarray, num_neighbors: int = 5, block: int = 1024
) -> DensityCoverage:
    """Density and coverage: balls about the reals alone, that reach to the k-th neighbour.

    Unlike precision and recall both hardly change for one outlier, and both are about 1 for two halves of one
    set of images (density may be above). Coverage grows with the number of fakes: compare equal counts.

    Source: Naeem et al. 2020, arXiv:2002.09797, Section 3.
    """
    _check_rows(real, fake)
    if len(real) <= num_neighbors or len(fake) == 0:
        raise ValueError(
            f"expected more than {num_neighbors} reals, and fakes, got {len(real)} and {len(fake)}"
        )
    num_inside, num_covered = 0, 0
    for start in range(0, len(real), block):
        rows = real[start : start + block]
        among = squared_distances(rows, real)
        among[np.arange(len(rows)), start + np.arange(len(rows))] = 0  # exactly, to be the 0th neighbour
        radii = np.partition(among, num_neighbors, axis=1)[:, num_neighbors]
        inside = squared_distances(rows, fake) < radii[:, None]  # (n, M)
        num_inside += int(inside.sum())
        num_covered += int(inside.any(axis=1).sum())
    return DensityCoverage(num_inside / (num_neighbors * len(fake)), num_covered / len(real))


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (N, M) of rows in float64, never negative."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    squared = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)[None] - 2 * (x @ y.T)
    return np.maximum(squared, 0, out=squared)


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
