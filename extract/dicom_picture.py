"""One DICOM picture as it is meant to be seen: rescaled, windowed, white on black; its header's subject.

Sources: DICOM PS3.3, C.7.6.3 (photometric interpretation), C.11.1 (modality LUT), C.11.2 (VOI LUT: window
functions LINEAR, LINEAR_EXACT and SIGMOID).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from extract.errors import ExtractError, SettingsError, SynthlabelError
from extract.picture_file import (
    GRAY_WEIGHTS,
    PictureFacts,
    as_channels,
    refuse_many_pixels,
    window_percentiles,
)

if TYPE_CHECKING:
    from pydicom import Dataset

DEFLATED = "1.2.840.10008.1.2.1.99"  # a transfer syntax that inflates without a bound
GRAY, COLOR = ("MONOCHROME1", "MONOCHROME2"), ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_RCT",
    "YBR_ICT")  # fmt: skip


def read_dicom_picture(path: Path, rgb: bool) -> tuple[np.ndarray, PictureFacts]:
    """Read a DICOM file of one picture to (H, W), or (H, W, 3) if `rgb`, uint8.

    Modality rescaling comes first, then the file's first VOI window (or look-up table); without one, the
    0.5th to 99.5th percentiles. MONOCHROME1 and an inverse presentation are turned, padding becomes black.
    Text that was burned into the pixels stays.

    Raises:
        ExtractError: if the file is damaged, too large, holds several frames, or is compressed in a way
            that needs a decoder which is not installed.
    """
    with _faults_told(path):
        dataset = _open(path)
        width, height, num_frames = _whole(path, dataset, "Columns"), _whole(path, dataset, "Rows"), 1
        if dataset.get("NumberOfFrames") is not None:
            num_frames = _whole(path, dataset, "NumberOfFrames")
        if num_frames > 1:
            raise ExtractError(
                f"{path}: expected one picture, got {num_frames} frames in one file; store them apart"
            )
        refuse_many_pixels(path, width, height)
        meaning = str(dataset.get("PhotometricInterpretation", "")).strip()
        if meaning not in (*GRAY, *COLOR):
            raise ExtractError(
                f"{path}: expected PhotometricInterpretation {', '.join((*GRAY, *COLOR))}, got "
                f"{meaning or 'none'}"
            )
        stored = _decode(path, dataset)  # (H, W) or (H, W, 3)
        if stored.shape[:2] != (height, width):
            raise ExtractError(
                f"{path}: expected {width}x{height} pixels as the header says, got {stored.shape}"
            )
        pixels = _shown(path, dataset, stored, rgb) if meaning in GRAY else _shown_color(dataset, stored, rgb)
        is_marked = str(dataset.get("BurnedInAnnotation", "")).upper() == "YES"
        bits = int(dataset.get("BitsStored", 8))
        return pixels, PictureFacts(width, height, "DICOM", meaning, bits, is_marked)


def read_subject_tag(path: Path, keyword: str) -> str:
    """The subject that a DICOM header names, in the element `keyword` (such as PatientID).

    Raises:
        SettingsError: if DICOM knows no such element.
        ExtractError: if the file is no DICOM file, or its element is empty.
    """
    pydicom = _pydicom(path)
    if pydicom.datadict.tag_for_keyword(keyword) is None:
        raise SettingsError(
            f"--subject-tag must be a DICOM keyword such as PatientID or PatientName, got {keyword!r}"
        )
    with _faults_told(path):
        value = str(_open(path, [keyword]).get(keyword) or "").strip()
    if not value:
        raise ExtractError(
            f"{path}: expected a subject in the DICOM element {keyword}, got none; anonymised files often "
            "lack it: give --subjects TABLE or --subject-pattern"
        )
    return value


def window(values: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """Apply a VOI window: values to [0, 1], float32."""
    values = values.astype(np.float32)
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if width <= 1:
        return (values > center - 0.5).astype(np.float32)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _pydicom(path: Path) -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise ExtractError(
            f"{path}: reading DICOM takes an extra: pip install 'synthlabel[dicom]'"
        ) from error
    return pydicom


@contextmanager
def _faults_told(path: Path) -> Iterator[None]:
    """Turn what pydicom raises into one sentence; elements are read, and raise, when they are asked for."""
    try:
        yield
    except SynthlabelError:
        raise
    except Exception as error:  # many kinds, on damaged files and on headers that contradict themselves
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ExtractError(
            f"{path}: expected a sound DICOM file, got one that cannot be read ({reason:.200})"
        ) from error


def _open(path: Path, only: list[str] | None = None) -> "Dataset":
    pydicom = _pydicom(path)
    if pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") == DEFLATED:
        raise ExtractError(
            f"{path}: expected DICOM with a bounded size, got a deflated file; write it without deflation"
        )
    dataset: Dataset = pydicom.dcmread(path, stop_before_pixels=only is not None, specific_tags=only)
    return dataset


def _whole(path: Path, dataset: "Dataset", name: str) -> int:
    try:
        value = int(dataset[name].value)
    except (KeyError, TypeError, ValueError):
        value = 0
    if value < 1:
        raise ExtractError(
            f"{path}: expected a DICOM picture, got a file without {name} (no picture, perhaps)"
        )
    return value


def _decode(path: Path, dataset: "Dataset") -> np.ndarray:
    try:
        pixels = np.asarray(_pydicom(path).pixels.pixel_array(dataset))  # color comes as RGB
    except Exception as error:
        syntax = getattr(dataset.file_meta.get("TransferSyntaxUID"), "name", "unknown")
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExtractError(
            f"{path}: expected whole pixels in a known coding, got some that cannot be decoded ({syntax}: "
            f"{reason}); compressed files take the extra synthlabel[dicom]"
        ) from error
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ExtractError(f"{path}: expected gray or RGB pixels, got an array of shape {pixels.shape}")
    return pixels


def _shown(path: Path, dataset: "Dataset", stored: np.ndarray, rgb: bool) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    is_padding = _padding(dataset, stored)
    values = np.asarray(apply_modality_lut(stored, dataset))
    if dataset.get("VOILUTSequence"):
        table = dataset.VOILUTSequence[0]
        bits = int(table.LUTDescriptor[2])
        shown = np.asarray(apply_voi_lut(values, dataset, index=0), np.float32) / (2**bits - 1)
        gray = np.clip(shown * 255, 0, 255).round().astype(np.uint8)
    elif _first(dataset, "WindowWidth") is not None and _first(dataset, "WindowCenter") is not None:
        center, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
        assert center is not None and width is not None
        if not width > 0:
            raise ExtractError(f"{path}: expected a WindowWidth above 0, got {width:g}")
        function = str(dataset.get("VOILUTFunction") or "LINEAR")
        gray = (window(values, center, width, function) * 255).round().astype(np.uint8)
    else:
        gray = window_percentiles(path, values.astype(np.float32), ~is_padding)
    is_negative = dataset.PhotometricInterpretation == "MONOCHROME1"
    if is_negative or dataset.get("PresentationLUTShape") == "INVERSE":
        gray = 255 - gray
    gray[is_padding] = 0
    return as_channels(gray, rgb)


def _shown_color(dataset: "Dataset", stored: np.ndarray, rgb: bool) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    bits = int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
        bits = int(dataset.RedPaletteColorLookupTableDescriptor[2])
    pixels = stored if bits == 8 else (stored / (2**bits - 1) * 255).round().astype(np.uint8)
    if rgb:
        return np.ascontiguousarray(pixels.astype(np.uint8))
    return np.asarray((pixels @ np.array(GRAY_WEIGHTS, np.float32)).round().astype(np.uint8))


def _padding(dataset: "Dataset", stored: np.ndarray) -> np.ndarray:
    """Which stored pixels lie outside what the device saw."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    return np.asarray((stored >= low) & (stored <= high))


def _first(dataset: "Dataset", name: str) -> float | None:
    """The first of one or several numbers; None where there is none."""
    value = dataset.get(name)
    if value is None or value == "":
        return None
    try:
        return (
            float(value[0]) if hasattr(value, "__getitem__") and not isinstance(value, str) else float(value)
        )
    except (TypeError, ValueError, IndexError):
        return None
