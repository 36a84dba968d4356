"""A folder of pictures, one folder a class or a table of classes, to an archive."""

from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from extract.archive import ArchiveWriter, ImageRecord
from extract.building import BuildSummary, Unreadable, list_files, refuse_unreadable
from extract.errors import ExtractError, SettingsError
from extract.layouts import PictureTask, SubjectRule, plan_pictures
from extract.parallel import map_ordered, num_workers
from extract.picture_file import (
    DICOM_SUFFIXES,
    PICTURE_SUFFIXES,
    PictureFacts,
    read_picture,
    read_picture_facts,
)
from extract.png import encode_png
from extract.progress import Progress, no_progress
from extract.resample import resample
from extract.shape_clue import measure_shape_clue

FITS = ("pad", "crop", "squash")
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

    Sources are only read. The same bytes come out whatever `workers` is. Whether size, shape and kind of the
    files predict the class is measured, told in the summary's notes and kept in the archive's preparation.

    Args:
        source: folder; its first level names the classes (below parts such as train and test, where it holds
            parts) unless the rule takes them from elsewhere.
        dest: archive to write.
        config: size, channels, fit.
        rule: where subjects, classes and parts come from.
        workers: processes; None = one a core.
        skip_unreadable: leave bad pictures out instead of stopping.
        overwrite: replace an archive that is there.
        progress: told of every few pictures.

    Raises:
        ExtractError: if there are no pictures, bad ones, or one without subject or class.
    """
    suffixes = (*PICTURE_SUFFIXES, *DICOM_SUFFIXES)
    files, num_ignored = list_files(source, suffixes, "pictures", rule.table or rule.labels)
    plan = plan_pictures(source, files, rule)
    writer = ArchiveWriter(
        dest,
        overwrite=overwrite,
        classes=plan.classes,
        preparation={"kind": "images", **asdict(config)},
    )
    shape = (config.size, config.size, 3) if config.rgb else (config.size, config.size)
    unreadable: list[Unreadable] = []
    written: list[tuple[PictureTask, PictureFacts]] = []
    workers = num_workers(workers, len(files) // 100)
    encode = partial(_encode_file, source=source, config=config)
    with writer:
        results = map_ordered(encode, files, workers, CHUNK_SIZE)
        for number, (task, result) in enumerate(zip(plan.tasks, results, strict=True)):
            if isinstance(result, Unreadable):
                unreadable.append(result)
            elif not unreadable or skip_unreadable:
                data, facts = result
                writer.add_png(data, shape, _record(task, facts))
                written.append((task, facts))
            if (number + 1) % REPORT_INTERVAL == 0 or number + 1 == len(files):
                progress(number + 1, len(files), "")
        refuse_unreadable(unreadable, len(files), "pictures", skip_unreadable)
        clue = measure_shape_clue(
            [facts for _, facts in written],
            [task.label for task, _ in written],
            [task.subject for task, _ in written],
        )
        writer.describe(
            left_out=[item.file for item in unreadable], shape_clue=None if clue is None else clue.to_json()
        )
    notes = list(plan.notes)
    num_marked = sum(facts.has_burned_in_text for _, facts in written)
    if num_marked:
        notes.append(
            f"{num_marked} DICOM files say that text is burned into their pixels (BurnedInAnnotation): it "
            "may name a person or give the class away; look at them before you go on"
        )
    if clue is not None and clue.is_alarming:
        notes.append(clue.sentence(config.fit))
    counts = Counter(task.label for task, _ in written)
    return BuildSummary(
        dest,
        num_files=len(files) - len(unreadable),
        num_images=len(written),
        num_subjects=len({task.subject for task, _ in written}),
        counts=dict(sorted(counts.items())),
        unreadable=tuple(unreadable),
        num_ignored=num_ignored,
        empty_folders=_empty_folders(source, files),
        notes=tuple(notes),
    )


def prepare_image(path: Path, config: ImageConfig) -> np.ndarray:
    """Read a picture to (size, size) or (size, size, 3) uint8; what it may be is said in `read_picture`.

    Raises:
        ExtractError: if the file is damaged or holds several pictures.
    """
    return fit_picture(read_picture(path, config.rgb), config.size, config.fit)


def _empty_folders(source: Path, files: list[str]) -> tuple[str, ...]:
    """Folders of the first level without a picture."""
    filled = {PurePosixPath(file).parts[0] for file in files}
    folders = {entry.name for entry in source.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    return tuple(sorted(folders - filled))


def _record(task: PictureTask, facts: PictureFacts) -> ImageRecord:
    return ImageRecord(
        label=task.label,
        subject=task.subject,
        source=task.file,
        source_width=facts.width,
        source_height=facts.height,
        part=task.part,
    )


def _encode_file(file: str, source: Path, config: ImageConfig) -> tuple[bytes, PictureFacts] | Unreadable:
    try:
        pixels, facts = read_picture_facts(source / file, config.rgb)
        return encode_png(fit_picture(pixels, config.size, config.fit)), facts
    except ExtractError as error:
        return Unreadable(file, str(error))


def fit_picture(pixels: np.ndarray, size: int, fit: str) -> np.ndarray:
    """Bring (H, W) or (H, W, 3) uint8 to a square of `size`, the way `ImageConfig.fit` says."""
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
    return resample(pixels, size)
