"""A folder of pictures, one folder a class or a table of classes, to an archive."""

from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import Image, ImageOps

from extract.archive import ArchiveWriter, ImageRecord
from extract.building import BuildSummary, Unreadable, list_files, refuse_unreadable
from extract.errors import ExtractError, SettingsError
from extract.parallel import map_ordered, num_workers
from extract.png import encode_png
from extract.progress import Progress, no_progress
from extract.subjects import compile_pattern, match_subject, read_subject_table

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
FITS = ("pad", "crop", "squash")
DEEP_WINDOW_PERCENTILES = (0.5, 99.5)  # of a picture with more than 8 bits, shown as black and as white
CHUNK_SIZE = 16  # pictures given to a process at a time
REPORT_INTERVAL = 50  # images between two reports of progress


@dataclass(frozen=True)
class ImageConfig:
    """How pictures become the archive's images."""

    size: int = 256  # pixels a side
    rgb: bool = False
    fit: str = "pad"  # pad keeps the aspect and all of the picture, crop the aspect, squash the picture

    def __post_init__(self) -> None:
        if self.size < 8 or self.size & (self.size - 1):
            raise SettingsError(f"--size must be a power of two of at least 8, got {self.size}")
        if self.fit not in FITS:
            raise SettingsError(f"--fit must be one of {', '.join(FITS)}, got {self.fit!r}")


@dataclass(frozen=True)
class _Task:
    file: str
    subject: str
    label: str


@dataclass(frozen=True)
class SubjectRule:
    """Where subjects and classes come from; exactly one of table and pattern."""

    table: Path | None = None
    pattern: str | None = None
    file_column: str | None = None
    subject_column: str | None = None
    label_column: str | None = None  # None = the folder is the class

    def __post_init__(self) -> None:
        if (self.table is None) == (self.pattern is None):
            raise SettingsError(
                "give either --subjects TABLE or --subject-pattern REGEX, so that images of one "
                "person stay on one "
                "side of a split (where each image is another person: --subject-pattern '.*')"
            )
        if self.table is None and (self.file_column or self.subject_column or self.label_column):
            raise SettingsError("--file-column, --subject-column and --label-column need --subjects TABLE")
        if self.pattern is not None:
            compile_pattern(self.pattern)


