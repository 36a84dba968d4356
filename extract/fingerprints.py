"""Perceptual fingerprints: vectors in which copies of a picture are neighbours, wherever and however turned.

The amplitudes of a picture's spectrum do not change when it is shifted; mirroring and turning by 90 degrees
only exchange them four by four, so that, each four sorted, they are the same for all eight orientations.
Taken of the fine structure, with contrast evened out, they hardly depend on brightness, sharpening or JPEG.
A search over these vectors finds candidates; it has to try neither shifts nor orientations.

Source: the translation invariance is that of Fourier-Mellin matching (Reddy and Chatterji 1996, "An FFT-Based
Technique for Translation, Rotation, and Scale-Invariant Image Registration"), without its log-polar step.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft

from extract.progress import Progress, no_progress

NUM_FREQUENCIES = 12  # in each direction, of the lowest
CHUNK_SIZE = 1024  # pictures transformed at a time
BLOCK_SIZE = 2048  # pictures compared with as many at a time: 16 MB of products
REPORT_INTERVAL = 4  # rows of blocks between two reports of progress
FINE_SIGMA, COARSE_SIGMA = 0.8, 3.0  # pixels of a 64-pixel thumbnail: structure between these counts
MIN_STRUCTURE = 0.15  # of the picture's strongest, below which a place counts as even

# Bit 0: mirrored left-right, bit 1: mirrored top-bottom, both after bit 2: rows and columns exchanged.
ORIENTATIONS = (
    "as it is", "mirrored left-right", "mirrored top-bottom", "turned by 180 degrees",
    "mirrored along the diagonal", "turned by 90 degrees clockwise",
    "turned by 90 degrees anticlockwise", "mirrored along the other diagonal",
)  # fmt: skip
# Orientations that differ by half a turn have the same amplitudes, so amplitudes tell only these pairs apart.
ORIENTATION_PAIRS = ((0, 3), (1, 2), (4, 7), (5, 6))


@dataclass(frozen=True)
class Fingerprints:
    """What is kept of each picture for the search; even pictures have zeros."""

    blind: np.ndarray  # (N, 360) float32 unit vectors, standardized over the pictures: the same for all turns
    amplitudes: np.ndarray  # (N, 90, 4) float32: those that turning exchanges, side by side


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(..., H, W) pixels in one of the eight orientations."""
    if orientation & 4:
        pixels = np.swapaxes(pixels, -1, -2)
    if orientation & 2:
        pixels = pixels[..., ::-1, :]
    return pixels[..., ::-1] if orientation & 1 else pixels


def fine_structure(thumb: np.ndarray) -> np.ndarray:
    """(S, S) float32 of zero mean and unit norm: what is finer than the organ and coarser than noise.

    Brightness is taken away and contrast evened out from place to place, so that neither brightening nor
    sharpening nor a bright border decides. An even picture gives zeros.
    """
    scale = len(thumb) / 64
    smooth = cv2.GaussianBlur(thumb.astype(np.float32), (0, 0), FINE_SIGMA * scale)
    detail = smooth - cv2.GaussianBlur(smooth, (0, 0), COARSE_SIGMA * scale)
    energy = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), COARSE_SIGMA * scale))
    floor = max(1.0, float(np.quantile(energy, 0.9)) * MIN_STRUCTURE)
    detail = detail / (energy + floor)
    detail -= detail.mean()
    norm = float(np.linalg.norm(detail))
    return detail / norm if norm > 1e-3 else np.zeros_like(detail)


def take_fingerprints(thumbs: np.ndarray) -> Fingerprints:
    """Fingerprints of (N, S, S) uint8 thumbnails, S at least 32."""
    chunks = range(0, len(thumbs), CHUNK_SIZE)
    amplitudes = np.concatenate([_amplitudes(thumbs[start : start + CHUNK_SIZE]) for start in chunks])
    values = np.sort(amplitudes, axis=2).reshape(len(thumbs), -1)
    has_structure = values.any(axis=1)
    # What all pictures have in common (the organ's own rhythm) is taken away, so that the rest decides.
    known = values[has_structure] if has_structure.any() else values
    values = (values - known.mean(axis=0)) / (known.std(axis=0) + 1e-6)
    values[~has_structure] = 0
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    return Fingerprints(values, amplitudes)


