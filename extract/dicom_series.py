"""A DICOM series as one volume: slices by where they are in the patient, not by name or number.

Everything that would put a slice in a wrong place is refused: missing and doubled slices, uneven gaps, mixed
orientations. Gantry tilt needs nothing special: the step from slice to slice is what the positions say.
"""

import warnings
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from extract.dicom_header import SliceHeader, damaged, read_slice_header, require_pydicom
from extract.errors import ExtractError, name_some
from extract.payload import allocate
from extract.stored_volume import StoredVolume, check_affine, check_promise, check_shape

EVEN_WITHIN = 0.02  # of the distance between slices
DARKEST_HU = -1024  # what CT scanners put outside their round field is lower, and no tissue
LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def open_series(name: str, files: Sequence[Path]) -> StoredVolume:
    """Bring the files of one series in order; `load` reads their values, slope and intercept applied.

    Values are Hounsfield units in CT (not below -1024). MONOCHROME1 is inverted, so that more is brighter.

    Args:
        name: of the series, for messages.
        files: its files, in any order.

    Raises:
        ExtractError: if the files are no evenly spaced stack of gray slices of one size and orientation.
    """
    headers = [read_slice_header(path) for path in files]
    _check_alike(name, headers)
    first = headers[0]
    across, along = first.orientation[:3], first.orientation[3:]
    normal = np.cross(across, along)
    headers.sort(key=lambda header: float(normal @ header.position))
    step = _even_step(name, headers, normal)
    row_mm, column_mm = first.spacing  # DICOM: between rows, then between columns
    affine = np.eye(4)
    directions = np.stack([across * column_mm, along * row_mm, step], axis=1)  # (3, 3), LPS
    affine[:3, :3] = directions * LPS_TO_RAS[:, None]
    affine[:3, 3] = headers[0].position * LPS_TO_RAS
    check_affine(name, affine)
    shape = (first.shape[1], first.shape[0], len(headers))
    check_shape(name, shape)
    dtype = _fitting_type(headers)

    def load() -> np.ndarray:
        stack = allocate(name, prod(shape), dtype).reshape(shape[::-1])  # (N, H, W)
        for number, header in enumerate(headers):
            stack[number] = _read_slice(header)
        return stack.transpose(2, 1, 0)

    return StoredVolume(name, shape, affine, load, first.tags)


def _check_alike(name: str, headers: Sequence[SliceHeader]) -> None:
    if len(headers) < 2:
        raise ExtractError(
            f"{name}: expected a series of at least 2 slices, got {len(headers)}; leave it out, or put "
            "all files of the series into the folder"
        )
    series = {dict(header.tags)["SeriesInstanceUID"] for header in headers}
    if len(series) > 1:
        raise ExtractError(
            f"{name}: expected the files of one series, got {len(series)}: {name_some(sorted(series))}"
        )
    for header in headers[1:]:
        if header.kind != headers[0].kind:
            raise ExtractError(
                f"{name}: expected slices of one kind, got {header.path.name} with another size, "
                "PixelSpacing, "
                f"bit depth or modality than {headers[0].path.name}; part the series into folders"
            )
        if np.abs(header.orientation - headers[0].orientation).max() > 1e-3:
            raise ExtractError(
                f"{name}: expected slices of one orientation, got several (a localizer does that); leave "
                "the series out, or part it into folders"
            )


def _even_step(name: str, headers: Sequence[SliceHeader], normal: np.ndarray) -> np.ndarray:
    """(3,) mm from slice to slice, LPS, of headers that are sorted along the normal.

    The step may have a share across the normal: that is gantry tilt.
    """
    files = [header.path.name for header in headers]
    origins = np.array([header.position for header in headers])  # (N, 3)
    gaps = np.diff(origins @ normal)
    usual = float(np.median(gaps))
    doubled = np.flatnonzero(gaps < 0.01)
    if len(doubled):
        raise ExtractError(
            f"{name}: expected one slice at each position, got {len(doubled)} doubled (for instance "
            f"{files[doubled[0]]} and {files[doubled[0] + 1]}); remove the copies, or part repetitions "
            "and echoes into folders"
        )
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if len(wide):
        raise ExtractError(
            f"{name}: expected slices every {usual:.4g} mm, got {gaps[wide[0]]:.4g} mm between "
            f"{files[wide[0]]} and {files[wide[0] + 1]}: slices are missing; get the whole series"
        )
    step = (origins[-1] - origins[0]) / (len(origins) - 1)
    off = np.linalg.norm(origins - (origins[0] + np.arange(len(origins))[:, None] * step), axis=1)
    if off.max() > max(EVEN_WITHIN * usual, 0.02):
        raise ExtractError(
            f"{name}: expected evenly spaced slices, got gaps of {gaps.min():.4g} to {gaps.max():.4g} mm "
            f"and a slice {off.max():.4g} mm away from its place; resample the series"
        )
    return step


def _fitting_type(headers: Sequence[SliceHeader]) -> np.dtype:
    """The smallest type that holds what the slices can show, without rounding."""
    lows, highs = [], []
    for header in headers:
        if header.slope != 1 or header.intercept != round(header.intercept):
            return np.dtype(np.float32)
        half = 2.0 ** (header.bits_stored - 1)
        lows.append(header.intercept - (half if header.is_signed else 0))
        highs.append(header.intercept + (half if header.is_signed else 2 * half) - 1)
    for kind in (np.uint8, np.int16, np.uint16):
        limits = np.iinfo(kind)
        if limits.min <= min(lows) and max(highs) <= limits.max:
            return np.dtype(kind)
    return np.dtype(np.float32)


def _read_slice(header: SliceHeader) -> np.ndarray:
    """(H, W) float32 values of one file."""
    pydicom = require_pydicom()
    path = header.path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = pydicom.dcmread(path)
            if not opened.file_meta.TransferSyntaxUID.is_compressed:
                promised = prod(header.shape) * header.bits_allocated // 8
                check_promise(f"{path}", "DICOM", promised, path.stat().st_size)
            pixels = opened.pixel_array
    except ExtractError:
        raise
    except Exception as error:  # damaged pixels, or a compression that nothing installed can undo
        remedy = "copy it anew"
        if isinstance(error, RuntimeError):
            remedy = "if it is compressed, run: pip install 'synthlabel[dicom]'"
        raise damaged(path, error, remedy) from error
    if pixels.shape != header.shape:
        raise damaged(path, f"its pixels are {pixels.shape}, its header says {header.shape}")
    values = pixels.astype(np.float32)
    if header.is_inverted:
        values = (-1.0 if header.is_signed else 2.0**header.bits_stored - 1) - values
    values = values * np.float32(header.slope) + np.float32(header.intercept)
    return np.maximum(values, DARKEST_HU) if header.is_ct else values
