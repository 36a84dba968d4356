"""Videos that browsers play: H.264 in MP4, written whole or not at all."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from extract.atomic import replace_file
from extract.errors import SettingsError
from gan.errors import GanError

if TYPE_CHECKING:
    import av
    import av.container

MIN_CELL = 256  # pixels a picture has at least in a video; smaller ones are enlarged by a whole factor
MAX_SIDE = 8192  # what players, and level 6.2 of H.264, can be expected to take
CODEC, PIXEL_FORMAT = "libx264", "yuv420p"  # of the pixel formats, the one that every browser knows
QUALITY = "17"  # constant rate factor: 0 = lossless; differences are hard to see up to about 18


def check_video(dest: Path, fps: float, overwrite: bool) -> None:
    """Refuse before any work what could not be written in the end.

    Raises:
        SettingsError: for a wrong name or rate.
        GanError: if a file stands there that may not be replaced, or the video library cannot encode.
    """
    if dest.suffix.lower() != ".mp4":
        raise SettingsError(f"a video's name must end in .mp4, got {dest}")
    if not 1 <= fps <= 240:
        raise SettingsError(f"--fps must be between 1 and 240, got {fps:g}")
    if dest.exists() and not overwrite:
        raise GanError(f"{dest}: already exists and is left alone; choose another name or pass --overwrite")
    require_encoder(dest)


def require_encoder(dest: Path) -> None:
    """Make sure that a video can be encoded here.

    Raises:
        GanError: if the library PyAV or its H.264 encoder is missing.
    """
    try:
        import av
    except ImportError as error:
        raise GanError(
            f"{dest}: expected the library PyAV (pip install av) to write videos, got none ({error})"
        ) from error
    if CODEC not in av.codecs_available:
        raise GanError(
            f"{dest}: expected the encoder {CODEC} in PyAV {av.__version__}, got a build without it; install "
            "another one: pip install av"
        )


def write_video(dest: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    """Encode (H, W) or (H, W, 3) uint8 frames of one size; returns their number.

    Odd sides get one more line of black: the pixel format stores colors at half the resolution.
    """
    import av

    count = 0
    with replace_file(dest) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream: av.VideoStream | None = None
        for pixels in frames:
            picture = _even_rgb(pixels)
            if stream is None:
                height, width = picture.shape[:2]
                if max(height, width) > MAX_SIDE:
                    raise SettingsError(
                        f"a video must have at most {MAX_SIDE} pixels a side, got {width}x{height}; take a "
                        "smaller --grid"
                    )
                stream = _add_stream(container, fps, width, height)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
            count += 1
        if stream is None:
            raise GanError(f"{dest}: expected frames for a video, got none")
        for packet in stream.encode():
            container.mux(packet)
    return count


def _add_stream(
    container: "av.container.OutputContainer", fps: float, width: int, height: int
) -> "av.VideoStream":
    import av

    stream = container.add_stream(CODEC, rate=Fraction(fps).limit_denominator(1000))
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, PIXEL_FORMAT
    stream.options = {"crf": QUALITY, "preset": "medium", "threads": "1"}  # one thread: always the same bytes
    return stream


def enlarge(picture: np.ndarray, min_side: int = MIN_CELL) -> np.ndarray:
    """Repeat the pixels of (H, W) or (H, W, 3) by a whole factor until it is at least `min_side` high."""
    factor = max(1, -(-min_side // picture.shape[0]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _even_rgb(pixels: np.ndarray) -> np.ndarray:
    picture = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)))
    return np.ascontiguousarray(picture)
