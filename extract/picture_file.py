"""One picture file, of whatever kind, to 8-bit gray or RGB pixels and what it was before."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from extract.errors import ExtractError
from extract.png import MAX_PIXELS

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
# What a file may hold, whatever its name says. Pillow knows more; PostScript for one starts other programs.
FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "BMP", "DIB", "WEBP", "GIF", "JPEG2000")
DICOM_SUFFIXES = (".dcm", ".dicom")
DEEP_WINDOW_PERCENTILES = (0.5, 99.5)  # of a picture with more than 8 bits, shown as black and as white
GRAY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's own
ORIENTATION = 0x0112  # EXIF tag
# How EXIF orientation k is undone on rows and columns, for what Pillow cannot hold (16 bits a color).
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1], 8: lambda a: a.swapaxes(0, 1)[::-1],
}  # fmt: skip


@dataclass(frozen=True)
class PictureFacts:
    """What a file was like before it was brought to one size: such things can give the class away."""

    width: int  # pixels, upright
    height: int
    kind: str  # PNG, JPEG, TIFF, DICOM, ...
    mode: str  # of color: L, RGB, P, ... (Pillow's names), or DICOM's photometric interpretation
    bits: int  # a sample
    has_burned_in_text: bool = False  # as a DICOM header says


def read_picture(path: Path, rgb: bool) -> np.ndarray:
    """Read a picture of any size to (H, W), or (H, W, 3) if `rgb`, uint8.

    EXIF orientation is applied, transparency laid on black, a palette resolved; more than 8 bits are
    windowed to the picture's own robust range. For DICOM see `extract.dicom_picture`.

    Raises:
        ExtractError: if the file is damaged, too large, or holds several pictures.
    """
    return read_picture_facts(path, rgb)[0]


def read_picture_facts(path: Path, rgb: bool) -> tuple[np.ndarray, PictureFacts]:
    """The same with what the file was like."""
    path = Path(path)
    if path.suffix.lower() in DICOM_SUFFIXES:
        from extract.dicom_picture import read_dicom_picture

        return read_dicom_picture(path, rgb)
    try:
        with _quiet(), Image.open(path, formats=FORMATS) as opened:
            width, height = opened.size
            refuse_many_pixels(path, width, height)  # before anything is decoded
            num_frames = getattr(opened, "n_frames", 1)
            if num_frames > 1 and opened.format != "MPO":  # a phone's JPEG with a preview behind the picture
                raise ExtractError(
                    f"{path}: expected one picture, got {num_frames} in one file; store them apart"
                )
            bits, kind, mode = _num_bits(path, opened), opened.format or "", opened.mode
            opened.load()  # raises where the file is cut short or damaged
            if bits > 8 and not mode.startswith(("I", "F")):  # Pillow drops the lower byte
                pixels = _deep_color(path, opened, rgb)
            else:
                is_negative = bits > 8 and _is_white_zero(opened)
                pixels = _to_uint8(path, ImageOps.exif_transpose(opened), rgb, is_negative)
    except ExtractError:
        raise
    except Image.DecompressionBombError as error:
        raise ExtractError(
            f"{path}: expected at most {MAX_PIXELS:,} pixels, got a header that promises far more ({error}); "
            "remove it"
        ) from error
    except Exception as error:  # Pillow's readers raise almost anything on damaged files
        reason = str(error).strip() or type(error).__name__
        raise ExtractError(
            f"{path}: expected a whole picture, got one that cannot be read ({reason})"
        ) from error
    height, width = pixels.shape[:2]
    return pixels, PictureFacts(width, height, kind, mode, bits)


def refuse_many_pixels(path: Path, width: int, height: int) -> None:
    """Raise ExtractError where a header promises more pixels than any picture should have."""
    if width * height > MAX_PIXELS:
        raise ExtractError(
            f"{path}: expected at most {MAX_PIXELS:,} pixels, got a header that promises {width}x{height}; "
            "make it smaller first, or remove it"
        )


def window_percentiles(path: Path, values: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Show the robust range of deep pixels as 0 ... 255, uint8; `counted` masks those that make the range."""
    chosen = values if counted is None or not counted.any() else values[counted]
    if not np.isfinite(values).all():
        raise ExtractError(f"{path}: expected finite pixels, got NaN or infinite ones")
    low, high = np.percentile(chosen, DEEP_WINDOW_PERCENTILES)
    if not low < high:
        low, high = float(chosen.min()), float(max(chosen.max(), chosen.min() + 1))
    return np.clip((values - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)


def as_channels(gray: np.ndarray, rgb: bool) -> np.ndarray:
    """(H, W), or (H, W, 3) with three times the same."""
    return np.repeat(gray[:, :, None], 3, axis=2) if rgb else gray


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's warnings of what it mends to ourselves; what it cannot mend is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _num_bits(path: Path, opened: Image.Image) -> int:
    if opened.format == "PNG":
        with open(path, "rb") as handle:
            header = handle.read(26)
        return header[24]
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        return max(opened.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    return 1 if opened.mode == "1" else 16 if ";16" in opened.mode else 32 if opened.mode in "IF" else 8


def _is_white_zero(opened: Image.Image) -> bool:
    """Whether a TIFF file stores white as 0, which Pillow minds up to 8 bits only."""
    return (
        isinstance(opened, TiffImagePlugin.TiffImageFile)
        and opened.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    )


def _deep_color(path: Path, opened: Image.Image, rgb: bool) -> np.ndarray:
    """Color, or gray with transparency, of 16 bits: windowed as one, so that colors keep their balance."""
    values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise ExtractError(
            f"{path}: expected 16 bits a color in a whole file, got some that cannot be read (mode "
            f"{opened.mode}); save it as gray of 16 bits or color of 8"
        )
    values = UPRIGHT.get(opened.getexif().get(ORIENTATION, 1), lambda a: a)(values).astype(np.float32)
    if values.shape[2] == 4:
        values = values[:, :, :3] * (values[:, :, 3:] / 65535)
    if rgb:
        return np.ascontiguousarray(window_percentiles(path, values[:, :, ::-1]))  # OpenCV's BGR -> RGB
    return window_percentiles(path, values @ np.array(GRAY_WEIGHTS[::-1], np.float32))


def _to_uint8(path: Path, picture: Image.Image, rgb: bool, is_negative: bool) -> np.ndarray:
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, dtype=np.float32)
        return as_channels(window_percentiles(path, -values if is_negative else values), rgb)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    if picture.mode not in ("L", "RGB"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    return np.asarray(picture.convert("RGB" if rgb else "L"))
