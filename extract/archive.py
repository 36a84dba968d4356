"""The archive: PNG images, `dataset.json` as StyleGAN2-ADA's own tool writes it, and `manifest.csv`.

Real and synthetic archives have this one format; it is written once and never changed in place.
"""

import csv
import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd

from extract.atomic import replace_file
from extract.errors import ExtractError
from extract.png import decode_image, encode_png

COLUMNS = (
    "file", "label", "subject", "source", "plane", "angle_deg", "slice_index", "position_mm", "origin",
    "sha256", "seed", "truncation_psi", "class", "snapshot_sha256",
)  # fmt: skip
ORIGINS = ("real", "synthetic")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
IMAGES_PER_FOLDER = 1000
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold; a real one would change the bytes
MAX_NUM_NAMED = 5  # names listed in an error before "and N more"


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
    seed: int | None = None  # the last four: synthetic images alone
    truncation_psi: float | None = None
    class_name: str = ""  # class that the generator was asked for
    snapshot_sha256: str = ""

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

    def __enter__(self) -> Self:
        self._replacing = replace_file(self.dest)
        self._handle = open(self._replacing.__enter__(), "wb")  # noqa: SIM115 - closed in __exit__
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
        names = _image_names(path, opened)
        self.manifest = _read_manifest(path, opened, names)
        numbers = _read_dataset_json(path, opened)
        described = _read_preparation(path, opened)
        self.preparation: dict[str, Any] = described.get("settings", {})
        self.classes, self.labels = _resolve_labels(path, self.manifest, numbers, described.get("classes"))
        self.subjects = self.manifest["subject"].to_numpy(dtype=str)
        self.image_shape: tuple[int, int, int] = self._decode(0).shape  # type: ignore[assignment]

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
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise ExtractError(
                f"{self.path}: expected a sound entry {name}, got {error}; the file is damaged: make or copy it anew"
            ) from error

    def read_image(self, index: int) -> np.ndarray:
        """The image as (C, H, W) uint8."""
        pixels = self._decode(index)
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

    def _decode(self, index: int) -> np.ndarray:
        return decode_image(self.read_png(index), f"{self.path}: {self._name(index)}")


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


def name_some(names: Sequence[str]) -> str:
    """The first few names of a list, for an error or a warning."""
    shown = ", ".join(names[:MAX_NUM_NAMED])
    return shown if len(names) <= MAX_NUM_NAMED else f"{shown} and {len(names) - MAX_NUM_NAMED} more"


def _manifest_row(name: str, sha256: str, record: ImageRecord) -> list[str]:
    return [
        name, record.label, record.subject, record.source, record.plane,
        _text(record.angle_deg), _text(record.slice_index), _text(record.position_mm), record.origin, sha256,
        _text(record.seed), _text(record.truncation_psi), record.class_name, record.snapshot_sha256,
    ]  # fmt: skip


def _text(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, int | np.integer) else f"{float(value):.6g}"


def _image_names(path: Path, opened: zipfile.ZipFile) -> list[str]:
    names = [name for name in opened.namelist() if name.lower().endswith(IMAGE_SUFFIXES)]
    for name in opened.namelist():
        if (
            name.startswith(("/", "\\"))
            or ":" in name
            or ".." in PurePosixPath(name.replace("\\", "/")).parts
        ):
            raise ExtractError(
                f"{path}: expected names inside the archive, got {name!r}, which points outside it"
            )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ExtractError(f"{path}: expected each name once, got {name_some(repeated)} more than once")
    if not names:
        raise ExtractError(f"{path}: expected images ({', '.join(IMAGE_SUFFIXES)}), got none in the archive")
    return sorted(names)


def _read_entry(path: Path, opened: zipfile.ZipFile, name: str) -> str | None:
    if name not in opened.namelist():
        return None
    try:
        return opened.read(name).decode("utf-8")
    except (zipfile.BadZipFile, EOFError, UnicodeDecodeError) as error:
        raise ExtractError(f"{path}: expected a readable {name}, got {error}") from error


def _read_json(path: Path, opened: zipfile.ZipFile, name: str) -> dict[str, Any]:
    text = _read_entry(path, opened, name)
    try:
        content = json.loads(text) if text is not None else {}
    except json.JSONDecodeError as error:
        raise ExtractError(f"{path}: expected JSON in {name}, got {error}") from error
    if not isinstance(content, dict):
        raise ExtractError(f"{path}: expected an object in {name}, got {type(content).__name__}")
    return content


