"""Volumes of every format brought to RAS by their header; the order of the array means nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.dicom_header import looks_like_dicom
from extract.dicom_series import open_series
from extract.errors import ExtractError
from extract.nrrd_file import open_nrrd
from extract.orientation import turn_to_ras
from extract.stored_volume import StoredVolume

NRRD_SUFFIXES = (".nrrd", ".nhdr")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
VOLUME_SUFFIXES = (*NRRD_SUFFIXES, *NIFTI_SUFFIXES)


@dataclass(frozen=True)
class Volume:
    """A volume whose array axes run about to the right, to the front and upwards.

    `affine` maps a voxel's index to its position in mm (RAS); it keeps the obliqueness that remains.
    """

    name: str
    voxels: np.ndarray  # (R, A, S) 8- or 16-bit integers as stored, else float32
    affine: np.ndarray  # (4, 4)

    @property
    def spacing_mm(self) -> np.ndarray:
        """(3,) distance between neighbors along each axis."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)


def read_volume(path: Path, orientation: str | None = None) -> Volume:
    """Read a NRRD or NIfTI file, or a folder that holds one DICOM series, and bring it to RAS.

    Args:
        path: .nrrd, .nhdr, .nii, .nii.gz, or a folder of DICOM files.
        orientation: where the array axes run to, such as "LAS", for a file whose header does not say;
            a header that does say wins.

    Raises:
        ExtractError: if the file is damaged, is not 3-D, says nothing of its orientation, or holds NaN,
            infinite or constant values.
    """
    return load_volume(open_volume(path, orientation))


def open_volume(path: Path, orientation: str | None = None) -> StoredVolume:
    """Read the header alone; see `read_volume`."""
    path = Path(path)
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.is_file() and looks_like_dicom(file)]
        if not files:
            raise ExtractError(f"{path}: expected a folder of DICOM files, got none in it")
        return open_series(f"{path}", files)
    return open_files(f"{path}", [path], orientation)


def open_files(name: str, files: Sequence[Path], orientation: str | None = None) -> StoredVolume:
    """The header of the volume that is one NRRD or NIfTI file, or all files of a DICOM series."""
    lower = files[0].name.lower()
    if len(files) == 1 and lower.endswith(NRRD_SUFFIXES):
        return open_nrrd(files[0], orientation)
    if len(files) == 1 and lower.endswith(NIFTI_SUFFIXES):
        from extract.nifti_file import open_nifti  # nibabel takes half a second to import

        return open_nifti(files[0], orientation)
    return open_series(name, files)


def load_volume(stored: StoredVolume) -> Volume:
    """Read the values and turn them to RAS by whole axes.

    Raises:
        ExtractError: if the values cannot be read, are not finite, or all the same.
    """
    voxels = stored.load()
    if min(stored.shape) < 2:
        raise ExtractError(
            f"{stored.name}: expected at least 2 voxels along each axis, got {stored.shape}; a single "
            "slice is a picture (see `extract images`)"
        )
    _check_values(stored.name, voxels)
    turned, affine = turn_to_ras(voxels, stored.affine)
    kept = voxels.dtype in (np.uint8, np.int8, np.int16, np.uint16)
    # Integers of 8 and 16 bits stay what they are: a quarter or half of the memory, and the same values.
    return Volume(Path(stored.name).name, np.ascontiguousarray(turned, None if kept else np.float32), affine)


def _check_values(name: str, voxels: np.ndarray) -> None:
    if np.issubdtype(voxels.dtype, np.floating):
        num_bad = int(voxels.size - np.isfinite(voxels).sum())
        if num_bad:
            raise ExtractError(
                f"{name}: expected finite voxels, got {num_bad} of {voxels.size} that are NaN or infinite; "
                "replace them, by 0 for instance, or leave the volume out"
            )
    if voxels.min() == voxels.max():
        raise ExtractError(f"{name}: expected an image, got the value {voxels.min()} in every voxel")
