"""The archive: PNG images, `dataset.json` as StyleGAN2-ADA's own tool writes it, and `manifest.csv`.

Real and synthetic archives have this one format; it is written once and never changed in place.
"""

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from extract.archive_lists import (
    COLUMNS,
    ENTRY_ERRORS,
    ORIGINS,
    image_names,
    number_labels,
    official_lists,
    read_dataset_json,
    read_manifest,
    read_preparation,
)
from extract.atomic import replace_file
from extract.errors import ExtractError
from extract.png import decode_image, encode_png

IMAGES_PER_FOLDER = 1000
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold; a real one would change the bytes


@dataclass(frozen=True)
class ImageRecord:
    """What the manifest says of one image, beside its name and hash."""

    label: str = ""  # class name; empty = unlabeled
    subject: str = ""  # mandatory for real images
    source: str = ""  # the file it came from
    plane: str = ""
    angle_deg: float | None = None
    slice_index: int | None = None
    position_mm: float | None = None  # along the plane's normal, from the volume's center
    origin: str = "real"
    seed: int | None = None  # this and the next three: synthetic images alone
    truncation_psi: float | None = None
    class_name: str = ""  # class that the generator was asked for
    snapshot_sha256: str = ""
    tilt_deg: float | None = None  # of a plane, about its other axis
    affine: str = ""  # of a slice: see extract.slice_place.SlicePlace.to_text

    def __post_init__(self) -> None:
        if self.origin not in ORIGINS:
            raise ValueError(f"origin must be one of {ORIGINS}, got {self.origin!r}")
        if self.origin == "real" and not self.subject:
            raise ExtractError(
                f"{self.source or 'a real image'}: expected a subject, got none; without it images of one "
                "person could land on two sides of a split (see --subjects and --subject-pattern)"
            )


class ArchiveWriter:
    """Writes an archive image by image; nothing appears at `dest` unless the `with` block ends well.

    Args:
        dest: the .zip file to write.
        overwrite: replace an archive that stands there already.
        classes: all class names, where the images may not show every one; None = those that occur.
        preparation: settings that made the images, kept in `preparation.json`.
    """

    def __init__(
        self,
        dest: Path,
        *,
        overwrite: bool = False,
        classes: Sequence[str] | None = None,
        preparation: Mapping[str, Any] | None = None,
    ) -> None:
        self.dest = Path(dest)
        if self.dest.suffix.lower() != ".zip":
            raise ExtractError(f"{self.dest}: expected an archive name that ends in .zip")
        if self.dest.is_dir():
            raise ExtractError(f"{self.dest}: expected the name of an archive to write, got a folder")
        if self.dest.exists() and not overwrite:
            raise ExtractError(
                f"{self.dest}: already exists and is left alone; choose another name or pass --overwrite"
            )
        self._classes = None if classes is None else set(classes)
        self._preparation = dict(preparation or {})
        self._rows: list[list[str]] = []
        self._labels: list[str] = []
        self._shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def describe(self, **settings: Any) -> None:
        """Add to the settings kept in `preparation.json`."""
        self._preparation |= settings

    def __enter__(self) -> Self:
        self._replacing = replace_file(self.dest)
        self._handle = open(self._replacing.__enter__(), "wb")
        self._zip = zipfile.ZipFile(self._handle, "w", zipfile.ZIP_STORED)
        return self

    def add(self, pixels: np.ndarray, record: ImageRecord) -> str:
        """Add (H, W) or (H, W, 3) uint8 pixels; returns the entry's name."""
        return self.add_png(encode_png(pixels), pixels.shape, record)

    def add_png(self, data: bytes, shape: tuple[int, ...], record: ImageRecord) -> str:
        """Add an image that `encode_png` has encoded already, in a worker process for instance."""
        self._check(shape, record)
        number = len(self._rows)
        name = f"{number // IMAGES_PER_FOLDER:05d}/img{number:08d}.png"
        self._put(name, data)
        self._rows.append(_manifest_row(name, hashlib.sha256(data).hexdigest(), record))
        self._labels.append(record.label)
        return name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        except BaseException as own:
            self._abandon()
            if not self._replacing.__exit__(type(own), own, own.__traceback__):
                raise
        else:
            if error is not None:
                self._abandon()
            self._replacing.__exit__(kind, error, trace)

    def _check(self, shape: tuple[int, ...], record: ImageRecord) -> None:
        height, width = shape[:2]
        where = record.source or f"image {len(self._rows)}"
        if height != width or height & (height - 1):
            raise ExtractError(
                f"{where}: expected a square image whose side is a power of two, got {width}x{height}; "
                "give --size 32, 64, 128, 256, ..."
            )
        if self._shape is None:
            self._shape = tuple(shape)
        if tuple(shape) != self._shape:
            raise ExtractError(
                f"{where}: expected the shape of the images before it, {self._shape}, got {tuple(shape)}; "
                "an archive holds one size, and gray or RGB throughout"
            )
        if self._classes is not None and record.label and record.label not in self._classes:
            raise ExtractError(
                f"{where}: expected a class among {sorted(self._classes)}, got {record.label!r}"
            )

    def _finish(self) -> None:
        if not self._rows:
            raise ExtractError(f"{self.dest}: expected at least one image to write, got none")
        classes = sorted(self._classes or {label for label in self._labels if label})
        number = {name: index for index, name in enumerate(classes)}
        labels = None  # the official reader wants a label for every image or for none
        if all(self._labels):
            labels = [[row[0], number[label]] for row, label in zip(self._rows, self._labels, strict=True)]
        self._put("dataset.json", json.dumps({"labels": labels}).encode())
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self._rows)
        self._put("manifest.csv", table.getvalue().encode())
        preparation = {"format": "synthlabel-archive-1", "classes": classes, "settings": self._preparation}
        self._put("preparation.json", json.dumps(preparation, indent=1).encode())
        self._zip.close()
        self._handle.close()

    def _abandon(self) -> None:
        self._zip.fp = None  # so that nothing is written any more, to a full disk for instance
        with suppress(OSError):
            self._handle.close()

    def _put(self, name: str, data: bytes) -> None:
        entry = zipfile.ZipInfo(name, ZIP_EPOCH)
        entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every platform
        self._zip.writestr(entry, data)


