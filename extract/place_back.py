"""Slices back into the volumes they came from: predictions, masks or the pictures, on the source's own grid.

A voxel takes from the slices around it: linearly between two slices of one plane and angle, the mean over
planes and angles; label maps by a vote of the nearest slices. Voxels farther from every slice than half the
distance between slices stay 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from scipy import ndimage

from extract.archive import Archive
from extract.errors import ExtractError, SettingsError, name_some
from extract.nrrd_writer import write_nrrd
from extract.progress import Progress, no_progress
from extract.slice_place import SlicePlace
from extract.stored_volume import StoredVolume
from extract.volume_files import list_volumes

KINDS = ("values", "labels")
CHUNK_VOXELS = 1_000_000  # worked on at a time
EVEN_WITHIN_MM = 0.05
MAX_SLICES = 100_000
Reader = Callable[[int], np.ndarray | None]  # (H, W) or (1, 1) numbers for the archive's image of this index


@dataclass(frozen=True)
class _Stack:
    """The slices of one plane, angle and tilt, evenly spaced; some may be missing."""

    layers: np.ndarray  # (N, H, W) or (N, 1, 1); 0 where missing
    present: np.ndarray  # (N,) float32, 1 or 0
    to_place: np.ndarray  # (3, 4) from mm in RAS to column, row, number of the slice
    side: int  # pixels of the slices

    def look_up(self, points: Sequence[np.ndarray], order: int) -> tuple[np.ndarray, np.ndarray]:
        """Values at points and how much they count, 0 where no slice is near.

        Args:
            points: column, row and number of the slice, arrays that broadcast.
            order: 0 = of the nearest pixel, 1 = linearly between.
        """
        column, row, number = np.broadcast_arrays(*points)
        last = len(self.present) - 1
        near = (np.minimum(column, row) >= -0.5) & (np.maximum(column, row) <= self.side - 0.5)
        near &= (number >= -0.5) & (number <= last + 0.5)
        places = [np.clip(number[near], 0, last)]
        weights = np.interp(places[0], np.arange(last + 1), self.present)
        for place, count in zip((row, column), self.layers.shape[1:], strict=True):
            places.append(np.clip(place[near], 0, count - 1))
        values = ndimage.map_coordinates(
            self.layers, places, order=order, mode="nearest", prefilter=False,
            output=np.float32 if order else self.layers.dtype,
        )  # fmt: skip
        is_known = weights >= 0.5 - 1e-6  # the nearest slice is there
        found, weight = np.zeros(near.shape, values.dtype), np.zeros(near.shape, np.float32)
        found[near] = np.where(is_known, values, 0)
        weight[near] = np.where(is_known, weights if order else 1.0, 0.0)
        return found, weight


def place_back(
    archive: Archive,
    volumes: Path,
    dest: Path,
    read: Reader,
    *,
    kind: str = "values",
    planes: Sequence[str] | None = None,
    orientation: str | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> list[Path]:
    """Write one NRRD a source volume, on its grid, from what is known of its slices.

    Args:
        archive: made by `extract volumes`; its manifest says where the slices are.
        volumes: the folder that the archive was made from.
        dest: folder to write to; files are named as the volumes.
        read: gives the numbers of a slice by its index in the archive, None = nothing is known of it. See
            `read_pictures`, `read_table` and `mask_files.open_masks`.
        kind: "values" (float32, interpolated) or "labels" (uint16, voted).
        planes: use these alone; None = all.
        orientation: as it was given for slicing.
        overwrite: replace volumes that are there.
        progress: told of each volume.

    Raises:
        ExtractError: if the archive says not where its slices are, a source is not there, or a file is.
        SettingsError: if kind is unknown.
    """
    if kind not in KINDS:
        raise SettingsError(f"--kind must be one of {', '.join(KINDS)}, got {kind!r}")
    table = archive.manifest
    chosen = table["affine"] != ""
    if not chosen.any():
        raise ExtractError(
            f"{archive.path}: expected slices whose manifest says where they are (column affine), got "
            "none; make the archive anew with `extract volumes`"
        )
    if planes is not None:
        chosen &= table["plane"].isin(list(planes))
        if not chosen.any():
            raise SettingsError(
                f"--planes must name planes of the archive, got {','.join(planes)}; it has "
                f"{', '.join(sorted(set(table['plane'])))}"
            )
    rows = table[chosen]
    by_source = {str(name): group.index.to_numpy() for name, group in rows.groupby("source", sort=True)}
    items = {item.name: item for item in list_volumes(volumes)[0]}
    missing = [name for name in by_source if name not in items]
    if missing:
        raise ExtractError(
            f"{volumes}: expected the volumes that {archive.path.name} was made from, {name_some(missing)} "
            "not there"
        )
    targets = {name: _target(dest, name) for name in by_source}
    for target in targets.values():
        if target.exists() and not overwrite:
            raise ExtractError(
                f"{target}: already exists and is left alone; choose another folder or pass --overwrite"
            )
    written = []
    for number, (name, indices) in enumerate(by_source.items()):
        progress(number, len(by_source), name)
        stacks = _stacks(archive, indices, read)
        if stacks:
            grid = items[name].open(volumes, orientation)
            write_nrrd(targets[name], combine_stacks(grid, stacks, kind), grid.affine)
            written.append(targets[name])
        progress(number + 1, len(by_source), name)
    if not written:
        raise ExtractError(f"{archive.path}: expected something to place back, got nothing for any slice")
    return written


def combine_stacks(grid: StoredVolume, stacks: Sequence[_Stack], kind: str) -> np.ndarray:
    """(I, J, K) float32 values or uint16 labels on the grid, worked on a few layers at a time."""
    result = np.zeros(grid.shape, np.float32 if kind == "values" else np.uint16)
    step = max(1, CHUNK_VOXELS // (grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], step):
        part = slice(start, min(start + step, grid.shape[0]))
        axes = [np.arange(part.start, part.stop), np.arange(grid.shape[1]), np.arange(grid.shape[2])]
        i, j, k = np.meshgrid(*axes, indexing="ij", sparse=True)
        found = []
        for stack in stacks:
            matrix = stack.to_place @ grid.affine  # (3, 4) from a voxel's index
            points = [m[0] * i + m[1] * j + m[2] * k + m[3] for m in matrix]
            found.append(stack.look_up(points, order=1 if kind == "values" else 0))
        result[part] = _mean(found) if kind == "values" else _vote(found)
    return result


def read_pictures(archive: Archive) -> Reader:
    """The archive's own pictures, gray (of RGB the middle channel), 0 to 255."""

    def read(index: int) -> np.ndarray:
        pixels = archive.read_image(index)  # (C, H, W)
        return pixels[len(pixels) // 2]

    return read


def read_table(archive: Archive, path: Path, column: str) -> Reader:
    """One number a slice from a CSV or Parquet table with the columns `file` and the one named.

    Raises:
        ExtractError: if the table lacks a column, names no image of the archive, or holds no numbers.
    """
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ExtractError(f"{path}: expected a table of files and numbers, got {error}") from error
    missing = [name for name in ("file", column) if name not in table.columns]
    if missing:
        raise ExtractError(
            f"{path}: expected the column {name_some(missing)}, got "
            f"{name_some([str(c) for c in table.columns])}"
        )
    numbers = pd.to_numeric(table[column], errors="coerce")
    if numbers.isna().any() or not np.isfinite(numbers).all():
        bad = table["file"][~np.isfinite(numbers.fillna(np.inf))].astype(str).tolist()
        raise ExtractError(f"{path}: expected a number in {column}, got none for {name_some(bad)}")
    if table["file"].duplicated().any():
        twice = table["file"][table["file"].duplicated()].astype(str).tolist()
        raise ExtractError(f"{path}: expected one row a file, got several for {name_some(twice)}")
    values = dict(zip(table["file"].astype(str), numbers, strict=True))
    names = archive.manifest["file"].tolist()
    _refuse_strangers(path, set(values), names)
    return lambda index: np.array([[values[names[index]]]], np.float32) if names[index] in values else None


def _refuse_strangers(path: Path, given: set[str], names: Sequence[str]) -> None:
    strangers = sorted(given - set(names))
    if strangers:
        raise ExtractError(
            f"{path}: expected names of the archive's images such as {names[0]}, got {name_some(strangers)}"
        )


def _target(dest: Path, name: str) -> Path:
    """Where a volume is written to: never outside the folder."""
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts:
        raise ExtractError(
            f"{name}: expected a source inside the folder of volumes, got one that points outside"
        )
    stem = place.name
    for suffix in (".nii.gz", ".nii", ".nrrd", ".nhdr"):
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
            break
    return dest.joinpath(*place.parts[:-1], f"{stem}.nrrd")


def _stacks(archive: Archive, indices: np.ndarray, read: Reader) -> list[_Stack]:
    """One stack a plane, angle and tilt of what is known of a volume's slices."""
    table = archive.manifest.loc[indices]
    stacks = []
    for _, group in table.groupby(["plane", "angle_deg", "tilt_deg"], sort=True):
        known = [(index, layer) for index in group.index if (layer := read(int(index))) is not None]
        if not known:
            continue
        places = [
            SlicePlace.from_text(str(text), f"{archive.path}: {file}")
            for text, file in zip(group["affine"], group["file"], strict=True)
        ]
        numbers = _slice_numbers(archive, group)
        spacing = _spacing_mm(archive, numbers, places)
        first = int(numbers.min())
        shape = known[0][1].shape
        layers = np.zeros((int(numbers.max()) - first + 1, *shape), known[0][1].dtype)
        present = np.zeros(len(layers), np.float32)
        slots = dict(zip(group.index, numbers - first, strict=True))
        for index, layer in known:
            if layer.shape != shape or shape not in ((1, 1), archive.image_shape[1:]):
                raise ExtractError(
                    f"{archive.path}: expected pictures of its size {archive.image_shape[1:]} to place "
                    f"back, got {layer.shape} for image {index}"
                )
            layers[slots[index]], present[slots[index]] = layer, 1.0
        to_place = places[int(np.argmin(numbers))].inverse()
        to_place[2] /= spacing
        stacks.append(_Stack(layers, present, to_place, archive.image_shape[2]))
    return stacks


def _slice_numbers(archive: Archive, group: pd.DataFrame) -> np.ndarray:
    """(N,) int slice_index, one a slice."""
    numbers = pd.to_numeric(group["slice_index"], errors="coerce").to_numpy()
    whole = np.isfinite(numbers) & (np.abs(numbers) < MAX_SLICES) & (numbers == np.round(numbers))
    if not whole.all() or len(np.unique(numbers)) < len(numbers):
        raise ExtractError(
            f"{archive.path}: expected a whole number of its own as slice_index of each slice of a plane, "
            f"got {name_some(group['slice_index'].tolist())}; the manifest was changed, make the archive anew"
        )
    return numbers.astype(int)


def _spacing_mm(archive: Archive, numbers: np.ndarray, places: Sequence[SlicePlace]) -> float:
    """Distance between neighboring slices along their normal; of a lone slice what its settings say."""
    normal = places[0].matrix[:, 2]
    depths = np.array([place.matrix[:, 3] @ normal for place in places])
    order = np.argsort(numbers)
    numbers, depths = numbers[order], depths[order]
    if len(numbers) == 1:
        return float(archive.preparation.get("slab_mm") or archive.preparation.get("step_mm") or 1.0)
    spacing = (depths[-1] - depths[0]) / (numbers[-1] - numbers[0]) if numbers[-1] > numbers[0] else 0.0
    off = np.abs(depths - depths[0] - spacing * (numbers - numbers[0])).max()
    if spacing <= 0 or off > EVEN_WITHIN_MM:
        raise ExtractError(
            f"{archive.path}: expected evenly spaced slices in the order of slice_index, got some "
            f"{off:.3g} mm off their place; the manifest was changed, make the archive anew"
        )
    return float(spacing)


def _mean(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Interpolated values already carry the weight of the slices they come from."""
    total = sum(values for values, _ in found)
    weights = sum(weight for _, weight in found)
    return np.asarray(total / np.maximum(weights, 1e-6), np.float32)


def _vote(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The label that most stacks give; of equal ones the smaller. 0 where none covers a voxel."""
    labels = np.stack([values for values, _ in found])  # (S, ...)
    covered = np.stack([weight > 0 for _, weight in found])
    best, votes = np.zeros(labels.shape[1:], np.uint16), np.zeros(labels.shape[1:], np.uint16)
    for label in np.unique(labels[covered]) if covered.any() else ():
        count = ((labels == label) & covered).sum(axis=0, dtype=np.uint16)
        won = count > votes
        best[won], votes[won] = label, count[won]
    return best
