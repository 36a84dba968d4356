"""Oblique planes sampled straight from a volume, in millimetres, with labels by content.

A plane is turned about the superior axis (sagittal, coronal) or about the left-right axis (axial). Images
show superior up and anterior left (sagittal), superior up and the patient's right on the left (coronal),
anterior up and the patient's right on the left (axial), as radiologists look at them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from extract.errors import ExtractError, SettingsError
from extract.volume import Volume, check_orientation

PLANES = ("sagittal", "coronal", "axial")
NOISE = "noise"
WINDOW_PERCENTILES = (1.0, 99.5)
TISSUE_LEVEL = 0.5  # of Otsu's threshold, which alone would miss muscle, fluid and a dim scalp
SURVEY_MM = 3.0  # grid on which tissue is looked for
MAX_SURVEYED = 2_000_000  # voxels that thresholds are taken from; more of them change nothing but the time
MIN_AREA = 0.002  # of the plane's largest cross-section; below it a slice counts as empty
FIELD_MARGIN = 1.03


@dataclass(frozen=True)
class SliceConfig:
    """How volumes are sliced."""

    planes: tuple[str, ...] = ("sagittal", "coronal")
    angles_deg: tuple[float, ...] = (0.0,)
    size: int = 256  # pixels a side
    step_mm: float = 3.0  # between slices, where slices_per_plane is None
    slices_per_plane: int | None = None  # at each angle, evenly over the tissue
    fov_mm: float | None = None  # side of the square field; None = what the largest volume needs
    noise_below: float = 0.25  # of the largest tissue area of the same volume and plane
    noise_share: float = 1.0  # at most this share of a volume's slices is noise
    orientation: str | None = None  # for headers that say nothing

    def __post_init__(self) -> None:
        if not self.planes or any(plane not in PLANES for plane in self.planes):
            raise SettingsError(
                f"--planes must name some of {', '.join(PLANES)}, got {','.join(self.planes)!r}"
            )
        if len(set(self.planes)) < len(self.planes):
            raise SettingsError(f"--planes must name each plane once, got {','.join(self.planes)}")
        if not self.angles_deg or not all(abs(angle) <= 45 for angle in self.angles_deg):
            raise SettingsError(
                "--angles must be between -45 and 45 degrees (beyond them one plane is another), "
                f"got {self.angles_deg}"
            )
        if self.size < 8 or self.size & (self.size - 1):
            raise SettingsError(f"--size must be a power of two of at least 8, got {self.size}")
        if not 0 < self.step_mm < math.inf:
            raise SettingsError(f"--step-mm must be above 0, got {self.step_mm}")
        if self.slices_per_plane is not None and self.slices_per_plane < 1:
            raise SettingsError(f"--slices-per-plane must be at least 1, got {self.slices_per_plane}")
        if self.fov_mm is not None and not 0 < self.fov_mm < math.inf:
            raise SettingsError(f"--fov-mm must be above 0, got {self.fov_mm}")
        if not 0 <= self.noise_below < 1:
            raise SettingsError(f"--noise-below must be in [0, 1), got {self.noise_below}")
        if not 0 <= self.noise_share <= 1:
            raise SettingsError(f"--noise-share must be in [0, 1], got {self.noise_share}")
        check_orientation(self.orientation)


@dataclass(frozen=True)
class Survey:
    """Where a volume's tissue is and how bright it is."""

    center_mm: np.ndarray  # (3,) middle of the tissue's box, RAS
    points_mm: np.ndarray  # (P, 3) the tissue's surface on a coarse grid, from the center
    threshold: float  # brightness above which a voxel is tissue
    window: tuple[float, float]  # brightness shown as black and as white

    def aim(self, fov_mm: float) -> np.ndarray:
        """(3,) where to center the field, RAS: on the tissue, or, if that is taller, so that its top is in.

        A head with its neck is taller than a brain; the neck, not the vertex, then leaves the image.
        """
        too_tall = float(self.points_mm[:, 2].max()) * FIELD_MARGIN - fov_mm / 2
        return self.center_mm + np.array([0.0, 0.0, max(too_tall, 0.0)])

    def field_mm(self, planes: Sequence[str]) -> float:
        """Side of the square that holds the tissue of every turned plane."""
        x, _, z = np.abs(self.points_mm).max(axis=0)
        reach = [z, float(np.hypot(self.points_mm[:, 0], self.points_mm[:, 1]).max())]
        if "axial" in planes:
            reach += [x, float(np.hypot(self.points_mm[:, 1], self.points_mm[:, 2]).max())]
        return 2 * max(reach) * FIELD_MARGIN


@dataclass(frozen=True)
class Slice:
    """One image of a volume."""

    pixels: np.ndarray  # (H, W) uint8
    label: str  # plane, or noise
    plane: str
    angle_deg: float
    slice_index: int
    position_mm: float  # along the normal (right, anterior, superior), from the tissue's center


