"""Procedural brain volumes, so that the demo and the tests need no download.

A head is built in millimetres from implicit shapes: scalp, skull, two hemispheres with a folded cortex,
white matter, deep nuclei, ventricles, cerebellum, brain stem, eyes. Subjects differ in size, shape,
folding, tilt, contrast, coil shading, and in the axis order in which the volume is stored.
"""

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from extract.atomic import write_text
from extract.errors import SettingsError
from extract.nrrd_writer import write_nrrd
from extract.orientation import AXIS_OF_LETTER
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from extract.stored_volume import PHANTOM_NOTE, StoredVolume

FIELD_MM = (200.0, 236.0, 212.0)  # right, anterior, superior: what the grid covers
STORED_ORDERS = ("RAS", "LAS", "PSR", "LPS", "AIL")  # dealt to the subjects in turn
SULCUS_WAVELENGTH_MM = 22.0
GRAY_THICKNESS_MM = 3.6
SUBJECT_COLUMNS = ("file", "subject_id", "voxel_order", "tilt_deg", "voxel_mm")


@dataclass(frozen=True)
class PhantomConfig:
    """What all phantoms of a folder share."""

    voxel_mm: float = 2.6
    noise: float = 0.045  # standard deviation of the receiver's noise, white matter = 1
    tilt_deg: float = 5.0  # standard deviation of the head's rotation about each axis
    asymmetry: float = 0.35  # weight of folding that differs between left and right, 0 = mirror image

    def __post_init__(self) -> None:
        if not 1.0 <= self.voxel_mm <= 6.0:
            raise SettingsError(f"--voxel-mm must be between 1 and 6 mm, got {self.voxel_mm}")
        if self.noise < 0 or self.tilt_deg < 0 or not 0 <= self.asymmetry <= 1:
            raise SettingsError("noise and tilt must not be negative, and asymmetry between 0 and 1")


@dataclass(frozen=True)
class Phantom:
    """One head: voxels as stored, and where they are."""

    voxels: np.ndarray  # 3-D int16, in the stored axis order
    directions: np.ndarray  # (3, 3): row k = step of array axis k, mm, in RAS
    origin: np.ndarray  # (3,) first voxel's center, mm, in RAS
    order: str  # "LAS": the first array axis runs to the left, ...
    tilt_deg: tuple[float, float, float]  # about right, anterior, superior


def write_phantoms(
    out: Path,
    num_subjects: int,
    seed: int,
    config: PhantomConfig | None = None,
    progress: Progress = no_progress,
) -> list[Path]:
    """Write `phantom000.nrrd`, ... and `subjects.csv` into a folder; a seed always gives the same files.

    Raises:
        SettingsError: if num_subjects is below 1.
    """
    if num_subjects < 1:
        raise SettingsError(f"--subjects must be at least 1, got {num_subjects}")
    config = config or PhantomConfig()
    paths = []
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(SUBJECT_COLUMNS)
    for number in range(num_subjects):
        name = f"phantom{number:03d}"
        phantom = numbered_phantom(seed, number, config)
        paths.append(out / f"{name}.nrrd")
        write_volume(paths[-1], phantom, json.dumps({"seed": seed, "number": number, **asdict(config)}))
        tilt = " ".join(f"{angle:.1f}" for angle in phantom.tilt_deg)
        writer.writerow([paths[-1].name, name, phantom.order, tilt, config.voxel_mm])
        progress(number + 1, num_subjects, name)
    write_text(out / "subjects.csv", table.getvalue())
    return paths


def numbered_phantom(seed: int, number: int, config: PhantomConfig) -> Phantom:
    """The head that `write_phantoms` writes under this number, from 0."""
    return make_phantom(
        derive_seed("phantom", seed, number), STORED_ORDERS[number % len(STORED_ORDERS)], config
    )


def write_volume(path: Path, phantom: Phantom, recipe: str = "") -> None:
    """Write a NRRD whose header says where the voxels are and, where it is given, how they were made."""
    stored = stored_phantom(path.name, phantom)
    write_nrrd(path, phantom.voxels, stored.affine, {PHANTOM_NOTE: recipe} if recipe else None)


