"""What the dataset tool reads: folders, zips, archives of ours, and the packed data sets it knows by name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from extract.archive import Archive, ImageRecord, open_archive, read_record
from extract.archive_lists import image_names, integer_labels, read_dataset_json
from extract.building import list_files
from extract.errors import ExtractError, SettingsError
from extract.images import PICTURE_SUFFIXES
from extract.json_values import parse_json
from extract.zips import open_zip, read_entry

MAX_PICTURE_BYTES = 2**28  # of one stored picture; honest ones stay far below
MAX_LIST_BYTES = 2**29  # of a dataset.json
CIFAR_NAME = "cifar-10-python.tar.gz"
MNIST_NAME = "train-images-idx3-ubyte.gz"
LSUN_SUFFIX = "_lmdb"


@dataclass(frozen=True)
class SourceImage:
    """One picture of a source."""

    name: str  # path within the source
    data: bytes | np.ndarray  # a picture file's bytes; or (H, W) or (H, W, 3) uint8
    label: int | None = None
    record: ImageRecord | None = None  # what an archive of ours says of it; label is then None


@dataclass(frozen=True)
class Source:
    """A data set to be read picture by picture."""

    path: Path
    num_images: int  # pictures in it
    read: Callable[[], Iterator[SourceImage]]
    num_classes: int = 0  # labels are below this
    class_names: tuple[str, ...] | None = None  # None = classes are numbers
    has_subjects: bool = False  # an archive of ours, whose records say who is who
    num_unused_labels: int = 0  # entries of dataset.json for names that are not there


def open_source(path: Path) -> Source:
    """Find out what a source is, by its name and kind, and what it holds.

    Raises:
        ExtractError: if there is nothing, nothing in it, or it is damaged.
        SettingsError: if it is of no kind that is known.
    """
    path = Path(path)
    if not path.exists():
        raise ExtractError(
            f"Missing input file or directory: {path}; --source expects a folder, a .zip, LSUN's *_lmdb, "
            f"{CIFAR_NAME} or {MNIST_NAME}"
        )
    if path.is_dir():
        if path.name.endswith(LSUN_SUFFIX):
            from extract.lsun import open_lsun

            return open_lsun(path)
        return _open_folder(path)
    if path.name == CIFAR_NAME:
        from extract.cifar import open_cifar

        return open_cifar(path)
    if path.name == MNIST_NAME:
        from extract.mnist import open_mnist

        return open_mnist(path)
    if path.suffix.lower() == ".zip":
        return _open_zip(path)
    raise SettingsError(
        f"--source must be a folder, a .zip, LSUN's *_lmdb, {CIFAR_NAME} or {MNIST_NAME}, got the file {path}"
    )


def _open_folder(path: Path) -> Source:
    names, _ = list_files(path, PICTURE_SUFFIXES, "pictures")
    labels: dict[str, int] = {}
    described = path / "dataset.json"
    if described.is_file():
        if described.stat().st_size > MAX_LIST_BYTES:
            raise ExtractError(
                f"{described}: expected a list of labels, got {described.stat().st_size:,} bytes"
            )
        try:
            text = described.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ExtractError(f"{described}: expected JSON in UTF-8, got {error}") from error
        labels = integer_labels(path, parse_json(text, f"{described}"))

    def read() -> Iterator[SourceImage]:
        for name in names:
            file = path / name
            check_size(f"{file}", file.stat().st_size)
            yield SourceImage(name, file.read_bytes(), labels.get(name))

    return _labeled(path, names, labels, read)


def _open_zip(path: Path) -> Source:
    with open_zip(path) as opened:
        if "manifest.csv" in opened.NameToInfo:
            return _open_own_archive(path)
        names = image_names(path, opened)
        labels = read_dataset_json(path, opened)

    def read() -> Iterator[SourceImage]:
        with open_zip(path) as again:
            for name in names:
                yield SourceImage(name, read_entry(path, again, name, MAX_PICTURE_BYTES), labels.get(name))

    return _labeled(path, names, labels, read)


def _labeled(
    path: Path, names: Sequence[str], labels: dict[str, int], read: Callable[[], Iterator[SourceImage]]
) -> Source:
    used = [labels[name] for name in names if name in labels]
    return Source(
        path,
        len(names),
        read,
        num_classes=max(used, default=-1) + 1,
        num_unused_labels=len(labels) - len(used),
    )


def _open_own_archive(path: Path) -> Source:
    """An archive of ours: classes, subjects and all else that it says of its pictures is kept."""
    with open_archive(path) as archive:
        classes, count = archive.classes, len(archive)

    def read() -> Iterator[SourceImage]:
        with open_archive(path) as again:
            for index in range(count):
                yield _own_image(again, index)

    return Source(path, count, read, class_names=classes, has_subjects=True)


def _own_image(archive: Archive, index: int) -> SourceImage:
    row = archive.row(index)
    pixels = archive.read_image(index)  # (C, H, W)
    pixels = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    record = read_record(row, str(archive.path))
    return SourceImage(row["file"], pixels, record=replace(record, source=record.source or row["file"]))


def check_size(what: str, num_bytes: int, limit: int = MAX_PICTURE_BYTES) -> None:
    """Refuse to load what would fill the memory.

    Raises:
        ExtractError: naming what is too large.
    """
    if num_bytes > limit:
        raise ExtractError(f"{what}: expected at most {limit:,} bytes, got {num_bytes:,}; leave it out")
