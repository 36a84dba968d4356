"""NRRD volumes brought to RAS by their header; the order of the array means nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel.orientations as orientations
import nrrd
import numpy as np

from extract.errors import ExtractError, SettingsError

VOLUME_SUFFIXES = (".nrrd", ".nhdr")
# What the three numbers of a world position mean, as signs that bring it to RAS.
SPACE_SIGNS = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
AXIS_OF_LETTER = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
MILLIMETRES = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "")


@dataclass(frozen=True)
class Volume:
    """A volume whose array axes run about to the right, to the front and upwards.

    `affine` maps a voxel's index to its position in mm (RAS); it keeps the obliqueness that remains.
    """

    name: str
    voxels: np.ndarray  # (R, A, S) float32
    affine: np.ndarray  # (4, 4)

    @property
    def spacing_mm(self) -> np.ndarray:
        """(3,) distance between neighbors along each axis."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)


def check_orientation(orientation: str | None) -> None:
    """Raise SettingsError unless the text is three letters, one of R/L, one of A/P, one of S/I."""
    if orientation is None:
        return
    axes = {AXIS_OF_LETTER[letter][0] for letter in orientation.upper() if letter in AXIS_OF_LETTER}
    if len(orientation) != 3 or len(axes) != 3:
        raise SettingsError(
            f"--orientation must be three letters such as RAS, LAS or PSR (where each array axis runs to), "
            f"got {orientation!r}"
        )


def read_volume(path: Path, orientation: str | None = None) -> Volume:
    """Read a NRRD file (attached or detached header) and bring it to RAS.

    Args:
        path: .nrrd or .nhdr.
        orientation: where the array axes run to, such as "LAS", for a file whose header does not say;
            a header that does say wins.

    Raises:
        ExtractError: if the file is damaged, is not 3-D, says nothing of its orientation, or holds NaN,
            infinite or constant values.
    """
    path = Path(path)
    try:
        voxels, header = nrrd.read(str(path))
    except FileNotFoundError as error:
        missing = Path(error.filename or path)
        whose = "" if missing == path else f" for the voxels of {path}"
        raise ExtractError(f"{missing}: expected a file{whose}, got nothing there") from error
    except Exception as error:  # on damaged files the reader raises almost anything, StopIteration included
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExtractError(
            f"{path}: expected a whole NRRD file, got one that is damaged or cut short ({reason}); "
            "copy it anew"
        ) from error
    _check_axes(path, voxels, header)
    affine = _affine(path, header, orientation)
    _check_values(path, voxels)
    to_ras = orientations.io_orientation(affine)
    turned = orientations.apply_orientation(voxels, to_ras)
    affine = affine @ orientations.inv_ornt_aff(to_ras, voxels.shape)
    return Volume(path.name, np.ascontiguousarray(turned, dtype=np.float32), affine)


def _check_axes(path: Path, voxels: np.ndarray, header: dict[str, Any]) -> None:
    kinds = " ".join(header.get("kinds", ())) or "not given"
    if voxels.ndim != 3:
        raise ExtractError(
            f"{path}: expected 3 spatial axes, got {voxels.ndim} (kinds: {kinds}); store one 3-D "
            "volume a file"
        )
    directions = header.get("space directions")
    if directions is not None:
        spatial = sum(row is not None and np.isfinite(np.asarray(row, float)).all() for row in directions)
        if spatial != 3:
            raise ExtractError(f"{path}: expected 3 spatial axes, got {spatial} of 3 (kinds: {kinds})")
    if not np.issubdtype(voxels.dtype, np.number) or np.issubdtype(voxels.dtype, np.complexfloating):
        raise ExtractError(f"{path}: expected real numbers as voxels, got {voxels.dtype}")
    if min(voxels.shape) < 2:
        raise ExtractError(f"{path}: expected at least 2 voxels along each axis, got {voxels.shape}")


def _affine(path: Path, header: dict[str, Any], orientation: str | None) -> np.ndarray:
    """(4, 4) from a voxel's index to mm in RAS."""
    units = [str(unit).lower() for unit in header.get("space units", header.get("units", ()))]
    if any(unit not in MILLIMETRES for unit in units):
        raise ExtractError(
            f"{path}: expected space units of mm, got {units}; convert the volume to millimetres"
        )
    signs = SPACE_SIGNS.get(str(header.get("space", "")).lower())
    directions = header.get("space directions")
    affine = np.eye(4)
    if signs is not None and directions is not None:
        affine[:3, :3] = (np.asarray(directions, float) * signs).T
        origin = np.asarray(header.get("space origin", np.zeros(3)), float)
        affine[:3, 3] = np.where(np.isfinite(origin), origin, 0.0) * signs
    elif orientation is not None:
        check_orientation(orientation)
        spacings = _spacings(path, header)
        for column, letter in enumerate(orientation.upper()):
            axis, sign = AXIS_OF_LETTER[letter]
            affine[:3, column] = 0.0
            affine[axis, column] = sign * spacings[column]
    else:
        raise ExtractError(
            f"{path}: expected a header that says where the axes run to (space and space "
            "directions), got space "
            f"{header.get('space', 'not given')!r} and space directions "
            f"{'given' if directions is not None else 'not given'}; pass --orientation, for "
            "instance --orientation LPS"
        )
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ExtractError(
            f"{path}: expected space directions along three different lines, got {affine[:3, :3].T.tolist()}"
        )
    return affine


def _spacings(path: Path, header: dict[str, Any]) -> np.ndarray:
    directions, spacings = header.get("space directions"), header.get("spacings")
    if directions is not None:
        return np.linalg.norm(np.asarray(directions, float), axis=1)
    if spacings is None:
        raise ExtractError(
            f"{path}: expected spacings or space directions in the header, got neither, so its size in mm is "
            "unknown; write a line such as 'spacings: 1 1 1' (mm) into the header"
        )
    values = np.abs(np.asarray(spacings, float))
    if not np.isfinite(values).all() or not values.all():
        raise ExtractError(f"{path}: expected spacings above 0 mm, got {spacings}")
    return values


def _check_values(path: Path, voxels: np.ndarray) -> None:
    if np.issubdtype(voxels.dtype, np.floating):
        num_bad = int(voxels.size - np.isfinite(voxels).sum())
        if num_bad:
            raise ExtractError(
                f"{path}: expected finite voxels, got {num_bad} of {voxels.size} that are NaN or infinite; "
                "replace them, by 0 for instance, or leave the volume out"
            )
    if voxels.min() == voxels.max():
        raise ExtractError(f"{path}: expected an image, got the value {voxels.min()} in every voxel")
