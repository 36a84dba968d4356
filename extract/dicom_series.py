"""A DICOM series as one volume: slices by where they are in the patient, not by name or number.

Everything that would put a slice in a wrong place is refused: missing and doubled slices, uneven gaps, mixed
orientations. Gantry tilt needs nothing special: the step from slice to slice is what the positions say.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import ExtractError, SettingsError, name_some
from extract.stored_volume import StoredVolume, check_affine, check_promise, check_shape

MAX_SIDE = 8192  # pixels; a compressed slice that claims more is no slice
EVEN_WITHIN = 0.02  # of the distance between slices
DARKEST_HU = -1024  # what CT scanners put outside their round field is lower, and no tissue
DEFLATED = "1.2.840.10008.1.2.1.99"
LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
KEPT_TAGS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "AccessionNumber", "Modality")
SHARED = (
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "PixelRepresentation",
    "PhotometricInterpretation",
)
HEADER_TAGS = (
    *KEPT_TAGS, *SHARED, "SeriesNumber", "InstanceNumber", "NumberOfFrames", "SamplesPerPixel", "BitsStored",
    "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept",
)  # fmt: skip


@dataclass(frozen=True)
class SeriesKey:
    """What tells the series of a file."""

    uid: str
    number: str
    is_image: bool


def require_pydicom() -> Any:
    """The module, imported when it is first needed.

    Raises:
        ExtractError: if it is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise ExtractError(
            "DICOM files need pydicom, which is not installed; run: pip install 'synthlabel[dicom]'"
        ) from error
    return pydicom


def check_tag(keyword: str | None) -> None:
    """Raise SettingsError unless the DICOM tag is one that series are told apart by."""
    allowed = [name for name in KEPT_TAGS if name != "Modality"]
    if keyword is not None and keyword not in allowed:
        raise SettingsError(f"--subject-tag must be one of {', '.join(allowed)}, got {keyword!r}")


def looks_like_dicom(path: Path) -> bool:
    """Whether the file bears DICOM's mark at byte 128."""
    try:
        if not path.is_file():  # a pipe would hang
            return False
        with open(path, "rb") as handle:
            handle.seek(128)
            return handle.read(4) == b"DICM"
    except OSError:
        return False


