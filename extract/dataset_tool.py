"""The official dataset tool's job: pictures as they come, from any of its sources, to an archive.

Unlike `extract images` it keeps the source's class numbers and colors, knows the packed data sets of the
papers, and does not insist on subjects: where they are not known, all pictures count as one subject's.
"""

import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from extract.archive import ArchiveWriter, ImageRecord
from extract.atomic import replace_folder
from extract.building import Unreadable, refuse_unreadable
from extract.errors import ExtractError, SettingsError
from extract.pictures import Picture, decode_picture
from extract.progress import Progress, no_progress
from extract.slice_place import SlicePlace
from extract.sources import Source, SourceImage, open_source
from extract.subjects import compile_pattern, match_subject
from extract.transforms import Transform

UNKNOWN_SUBJECT = "unknown"
MAX_NUM_CLASSES = 100_000
REPORT_INTERVAL = 100  # pictures between two reports of progress


@dataclass(frozen=True)
class DatasetSummary:
    """What was made of a source."""

    dest: Path  # archive or folder
    num_images: int
    image_shape: tuple[int, ...]  # (H, W) or (H, W, 3)
    counts: dict[str, int] = field(default_factory=dict)  # images by class
    num_subjects: int | None = None  # None = unknown
    num_unlabeled: int = 0  # of a source that has labels
    num_unused_labels: int = 0  # of names that the source does not have
    num_too_small: int = 0  # left out by center-crop-wide
    num_transparent: int = 0  # laid on black
    unreadable: tuple[Unreadable, ...] = ()  # left out