def stored_phantom(name: str, phantom: Phantom) -> StoredVolume:
    """The same as reading the file that `write_volume` writes."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = phantom.directions.T, phantom.origin
    return StoredVolume(name, phantom.voxels.shape, affine, lambda: phantom.voxels)  # type: ignore[arg-type]


def make_phantom(seed: int, order: str, config: PhantomConfig) -> Phantom:
    """Build one head on a grid that is itself a little oblique, and store it in the given axis order."""
    rng = np.random.default_rng(seed)
    grid_turn = rotation(*np.radians(rng.normal(0, 2.0, 3)))
    tilt_deg = rng.normal(0, config.tilt_deg, 3)
    shape = tuple(round(extent / config.voxel_mm) for extent in FIELD_MM)
    steps = np.meshgrid(
        *[np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in shape], indexing="ij", sparse=True
    )
    turn = (rotation(*np.radians(tilt_deg)).T @ grid_turn) * config.voxel_mm
    points = [
        sum(np.float32(turn[row, k]) * steps[k] for k in range(3)) for row in range(3)
    ]  # mm, in the head
    intensity = _scan(_draw_head(points, rng, config), rng, config)
    directions = grid_turn.T * config.voxel_mm  # row k: the step of axis k
    origin = -np.array([(n - 1) / 2 for n in shape]) @ directions + rng.normal(0, 8.0, 3)
    return _store(intensity, directions, origin, order, tuple(float(angle) for angle in tilt_deg))


def rotation(right: float, anterior: float, superior: float) -> np.ndarray:
    """(3, 3) rotation about the three axes in turn, angles in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate((right, anterior, superior)):
        i, j = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def _store(
    intensity: np.ndarray, directions: np.ndarray, origin: np.ndarray, order: str, tilt: tuple[float, ...]
) -> Phantom:
    """Permute and flip the array; directions and origin follow, so that no voxel moves in space."""
    axes = [AXIS_OF_LETTER[letter][0] for letter in order]
    voxels, directions = intensity.transpose(axes), directions[axes]
    for axis, letter in enumerate(order):
        if AXIS_OF_LETTER[letter][1] < 0:
            origin = origin + directions[axis] * (voxels.shape[axis] - 1)
            directions = directions * np.where(np.arange(3) == axis, -1.0, 1.0)[:, None]
            voxels = np.flip(voxels, axis)
    return Phantom(np.ascontiguousarray(voxels), directions, origin, order, (tilt[0], tilt[1], tilt[2]))


