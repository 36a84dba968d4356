"""One reading of every picture of an archive: is it whole, how bright is it, what does it look like small.

All checks of pictures (duplicates, outliers, confounds) work on what this pass keeps, some 4 kB an image,
so that the pictures are decoded once however many checks there are.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from extract.archive import Archive
from extract.errors import ExtractError, name_some
from extract.progress import Progress, no_progress
from extract.worker_pool import num_cores

THUMB_SIDE = 64  # pixels; smaller pictures keep their own size
BORDER_SHARE = 1 / 16  # of a side: the frame whose brightness is measured
CHUNK_SIZE = 64  # pictures read by a thread at a time
MEASURES = (
    "low",
    "high",
    "mean",
    "contrast",
    "border",
    "black_share",
    "white_share",
    "direction",
    "sharpness",
)


@dataclass(frozen=True)
class PictureSurvey:
    """What was measured of each picture; rows are those of the archive."""

    thumbs: np.ndarray  # (N, S, S) uint8 gray, S = 64 or the pictures' side if smaller
    digests: np.ndarray  # (N,) bytes, hashes of the pixels; b"" = unreadable
    is_readable: np.ndarray  # (N,) bool
    low: np.ndarray  # (N,) float32, as all below: darkest gray level, 0 to 255
    high: np.ndarray  # brightest gray level
    mean: np.ndarray  # gray levels
    contrast: np.ndarray  # standard deviation of the gray levels
    border: np.ndarray  # mean of the outermost sixteenth at each side
    black_share: np.ndarray  # of the pixels that are 0
    white_share: np.ndarray  # of the pixels that are 255
    direction: np.ndarray  # log of the mean step across over the mean step down: shows squashing
    sharpness: np.ndarray  # mean step between neighbours over the contrast
    errors: tuple[str, ...]  # damaged, exchanged or odd-sized pictures


@dataclass(frozen=True)
class _Study:
    """One picture: what was measured, or the fault that prevented it."""

    thumb: np.ndarray
    digest: bytes
    measures: tuple[float, ...]


def survey_pictures(archive: Archive, progress: Progress = no_progress) -> PictureSurvey:
    """Read every picture once, check it against its SHA-256, and measure it.

    Args:
        archive: with images of any size; RGB ones are measured in gray.
        progress: told of every few pictures.

    Returns:
        The measurements; pictures that cannot be read are listed in `errors` and have zeros.
    """
    num_images, side = len(archive), min(THUMB_SIDE, archive.image_shape[1])
    thumbs = np.zeros((num_images, side, side), np.uint8)
    digests = np.zeros(num_images, "S16")
    is_readable = np.zeros(num_images, bool)
    table = np.zeros((num_images, len(MEASURES)), np.float32)
    changed: list[str] = []
    errors: list[str] = []
    files, hashes = archive.manifest["file"].tolist(), archive.manifest["sha256"].tolist()

    def study(rows: range) -> list[_Study | str]:
        return [_study(archive, row, hashes[row], side) for row in rows]

    chunks = [range(start, min(start + CHUNK_SIZE, num_images)) for start in range(0, num_images, CHUNK_SIZE)]
    with ThreadPoolExecutor(num_cores()) as pool:  # hashing and decoding leave the interpreter's lock
        for rows, found in zip(chunks, pool.map(study, chunks), strict=True):
            for row, item in zip(rows, found, strict=True):
                if isinstance(item, _Study):
                    thumbs[row], digests[row], table[row] = item.thumb, item.digest, item.measures
                    is_readable[row] = True
                elif item:
                    errors.append(item)
                else:
                    changed.append(files[row])
            progress(rows.stop, num_images, "checking pictures")
    if changed:
        errors.insert(
            0, f"{len(changed)} pictures differ from the SHA-256 in manifest.csv: {name_some(changed)}"
        )
    columns = {name: table[:, k] for k, name in enumerate(MEASURES)}
    return PictureSurvey(thumbs, digests, is_readable, errors=tuple(errors), **columns)


def _study(archive: Archive, row: int, expected: str, side: int) -> _Study | str:
    """Read and measure a picture; the error's text, or nothing where it is not the one of the manifest."""
    try:
        data = archive.read_png(row)
        if hashlib.sha256(data).hexdigest() != expected:
            return ""
        pixels = archive.decode(data, row)
    except ExtractError as error:
        return str(error)
    gray = to_gray(pixels)
    thumb = cv2.resize(gray, (side, side), interpolation=cv2.INTER_AREA)
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
    return _Study(thumb, digest, _measure(gray))


def to_gray(pixels: np.ndarray) -> np.ndarray:
    """(1, H, W) or (3, H, W) uint8 as (H, W)."""
    if len(pixels) == 1:
        return pixels[0]
    return cv2.cvtColor(np.ascontiguousarray(pixels.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)


def _measure(gray: np.ndarray) -> tuple[float, ...]:
    """The values of MEASURES for (H, W) uint8 pixels, in their order."""
    counts = np.bincount(gray.ravel(), minlength=256)
    levels = np.flatnonzero(counts)
    mean, deviation = cv2.meanStdDev(gray)
    contrast = float(deviation[0, 0])
    frame = max(1, round(BORDER_SHARE * len(gray)))
    inner = gray[frame:-frame, frame:-frame]
    border = (gray.sum(dtype=float) - inner.sum(dtype=float)) / max(gray.size - inner.size, 1)
    # Steps of a slightly smoothed picture: noise and the grid of JPEG blocks run alike in both directions.
    smooth = cv2.GaussianBlur(gray, (3, 3), 0).astype(np.float32)
    across = float(np.abs(smooth[:, 1:] - smooth[:, :-1]).mean())
    down = float(np.abs(smooth[1:] - smooth[:-1]).mean())
    direction = float(np.log((across + 1e-3) / (down + 1e-3)))
    sharpness = (across + down) / (contrast + 1e-3)
    return (
        float(levels[0]), float(levels[-1]), float(mean[0, 0]), contrast, float(border),
        float(counts[0] / gray.size), float(counts[255] / gray.size), direction, sharpness,
    )  # fmt: skip


def equal_groups(digests: np.ndarray, rows: Sequence[int] | np.ndarray) -> list[np.ndarray]:
    """Groups of two or more of these rows with the same pixels, in order of their first row."""
    by_digest: dict[bytes, list[int]] = {}
    for row in rows:
        by_digest.setdefault(bytes(digests[row]), []).append(int(row))
    return [np.array(group) for digest, group in by_digest.items() if digest and len(group) > 1]
