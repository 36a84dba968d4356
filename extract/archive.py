"""The archive: PNG images, `dataset.json` as StyleGAN2-ADA's own tool writes it, and `manifest.csv`.

Real and synthetic archives have this one format; it is written once and never changed in place.
"""

import csv
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_type_hints

import numpy as np

from extract.archive_lists import BASIC_COLUMNS, COLUMNS, ORIGINS
from extract.archive_reader import Archive, open_archive
from extract.atomic import replace_file
from extract.cells import from_cell, has_controls, to_cell
from extract.errors import ExtractError
from extract.file_hash import file_sha256, picture_hash
from extract.png import encode_png
from extract.tables import MAX_CELL_CHARS, MAX_NAME_CHARS

__all__ = ["Archive", "ArchiveWriter", "ImageRecord", "file_sha256", "open_archive", "read_record"]

ARCHIVE_FORMAT = "synthlabel-archive-1"
IMAGES_PER_FOLDER = 1000
FIELD_OF_COLUMN = {"class": "class_name"}  # where the two differ
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
    # Optional columns go here, see `archive_lists.COLUMNS`.
    source_width: int | None = None  # pixels of the picture that the image was made of, upright
    source_height: int | None = None
    part: str = ""  # of the division that the pictures came in (train, val, test); no split
    second_seed: int | None = None  # of a synthetic image of two seeds; then one of the next two as well
    second_styles: tuple[int, ...] = ()  # style inputs that come from the second seed
    walk_share: float | None = None  # of the way from the seed to the second
    noise_mode: str = ""  # of a synthetic image, where those of an archive differ

    def __post_init__(self) -> None:
        if self.origin not in ORIGINS:
            raise ValueError(f"origin must be one of {ORIGINS}, got {self.origin!r}")
        if self.origin == "real" and not self.subject:
            raise ExtractError(
                f"{self.source or 'a real image'}: expected a subject, got none; without it images of one "
                "person could land on two sides of a split (see --subjects and --subject-pattern)"
            )


def read_record(row: Mapping[str, str], where: str) -> ImageRecord:
    """The record that a row of a manifest stands for; writing it again gives the same row.

    Args:
        row: cells by column; a column of ours that is missing counts as empty.
        where: file, for the error.

    Raises:
        ExtractError: if a cell is not of its column's kind, or a real image has no subject.
    """
    values: dict[str, Any] = {}
    kinds = _field_kinds()
    for column in COLUMNS:
        field = FIELD_OF_COLUMN.get(column, column)
        if field not in kinds:
            continue  # file and sha256, which the writer knows itself
        try:
            values[field] = from_cell(row.get(column, ""), kinds[field])
        except ValueError as error:
            raise ExtractError(
                f"{where}: expected a value for {column} in manifest.csv, got {row[column]!r} for "
                f"{row.get('file', 'an image')} ({error})"
            ) from error
    if values["origin"] not in ORIGINS:
        raise ExtractError(
            f"{where}: expected an origin real or synthetic in manifest.csv, got {values['origin']!r}"
        )
    return ImageRecord(**values)


@cache
def _field_kinds() -> dict[str, Any]:
    return get_type_hints(ImageRecord)


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
        row = _manifest_row(name, picture_hash(data), record)
        if max(map(len, row)) > MAX_CELL_CHARS:
            raise ExtractError(
                f"{record.source:.80}: expected at most {MAX_CELL_CHARS} characters in a cell of the "
                f"manifest, got {max(map(len, row))}"
            )
        self._put(name, data)
        self._rows.append(row)
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
        for column, name in (("class", record.label), ("subject", record.subject)):
            if len(name) > MAX_NAME_CHARS or has_controls(name):
                raise ExtractError(
                    f"{where}: expected a {column} of at most {MAX_NAME_CHARS} characters, no line break "
                    f"or other control character among them, got {name!r:.80}"
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
        columns, rows = _used_columns(self._rows)
        writer.writerow(columns)
        writer.writerows(rows)
        self._put("manifest.csv", table.getvalue().encode())
        preparation = {"format": ARCHIVE_FORMAT, "classes": classes, "settings": self._preparation}
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


def _manifest_row(name: str, sha256: str, record: ImageRecord) -> list[str]:
    own = {"file": name, "sha256": sha256}
    return [
        own[column] if column in own else to_cell(getattr(record, FIELD_OF_COLUMN.get(column, column)))
        for column in COLUMNS
    ]


def _used_columns(rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Leave out optional columns that no image fills."""
    used = [
        index
        for index, column in enumerate(COLUMNS)
        if column in BASIC_COLUMNS or any(row[index] for row in rows)
    ]
    if len(used) == len(COLUMNS):
        return list(COLUMNS), rows
    return [COLUMNS[index] for index in used], [[row[index] for index in used] for row in rows]
