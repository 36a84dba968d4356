"""Oblique planes sampled straight from a volume, in millimetres, with labels by content.

A plane is turned about the superior axis (sagittal, coronal) or about the left-right axis (axial), and may be
tilted about its other axis. Images show superior up and anterior left (sagittal), superior up and the
patient's right on the left (coronal), anterior up and the patient's right on the left (axial), as
radiologists look at them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from extract.errors import SettingsError
from extract.orientation import check_orientation
from extract.sampling import sample_plane, shrink
from extract.slice_place import SlicePlace
from extract.volume import Volume
from extract.volume_survey import Survey
from extract.windows import DEFAULT_WINDOW, Window, parse_window

PLANES = ("sagittal", "coronal", "axial")
SLABS = ("mean", "max")
RGB_KINDS = ("gray", "neighbors", "windows")
NOISE = "noise"
MIN_AREA = 0.002  # of the plane's largest cross-section; below it a slice counts as empty
MAX_SLAB_LAYERS = 200
Kept = TypeVar("Kept")


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
    tilts_deg: tuple[float, ...] = (0.0,)  # about the plane's other axis
    slab_mm: float = 0.0  # thickness of a slice; 0 = a plane without thickness
    slab: str = "mean"  # over the thickness: mean, max
    windows: tuple[str, ...] = (DEFAULT_WINDOW,)  # one, or three for rgb "windows"
    rgb: str | None = None  # None = one channel; gray, neighbors, windows = three
    neighbor_mm: float = 3.0  # for rgb "neighbors": red and blue are so far behind and ahead

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
        if not self.tilts_deg or not all(abs(angle) <= 45 for angle in self.tilts_deg):
            raise SettingsError(f"--tilts must be between -45 and 45 degrees, got {self.tilts_deg}")
        if not 0 <= self.slab_mm < math.inf:
            raise SettingsError(f"--slab-mm must be 0 or more, got {self.slab_mm}")
        if self.slab not in SLABS:
            raise SettingsError(f"--slab must be one of {', '.join(SLABS)}, got {self.slab!r}")
        if self.rgb is not None and self.rgb not in RGB_KINDS:
            raise SettingsError(f"--rgb must be one of {', '.join(RGB_KINDS)}, got {self.rgb!r}")
        if not 0 < self.neighbor_mm < math.inf:
            raise SettingsError(f"--neighbor-mm must be above 0, got {self.neighbor_mm}")
        wanted = 3 if self.rgb == "windows" else 1
        if len(self.windows) != wanted:
            raise SettingsError(
                f"--window must be given {'three times with --rgb windows' if wanted == 3 else 'once'}, got "
                f"{len(self.windows)}: {' '.join(self.windows)}"
            )
        for text in self.windows:
            parse_window(text)

    def parsed_windows(self) -> tuple[Window, ...]:
        """The windows that the texts stand for."""
        return tuple(parse_window(text) for text in self.windows)

    @property
    def is_tilted(self) -> bool:
        """Whether any plane leaves the upright."""
        return any(self.tilts_deg)

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        """Of an image: (H, W), or (H, W, 3)."""
        return (self.size, self.size) if self.rgb is None else (self.size, self.size, 3)


@dataclass(frozen=True)
class Slice(Generic[Kept]):
    """One image of a volume."""

    pixels: Kept  # (H, W) or (H, W, 3) uint8, or what was made of them at once
    label: str  # plane, or noise
    plane: str
    angle_deg: float
    slice_index: int
    position_mm: float  # along the normal (right, anterior, superior), from the tissue's center
    tilt_deg: float
    place: SlicePlace  # where its pixels are in the patient


def slice_volume(
    volume: Volume, survey: Survey, config: SliceConfig, fov_mm: float
) -> list[Slice[np.ndarray]]:
    """All slices of a volume in a fixed order: by plane, angle, tilt, position. See `pack_slices`."""
    return pack_slices(volume, survey, config, fov_mm, np.asarray)


def pack_slices(
    volume: Volume,
    survey: Survey,
    config: SliceConfig,
    fov_mm: float,
    pack: Callable[[np.ndarray], Kept],
) -> list[Slice[Kept]]:
    """All slices of a volume, each packed as soon as it is made: a thousand pictures outweigh their volume.

    A slice whose tissue area is below `config.noise_below` of the largest area that this volume shows in
    this plane (at any angle) is labeled noise; one without tissue is left out, because pictures that are
    black throughout would be exact duplicates across subjects.
    """
    # Voxels finer than the pixels would alias: average them first to about a pixel.
    factors = np.maximum(1, np.floor(fov_mm / config.size / volume.spacing_mm + 0.05)).astype(int)
    voxels, affine = shrink(volume.voxels, volume.affine, factors)
    slices: list[Slice[Kept]] = []
    for plane in config.planes:
        found = [
            (area, replace(item, pixels=pack(item.pixels)))
            for area, item in _sample_slices(voxels, affine, survey, config, plane, fov_mm)
        ]
        largest = max((area for area, _ in found), default=0.0)
        for area, item in found:
            if area <= MIN_AREA * largest:
                continue
            label = NOISE if area < config.noise_below * largest else plane
            slices.append(item if label == plane else replace(item, label=label))
    return _limit_noise(slices, config.noise_share)


def plane_axes(
    plane: str, angle_deg: float, tilt_deg: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal, image-right and image-down as unit vectors in RAS.

    A positive angle turns the sagittal and coronal planes anticlockwise seen from above, and tips the
    axial plane's front upwards. A positive tilt then leans the picture's upper edge towards the normal: the
    sagittal plane's top to the patient's right, the coronal one's to the front; of the axial plane it lifts
    the patient's left.
    """
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    lean, rise = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    right, front = np.array([cos, sin, 0.0]), np.array([-sin, cos, 0.0])
    down = np.array([0.0, 0.0, -1.0])
    match plane:
        case "sagittal":
            return lean * right + rise * down, -front, lean * down - rise * right
        case "coronal":
            return lean * front + rise * down, -right, lean * down - rise * front
        case "axial":
            up_front, top = np.array([0.0, cos, sin]), np.array([0.0, -sin, cos])
            left = np.array([-1.0, 0.0, 0.0])
            return lean * top - rise * left, lean * left + rise * top, -up_front
    raise SettingsError(f"plane must be one of {', '.join(PLANES)}, got {plane!r}")