class Archive:
    """An archive opened for reading; use `open_archive`.

    Attributes:
        path: the zip file.
        classes: sorted class names; the label k is `classes[k]`.
        labels: (N,) int64, -1 = unlabeled.
        subjects: (N,) str, empty for synthetic images and for official archives.
        manifest: one row an image, strings as written.
        image_shape: (C, H, W).
        preparation: settings that made the images; empty where unknown.
    """

    def __init__(self, path: Path, opened: zipfile.ZipFile) -> None:
        self.path = path
        self._zip = opened
        names = image_names(path, opened)
        numbers = read_dataset_json(path, opened)
        described = read_preparation(path, opened)
        self.preparation: dict[str, Any] = described.get("settings", {})
        manifest = read_manifest(path, opened, names)
        if manifest is None:
            manifest, self.classes, self.labels = official_lists(path, opened, names, numbers)
        else:
            self.classes, self.labels = number_labels(path, manifest, numbers, described.get("classes"))
        self.manifest = manifest
        self.subjects = self.manifest["subject"].to_numpy(dtype=str)
        first = decode_image(self.read_png(0), f"{path}: {self._name(0)}")
        self.image_shape: tuple[int, int, int] = (first.shape[0], first.shape[1], first.shape[2])

    @cached_property
    def sha256(self) -> str:
        """Hash of the zip file's bytes: what splits, snapshots and runs know the archive by."""
        return file_sha256(self.path)

    def __len__(self) -> int:
        return len(self.manifest)

    def read_png(self, index: int) -> bytes:
        """The image's bytes as stored."""
        name = self._name(index)
        try:
            return self._zip.read(name)
        except ENTRY_ERRORS as error:
            raise ExtractError(
                f"{self.path}: expected a sound entry {name}, got {error}; the file is damaged or encrypted: "
                "make or copy it anew"
            ) from error

    def read_image(self, index: int) -> np.ndarray:
        """The image as (C, H, W) uint8."""
        return self.decode(self.read_png(index), index)

    def decode(self, data: bytes, index: int) -> np.ndarray:
        """The bytes that `read_png` gave for an image as (C, H, W) uint8, checked for its shape."""
        pixels = decode_image(data, f"{self.path}: {self._name(index)}")
        if pixels.shape != self.image_shape:
            raise ExtractError(
                f"{self.path}: expected every image to have shape {self.image_shape} (C, H, W) as the first, "
                f"got {pixels.shape} in {self._name(index)}"
            )
        return pixels

    def close(self) -> None:
        """Close the zip file."""
        self._zip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _name(self, index: int) -> str:
        return str(self.manifest["file"].iat[index])


def open_archive(path: Path) -> Archive:
    """Open an archive, ours or the official tool's, and check that its parts agree.

    Raises:
        ExtractError: if it is no zip, is damaged, holds no images, or its lists contradict each other.
    """
    path = Path(path)
    if not path.is_file():
        raise ExtractError(
            f"{path}: expected an archive (.zip), got {'a folder' if path.is_dir() else 'nothing there'}"
        )
    try:
        opened = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ExtractError(
            f"{path}: expected a zip archive, got a file that is none or is cut short ({error})"
        ) from error
    try:
        return Archive(path, opened)
    except BaseException:
        opened.close()
        raise


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _manifest_row(name: str, sha256: str, record: ImageRecord) -> list[str]:
    return [
        name, record.label, record.subject, record.source, record.plane,
        _text(record.angle_deg), _text(record.slice_index), _text(record.position_mm), record.origin, sha256,
        _text(record.seed), _text(record.truncation_psi), record.class_name, record.snapshot_sha256,
        _text(record.tilt_deg), record.affine,
    ]  # fmt: skip


def _text(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, int | np.integer) else f"{float(value):.6g}"
