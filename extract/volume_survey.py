"""Where a volume's tissue is and how bright it is: what all slices of the volume have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from extract.errors import ExtractError
from extract.sampling import shrink
from extract.volume import Volume
from extract.windows import DEFAULT_WINDOW, Window, parse_window

TISSUE_LEVEL = 0.5  # of Otsu's threshold, which alone would miss muscle, fluid and a dim scalp
TISSUE_HU = -300.0  # in CT: brighter than air and lung
SURVEY_MM = 3.0  # grid on which tissue is looked for
MAX_SURVEYED = 2_000_000  # voxels that thresholds are taken from; more of them change nothing but the time
FIELD_MARGIN = 1.03
DEFAULT_WINDOWS = (parse_window(DEFAULT_WINDOW),)


@dataclass(frozen=True)
class Survey:
    """Where a volume's tissue is and how bright it is."""

    center_mm: np.ndarray  # (3,) middle of the tissue's box, RAS
    points_mm: np.ndarray  # (P, 3) the tissue's surface on a coarse grid, from the center
    threshold: float  # brightness above which a voxel is tissue
    windows: tuple[tuple[float, float], ...]  # brightness shown as black and as white, for each window
    black: float = 0.0  # the lowest value, which fills what lies outside the volume

    @property
    def window(self) -> tuple[float, float]:
        """The first window, or the only one."""
        return self.windows[0]

    def aim(self, fov_mm: float) -> np.ndarray:
        """(3,) where to center the field, RAS: on the tissue, or, if that is taller, so that its top is in.

        A head with its neck is taller than a brain; the neck, not the vertex, then leaves the image.
        """
        too_tall = float(self.points_mm[:, 2].max()) * FIELD_MARGIN - fov_mm / 2
        return self.center_mm + np.array([0.0, 0.0, max(too_tall, 0.0)])

    def field_mm(self, planes: Sequence[str], tilted: bool = False) -> float:
        """Side of the square that holds the tissue of every turned plane, tilted ones too if there are "
        "any."""
        if tilted:
            return 2 * float(np.linalg.norm(self.points_mm, axis=1).max()) * FIELD_MARGIN
        x, _, z = np.abs(self.points_mm).max(axis=0)
        reach = [z, float(np.hypot(self.points_mm[:, 0], self.points_mm[:, 1]).max())]
        if "axial" in planes:
            reach += [x, float(np.hypot(self.points_mm[:, 1], self.points_mm[:, 2]).max())]
        return 2 * max(reach) * FIELD_MARGIN


def survey_volume(volume: Volume, windows: Sequence[Window] = DEFAULT_WINDOWS) -> Survey:
    """Find tissue: brighter than half of Otsu's threshold, its largest connected part on a coarse grid.

    With a window in Hounsfield units, tissue is what is brighter than -300 instead: the table and the air in
    and around a patient are known.

    Raises:
        ExtractError: if nothing stands out.
    """
    stride = int(np.ceil((volume.voxels.size / MAX_SURVEYED) ** (1 / 3)))
    sample = volume.voxels[::stride, ::stride, ::stride]
    nonzero = sample[sample != 0].astype(np.float32)
    if not nonzero.size:
        raise ExtractError(f"{volume.name}: expected an image with contrast, got 0 nearly everywhere")
    black = float(volume.voxels.min())
    usual = DEFAULT_WINDOWS[0].limits(nonzero, black, volume.name)
    limits = tuple(
        usual if window == DEFAULT_WINDOWS[0] else window.limits(nonzero, black, volume.name)
        for window in windows
    )
    del nonzero  # several megabytes, as much as a small volume
    if any(window.hounsfield for window in windows):
        threshold = TISSUE_HU
    else:
        threshold = black + TISSUE_LEVEL * (otsu_threshold(sample.astype(np.float32), usual[1]) - black)
    factors = np.maximum(1, np.floor(SURVEY_MM / volume.spacing_mm)).astype(int)
    coarse, affine = shrink(volume.voxels, volume.affine, factors)
    parts, num_parts = ndimage.label(coarse > threshold)
    if not num_parts:
        raise ExtractError(f"{volume.name}: expected tissue brighter than {threshold:g}, got none")
    largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    tissue = parts == largest
    surface = tissue & ~ndimage.binary_erosion(tissue)  # enough to know how far it reaches in any direction
    positions = np.argwhere(surface) @ affine[:3, :3].T + affine[:3, 3]  # (P, 3) mm
    center = (positions.min(axis=0) + positions.max(axis=0)) / 2
    return Survey(center, positions - center, threshold, limits, black)


def otsu_threshold(voxels: np.ndarray, high: float) -> float:
    """The brightness that best parts dark from bright (Otsu 1979), values above `high` counted as `high`."""
    low = float(voxels.min())
    counts, edges = np.histogram(np.minimum(voxels, high), bins=256, range=(low, high))
    centers = (edges[:-1] + edges[1:]) / 2
    below, above = counts.cumsum(), counts[::-1].cumsum()[::-1]
    sums = counts * centers
    mean_below = sums.cumsum() / np.maximum(below, 1)
    mean_above = sums[::-1].cumsum()[::-1] / np.maximum(above, 1)
    between = below[:-1].astype(float) * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(edges[1 + int(np.argmax(between))])
