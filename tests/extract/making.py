"""Small archives, volumes and pictures that the tests of this package share."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nrrd
import numpy as np

from extract.archive import Archive, ArchiveWriter, ImageRecord, open_archive

TO_LPS = np.array([-1.0, -1.0, 1.0])
LETTERS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def random_pixels(*key: int, size: int = 8, channels: int = 0) -> np.ndarray:
    """Pixels that differ for each key."""
    shape = (size, size, channels) if channels else (size, size)
    return np.random.default_rng(key).integers(0, 256, shape, dtype=np.uint8)


def write_archive(path: Path, images: Mapping[str, str], twins: Sequence[tuple[str, str]] = ()) -> Archive:
    """Write an archive from subject -> one letter (class) an image; twins share their first picture."""
    first = {b: a for a, b in twins}
    names = list(images)
    with ArchiveWriter(path, overwrite=True) as writer:
        for subject, labels in images.items():
            for k, label in enumerate(labels):
                owner = first.get(subject, subject) if k == 0 else subject
                writer.add(random_pixels(names.index(owner), k), ImageRecord(label=label, subject=subject))
    return open_archive(path)


def many_subjects(count: int, labels: str = "abc") -> dict[str, str]:
    return {f"s{number:02d}": labels for number in range(count)}


def rewrite_zip(source: Path, dest: Path, changes: Mapping[str, Any]) -> Path:
    """Copy a zip with some entries replaced (bytes or text), left out (None) or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(dest, "w") as new:
        for name in old.namelist():
            if name not in changes:
                new.writestr(name, old.read(name))
        for name, content in changes.items():
            if content is not None:
                new.writestr(name, content if isinstance(content, bytes | str) else json.dumps(content))
    return dest


def ramp_volume(shape: tuple[int, int, int] = (8, 6, 5)) -> np.ndarray:
    """A RAS array whose value tells the voxel: 1 + index."""
    return (1 + np.arange(np.prod(shape))).reshape(shape).astype(np.int16)


def write_nrrd(
    path: Path,
    ras: np.ndarray,
    order: str = "RAS",
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    turn: np.ndarray | None = None,
    space: str = "left-posterior-superior",
    drop: Sequence[str] = (),
    **extra: Any,
) -> Path:
    """Store a RAS array in another axis order with the header that says so; `turn` makes it oblique."""
    directions = (np.eye(3) if turn is None else turn.T) * np.asarray(spacing)[:, None]  # row k: axis k, RAS
    origin = np.array([-10.0, 5.0, 3.0])
    axes = [LETTERS[letter][0] for letter in order]
    voxels, directions = ras.transpose(axes), directions[axes]
    for axis, letter in enumerate(order):
        if LETTERS[letter][1] < 0:
            origin = origin + directions[axis] * (voxels.shape[axis] - 1)
            directions[axis] *= -1
            voxels = np.flip(voxels, axis)
    signs = {"left-posterior-superior": TO_LPS, "RAS": np.ones(3), "LAS": np.array([-1.0, 1, 1])}[space]
    header = {"space": space, "space directions": directions * signs, "space origin": origin * signs, **extra}
    header = {key: value for key, value in header.items() if key not in drop}
    nrrd.write(str(path), np.ascontiguousarray(voxels), header)
    return path


def head_volume(depth: int = 40, seed: int = 0) -> np.ndarray:
    """A RAS ellipsoid of tissue in air, `depth` voxels wide; brighter at the front, brightest on top."""
    shape = (depth, 44, 36)
    a, b, c = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    inside = (a / 0.8) ** 2 + (b / 0.85) ** 2 + (c / 0.75) ** 2 < 1
    texture = np.random.default_rng(seed).normal(0, 8, shape)
    return np.where(inside, 120 + 40 * b + 60 * c + texture, 0).clip(0, 255).astype(np.uint8)