def build_dataset(
    source: Path,
    dest: Path,
    transform: Transform | None = None,
    *,
    max_images: int | None = None,
    subject_pattern: str | None = None,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> DatasetSummary:
    """Bring a data set into an archive (or a folder of the same files) that the official code reads, too.

    Labels come from the source: `dataset.json` of folders and zips, the files of CIFAR-10 and MNIST, the
    manifest of an archive of ours, whose subjects and positions are kept as well. Pictures without a label
    among labeled ones stay unlabeled. Nothing is unpacked to disk or executed.

    Args:
        dest: `NAME.zip`, or a new or empty folder.
        max_images: the first so many that are kept, in the order of the source.
        subject_pattern: finds the subject in a picture's path, as in `extract images`.
        skip_unreadable: leave bad pictures out instead of stopping.
        overwrite: replace an archive that is there; never a folder.

    Raises:
        SettingsError: for a source of an unknown kind, or settings that contradict each other.
        ExtractError: if the source is missing, empty or damaged, its pictures differ, or dest exists.
    """
    transform = transform or Transform()
    if max_images is not None and max_images < 1:
        raise SettingsError(f"--max-images must be at least 1, got {max_images}")
    pattern = None if subject_pattern is None else compile_pattern(subject_pattern)
    opened = open_source(source)
    if pattern is not None and opened.has_subjects:
        raise SettingsError(
            f"--subject-pattern is for sources without subjects; {source} is an archive that has its own"
        )
    with _archive_for(dest, overwrite) as archive_path:
        writer = ArchiveWriter(
            archive_path,
            overwrite=overwrite,
            classes=_class_names(opened),
            preparation={
                "kind": "dataset tool",
                "source": opened.path.name,
                "subjects": opened.has_subjects or pattern is not None,
                **asdict(transform),
            },
        )
        with writer:
            return replace(
                _write(opened, writer, transform, max_images, pattern, skip_unreadable, progress), dest=dest
            )


def _write(
    source: Source,
    writer: ArchiveWriter,
    transform: Transform,
    max_images: int | None,
    pattern: re.Pattern[str] | None,
    skip_unreadable: bool,
    progress: Progress,
) -> DatasetSummary:
    names = _class_names(source) or ()
    total = min(source.num_images, max_images or source.num_images)
    first: tuple[str, tuple[int, ...]] | None = None
    unreadable: list[Unreadable] = []
    counts: Counter[str] = Counter()
    subjects: set[str] = set()
    num_too_small = num_transparent = num_looked_at = 0
    for item in source.read():
        num_looked_at += 1
        try:
            picture = _decode(item)
        except ExtractError as error:
            unreadable.append(Unreadable(item.name, str(error)))
            continue
        pixels = transform.apply(picture.pixels)
        if pixels is None:
            num_too_small += 1
            continue
        first = first or (item.name, pixels.shape)
        _check_shape(item.name, pixels.shape, first)
        num_transparent += picture.had_transparency
        if not unreadable or skip_unreadable:
            record = item.record or _record(item, names, pattern)
            if record.affine:
                record = replace(record, affine=_follow(record.affine, picture.pixels, pixels, transform))
            writer.add(pixels, record)
            counts[record.label] += 1
            subjects.add(record.subject)
        if len(writer) % REPORT_INTERVAL == 0 or len(writer) == total:
            progress(len(writer), total, "")
        if len(writer) == max_images:
            break
    refuse_unreadable(unreadable, num_looked_at, "pictures", skip_unreadable)
    if first is None:
        raise ExtractError(
            f"{source.path}: expected a picture of at least {transform.width}x{transform.height} pixels, got "
            f"none among {num_too_small}; choose a smaller --width and --height"
        )
    num_unlabeled = counts.pop("", 0)
    has_subjects = source.has_subjects or pattern is not None
    return DatasetSummary(
        dest=source.path,
        num_images=len(writer),
        image_shape=first[1],
        counts=dict(sorted(counts.items())),
        num_subjects=len(subjects - {""}) if has_subjects else None,
        num_unlabeled=num_unlabeled if counts else 0,
        num_unused_labels=source.num_unused_labels,
        num_too_small=num_too_small,
        num_transparent=num_transparent,
        unreadable=tuple(unreadable),
    )


def _decode(item: SourceImage) -> Picture:
    if isinstance(item.data, np.ndarray):
        return Picture(item.data)
    return decode_picture(item.data, item.name)


def _record(item: SourceImage, names: tuple[str, ...], pattern: re.Pattern[str] | None) -> ImageRecord:
    return ImageRecord(
        label="" if item.label is None else names[item.label],
        subject=UNKNOWN_SUBJECT if pattern is None else match_subject(pattern, item.name),
        source=item.name,
    )


def _follow(affine: str, before: np.ndarray, after: np.ndarray, transform: Transform) -> str:
    """The affine of a slice after its square picture was resized; empty where borders were added."""
    if transform.kind == "center-crop-wide":
        return ""
    place = SlicePlace.from_text(affine, "manifest.csv")
    return place.resized(after.shape[1] / before.shape[1], after.shape[0] / before.shape[0]).to_text()


def _class_names(source: Source) -> tuple[str, ...] | None:
    """All classes; numbers are written with equal digits, so that their order as text is that as numbers.

    Raises:
        ExtractError: if there are too many.
    """
    if source.class_names is not None:
        return source.class_names
    if source.num_classes > MAX_NUM_CLASSES:
        raise ExtractError(
            f"{source.path}: expected at most {MAX_NUM_CLASSES:,} classes, got the class number "
            f"{source.num_classes - 1:,} in dataset.json"
        )
    if not source.num_classes:
        return None
    digits = len(str(source.num_classes - 1))
    return tuple(f"{number:0{digits}d}" for number in range(source.num_classes))


def _check_shape(name: str, shape: tuple[int, ...], first: tuple[str, tuple[int, ...]]) -> None:
    """Refuse what an archive cannot hold, in the words of the flags that help."""
    height, width = shape[:2]
    if shape != first[1]:
        raise ExtractError(
            f"{name}: expected the attributes of the pictures before it, got others: {_describe(shape)}, but "
            f"{first[0]} has {_describe(first[1])}; give --width and --height for one size, and "
            "keep gray and RGB apart"
        )
    if height != width:
        raise ExtractError(
            f"{name}: expected a square picture after --transform and resizing, got {width}x{height}; give "
            "--transform=center-crop with --width and --height"
        )
    if width & (width - 1) or width < 4:
        raise ExtractError(
            f"{name}: expected a width and height that are a power of two, got {width}; give --width and "
            "--height"
        )


def _describe(shape: tuple[int, ...]) -> str:
    return f"width {shape[1]}, height {shape[0]}, {'gray' if len(shape) == 2 else 'RGB'}"


@contextmanager
def _archive_for(dest: Path, overwrite: bool) -> Iterator[Path]:
    """Where to write the archive: at dest, or beside the folder that it is then unpacked into.

    The folder appears whole or not at all, as an archive does.
    """
    if dest.suffix.lower() == ".zip":
        yield dest
        return
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise ExtractError(
            f"--dest folder must be empty: {dest} {'holds files' if dest.is_dir() else 'is a file'}; name "
            "another folder, or an archive (.zip)"
        )
    with replace_folder(dest) as folder:
        archive = folder / "dataset.zip"
        yield archive
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():  # names that the writer has just made
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(name) as entry, open(target, "wb") as handle:
                    shutil.copyfileobj(entry, handle)
        archive.unlink()
