"""The lists in an archive (names, `manifest.csv`, `dataset.json`), read and held against each other."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from extract.errors import ExtractError, name_some
from extract.json_values import parse_json
from extract.tables import MAX_NAME_CHARS, read_table
from extract.zips import check_entries, read_entry

BASIC_COLUMNS = (  # in every manifest
    "file", "label", "subject", "source", "plane", "angle_deg", "slice_index", "position_mm", "origin",
    "sha256", "seed", "truncation_psi", "class", "snapshot_sha256",
)  # fmt: skip
# How to add a column: append its name at the end of COLUMNS, and a field of that name with an empty default
# at the end of `extract.archive.ImageRecord` (text, a number or None, or a tuple of numbers). Nothing else:
# it is written and read by the field's type, a manifest has it only where an image of the archive fills it
# (so the bytes of all other archives stay what they were), and where it is missing it reads as empty.
COLUMNS = (
    *BASIC_COLUMNS,
    "tilt_deg", "affine", "source_width", "source_height", "part",
    "second_seed", "second_styles", "walk_share", "noise_mode",
)  # fmt: skip
MAX_NUM_CLASSES = 100_000
ORIGINS = ("real", "synthetic")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")

# How large a list may be before it counts as an attack on the memory: honest rows are a few hundred bytes.
LIST_BYTES = 2**24
LIST_BYTES_PER_IMAGE = 2**12


@dataclass(frozen=True)
class Preparation:
    """What `preparation.json` says."""

    settings: dict[str, Any]  # that made the images
    classes: list[str] | None  # sorted; also those that no image shows; None where it does not say


def image_names(path: Path, opened: zipfile.ZipFile) -> list[str]:
    """Sorted names of the images; their order is the index order.

    Raises:
        ExtractError: if there are none, or an entry is not what an archive may hold.
    """
    check_entries(path, opened)
    names = [name for name in opened.namelist() if name.lower().endswith(IMAGE_SUFFIXES)]
    if not names:
        raise ExtractError(f"{path}: expected images ({', '.join(IMAGE_SUFFIXES)}), got none in the archive")
    return sorted(names)


def _read_list(path: Path, opened: zipfile.ZipFile, name: str) -> str | None:
    """The text of an entry that lists or describes the images; None where there is none."""
    if name not in opened.NameToInfo:
        return None
    data = read_entry(path, opened, name, LIST_BYTES + LIST_BYTES_PER_IMAGE * len(opened.NameToInfo))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ExtractError(f"{path}: expected a readable {name} in UTF-8, got {error}") from error


def _read_json(path: Path, opened: zipfile.ZipFile, name: str) -> dict[str, Any]:
    text = _read_list(path, opened, name)
    if text is None:
        return {}
    content = parse_json(text, str(path), name)
    if not isinstance(content, dict):
        raise ExtractError(f"{path}: expected an object in {name}, got {type(content).__name__}")
    return content


def read_preparation(path: Path, opened: zipfile.ZipFile) -> Preparation:
    """What made the images and which classes there are; empty where the archive does not say.

    Raises:
        ExtractError: if it says so in other words than ours.
    """
    return parse_preparation(_read_json(path, opened, "preparation.json"), str(path))


def parse_preparation(content: object, where: str) -> Preparation:
    """What `preparation.json` says, from its content.

    Raises:
        ExtractError: if it says so in other words than ours.
    """
    if not isinstance(content, dict):
        raise ExtractError(f"{where}: expected an object in preparation.json, got {type(content).__name__}")
    settings, classes = content.get("settings", {}), content.get("classes")
    if not isinstance(settings, dict):
        raise ExtractError(
            f"{where}: expected an object as settings in preparation.json, got {type(settings).__name__}"
        )
    if classes is not None and not (isinstance(classes, list) and all(isinstance(c, str) for c in classes)):
        raise ExtractError(
            f"{where}: expected a list of names as classes in preparation.json, got {classes!r:.80}"
        )
    return Preparation(settings, None if classes is None else sorted(set(classes) - {""}))


def read_manifest(path: Path, opened: zipfile.ZipFile, names: list[str]) -> pd.DataFrame | None:
    """`manifest.csv` in the order of the names, all values as text; None where there is none."""
    text = _read_list(path, opened, "manifest.csv")
    if text is None:
        return None
    table = read_table(text, f"{path}: manifest.csv")
    missing = [column for column in BASIC_COLUMNS if column not in table.columns]
    if missing:
        raise ExtractError(
            f"{path}: expected the column {name_some(missing)} in manifest.csv, got "
            f"{name_some(list(table.columns))}"
        )
    for column in COLUMNS:
        if column not in table.columns:  # younger than the archive, or filled by none of its images
            table[column] = ""
    # Columns of a later version, or of the user's own, are kept behind ours; nothing depends on them.
    table = table[[*COLUMNS, *(column for column in table.columns if column not in COLUMNS)]]
    table = table.sort_values("file", kind="stable", ignore_index=True)
    listed, stored = set(table["file"].tolist()), set(names)
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
    strange = sorted(set(table["origin"].unique()) - set(ORIGINS))
    if strange:
        raise ExtractError(
            f"{path}: expected an origin real or synthetic in manifest.csv, got {name_some(strange)}"
        )
    for column in ("label", "subject"):
        longest = int(table[column].str.len().max())
        if longest > MAX_NAME_CHARS:
            raise ExtractError(
                f"{path}: expected names of at most {MAX_NAME_CHARS} characters in the column {column} of "
                f"manifest.csv, got {longest}"
            )
    nobody = table.loc[(table["origin"] == "real") & (table["subject"] == ""), "file"].tolist()
    if nobody:
        raise ExtractError(
            f"{path}: expected a subject for each real image in manifest.csv, got none for "
            f"{name_some(nobody)}"
        )
    return table


def official_lists(
    path: Path, names: list[str], numbers: dict[str, int]
) -> tuple[pd.DataFrame, tuple[str, ...], np.ndarray]:
    """Manifest, classes and (N,) labels of an archive without `manifest.csv`.

    Subjects stay empty; so do the pictures' hashes, because they cost reading every picture.
    """
    _check_all_numbered(path, names, numbers)
    classes = tuple(str(number) for number in range(max(numbers.values(), default=-1) + 1))
    labels = np.array([numbers.get(name, -1) for name in names], np.int64)
    table = pd.DataFrame({column: [""] * len(names) for column in COLUMNS}, dtype=str)
    table["file"], table["origin"] = names, "real"
    table["label"] = [classes[label] if label >= 0 else "" for label in labels]
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
                f"{path}: expected integer classes from 0 in dataset.json, got {number!r:.80} for {name}"
            )
        if number >= MAX_NUM_CLASSES:
            raise ExtractError(
                f"{path}: expected at most {MAX_NUM_CLASSES:,} classes, got the class number "
                f"{number!r:.40} in dataset.json"
            )
    return numbers


def number_labels(
    path: Path,
    manifest: pd.DataFrame,
    files: Sequence[str],
    numbers: dict[str, int],
    listed: Sequence[str] | None,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names and (N,) integers from the manifest's names, which `dataset.json` must agree with."""
    _check_all_numbered(path, files, numbers)
    names = manifest["label"]
    shown = set(names.unique()) - {""}
    classes = tuple(sorted(listed or shown))
    strange = sorted(shown - set(classes))
    if strange:
        raise ExtractError(
            f"{path}: expected classes among {list(classes)} in manifest.csv, got {name_some(strange)}"
        )
    labels = np.array(pd.Index(list(classes), dtype=str).get_indexer(names.to_list()), np.int64)
    if numbers:
        told = np.fromiter((numbers[file] for file in files), np.int64, len(files))
        for row in np.flatnonzero(told != labels)[:1]:
            raise ExtractError(
                f"{path}: manifest.csv and dataset.json contradict each other: {files[row]} is "
                f"{names.iat[row]!r} (class {labels[row]}) in the one, class {told[row]} in the other"
            )
    return classes, labels