def _read_preparation(path: Path, opened: zipfile.ZipFile) -> dict[str, Any]:
    return _read_json(path, opened, "preparation.json")


def _read_manifest(path: Path, opened: zipfile.ZipFile, names: list[str]) -> pd.DataFrame:
    text = _read_entry(path, opened, "manifest.csv")
    if text is None:
        return _bare_manifest(opened, names)
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ExtractError(f"{path}: expected a table in manifest.csv, got {error}") from error
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise ExtractError(
            f"{path}: expected the column {name_some(missing)} in manifest.csv, got {list(table.columns)}"
        )
    table = table.sort_values("file", kind="stable", ignore_index=True)
    listed, stored = set(table["file"]), set(names)
    if listed - stored:
        raise ExtractError(
            f"{path}: manifest.csv lists {name_some(sorted(listed - stored))}, expected in the archive but not there"
        )
    if stored - listed:
        raise ExtractError(
            f"{path}: expected a row of manifest.csv for {name_some(sorted(stored - listed))}, got none"
        )
    if len(table) != len(names):
        raise ExtractError(
            f"{path}: expected {len(names)} rows in manifest.csv, one an image, got {len(table)}"
        )
    strange = sorted(set(table["origin"]) - set(ORIGINS))
    if strange:
        raise ExtractError(
            f"{path}: expected an origin real or synthetic in manifest.csv, got {name_some(strange)}"
        )
    nobody = table.loc[(table["origin"] == "real") & (table["subject"] == ""), "file"].tolist()
    if nobody:
        raise ExtractError(
            f"{path}: expected a subject for each real image in manifest.csv, got none for {name_some(nobody)}"
        )
    return table


def _bare_manifest(opened: zipfile.ZipFile, names: list[str]) -> pd.DataFrame:
    """The manifest of an official archive: names and hashes, all else unknown."""
    table = pd.DataFrame({column: [""] * len(names) for column in COLUMNS}, dtype=str)
    table["file"], table["origin"] = names, "real"
    table["sha256"] = [hashlib.sha256(opened.read(name)).hexdigest() for name in names]
    return table


def _read_dataset_json(path: Path, opened: zipfile.ZipFile) -> dict[str, int]:
    """Integer class by image name; empty where the archive has no labels."""
    labels = _read_json(path, opened, "dataset.json").get("labels") or []
    try:
        numbers = dict(labels)
    except (TypeError, ValueError) as error:
        raise ExtractError(
            f"{path}: expected [name, label] pairs in dataset.json, got {labels!r:.80}"
        ) from error
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ExtractError(
                f"{path}: expected integer classes from 0 in dataset.json, got {number!r} for {name}"
            )
    return numbers


def _resolve_labels(
    path: Path, manifest: pd.DataFrame, numbers: dict[str, int], listed: Sequence[str] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names and (N,) integers from the manifest's names and `dataset.json`, which must agree."""
    files, names = manifest["file"].tolist(), manifest["label"].tolist()
    unknown = [file for file in files if numbers and file not in numbers]
    if unknown:
        raise ExtractError(f"{path}: expected a label in dataset.json for {name_some(unknown)}, got none")
    if not any(names):  # an official archive, or one without labels
        classes = tuple(listed or (str(number) for number in range(max(numbers.values(), default=-1) + 1)))
        labels = np.array([numbers.get(file, -1) for file in files], np.int64)
        manifest["label"] = [classes[label] if label >= 0 else "" for label in labels]
        return classes, labels
    classes = tuple(sorted(listed or set(names) - {""}))
    index = {name: number for number, name in enumerate(classes)}
    strange = sorted(set(names) - set(classes) - {""})
    if strange:
        raise ExtractError(
            f"{path}: expected classes among {list(classes)} in manifest.csv, got {name_some(strange)}"
        )
    labels = np.array([index.get(name, -1) for name in names], np.int64)
    for file, name, label in zip(files, names, labels, strict=True):
        if numbers and numbers[file] != label:
            raise ExtractError(
                f"{path}: manifest.csv and dataset.json contradict each other: {file} is {name!r} (class {label}) "
                f"in the one, class {numbers[file]} in the other"
            )
    return classes, labels