def _sample_slices(
    voxels: np.ndarray, affine: np.ndarray, survey: Survey, config: SliceConfig, plane: str, fov_mm: float
) -> Iterator[tuple[float, Slice[Any]]]:
    """Yield tissue area in mm^2 and slice at each angle, tilt and position."""
    pixel_mm = fov_mm / config.size
    ticks = (np.arange(config.size) - (config.size - 1) / 2) * pixel_mm
    to_index = np.linalg.inv(affine)
    center = survey.aim(fov_mm) if plane != "axial" else survey.center_mm
    middle = to_index[:3, :3] @ center + to_index[:3, 3]
    offsets = _slab_offsets(config.slab_mm, float(np.linalg.norm(affine[:3, :3], axis=0).min()))
    for angle, tilt in ((angle, tilt) for angle in config.angles_deg for tilt in config.tilts_deg):
        axes = plane_axes(plane, angle, tilt)
        normal, right, down = (to_index[:3, :3] @ axis for axis in axes)  # voxels a mm

        sample = partial(
            _sample_slab, voxels, middle, (normal, right, down), ticks, survey.black, offsets, config.slab
        )
        for index, position in enumerate(_positions(survey.points_mm @ axes[0], config)):
            values = sample(float(position))
            area = float(np.count_nonzero(values > survey.threshold)) * pixel_mm**2
            pixels = _color(values, sample, float(position), survey, config)
            place = SlicePlace.of_plane(center + position * axes[0], axes, pixel_mm, config.size)
            yield area, Slice(pixels, plane, plane, angle, index, float(position), tilt, place)


def _slab_offsets(slab_mm: float, voxel_mm: float) -> np.ndarray:
    """Where a slab is sampled, mm from its middle: at least every voxel, evenly, none on its rim."""
    num = min(max(1, math.ceil(slab_mm / voxel_mm)), MAX_SLAB_LAYERS)
    return ((np.arange(num) + 0.5) / num - 0.5) * slab_mm


def _sample_slab(
    voxels: np.ndarray,
    middle: np.ndarray,
    steps: tuple[np.ndarray, np.ndarray, np.ndarray],
    ticks: np.ndarray,
    fill: float,
    offsets: np.ndarray,
    slab: str,
    position_mm: float,
) -> np.ndarray:
    """(H, W) brightness of the slab around a position: mean or maximum of its layers."""
    normal, right, down = steps
    layers = (
        sample_plane(voxels, middle + (position_mm + offset) * normal, right, down, ticks, fill)
        for offset in offsets
    )
    total = next(layers)
    for layer in layers:
        total = np.maximum(total, layer) if slab == "max" else total + layer
    return total / np.float32(len(offsets)) if slab == "mean" and len(offsets) > 1 else total


def _color(
    values: np.ndarray,
    sample: Callable[[float], np.ndarray],
    position: float,
    survey: Survey,
    config: SliceConfig,
) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8: the slice in its window, its windows, or with its neighbors."""
    match config.rgb:
        case "neighbors":
            behind, ahead = (sample(position + step) for step in (-config.neighbor_mm, config.neighbor_mm))
            channels = [apply_window(layer, survey.window) for layer in (behind, values, ahead)]
        case "windows":
            channels = [apply_window(values, window) for window in survey.windows]
        case "gray":
            channels = [apply_window(values, survey.window)] * 3
        case _:
            return apply_window(values, survey.window)
    return np.stack(channels, axis=-1)


def apply_window(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Brightness to uint8: the window's lower value becomes 0, its upper one 255."""
    low, high = window
    scaled = values - low
    scaled *= 255 / (high - low)
    np.clip(scaled, 0, 255, out=scaled)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _positions(along_normal: np.ndarray, config: SliceConfig) -> np.ndarray:
    """Positions in mm over the tissue's extent: at multiples of the step, or a fixed number evenly."""
    first, last = float(along_normal.min()), float(along_normal.max())
    if config.slices_per_plane is not None:
        num = config.slices_per_plane
        return first + (np.arange(num) + 0.5) * (last - first) / num
    return np.arange(np.ceil(first / config.step_mm), np.floor(last / config.step_mm) + 1) * config.step_mm


def _limit_noise(slices: list[Slice[Kept]], share: float) -> list[Slice[Kept]]:
    """Keep at most the given share of noise, evenly chosen; the order stays."""
    noise = [index for index, item in enumerate(slices) if item.label == NOISE]
    num_others = len(slices) - len(noise)
    allowed = len(noise) if share >= 1 else round(share / (1 - share) * num_others)
    if allowed >= len(noise):
        return slices
    chosen = np.linspace(0, len(noise) - 1, allowed).round().astype(int)  # (allowed,)
    kept = {noise[int(k)] for k in chosen}
    return [item for index, item in enumerate(slices) if item.label != NOISE or index in kept]