def read_series_key(path: Path) -> SeriesKey:
    """Which series a file belongs to.

    Raises:
        ExtractError: if it is no DICOM file.
    """
    header = _read_header(path, ("SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "Rows"))
    if "SOPClassUID" not in header and path.name.upper() != "DICOMDIR":
        raise _damaged(path, "no SOPClassUID")
    return SeriesKey(
        str(header.get("SeriesInstanceUID", "")), str(header.get("SeriesNumber", "")), "Rows" in header
    )


def open_series(name: str, files: Sequence[Path]) -> StoredVolume:
    """Bring the files of one series in order; `load` reads their values, slope and intercept applied.

    Values are Hounsfield units in CT (not below -1024). MONOCHROME1 is inverted, so that more is brighter.

    Args:
        name: of the series, for messages.
        files: its files, in any order.

    Raises:
        ExtractError: if the files are no evenly spaced stack of gray slices of one size and orientation.
    """
    headers = [(path, _read_header(path, HEADER_TAGS)) for path in files]
    _check_alike(name, headers)
    first = headers[0][1]
    across, along = (np.array(first["ImageOrientationPatient"], float)[k : k + 3] for k in (0, 3))
    normal = np.cross(across, along)
    headers.sort(key=lambda item: float(normal @ np.array(item[1]["ImagePositionPatient"], float)))
    origins = np.array([header["ImagePositionPatient"] for _, header in headers], float)  # (N, 3) mm, LPS
    step = _even_step(name, [path.name for path, _ in headers], origins, normal)
    row_mm, column_mm = (float(value) for value in first["PixelSpacing"])  # DICOM: between rows, then columns
    affine = np.eye(4)
    directions = np.stack([across * column_mm, along * row_mm, step], axis=1)  # (3, 3), LPS
    affine[:3, :3] = directions * LPS_TO_RAS[:, None]
    affine[:3, 3] = origins[0] * LPS_TO_RAS
    check_affine(name, affine)
    rows, columns = int(first["Rows"]), int(first["Columns"])
    shape = (columns, rows, len(headers))
    check_shape(name, shape)
    if max(rows, columns) > MAX_SIDE:
        raise ExtractError(f"{name}: expected slices of at most {MAX_SIDE} pixels, got {columns} x {rows}")
    dtype = _fitting_type(headers)

    def load() -> np.ndarray:
        stack = np.empty(shape[::-1], dtype)  # (N, H, W)
        for number, (path, header) in enumerate(headers):
            stack[number] = _read_slice(path, header, (rows, columns))
        return stack.transpose(2, 1, 0)

    tags = tuple((keyword, str(first.get(keyword, "")).strip()) for keyword in KEPT_TAGS)
    return StoredVolume(name, shape, affine, load, tags)


def _read_header(path: Path, keywords: Sequence[str]) -> dict[str, Any]:
    """Values by keyword; a tag that is missing or empty is left out."""
    pydicom = require_pydicom()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about values that we do not use
            if str(_syntax(path)) == DEFLATED:
                raise ValueError("its transfer syntax is Deflated, which could grow without bound")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
            found = {keyword: header.get(keyword) for keyword in keywords}
    except FileNotFoundError as error:
        raise ExtractError(f"{path}: expected a file, got nothing there") from error
    except Exception as error:  # damaged files make pydicom raise almost anything
        raise _damaged(path, error) from error
    return {keyword: value for keyword, value in found.items() if value is not None and str(value) != ""}


def _syntax(path: Path) -> Any:
    """The transfer syntax, from the part of the file that is never compressed."""
    from pydicom.filereader import read_file_meta_info

    return read_file_meta_info(path).get("TransferSyntaxUID", "")


def _check_alike(name: str, headers: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    for path, header in headers:
        if int(header.get("NumberOfFrames", 1)) > 1:
            raise ExtractError(
                f"{path}: expected one slice a file, got {header['NumberOfFrames']} frames; convert the "
                "series to NIfTI, for instance with dcm2niix"
            )
        if int(header.get("SamplesPerPixel", 1)) != 1:
            raise ExtractError(
                f"{path}: expected gray slices, got {header['SamplesPerPixel']} values a pixel; leave out "
                "derived color pictures"
            )
        missing = [
            keyword
            for keyword in ("ImagePositionPatient", "ImageOrientationPatient", *SHARED)
            if keyword not in header
        ]
        if missing:
            raise ExtractError(
                f"{path}: expected the place of the slice in its header, got no {', '.join(missing)}; it "
                "is a picture of its own (a localizer, a capture), leave it out"
            )
        if not str(header["PhotometricInterpretation"]).startswith("MONOCHROME"):
            raise ExtractError(
                f"{path}: expected gray values (MONOCHROME), got {header['PhotometricInterpretation']}"
            )
    if len(headers) < 2:
        raise ExtractError(
            f"{name}: expected a series of at least 2 slices, got {len(headers)}; leave it out, or put "
            "all files of the series into the folder"
        )
    series = {str(header.get("SeriesInstanceUID", "")) for _, header in headers}
    if len(series) > 1:
        raise ExtractError(
            f"{name}: expected the files of one series, got {len(series)}: {name_some(sorted(series))}"
        )
    for keyword in SHARED:
        if len({str(header[keyword]) for _, header in headers}) > 1:
            raise ExtractError(
                f"{name}: expected slices of one kind, got several values of {keyword} in one series; "
                "part it into folders"
            )
    turned = np.array([header["ImageOrientationPatient"] for _, header in headers], float)
    if np.abs(turned - turned[0]).max() > 1e-3:
        raise ExtractError(
            f"{name}: expected slices of one orientation, got several (a localizer does that); leave the "
            "series out, or part it into folders"
        )


def _even_step(name: str, files: Sequence[str], origins: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(3,) mm from slice to slice, LPS, of (N, 3) positions that are sorted along the normal.

    The step may have a share across the normal: that is gantry tilt.
    """
    gaps = np.diff(origins @ normal)
    usual = float(np.median(gaps))
    doubled = np.flatnonzero(gaps < 0.01)
    if len(doubled) or usual <= 0:
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


def _fitting_type(headers: Sequence[tuple[Path, dict[str, Any]]]) -> np.dtype:
    """The smallest type that holds what the slices can show, without rounding."""
    lows, highs = [], []
    for _, header in headers:
        slope, intercept = _rescale(header)
        if slope != 1 or intercept != round(intercept):
            return np.dtype(np.float32)
        bits, signed = int(header.get("BitsStored", header["BitsAllocated"])), header["PixelRepresentation"]
        lows.append(intercept - (2 ** (bits - 1) if signed else 0))
        highs.append(intercept + 2 ** (bits - 1 if signed else bits) - 1)
    for kind in (np.uint8, np.int16, np.uint16):
        limits = np.iinfo(kind)
        if limits.min <= min(lows) and max(highs) <= limits.max:
            return np.dtype(kind)
    return np.dtype(np.float32)


def _rescale(header: dict[str, Any]) -> tuple[float, float]:
    return float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))


def _read_slice(path: Path, header: dict[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """(H, W) float32 values of one file."""
    pydicom = require_pydicom()
    stored_bytes = prod(shape) * int(header["BitsAllocated"]) // 8
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = pydicom.dcmread(path)
            if not opened.file_meta.TransferSyntaxUID.is_compressed:
                check_promise(f"{path}", "DICOM", stored_bytes, path.stat().st_size)
            pixels = opened.pixel_array
    except ExtractError:
        raise
    except Exception as error:
        syntax = ""
        if isinstance(error, RuntimeError):  # no plugin for the compression
            syntax = "; for compressed slices run: pip install 'synthlabel[dicom]'"
        raise _damaged(path, error, syntax) from error
    if pixels.shape != shape:
        raise _damaged(path, f"its pixels are {pixels.shape}, its header says {shape}")
    slope, intercept = _rescale(header)
    values = pixels.astype(np.float32)
    if header["PhotometricInterpretation"] == "MONOCHROME1":  # more is darker
        bits = int(header.get("BitsStored", header["BitsAllocated"]))
        values = (-1.0 if header["PixelRepresentation"] else 2.0**bits - 1) - values
    values = values * np.float32(slope) + np.float32(intercept)
    return np.maximum(values, DARKEST_HU) if header.get("Modality") == "CT" else values


def _damaged(path: Path, error: object, remedy: str = "") -> ExtractError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ExtractError(
        f"{path}: expected a whole DICOM file, got one that is damaged, cut short or of an unknown kind "
        f"({reason}){remedy or '; copy it anew'}"
    )
