"""The lists in an archive (names, `manifest.csv`, `dataset.json`), read and held against each other."""

import hashlib
import io
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from extract.errors import ExtractError, name_some

COLUMNS = (
    "file", "label", "subject", "source", "plane", "angle_deg", "slice_index", "position_mm", "origin",
    "sha256", "seed", "truncation_psi", "class", "snapshot_sha256", "tilt_deg", "affine",
)  # fmt: skip
LATER_COLUMNS = ("tilt_deg", "affine")  # manifests written before they came do without
ORIGINS = ("real", "synthetic")
# What reading an entry raises: damaged, cut, encrypted, or packed by a method that Python does not know.
ENTRY_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def image_names(path: Path, opened: zipfile.ZipFile) -> list[str]:
    """Sorted names of the images; their order is the index order."""
    names = [name for name in opened.namelist() if name.lower().endswith(IMAGE_SUFFIXES)]
    for name in opened.namelist():
        if (
            name.startswith(("/", "\\"))
            or ":" in name
            or (".." in name and ".." in PurePosixPath(name.replace("\\", "/")).parts)
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
    except (*ENTRY_ERRORS, UnicodeDecodeError) as error:
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


def read_preparation(path: Path, opened: zipfile.ZipFile) -> dict[str, Any]:
    """What made the images and which classes there are; empty where the archive does not say."""
    return _read_json(path, opened, "preparation.json")


def read_manifest(path: Path, opened: zipfile.ZipFile, names: list[str]) -> pd.DataFrame | None:
    """`manifest.csv` in the order of the names, all values as text; None where there is none."""
    text = _read_entry(path, opened, "manifest.csv")
    if text is None:
        return None
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ExtractError(f"{path}: expected a table in manifest.csv, got {error}") from error
    for column in LATER_COLUMNS:
        if column not in table.columns:
            table[column] = ""
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise ExtractError(
            f"{path}: expected the column {name_some(missing)} in manifest.csv, got {list(table.columns)}"
        )
    table = table.sort_values("file", kind="stable", ignore_index=True)
    listed, stored = set(table["file"]), set(names)
    if listed - stored:
        raise ExtractError(
            f"{path}: manifest.csv lists {name_some(sorted(listed - stored))}, expected in the "
            "archive but not there"
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
            f"{path}: expected a subject for each real image in manifest.csv, got none for "
            f"{name_some(nobody)}"
        )
    return table


def official_lists(
    path: Path, opened: zipfile.ZipFile, names: list[str], numbers: dict[str, int]
) -> tuple[pd.DataFrame, tuple[str, ...], np.ndarray]:
    """Manifest, classes and (N,) labels of an archive without `manifest.csv`; subjects stay empty."""
    _check_all_numbered(path, names, numbers)
    classes = tuple(str(number) for number in range(max(numbers.values(), default=-1) + 1))
    labels = np.array([numbers.get(name, -1) for name in names], np.int64)
    table = pd.DataFrame({column: [""] * len(names) for column in COLUMNS}, dtype=str)
    table["file"], table["origin"] = names, "real"
    table["label"] = [classes[label] if label >= 0 else "" for label in labels]
    try:
        table["sha256"] = [hashlib.sha256(opened.read(name)).hexdigest() for name in names]
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ExtractError(
            f"{path}: expected sound entries, got {error}; make or copy the file anew"
        ) from error
    return table, classes, labels


def _check_all_numbered(path: Path, files: Sequence[str], numbers: dict[str, int]) -> None:
    unknown = [file for file in files if numbers and file not in numbers]
    if unknown:
        raise ExtractError(f"{path}: expected a label in dataset.json for {name_some(unknown)}, got none")


def read_dataset_json(path: Path, opened: zipfile.ZipFile) -> dict[str, int]:
    """Integer class by image name; empty where the archive has no labels."""
    return integer_labels(path, _read_json(path, opened, "dataset.json"))


def integer_labels(path: Path, content: object) -> dict[str, int]:
    """Integer class by image name, from what `dataset.json` says; empty where it says null.

    Raises:
        ExtractError: if it says anything else.
    """
    if not isinstance(content, dict):
        raise ExtractError(f"{path}: expected an object in dataset.json, got {type(content).__name__}")
    labels = content.get("labels") or []
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


def number_labels(
    path: Path, manifest: pd.DataFrame, numbers: dict[str, int], listed: Sequence[str] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names and (N,) integers from the manifest's names, which `dataset.json` must agree with."""
    files, names = manifest["file"].tolist(), manifest["label"].tolist()
    _check_all_numbered(path, files, numbers)
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
                f"{path}: manifest.csv and dataset.json contradict each other: {file} is {name!r} "
                f"(class {label}) "
                f"in the one, class {numbers[file]} in the other"
            )
    return classes, labels
