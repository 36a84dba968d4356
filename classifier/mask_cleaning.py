"""From what a network marked as lung to two lungs: specks go, holes close, lungs that touch are parted.

Pixels belong together that touch at a side or a corner; background only at a side, so that a hole is always
within one piece. Opening (the optional smoothing) followed by filling of holes gives the same when done
twice (Serra 1988, "Image Analysis and Mathematical Morphology 2", ch. 6); the choice of pieces keeps that.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import ndimage

from extract.errors import SettingsError

TOUCHING = np.ones((3, 3), bool)
MAX_CANDIDATES = 6  # pieces that may be a lung, the largest ones
MIN_SIDE_BY_SIDE = 0.3  # of the shorter lung's height that both have in common
MAX_ABOVE_EACH_OTHER = 0.5  # of the narrower lung's width that both have in common
OUTER = 0.12  # of the picture's width, left and right, in which no lung has its middle: air beside the body
MAX_NECK = 0.4  # pixels in the neck's column over those in the fullest column on the lower side


@dataclass(frozen=True)
class CleaningConfig:
    """What counts as a lung."""

    min_area: float = 0.01  # smallest lung, share of the picture
    max_area: float = 0.45  # largest lung, share of the picture
    min_ratio: float = 0.15  # smaller lung over the larger one
    smooth: int = 0  # radius in pixels: what is thinner is cut off; 0 = edges stay as they are

    def __post_init__(self) -> None:
        if not 0 < self.min_area < self.max_area <= 1:
            raise SettingsError(
                "expected 0 < min_area < max_area <= 1 as shares of the picture, got "
                f"{self.min_area} and {self.max_area}"
            )
        if not 0 < self.min_ratio <= 1:
            raise SettingsError(f"min_ratio must be in (0, 1], got {self.min_ratio}")
        if self.smooth < 0:
            raise SettingsError(f"smooth must not be negative, got {self.smooth}")


@dataclass(frozen=True)
class CleanedMask:
    """What is left of a mask, and what was found."""

    mask: np.ndarray  # (H, W) bool
    num_lungs: int  # 0, 1 or 2; nothing is invented where there is none
    num_dropped: int  # pieces that are no lung
    was_joined: bool  # both lungs were one piece and were parted

    @property
    def finding(self) -> str:
        """In words."""
        return ("no lung", "one lung", "two lungs")[self.num_lungs]


def clean_mask(mask: np.ndarray, config: CleaningConfig | None = None) -> CleanedMask:
    """Keep the two pieces that look like lungs, or the one there is, or nothing.

    A pair of lungs lies side by side, neither is tiny beside the other, and of all such pairs it is the
    largest. Where there is no pair, the largest piece is parted at a neck if it has one between a left and a
    right hump, and is one lung otherwise. Doing it again changes nothing.

    Args:
        mask: (H, W), true where the network sees lung.

    Raises:
        ValueError: if the mask is not two-dimensional.
    """
    config = config or CleaningConfig()
    if mask.ndim != 2:
        raise ValueError(f"mask must be (H, W), got shape {mask.shape}")
    current = np.asarray(mask, bool)
    num_dropped, was_joined = 0, False
    while True:  # ends: after the first time pieces are only taken away
        cleaned, num_lungs, dropped, joined = _clean_once(current, config)
        num_dropped, was_joined = num_dropped + dropped, was_joined or joined
        if np.array_equal(cleaned, current):
            return CleanedMask(cleaned, num_lungs, num_dropped, was_joined and num_lungs == 2)
        current = cleaned


@dataclass(frozen=True)
class _Piece:
    label: int
    area: int
    box: tuple[slice, slice]


def _clean_once(mask: np.ndarray, config: CleaningConfig) -> tuple[np.ndarray, int, int, bool]:
    """One pass: the mask, how many lungs, pieces dropped, whether a piece was parted."""
    labels, pieces = _pieces(_open_and_fill(mask, config.smooth))
    lungs = _choose(pieces, mask.shape, config)
    was_joined = False
    if len(lungs) < 2:
        joined = [
            piece
            for piece in pieces
            if piece.area >= config.min_area * mask.size and _is_inside(piece, mask.shape[1])
        ][:1]
        parted = _part(labels == joined[0].label, joined[0]) if joined else None
        if parted is not None:
            again, parts = _pieces(_open_and_fill(parted, config.smooth))
            chosen = _choose(parts, mask.shape, config)
            if len(chosen) == 2:
                labels, lungs, was_joined = again, chosen, True
    kept = np.isin(labels, [piece.label for piece in lungs]) if lungs else np.zeros_like(mask)
    return kept, len(lungs), max(0, len(pieces) - (1 if was_joined else len(lungs))), was_joined


def _open_and_fill(mask: np.ndarray, radius: int) -> np.ndarray:
    if radius:
        reach = np.arange(-radius, radius + 1)
        disk = reach[:, None] ** 2 + reach[None, :] ** 2 <= radius**2
        mask = ndimage.binary_opening(mask, disk)
    return ndimage.binary_fill_holes(mask)


def _pieces(mask: np.ndarray) -> tuple[np.ndarray, list[_Piece]]:
    """Connected pieces, the largest first."""
    labels, count = ndimage.label(mask, TOUCHING)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    boxes = ndimage.find_objects(labels)
    pieces = [_Piece(label, int(areas[label]), boxes[label - 1]) for label in range(1, count + 1)]
    return labels, sorted(pieces, key=lambda piece: (-piece.area, piece.label))


def _choose(pieces: list[_Piece], shape: tuple[int, ...], config: CleaningConfig) -> list[_Piece]:
    """The pair with the largest area; else the largest piece that may be a lung; else nothing."""
    num_pixels = shape[0] * shape[1]
    low, high = config.min_area * num_pixels, config.max_area * num_pixels
    candidates = [piece for piece in pieces if low <= piece.area <= high and _is_inside(piece, shape[1])][
        :MAX_CANDIDATES
    ]
    pairs = [
        (a, b)
        for a, b in combinations(candidates, 2)
        if b.area >= config.min_ratio * a.area and _are_side_by_side(a, b)
    ]
    if pairs:
        largest = max(pairs, key=lambda pair: pair[0].area + pair[1].area)
        return list(largest)
    return candidates[:1]


def _is_inside(piece: _Piece, width: int) -> bool:
    middle = (piece.box[1].start + piece.box[1].stop) / 2
    return OUTER * width <= middle <= (1 - OUTER) * width


def _are_side_by_side(a: _Piece, b: _Piece) -> bool:
    shared_rows, shorter = _common(a.box[0], b.box[0])
    shared_columns, narrower = _common(a.box[1], b.box[1])
    return shared_rows >= MIN_SIDE_BY_SIDE * shorter and shared_columns <= MAX_ABOVE_EACH_OTHER * narrower


def _common(a: slice, b: slice) -> tuple[int, int]:
    """Length that two ranges share, and that of the shorter one."""
    return min(a.stop, b.stop) - max(a.start, b.start), min(a.stop - a.start, b.stop - b.start)


def _part(mask: np.ndarray, piece: _Piece) -> np.ndarray | None:
    """Cut a piece along its emptiest column between two full ones; None where it has no such neck.

    Lungs that touch are joined across the spine by little: seen from above, the piece has two humps. The cut
    takes one column of pixels away.
    """
    columns = mask[piece.box].sum(axis=0)  # (w,) pixels of the piece in each column
    left, right = np.maximum.accumulate(columns), np.maximum.accumulate(columns[::-1])[::-1]
    lower_hump = np.minimum(left, right)
    depth = columns / lower_hump
    place = int(np.argmin(depth))
    if depth[place] > MAX_NECK:
        return None
    parted = mask.copy()
    parted[:, piece.box[1].start + place] = False
    return parted