def _amplitudes(thumbs: np.ndarray) -> np.ndarray:
    """(N, 90, 4) square roots of amplitudes, so that the strongest do not decide alone."""
    spectrum = np.abs(fft.fft2(np.stack([fine_structure(thumb) for thumb in thumbs]))) ** np.float32(0.5)
    u, v = np.tril_indices(NUM_FREQUENCIES + 1)
    u, v = u[1:], v[1:]  # without the mean; u >= v, so that each four comes once
    return np.stack(
        [spectrum[:, u, v], spectrum[:, u, -v], spectrum[:, v, u], spectrum[:, v, -u]], axis=2
    ).astype(np.float32)


def likely_orientations(amplitudes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(M,) which of ORIENTATION_PAIRS makes the second picture most like the first."""
    first, second = amplitudes[pairs[:, 0]], amplitudes[pairs[:, 1]]
    # Mirroring exchanges the first with the second and the third with the fourth; exchanging rows and columns
    # the first with the third; the two together give the quarter turns.
    exchanged = ([0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0])
    products = np.stack([(first * second[:, :, order]).sum(axis=(1, 2)) for order in exchanged], axis=1)
    return products.argmax(axis=1)


def candidate_pairs(
    blind: np.ndarray,
    owners: np.ndarray,
    *,
    min_product: float,
    max_per_picture: int,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Pairs of pictures whose fingerprints are neighbours.

    Args:
        blind: (N, F) float32 unit vectors (or zeros, which pair with nothing).
        owners: (N,) int; two pictures of one owner are no pair. Negative = nobody's, pairs with all.
        min_product: inner product to reach, in (0, 1).
        max_per_picture: of more neighbours, each picture keeps its nearest; bounds the cost where all alike.

    Returns:
        (M, 2) int64, each pair once with the smaller row first, in ascending order.
    """
    num_images = len(blind)
    found = [np.zeros((0, 2), np.int64)]
    products = [np.zeros(0, np.float32)]
    for start in range(0, num_images, BLOCK_SIZE):
        block, theirs = blind[start : start + BLOCK_SIZE], owners[start : start + BLOCK_SIZE]
        for other in range(start, num_images, BLOCK_SIZE):
            table = block @ blind[other : other + BLOCK_SIZE].T
            places = np.flatnonzero(table >= min_product)
            a, b = np.divmod(places, table.shape[1])
            is_pair = (theirs[a] != owners[other + b]) | (theirs[a] < 0)
            if other == start:
                is_pair &= a < b
            a, b = a[is_pair], b[is_pair]
            found.append(np.stack([a + start, b + other], axis=1))
            products.append(table[a, b])
        if start // BLOCK_SIZE % REPORT_INTERVAL == 0:
            progress(min(start + BLOCK_SIZE, num_images), num_images, "looking for pictures that are alike")
    return _keep_nearest(np.concatenate(found), np.concatenate(products), num_images, max_per_picture)


def _keep_nearest(
    pairs: np.ndarray, products: np.ndarray, num_images: int, max_per_picture: int
) -> np.ndarray:
    """The pairs that are among the nearest of either picture."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -products))
    kept = np.zeros(len(pairs), bool)
    for side in (0, 1):
        # Each picture's pairs in order of nearness: their places within the picture's run are the ranks.
        runs = order[np.argsort(pairs[order, side], kind="stable")]
        mine = pairs[runs, side]
        first = np.searchsorted(mine, mine, side="left")
        kept[runs[np.arange(len(runs)) - first < max_per_picture]] = True
    kept_pairs = pairs[kept]
    return kept_pairs[np.lexsort((kept_pairs[:, 1], kept_pairs[:, 0]))]