def _ellipsoid(points: list[np.ndarray], center: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """About the distance to the surface in mm, positive inside."""
    scaled = [(p - c) / r for p, c, r in zip(points, center, radii, strict=True)]
    squared = scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2
    return (1 - np.sqrt(squared)) * np.float32(min(radii))


def _waves(points: list[np.ndarray], rng: np.random.Generator, wavelength: float, num: int) -> np.ndarray:
    """A smooth random field around 0 as a sum of plane waves of about one wavelength."""
    field = np.zeros(np.broadcast_shapes(*(p.shape for p in points)), np.float32)
    for _ in range(num):
        direction = rng.normal(size=3)
        direction *= 2 * np.pi / (wavelength * rng.uniform(0.8, 1.35) * np.linalg.norm(direction))
        a, b, c = (np.float32(value) for value in direction)
        field += np.cos(a * points[0] + b * points[1] + c * points[2] + np.float32(rng.uniform(0, 2 * np.pi)))
    return field / np.float32(np.sqrt(num / 2))


def _draw_head(points: list[np.ndarray], rng: np.random.Generator, config: PhantomConfig) -> np.ndarray:
    """T1-like tissue brightness over the grid: white matter 1, air 0."""
    size = rng.normal(1.0, 0.04) * rng.normal(1.0, 0.03, 3)  # as a whole, and its proportions
    points = [np.float32(1 / scale) * p for p, scale in zip(points, size, strict=True)]
    x, y, z = points
    mirrored = [np.abs(x), y, z]
    image = np.zeros(x.shape, np.float32)

    # The back of the head is wider than the forehead: squeeze x on the way to the front.
    width = 1 - rng.uniform(0.0016, 0.0028) * (y - 5)
    brain = _ellipsoid([x / width, y, z], (0, 0, 16), (64, 80, 58))
    brain = np.minimum(brain, 0.93 * (z - (-16 + 0.1 * np.abs(y) + 6 * (y > 40))))  # a flat base
    temporal = _ellipsoid(mirrored, (40, 12, -16), (20, 40, 19))
    cerebrum = np.maximum(brain, temporal)
    posterior = (y < -10) & (z < -8 + rng.normal(0, 1.5) + 0.12 * (y + 50))  # the tentorium
    cerebrum = np.where(posterior, np.minimum(cerebrum, -1.0), cerebrum)
    cerebellum = _ellipsoid(mirrored, (17, -46, -29), (33, 28, 20)) * rng.normal(1.0, 0.06)

    _paint_outside(image, points, np.maximum(np.maximum(cerebrum, cerebellum), brain - 2), rng)
    _paint_cerebrum(image, mirrored, points, cerebrum, rng, config)
    _paint_deep(image, mirrored, rng)
    _paint_hindbrain(image, mirrored, cerebellum, rng)
    return image


def _paint_outside(
    image: np.ndarray, points: list[np.ndarray], inside: np.ndarray, rng: np.random.Generator
) -> None:
    """Scalp, skull, fluid, neck and face, from the outside in."""
    x, y, z = points
    mirrored = [np.abs(x), y, z]
    skull = _ellipsoid([x / (1 - 0.0018 * y), y, z], (0, 0, 10), (69, 86, 68))
    scalp_mm = rng.uniform(5, 9)
    face = _ellipsoid(points, (0, 52, -46), (48, 42, 52))
    neck = np.minimum(50 - np.hypot(x, 0.9 * (y + 14)), -10 - z)
    head = np.maximum(np.maximum(skull + 6 + scalp_mm, face), neck)
    muscle = 0.42 + 0.06 * _waves(points, rng, 30, 4)
    image[:] = np.where(head > 0, muscle, image)
    image[(head > 0) & (head < scalp_mm * 0.7)] = rng.uniform(0.7, 1.0)  # fat under the skin
    image[(skull > -6) & (z > -34)] = 0.1  # bone
    image[(skull > -3.6) & (skull < -2.0) & (z > 0)] = 0.35  # marrow between its tables
    image[(skull > 0) & (z > -34)] = 0.2  # fluid
    image[_ellipsoid(points, (0, 66, -38), (9, 26, 20)) > 0] = 0.04  # the nose is air
    image[_ellipsoid(points, (0, 30, -52), (12, 22, 7)) > 0] = 0.04  # so is the throat
    image[_ellipsoid(mirrored, (31, 68, -18), (17, 22, 15)) > 0] = 0.75  # fat of the orbit
    image[_ellipsoid(mirrored, (31, 76, -18), (12.5, 12.5, 12.5)) > 0] = 0.22  # eyes
    image[(inside > -2) & (inside <= 0)] = 0.2


def _paint_cerebrum(
    image: np.ndarray,
    mirrored: list[np.ndarray],
    points: list[np.ndarray],
    depth: np.ndarray,
    rng: np.random.Generator,
    config: PhantomConfig,
) -> None:
    """Folded cortex around white matter: sulci are sheets where a random field changes its sign."""
    a = np.float32(config.asymmetry)
    folds = (1 - a) * _waves(mirrored, rng, SULCUS_WAVELENGTH_MM, 14) + a * _waves(
        points, rng, SULCUS_WAVELENGTH_MM, 14
    )
    reach = 15 + 5 * _waves(points, rng, 45, 6)  # how deep the sulci cut, mm
    gap = 0.3 + 0.03 * np.clip(6 - depth, 0, 6)  # they open towards the surface
    fissure_mm = 1.1 + 0.9 * (depth < 8)
    midline = (mirrored[0] < fissure_mm) & (_ellipsoid(mirrored, (0, -2, 10), (9, 40, 21)) < 0)
    sylvian = np.abs(_ellipsoid(mirrored, (44, 4, -16), (26, 46, 21))) < 1.3
    sylvian &= (mirrored[0] > 28) & (mirrored[1] > -28) & (mirrored[2] > -12)
    fluid = (depth <= 0) | ((np.abs(folds) < gap) & (depth < reach)) | midline | sylvian
    from_fluid = ndimage.distance_transform_edt(~fluid, sampling=config.voxel_mm).astype(np.float32)
    from_fluid += 0.25 * np.float32(config.voxel_mm) * _waves(points, rng, 9, 6)
    white = 1 / (1 + np.exp(-(from_fluid - GRAY_THICKNESS_MM) / 0.7))  # soft: a voxel holds both
    brain = depth > 0
    image[brain] = (0.62 + 0.38 * white)[brain]
    image[brain & fluid] = 0.26
    image[brain & midline] = 0.2


def _paint_deep(image: np.ndarray, mirrored: list[np.ndarray], rng: np.random.Generator) -> None:
    """Corpus callosum, nuclei, ventricles."""
    z_arch = 22 - 0.011 * (mirrored[1] + 4) ** 2
    callosum = (mirrored[0] < 16) & (np.abs(mirrored[2] - z_arch) < 4.0) & (np.abs(mirrored[1] + 2) < 38)
    image[callosum] = 1.0
    image[_ellipsoid(mirrored, (11, -8, 4), (9, 15, 9)) > 0] = 0.68  # thalamus
    image[_ellipsoid(mirrored, (24, 6, 4), (7, 19, 12)) > 0] = 0.66  # putamen, pallidum
    image[_ellipsoid(mirrored, (12.5, 20, 10), (5, 13, 8)) > 0] = 0.65  # caudate
    wide = rng.uniform(0.75, 1.7)
    front = _ellipsoid(mirrored, (6.5, 16, 12), (4.0 * wide, 17, 6.5 * wide**0.5))
    body = _ellipsoid(mirrored, (8.5, -10, 15), (4.6 * wide, 22, 5.0 * wide**0.5))
    back = _ellipsoid(mirrored, (19, -40, 7), (5.0 * wide, 17, 6.0 * wide**0.5))
    third = _ellipsoid(mirrored, (0, -3, 0), (2.0 * wide, 13, 9))
    image[np.maximum(np.maximum(front, body), np.maximum(back, third)) > 0] = 0.16


def _paint_hindbrain(
    image: np.ndarray, mirrored: list[np.ndarray], cerebellum: np.ndarray, rng: np.random.Generator
) -> None:
    """Brain stem and cerebellum with its fine, almost horizontal leaves."""
    x, y, z = mirrored
    leaves = np.cos((z + 0.35 * y + 0.004 * x**2) * 2 * np.pi / rng.uniform(7.5, 9.5))
    core = _ellipsoid(mirrored, (13, -42, -28), (17, 11, 8)) > 0
    tissue = np.where(core, 0.98, 0.6 + 0.16 * leaves)
    image[(cerebellum > -1.8) & (cerebellum <= 0)] = 0.2
    image[cerebellum > 0] = tissue[cerebellum > 0]
    stem = 12 + 3.5 * np.exp(-(((z + 26) / 9) ** 2)) - np.hypot(x, 0.85 * (y + 14 + 0.16 * z))
    stem = np.minimum(stem, np.minimum(3 - z, z + 92))
    image[(stem > -2) & (stem <= 0) & (z < -8)] = 0.2
    image[stem > 0] = 0.93
    image[_ellipsoid(mirrored, (0, -27, -26), (5.5, 4.5, 9)) > 0] = 0.16  # fourth ventricle


def _scan(tissue: np.ndarray, rng: np.random.Generator, config: PhantomConfig) -> np.ndarray:
    """What a scanner makes of it: contrast, blur, speckle, coil shading, noise of a magnitude image."""
    contrast = rng.uniform(0.8, 1.35)
    image = np.clip(tissue, 0, None) ** contrast
    image = ndimage.gaussian_filter(image, rng.uniform(0.35, 0.6))
    speckle = ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), 0.7)
    image *= 1 + 0.09 * speckle
    ramps = [np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape]
    a, b, c = np.meshgrid(*ramps, indexing="ij", sparse=True)
    slopes = rng.normal(0, 0.08, 6).astype(np.float32)
    image *= np.exp(
        slopes[0] * a
        + slopes[1] * b
        + slopes[2] * c
        + slopes[3] * a * a
        + slopes[4] * b * c
        + slopes[5] * c * c
    )
    real = image + config.noise * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = config.noise * rng.standard_normal(image.shape, dtype=np.float32)
    return (np.hypot(real, imaginary) * rng.uniform(500, 1500)).astype(np.int16)