def survey_volume(volume: Volume) -> Survey:
    """Find tissue: brighter than half of Otsu's threshold, its largest connected part on a coarse grid.

    Raises:
        ExtractError: if nothing stands out.
    """
    stride = int(np.ceil((volume.voxels.size / MAX_SURVEYED) ** (1 / 3)))
    sample = volume.voxels[::stride, ::stride, ::stride]
    nonzero = sample[sample != 0]
    if not nonzero.size:
        raise ExtractError(f"{volume.name}: expected an image with contrast, got 0 nearly everywhere")
    low, high = (float(value) for value in np.percentile(nonzero, WINDOW_PERCENTILES))
    low = low if low < high else float(volume.voxels.min())  # a mask has one value beside its background
    if not low < high:
        raise ExtractError(f"{volume.name}: expected an image with contrast, got {low:g} nearly everywhere")
    black = float(volume.voxels.min())
    threshold = black + TISSUE_LEVEL * (otsu_threshold(sample, high) - black)
    factors = np.maximum(1, np.floor(SURVEY_MM / volume.spacing_mm)).astype(int)
    coarse, affine = _shrink(volume.voxels, volume.affine, factors)
    parts, num_parts = ndimage.label(coarse > threshold)
    if not num_parts:
        raise ExtractError(f"{volume.name}: expected tissue brighter than {threshold:g}, got none")
    largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    tissue = parts == largest
    surface = tissue & ~ndimage.binary_erosion(tissue)  # enough to know how far it reaches in any direction
    positions = np.argwhere(surface) @ affine[:3, :3].T + affine[:3, 3]  # (P, 3) mm
    center = (positions.min(axis=0) + positions.max(axis=0)) / 2
    return Survey(center, positions - center, threshold, (low, high))


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


def slice_volume(volume: Volume, survey: Survey, config: SliceConfig, fov_mm: float) -> list[Slice]:
    """All slices of a volume in a fixed order: by plane, angle, position.

    A slice whose tissue area is below `config.noise_below` of the largest area that this volume shows in
    this plane (at any angle) is labeled noise; one without tissue is left out, because pictures that are
    black throughout would be exact duplicates across subjects.
    """
    # Voxels finer than the pixels would alias: average them first to about a pixel.
    factors = np.maximum(1, np.floor(fov_mm / config.size / volume.spacing_mm + 0.05)).astype(int)
    voxels, affine = _shrink(volume.voxels, volume.affine, factors)
    slices: list[Slice] = []
    for plane in config.planes:
        found = list(_sample_plane(voxels, affine, survey, config, plane, fov_mm))
        largest = max((area for area, _ in found), default=0.0)
        for area, item in found:
            if area <= MIN_AREA * largest:
                continue
            label = NOISE if area < config.noise_below * largest else plane
            slices.append(
                Slice(item.pixels, label, plane, item.angle_deg, item.slice_index, item.position_mm)
            )
    return _limit_noise(slices, config.noise_share)


