"""Picture files to 8-bit gray or RGB pixels, for the dataset tool: nothing is bent silently."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from extract.errors import ExtractError
from extract.png import MAX_PIXELS


@dataclass(frozen=True)
class Picture:
    """A decoded picture."""

    pixels: np.ndarray  # (H, W) or (H, W, 3) uint8
    had_transparency: bool = False  # which was laid on black


def decode_picture(data: bytes, name: str) -> Picture:
    """Decode a picture file's bytes.

    Gray and RGB stay as they are; palettes are resolved (to gray where all their colors are gray), black and
    white becomes gray, CMYK becomes RGB, EXIF orientation is applied, an opaque alpha channel is dropped and
    transparency is laid on black.

    Args:
        name: for errors.

    Raises:
        ExtractError: if it is no whole picture, several, too large, or has more than 8 bits.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            width, height = opened.size
            num_frames = getattr(opened, "n_frames", 1)
            if width * height > MAX_PIXELS or num_frames > 1 or opened.mode.startswith(("I", "F")):
                raise _unfit(name, opened, num_frames)
            opened.load()
            picture = ImageOps.exif_transpose(opened)
            return _to_pixels(picture)
    except ExtractError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything on damaged files
        reason = str(error).strip() or type(error).__name__
        raise ExtractError(
            f"{name}: expected a whole picture, got one that cannot be read ({reason})"
        ) from error


def _unfit(name: str, opened: Image.Image, num_frames: int) -> ExtractError:
    width, height = opened.size
    if width * height > MAX_PIXELS:
        return ExtractError(
            f"{name}: expected at most {MAX_PIXELS:,} pixels, got {width}x{height}; make it smaller first"
        )
    if num_frames > 1:
        return ExtractError(f"{name}: expected one picture, got {num_frames} in one file; store them apart")
    return ExtractError(
        f"{name}: expected 8 bits a color, got more (mode {opened.mode}); `synthlabel extract images` brings "
        "such pictures to 8 bits"
    )


def _to_pixels(picture: Image.Image) -> Picture:
    had_transparency = False
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        low, _ = layer.getchannel("A").getextrema()
        had_transparency = bool(low < 255)  # type: ignore[operator]
        is_gray = picture.mode == "LA"
        black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, layer).convert("L" if is_gray else "RGB")
    elif picture.mode == "P":
        colors = np.asarray(picture.convert("RGB"))
        picture = picture.convert("L" if (colors == colors[..., :1]).all() else "RGB")
    elif picture.mode not in ("L", "RGB"):
        picture = picture.convert("L" if picture.mode in ("1", "LA") else "RGB")
    return Picture(np.asarray(picture), had_transparency)
