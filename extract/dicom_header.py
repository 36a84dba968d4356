"""What a DICOM file says of itself, checked value by value; pydicom is imported when it is first needed."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import ExtractError, SettingsError

MAX_SIDE = 8192  # pixels; a compressed slice that claims more is no slice
MAX_BITS = 32
DEFLATED = "1.2.840.10008.1.2.1.99"  # a transfer syntax that inflates without a bound
SUBJECT_TAGS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "AccessionNumber")
NEEDED = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "BitsAllocated",
    "PixelRepresentation", "PhotometricInterpretation",
)  # fmt: skip
OPTIONAL = (
    *SUBJECT_TAGS, "Modality", "NumberOfFrames", "SamplesPerPixel", "BitsStored", "RescaleSlope",
    "RescaleIntercept",
)  # fmt: skip


@dataclass(frozen=True)
class SeriesKey:
    """What tells the series of a file."""

    uid: str
    number: str
    is_image: bool


@dataclass(frozen=True)
class SliceHeader:
    """One gray slice and where it is."""

    path: Path
    position: np.ndarray  # (3,) first pixel's center, mm, LPS
    orientation: np.ndarray  # (6,) unit vectors along a row and along a column, LPS
    spacing: tuple[float, float]  # mm between rows, and between columns
    shape: tuple[int, int]  # rows, columns
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    is_inverted: bool  # MONOCHROME1: more is darker
    slope: float
    intercept: float
    is_ct: bool
    tags: tuple[tuple[str, str], ...]  # by keyword: SUBJECT_TAGS

    @property
    def kind(self) -> tuple[object, ...]:
        """What all slices of a series share."""
        return (
            self.shape, self.spacing, self.bits_allocated, self.is_signed, self.is_inverted, self.is_ct,
        )  # fmt: skip


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
    """Raise SettingsError unless the DICOM tag is one that can tell subjects apart."""
    if keyword is not None and keyword not in SUBJECT_TAGS:
        raise SettingsError(f"--subject-tag must be one of {', '.join(SUBJECT_TAGS)}, got {keyword!r}")


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
    header = _read_values(path, ("SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "Rows"))
    if "SOPClassUID" not in header and path.name.upper() != "DICOMDIR":
        raise damaged(path, "no SOPClassUID")
    uid, number = (str(header.get(keyword, "")) for keyword in ("SeriesInstanceUID", "SeriesNumber"))
    return SeriesKey(uid, number, "Rows" in header)


def read_slice_header(path: Path) -> SliceHeader:
    """The header of a file that is one gray slice.

    Raises:
        ExtractError: if it is damaged, of several frames or of colors, or does not say where it is.
    """
    header = _read_values(path, (*NEEDED, *OPTIONAL))
    if str(header.get("NumberOfFrames", 1)) != "1":
        raise ExtractError(
            f"{path}: expected one slice a file, got {header['NumberOfFrames']} frames; convert the "
            "series to NIfTI, for instance with dcm2niix"
        )
    if str(header.get("SamplesPerPixel", 1)) != "1":
        raise ExtractError(
            f"{path}: expected gray slices, got {header['SamplesPerPixel']} values a pixel; leave out "
            "derived color pictures"
        )
    missing = [keyword for keyword in NEEDED if keyword not in header]
    if missing:
        raise ExtractError(
            f"{path}: expected the place of the slice in its header, got no {', '.join(missing)}; it is "
            "a picture of its own (a localizer, a capture), leave it out"
        )
    gray = str(header["PhotometricInterpretation"])
    if gray not in ("MONOCHROME1", "MONOCHROME2"):
        raise ExtractError(f"{path}: expected gray values (MONOCHROME1 or 2), got {gray}")
    try:
        return _checked(path, header, gray == "MONOCHROME1")
    except (TypeError, ValueError, OverflowError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: object, remedy: str = "copy it anew") -> ExtractError:
    """The error of a file that cannot be read."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ExtractError(
        f"{path}: expected a whole DICOM file, got one that is damaged, cut short or of an unknown kind "
        f"({reason:.200}); {remedy}"
    )


def _checked(path: Path, header: dict[str, Any], is_inverted: bool) -> SliceHeader:
    position = _numbers(header["ImagePositionPatient"], 3)
    orientation = _numbers(header["ImageOrientationPatient"], 6)
    spacing = _numbers(header["PixelSpacing"], 2)
    shape = int(header["Rows"]), int(header["Columns"])
    allocated = int(header["BitsAllocated"])
    stored = int(header.get("BitsStored", allocated))
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise ValueError(f"slope {slope}, intercept {intercept}")
    if min(shape) < 1 or not 1 <= stored <= allocated <= MAX_BITS:
        raise ValueError(f"{shape[0]} rows, {shape[1]} columns, {stored} of {allocated} bits")
    if max(shape) > MAX_SIDE:
        raise ExtractError(
            f"{path}: expected slices of at most {MAX_SIDE} pixels, got {shape[1]} x {shape[0]}"
        )
    return SliceHeader(
        path, position, orientation, (float(spacing[0]), float(spacing[1])), shape, allocated, stored,
        bool(int(header["PixelRepresentation"])), is_inverted, slope, intercept,
        str(header.get("Modality", "")) == "CT",
        tuple((keyword, str(header.get(keyword, "")).strip()) for keyword in SUBJECT_TAGS),
    )  # fmt: skip


def _numbers(value: Any, count: int) -> np.ndarray:
    numbers = np.array([float(item) for item in value])
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ValueError(f"expected {count} numbers, got {value}")
    return numbers


def _read_values(path: Path, keywords: Sequence[str]) -> dict[str, Any]:
    """Values by keyword; a tag that is missing or empty is left out."""
    pydicom = require_pydicom()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about values that we do not use
            if _transfer_syntax(path) == DEFLATED:
                raise ValueError("its transfer syntax is Deflated, which could grow without bound")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
            found = {keyword: header.get(keyword) for keyword in keywords}
            return {key: value for key, value in found.items() if value is not None and str(value) != ""}
    except FileNotFoundError as error:
        raise ExtractError(f"{path}: expected a file, got nothing there") from error
    except Exception as error:  # damaged files make pydicom raise almost anything
        raise damaged(path, error) from error


def _transfer_syntax(path: Path) -> str:
    """From the part of the file that is never compressed."""
    from pydicom.filereader import read_file_meta_info

    return str(read_file_meta_info(path).get("TransferSyntaxUID", ""))