def plane_axes(plane: str, angle_deg: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal, image-right and image-down as unit vectors in RAS.

    A positive angle turns the sagittal and coronal planes anticlockwise seen from above, and tips the
    axial plane's front upwards.
    """
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    right, front = np.array([cos, sin, 0.0]), np.array([-sin, cos, 0.0])
    down = np.array([0.0, 0.0, -1.0])
    match plane:
        case "sagittal":
            return right, -front, down
        case "coronal":
            return front, -right, down
        case "axial":
            up_front = np.array([0.0, cos, sin])
            return np.array([0.0, -sin, cos]), np.array([-1.0, 0.0, 0.0]), -up_front
    raise SettingsError(f"plane must be one of {', '.join(PLANES)}, got {plane!r}")


def _sample_plane(
    voxels: np.ndarray, affine: np.ndarray, survey: Survey, config: SliceConfig, plane: str, fov_mm: float
) -> Iterator[tuple[float, Slice]]:
    """Yield tissue area in mm^2 and slice at each angle and position."""
    pixel_mm = fov_mm / config.size
    ticks = (np.arange(config.size) - (config.size - 1) / 2) * pixel_mm
    to_index = np.linalg.inv(affine)
    low, high = survey.window
    center = survey.aim(fov_mm) if plane != "axial" else survey.center_mm
    middle = to_index[:3, :3] @ center + to_index[:3, 3]
    for angle in config.angles_deg:
        normal, right, down = (to_index[:3, :3] @ axis for axis in plane_axes(plane, angle))  # voxels a mm
        sample = sample_upright if _is_upright(normal, right, down, fov_mm) else sample_oblique
        for index, position in enumerate(_positions(survey.points_mm @ plane_axes(plane, angle)[0], config)):
            values = sample(voxels, middle + position * normal, right, down, ticks)  # (H, W)
            area = float((values > survey.threshold).sum()) * pixel_mm**2
            pixels = np.clip((values - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)
            yield area, Slice(pixels, plane, plane, angle, index, float(position))


def sample_oblique(
    voxels: np.ndarray, middle: np.ndarray, right: np.ndarray, down: np.ndarray, ticks: np.ndarray
) -> np.ndarray:
    """Sample any plane trilinearly; 0 outside the volume.

    Args:
        voxels: (R, A, S).
        middle: (3,) voxel index at the image's center.
        right, down: (3,) steps of the voxel index for a mm to the image's right and down.
        ticks: (N,) mm of the pixels from the center, along both sides.

    Returns:
        (N, N) brightness.
    """
    rows = np.multiply.outer(down, ticks)[:, :, None]  # (3, H, 1)
    columns = np.multiply.outer(right, ticks)[:, None, :]  # (3, 1, W)
    grid = middle[:, None, None] + rows + columns  # (3, H, W)
    return ndimage.map_coordinates(voxels, grid, order=1, mode="constant", prefilter=False)


def sample_upright(
    voxels: np.ndarray, middle: np.ndarray, right: np.ndarray, down: np.ndarray, ticks: np.ndarray
) -> np.ndarray:
    """The same for a plane that stands along the third voxel axis, ten times faster.

    Whole columns of voxels are weighted between their four neighbors, then read off along the column.
    """
    num_x, num_y, num_z = voxels.shape
    x0, x1, fx, in_x = _neighbors(middle[0] + right[0] * ticks, num_x)
    y0, y1, fy, in_y = _neighbors(middle[1] + right[1] * ticks, num_y)
    z0, z1, fz, in_z = _neighbors(middle[2] + down[2] * ticks, num_z)
    fx, fy = fx[:, None], fy[:, None]
    columns = (1 - fx) * ((1 - fy) * voxels[x0, y0] + fy * voxels[x0, y1])  # (W, S)
    columns += fx * ((1 - fy) * voxels[x1, y0] + fy * voxels[x1, y1])
    columns[~(in_x & in_y)] = 0
    lines = (1 - fz) * columns[:, z0] + fz * columns[:, z1]  # (W, H)
    lines[:, ~in_z] = 0
    return lines.T


def _neighbors(places: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper index, the upper one's weight, and whether the place lies within the axis."""
    lower = np.clip(np.floor(places), 0, num - 1).astype(np.intp)
    upper = np.minimum(lower + 1, num - 1)
    return lower, upper, (places - lower).astype(np.float32), (places >= 0) & (places <= num - 1)


def _is_upright(normal: np.ndarray, right: np.ndarray, down: np.ndarray, fov_mm: float) -> bool:
    """Whether no pixel is off by more than a hundredth of a voxel if the plane counts as upright."""
    tilts = [normal[2], right[2], down[0], down[1]]
    return bool(np.abs(tilts).max() * fov_mm < 0.01)


def _positions(along_normal: np.ndarray, config: SliceConfig) -> np.ndarray:
    """Positions in mm over the tissue's extent: at multiples of the step, or a fixed number evenly."""
    first, last = float(along_normal.min()), float(along_normal.max())
    if config.slices_per_plane is not None:
        num = config.slices_per_plane
        return first + (np.arange(num) + 0.5) * (last - first) / num
    return np.arange(np.ceil(first / config.step_mm), np.floor(last / config.step_mm) + 1) * config.step_mm


def _shrink(voxels: np.ndarray, affine: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average blocks of voxels; the affine follows to the blocks' centers."""
    if (factors == 1).all():
        return voxels, affine
    pad = [(0, int(-n % k)) for n, k in zip(voxels.shape, factors, strict=True)]
    padded = np.pad(voxels, pad, mode="edge")
    a, b, c = (n // k for n, k in zip(padded.shape, factors, strict=True))
    i, j, k = (int(factor) for factor in factors)
    blocks = padded.reshape(a, i, b, j, c, k).mean(axis=(1, 3, 5), dtype=np.float32)
    scale = np.diag([*factors.astype(float), 1.0])
    scale[:3, 3] = (factors - 1) / 2
    return blocks, affine @ scale


def _limit_noise(slices: list[Slice], share: float) -> list[Slice]:
    """Keep at most the given share of noise, evenly chosen; the order stays."""
    noise = [index for index, item in enumerate(slices) if item.label == NOISE]
    num_others = len(slices) - len(noise)
    allowed = len(noise) if share >= 1 else round(share / (1 - share) * num_others)
    if allowed >= len(noise):
        return slices
    chosen = np.linspace(0, len(noise) - 1, allowed).round().astype(int)  # (allowed,)
    kept = {noise[int(k)] for k in chosen}
    return [item for index, item in enumerate(slices) if item.label != NOISE or index in kept]
