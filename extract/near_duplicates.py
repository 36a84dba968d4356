"""Near duplicates: one picture saved again, brighter, sharper, shifted by a few pixels, mirrored or turned.

Fingerprints propose candidates, their correlation finds orientation and shift, and then the correlation
from place to place decides. Neighbouring slices of a person, or chests of two people, agree in most places
and differ in some; two copies of a picture agree everywhere. So what counts is the half of the places that
agree least.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft

from extract.errors import SettingsError
from extract.fingerprints import (
    ORIENTATION_PAIRS,
    candidate_pairs,
    fine_structure,
    likely_orientations,
    take_fingerprints,
    turn,
)
from extract.progress import Progress, no_progress

MIN_SIDE = 32  # pixels; smaller pictures have too little fine structure to tell copies from relatives
CHUNK_SIZE = 512  # pairs correlated at a time
MAX_SHIFT = 0.09  # of a side, found in either direction
MAX_CANDIDATES = 16  # nearest neighbours of a picture that are compared with it
MIN_PRODUCT = 0.3  # of fingerprints, for a pair to be a candidate
MIN_OVERALL = 0.7  # correlation of the whole fine structure, for the places to be compared
# Pixels of a 64-pixel thumbnail: noise below the first is left out, detail up to the second compared, in
# places of the third's width.
NOISE_SIGMA, DETAIL_SIGMA, PLACE_SIGMA = 0.6, 2.0, 3.0
MIN_ENERGY = 0.2  # of the picture's strongest places, below which a place has nothing to compare
MIN_COMMON = 0.5  # of the places where either picture has detail, those where both have
MIN_PLACES = 0.03  # of all pixels
WHITE, MAX_WHITE = 250, 0.15  # gray level that counts as cut, and share of a place that may be
COUNTED = (0.05, 0.5)  # of the places, from those that agree least: but for a mark or a letter, the half
RIM = 2.0  # pixels of a 64-pixel thumbnail that are left out beside what a shift moved in
BLACK = 12  # gray level up to which a line beside the content (padding, air) is none of it


@dataclass(frozen=True)
class NearPair:
    """Two rows that show the same picture, and what was done between them."""

    row: int
    other: int  # larger than row
    likeness: float  # mean correlation of the half of the places that agree least, at most 1
    orientation: int  # of fingerprints.ORIENTATIONS: how `other` has to be turned to look like `row`
    shift: tuple[float, float]  # (down, across) in shares of a side: brings the turned `other` onto `row`


def find_near_duplicates(
    thumbs: np.ndarray,
    rows: np.ndarray,
    owners: np.ndarray,
    *,
    min_likeness: float,
    progress: Progress = no_progress,
) -> list[NearPair]:
    """Pairs of pictures that are copies of each other by more than a coincidence.

    Args:
        thumbs: (N, S, S) uint8 gray.
        rows: the rows to compare, ascending, usually one of each group of identical pictures.
        owners: (N,) int; pictures of one owner are alike by nature and not compared; negative = nobody's.
        min_likeness: to be reached by a pair, in (0, 1).

    Returns:
        Pairs in ascending order; none where the thumbnails have fewer than 32 pixels a side.

    Raises:
        SettingsError: if min_likeness is outside (0, 1).
    """
    if not 0 < min_likeness < 1:
        raise SettingsError(f"--min-likeness must be between 0 and 1, got {min_likeness}")
    if thumbs.shape[1] < MIN_SIDE or len(rows) < 2:
        return []
    prints = take_fingerprints(thumbs[rows])
    pairs = candidate_pairs(
        prints.blind, owners[rows], min_product=MIN_PRODUCT, max_per_picture=MAX_CANDIDATES,
        progress=progress,
    )  # fmt: skip
    found = []
    for start in range(0, len(pairs), CHUNK_SIZE):
        chunk = pairs[start : start + CHUNK_SIZE]
        turns = likely_orientations(prints.amplitudes, chunk)
        for likely in _align(thumbs, rows[chunk], turns):
            moved = _move(turn(thumbs[likely.other], likely.orientation), likely.shift)
            likeness = compare_places(thumbs[likely.row], moved, likely.shift)
            if likeness >= min_likeness:
                found.append(NearPair(likely.row, likely.other, likeness, likely.orientation, likely.shift))
        progress(min(start + CHUNK_SIZE, len(pairs)), len(pairs), "comparing pictures that are alike")
    return found


def _align(thumbs: np.ndarray, pairs: np.ndarray, turns: np.ndarray) -> list[NearPair]:
    """The pairs that agree as a whole, each in its best orientation and shift; `likeness` is of the whole."""
    needed, where = np.unique(pairs, return_inverse=True)
    where = where.reshape(-1, 2)
    fine = np.stack([fine_structure(thumbs[row]) for row in needed])  # (U, S, S)
    best: dict[int, NearPair] = {}
    for number, both in enumerate(ORIENTATION_PAIRS):
        chosen = np.flatnonzero(turns == number)
        if not len(chosen):
            continue
        for orientation in both:
            others = turn(fine[where[chosen, 1]], orientation)
            likeness, shifts = correlate(fine[where[chosen, 0]], others)
            for k in np.flatnonzero(likeness >= MIN_OVERALL):
                place = int(chosen[k])
                if place not in best or likeness[k] > best[place].likeness:
                    row, other = (int(value) for value in pairs[place])
                    shift = (float(shifts[k, 0]), float(shifts[k, 1]))
                    best[place] = NearPair(row, other, float(likeness[k]), orientation, shift)
    return [best[place] for place in sorted(best)]


def correlate(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of (M, S, S) fine structures at the best shift, to a fraction of a pixel.

    Returns:
        (M,) values, and (M, 2) shifts (down, across) in shares of a side that bring b onto a.
    """
    m, side, _ = a.shape
    spectrum = fft.rfft2(a) * np.conj(fft.rfft2(b))
    surface = fft.irfft2(spectrum, s=(side, side))  # (M, S, S): every cyclic shift
    reach = max(1, round(MAX_SHIFT * side))
    near = np.arange(-reach - 1, reach + 2)
    window = surface[:, near[:, None], near]  # (M, 2 * reach + 3, 2 * reach + 3)
    inner = window[:, 1:-1, 1:-1].reshape(m, -1)
    down, across = np.divmod(inner.argmax(axis=1), 2 * reach + 1)
    index = np.arange(m)
    peak = window[index, down + 1, across + 1]
    gain_down, more_down = _vertex(window[index, down, across + 1], peak, window[index, down + 2, across + 1])
    gain_across, more_across = _vertex(
        window[index, down + 1, across], peak, window[index, down + 1, across + 2]
    )
    shifts = np.stack([down - reach + more_down, across - reach + more_across], axis=1) / side
    return np.minimum(peak + gain_down + gain_across, 1.0), shifts


