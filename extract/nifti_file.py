"""NIfTI files (.nii, .nii.gz): the header through nibabel, the values by ourselves, no more than promised."""

import gzip
import stat
from math import prod
from pathlib import Path
from typing import IO

import nibabel
import numpy as np
from nibabel.imageglobals import LoggingOutputSuppressor

from extract.errors import ExtractError
from extract.orientation import oriented_affine
from extract.payload import HEADER_ERRORS, READ_ERRORS, allocate, fill_exactly, skip_bytes
from extract.stored_volume import GZIP_RATIO, StoredVolume, check_affine, check_promise, check_shape

HEADER_BYTES = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
MAX_OFFSET = 1 << 24  # header and extensions before the voxels
MAX_TRAILING = 1 << 16  # some writers pad the end
MM_OF_UNIT = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}


def open_nifti(path: Path, orientation: str | None = None) -> StoredVolume:
    """Read a NIfTI's header; its values, with slope and intercept applied, are read by `load`.

    Where the axes run to is told by the sform, else by the qform, which is nibabel's order. A file with
    neither says nothing of it: nibabel would guess.

    Args:
        path: .nii or .nii.gz, NIfTI-1 or -2.
        orientation: where the array axes run to, such as "LAS", for a file with neither form.

    Raises:
        ExtractError: if the file is damaged, promises what it cannot hold, or is not 3-D and real.
    """
    path = Path(path)
    zipped = path.name.lower().endswith(".gz")
    header = _read_header(path, zipped)
    shape = _shape(path, header)
    try:
        dtype, offset = header.get_data_dtype(), int(header.get_data_offset())
    except HEADER_ERRORS as error:  # a NIfTI-1's offset is a float, and may be NaN
        raise _damaged(path, error) from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ExtractError(f"{path}: expected real numbers as voxels, got the NIfTI type {dtype}")
    if not 0 <= offset <= MAX_OFFSET:
        raise _damaged(path, f"its voxels begin at byte {offset:,}")
    promised = prod(shape) * dtype.itemsize
    check_promise(f"{path}", "NIfTI", promised, path.stat().st_size, GZIP_RATIO if zipped else 1)
    affine = _affine(path, header, orientation)
    slope, intercept = (float(value) for value in _scaling(path, header))

    def load() -> np.ndarray:
        flat = allocate(f"{path}", prod(shape), dtype)
        try:
            with _open_stream(path, zipped) as stream:
                skip_bytes(stream, offset)
                fill_exactly(flat, stream, MAX_TRAILING)
        except READ_ERRORS as error:
            raise _damaged(path, error) from error
        voxels = flat.reshape(shape, order="F")
        if not dtype.isnative:
            voxels = voxels.astype(dtype.newbyteorder("="))
        if (slope, intercept) == (1.0, 0.0):
            return voxels
        scaled = voxels.astype(np.float32)
        scaled *= np.float32(slope)
        scaled += np.float32(intercept)
        return scaled

    return StoredVolume(f"{path}", shape, affine, load)


def _open_stream(path: Path, zipped: bool) -> IO[bytes]:
    return gzip.open(path, "rb") if zipped else open(path, "rb")  # type: ignore[return-value]


def _read_header(path: Path, zipped: bool) -> nibabel.Nifti1Header:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ExtractError(f"{path}: expected a NIfTI file, got no ordinary file")
        with _open_stream(path, zipped) as stream:
            block = stream.read(max(HEADER_BYTES))
    except FileNotFoundError as error:
        raise ExtractError(f"{path}: expected a file, got nothing there") from error
    except READ_ERRORS as error:
        raise _damaged(path, error) from error
    for size, kind in HEADER_BYTES.items():
        if len(block) >= size and size in (int.from_bytes(block[:4], order) for order in ("little", "big")):  # type: ignore[arg-type]
            try:
                with LoggingOutputSuppressor():  # what matters is said in our own sentence
                    return kind(block[:size])
            except Exception as error:  # nibabel's checks raise errors of many kinds
                raise _damaged(path, error) from error
    raise _damaged(path, "it does not begin with the header of a NIfTI-1 or NIfTI-2")


def _shape(path: Path, header: nibabel.Nifti1Header) -> tuple[int, int, int]:
    shape = tuple(int(count) for count in header.get_data_shape())
    check_shape(f"{path}", shape)
    spatial, further = shape[:3], shape[3:]
    if len(spatial) != 3 or prod(further) != 1:
        raise ExtractError(
            f"{path}: expected 3 spatial axes, got {len(shape)} ({' x '.join(map(str, shape))}); store "
            "one 3-D volume a file"
            + (f", for instance the first or the mean of these {prod(further)}" if further else "")
        )
    return spatial[0], spatial[1], spatial[2]


def _affine(path: Path, header: nibabel.Nifti1Header, orientation: str | None) -> np.ndarray:
    try:
        unit = header.get_xyzt_units()[0]
    except HEADER_ERRORS as error:
        raise _damaged(path, f"no unit of length has the code {error}") from error
    if int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0:
        try:
            affine = np.array(header.get_best_affine(), float)
        except Exception as error:  # of impossible quaternions
            raise _damaged(path, error) from error
    elif orientation is not None:
        affine = oriented_affine(orientation, np.asarray(header.get_zooms()[:3], float))
    else:
        raise ExtractError(
            f"{path}: expected a header that says where the axes run to, got sform and qform codes of 0; "
            "pass --orientation, for instance --orientation LAS"
        )
    affine[:3] *= MM_OF_UNIT[unit]
    check_affine(f"{path}", affine)
    return affine


def _scaling(path: Path, header: nibabel.Nifti1Header) -> tuple[float, float]:
    """Slope and intercept, where a slope of 0 means none."""
    try:
        slope, intercept = header.get_slope_inter()
    except Exception as error:  # not finite; readers differ on what that means
        raise _damaged(path, error) from error
    return (1.0 if slope is None else slope), (0.0 if intercept is None else intercept)


def _damaged(path: Path, error: object) -> ExtractError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ExtractError(
        f"{path}: expected a whole NIfTI file, got one that is damaged or cut short ({reason}); copy it anew"
    )
