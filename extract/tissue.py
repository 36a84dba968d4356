"""Which pixels of a picture show something."""

import cv2
import numpy as np

SPECK_SHARE = 0.01  # of the image's area: what is smaller than this is dirt or a letter


def tissue_mask(gray: np.ndarray, threshold: int | None = None) -> np.ndarray:
    """Mark what is brighter than a threshold, without specks, holes filled.

    Args:
        gray: (H, W) uint8.
        threshold: gray level up to which a pixel is background; None = Otsu's of this picture.

    Returns:
        (H, W) bool; all of the picture where nothing is left, so that an empty picture stays as it is.

    Source: Otsu 1979, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9(1).
    """
    kind = cv2.THRESH_BINARY if threshold is not None else cv2.THRESH_BINARY | cv2.THRESH_OTSU
    _, binary = cv2.threshold(np.ascontiguousarray(gray), threshold or 0, 1, kind)
    num_parts, parts, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)
    is_large = stats[:, cv2.CC_STAT_AREA] >= SPECK_SHARE * gray.size
    is_large[0] = False  # the background
    if num_parts < 2 or not is_large.any():
        return np.ones(gray.shape, bool)
    kept = is_large[parts].astype(np.uint8)
    outlines, _ = cv2.findContours(kept, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(kept, outlines, -1, 1, cv2.FILLED)
    return kept.astype(bool)