def _vertex(before: np.ndarray, peak: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much higher than the peak a parabola through three values goes, and where from the peak."""
    curvature = np.minimum(before + after - 2 * peak, -1e-9)
    place = np.clip((before - after) / (2 * curvature), -0.5, 0.5)
    return 0.5 * (after - before) * place + 0.5 * curvature * place * place, place


def _move(thumb: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """(S, S) float32, shifted (down, across) by shares of a side; the rim is continued."""
    side = len(thumb)
    matrix = np.array([[1, 0, shift[1] * side], [0, 1, shift[0] * side]], np.float32)
    return cv2.warpAffine(
        np.ascontiguousarray(thumb, dtype=np.float32), matrix, (side, side),
        flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def _extent(pixels: np.ndarray, axis: int) -> tuple[int, int]:
    """First line along an axis that is not black throughout, and the one after the last."""
    lines = np.flatnonzero(pixels.max(axis=1 - axis) > BLACK)
    return (int(lines[0]), int(lines[-1]) + 1) if len(lines) else (0, len(pixels))


def compare_places(a: np.ndarray, b: np.ndarray, shift: tuple[float, float]) -> float:
    """How alike two aligned (S, S) pictures are in the half of the places where they are least so.

    Places without detail in one of the pictures do not count (black around an organ), nor do those that one
    of them has lost: cut at white, or moved out at the rim.

    Args:
        shift: (down, across) in shares of a side, by which b was moved.

    Returns:
        A mean correlation in [-1, 1]; 0 where there is too little to compare.
    """
    side = len(a)
    scale = side / 64
    details, energies = [], []
    for pixels in (a, b):
        smooth = cv2.GaussianBlur(np.asarray(pixels, np.float32), (0, 0), NOISE_SIGMA * scale)
        details.append(smooth - cv2.GaussianBlur(smooth, (0, 0), DETAIL_SIGMA * scale))
        energies.append(np.sqrt(cv2.GaussianBlur(details[-1] ** 2, (0, 0), PLACE_SIGMA * scale)))
    has_detail = [e > max(1.0, MIN_ENERGY * float(np.quantile(e, 0.9))) for e in energies]
    white = (np.maximum(a, b) >= WHITE).astype(np.float32)
    kept = cv2.GaussianBlur(white, (0, 0), PLACE_SIGMA * scale) < MAX_WHITE
    for axis, moved in enumerate(shift):
        (first_a, last_a), (first_b, last_b) = _extent(a, axis), _extent(b, axis)
        rim = int(np.ceil(abs(moved) * side + RIM * scale))
        lines = np.moveaxis(kept, axis, 0)
        lines[: max(first_a, first_b) + rim] = False
        lines[max(min(last_a, last_b) - rim, 0) :] = False
    common, either = has_detail[0] & has_detail[1] & kept, (has_detail[0] | has_detail[1]) & kept
    if common.sum() < max(MIN_COMMON * either.sum(), MIN_PLACES * a.size):
        return 0.0
    product = cv2.GaussianBlur(details[0] * details[1], (0, 0), PLACE_SIGMA * scale)
    local = np.sort(product[common] / (energies[0] * energies[1])[common])
    return float(local[int(COUNTED[0] * len(local)) : max(1, int(COUNTED[1] * len(local)))].mean())