def build_image_archive(
    source: Path,
    dest: Path,
    config: ImageConfig,
    rule: SubjectRule,
    *,
    workers: int | None = None,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> BuildSummary:
    """Bring every picture below a folder to one size and write them as an archive.

    Sources are only read. The same bytes come out whatever `workers` is.

    Args:
        source: folder; its first level names the classes unless the rule has a label column.
        dest: archive to write.
        config: size, channels, fit.
        rule: where subjects and classes come from.
        workers: processes; None = one a core.
        skip_unreadable: leave bad pictures out instead of stopping.
        overwrite: replace an archive that is there.
        progress: told of every few pictures.

    Raises:
        ExtractError: if there are no pictures, bad ones, or one without subject or class.
    """
    files, num_ignored = list_files(source, PICTURE_SUFFIXES, "pictures", rule.table)
    tasks = _plan(files, rule)
    writer = ArchiveWriter(
        dest,
        overwrite=overwrite,
        classes=sorted({task.label for task in tasks}),
        preparation={"kind": "images", **asdict(config)},
    )
    shape = (config.size, config.size, 3) if config.rgb else (config.size, config.size)
    unreadable: list[Unreadable] = []
    counts: Counter[str] = Counter()
    subjects: set[str] = set()
    workers = num_workers(workers, len(tasks) // 100)
    encode = partial(_encode_file, source=source, config=config)
    with writer:
        results = map_ordered(encode, [task.file for task in tasks], workers, CHUNK_SIZE)
        for number, (task, result) in enumerate(zip(tasks, results, strict=True)):
            if isinstance(result, Unreadable):
                unreadable.append(result)
            elif not unreadable or skip_unreadable:
                writer.add_png(
                    result, shape, ImageRecord(label=task.label, subject=task.subject, source=task.file)
                )
                counts[task.label] += 1
                subjects.add(task.subject)
            if (number + 1) % REPORT_INTERVAL == 0 or number + 1 == len(tasks):
                progress(number + 1, len(tasks), "")
        refuse_unreadable(unreadable, len(tasks), "pictures", skip_unreadable)
        writer.describe(left_out=[item.file for item in unreadable])
    return BuildSummary(
        dest, len(tasks) - len(unreadable), sum(counts.values()), len(subjects), dict(sorted(counts.items())),
        tuple(unreadable), num_ignored, _empty_folders(source, files),
    )  # fmt: skip


def prepare_image(path: Path, config: ImageConfig) -> np.ndarray:
    """Read a picture to (size, size) or (size, size, 3) uint8; what it may be is said in `read_picture`.

    Raises:
        ExtractError: if the file is damaged or holds several pictures.
    """
    return _fit(read_picture(path, config.rgb), config.size, config.fit)


def read_picture(path: Path, rgb: bool) -> np.ndarray:
    """Read a picture of any size to (H, W), or (H, W, 3) if `rgb`, uint8.

    EXIF orientation is applied, transparency laid on black, a palette resolved; more than 8 bits are
    windowed to the picture's own robust range.

    Raises:
        ExtractError: if the file is damaged or holds several pictures.
    """
    try:
        with Image.open(path) as opened:
            num_frames = getattr(opened, "n_frames", 1)
            if num_frames > 1:
                raise ExtractError(
                    f"{path}: expected one picture, got {num_frames} in one file; store them apart"
                )
            opened.load()
            picture = ImageOps.exif_transpose(opened)
            return _to_uint8(path, picture, rgb)
    except ExtractError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything on damaged files
        reason = str(error).strip() or type(error).__name__
        raise ExtractError(
            f"{path}: expected a whole picture, got one that cannot be read ({reason})"
        ) from error


def _empty_folders(source: Path, files: list[str]) -> tuple[str, ...]:
    """Folders of the first level without a picture."""
    filled = {PurePosixPath(file).parts[0] for file in files}
    folders = {entry.name for entry in source.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    return tuple(sorted(folders - filled))


def _plan(files: list[str], rule: SubjectRule) -> list[_Task]:
    table = None
    if rule.table is not None:
        table = read_subject_table(rule.table, rule.file_column, rule.subject_column, rule.label_column)
    pattern = None if rule.pattern is None else compile_pattern(rule.pattern)
    tasks = []
    for file in files:
        label = None
        if table is not None:
            subject, label = table.find(file)
        elif pattern is not None:
            subject = match_subject(pattern, file)
        if label is None:
            parents = PurePosixPath(file).parts[:-1]
            if not parents:
                raise ExtractError(
                    f"{file}: expected a picture in a folder named by its class, got one directly "
                    "in the source folder; "
                    "sort the pictures into class folders, or give --subjects with --label-column"
                )
            label = parents[0]
        tasks.append(_Task(file, subject, label))
    return tasks


def _encode_file(file: str, source: Path, config: ImageConfig) -> bytes | Unreadable:
    try:
        return encode_png(prepare_image(source / file, config))
    except ExtractError as error:
        return Unreadable(file, str(error))


def _to_uint8(path: Path, picture: Image.Image, rgb: bool) -> np.ndarray:
    if picture.mode.startswith(("I", "F")):
        gray = _window(path, np.asarray(picture, dtype=np.float32))
        return np.repeat(gray[:, :, None], 3, axis=2) if rgb else gray
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    if picture.mode not in ("L", "RGB"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    return np.asarray(picture.convert("RGB" if rgb else "L"))


def _window(path: Path, values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ExtractError(f"{path}: expected finite pixels, got NaN or infinite ones")
    low, high = np.percentile(values, DEEP_WINDOW_PERCENTILES)
    if not low < high:
        low, high = float(values.min()), float(max(values.max(), values.min() + 1))
    return np.clip((values - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)


def _fit(pixels: np.ndarray, size: int, fit: str) -> np.ndarray:
    height, width = pixels.shape[:2]
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        pixels = pixels[top : top + side, left : left + side]
    elif fit == "pad":
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        padded = np.zeros((side, side, *pixels.shape[2:]), np.uint8)
        padded[top : top + height, left : left + width] = pixels
        pixels = padded
    if pixels.shape[:2] == (size, size):
        return np.ascontiguousarray(pixels)
    # Area averaging does not alias where it shrinks; where a side grows, a cubic keeps edges.
    shrinks = min(pixels.shape[:2]) >= size
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
