"""What a NRRD header says of space: which axes are in it, where they run to, how far apart voxels are."""

from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import ExtractError
from extract.orientation import oriented_affine
from extract.stored_volume import check_affine

# What the three numbers of a world position mean, as signs that bring it to RAS.
SPACE_SIGNS = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
MILLIMETRES = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "")


def spatial_axes(path: Path, header: dict[str, Any]) -> list[int]:
    """Which three of the array's axes are in space; a fourth one of a single component does no harm.

    Raises:
        ExtractError: if there are not three.
    """
    kinds = " ".join(header.get("kinds", ())) or "not given"
    sizes, directions = header["sizes"], header.get("space directions")
    axes = list(range(len(sizes)))
    if directions is not None and len(directions) == len(sizes):
        spatial = [
            k for k, row in enumerate(directions) if row is not None and np.isfinite(np.asarray(row)).all()
        ]
    else:
        spatial = axes if len(axes) <= 3 else [k for k in axes if int(sizes[k]) != 1]
    others = [k for k in axes if k not in spatial]
    if len(spatial) != 3 or any(int(sizes[k]) != 1 for k in others):
        got = f"{len(axes)}" if len(axes) != 3 else f"{len(spatial)} of 3"
        raise ExtractError(
            f"{path}: expected 3 spatial axes, got {got} (kinds: {kinds}); store one 3-D volume a file"
        )
    return spatial


def nrrd_affine(path: Path, header: dict[str, Any], kept: list[int], orientation: str | None) -> np.ndarray:
    """(4, 4) from a voxel's index to mm in RAS.

    Args:
        kept: the array's axes that are in space.
        orientation: where they run to, for a header that does not say.

    Raises:
        ExtractError: if the header says nothing of an anatomical space and no orientation is given.
    """
    units = [str(unit).lower() for unit in header.get("space units", header.get("units", ()))]
    if any(unit not in MILLIMETRES for unit in units):
        raise ExtractError(
            f"{path}: expected space units of mm, got {units}; convert the volume to millimetres"
        )
    space = str(header.get("space", "")).lower()
    signs = SPACE_SIGNS.get(space)
    directions = header.get("space directions")
    affine = np.eye(4)
    if signs is not None and directions is not None:
        affine[:3, :3] = (np.asarray([directions[k] for k in kept], float) * signs).T
        origin = np.asarray(header.get("space origin", np.zeros(3)), float)
        affine[:3, 3] = np.where(np.isfinite(origin), origin, 0.0) * signs
    elif orientation is not None:
        affine = oriented_affine(orientation, _spacings(path, header, kept))
    else:
        scanner = " (the scanner's axes say nothing of the patient's)" if "scanner" in space else ""
        raise ExtractError(
            f"{path}: expected a header that says where the axes run to (space and space "
            "directions), got space "
            f"{header.get('space', 'not given')!r}{scanner} and space directions "
            f"{'given' if directions is not None else 'not given'}; pass --orientation, for "
            "instance --orientation LPS"
        )
    check_affine(f"{path}", affine)
    return affine


def _spacings(path: Path, header: dict[str, Any], kept: list[int]) -> np.ndarray:
    directions, spacings = header.get("space directions"), header.get("spacings")
    if directions is not None:
        return np.linalg.norm(np.asarray([directions[k] for k in kept], float), axis=1)
    if spacings is None or len(spacings) <= max(kept):
        raise ExtractError(
            f"{path}: expected spacings or space directions in the header, got neither, so its size in mm is "
            "unknown; write a line such as 'spacings: 1 1 1' (mm) into the header"
        )
    values = np.abs(np.asarray([spacings[k] for k in kept], float))
    if not np.isfinite(values).all() or not values.all():
        raise ExtractError(f"{path}: expected spacings above 0 mm, got {spacings}")
    return values
