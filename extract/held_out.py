"""Test parts that a column decides: a site held out, each site in turn, or a test part fixed by others.

The column is one of the archive's manifest, or of a table with one row a subject. A drawn test part says how
well a model does on more patients of the same places; a site held out says how well it does elsewhere.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from extract.archive import Archive
from extract.errors import ExtractError, SettingsError, name_some
from extract.subjects import SUBJECT_COLUMNS

MAX_SITES = 20  # values of a column for one fold each; more are hardly sites
WILDCARDS = "*?["


@dataclass(frozen=True)
class HeldOut:
    """What a split's test parts are, one value a fold."""

    column: str
    values: tuple[str, ...]
    table: str = ""  # name of the file that has the column; empty = the manifest
    moved_subjects: tuple[str, ...] = ()  # tested although some of their images are of another value


def parse_column_values(settings: Sequence[str], flag: str) -> tuple[str, tuple[str, ...]]:
    """Column and values of `column`, or of one or more `column=value`.

    Raises:
        SettingsError: if they name several columns, a value twice, or mix both forms.
    """
    columns = {text.partition("=")[0].strip() for text in settings}
    values = [text.partition("=")[2].strip() for text in settings if "=" in text]
    if len(columns) != 1 or "" in columns:
        raise SettingsError(f"{flag} must name one column, got {' and '.join(settings)}")
    if (values and len(values) != len(settings)) or "" in values or len(set(values)) < len(values):
        raise SettingsError(
            f"{flag} must be COLUMN alone, or COLUMN=VALUE with different values, "
            f"got {' and '.join(settings)}"
        )
    return columns.pop(), tuple(values)


def column_values(archive: Archive, rows: np.ndarray, column: str, table: Path | None) -> np.ndarray:
    """(len(rows),) text: the column's value for each of these images.

    Raises:
        ExtractError: if the manifest or table has no such column, or the table lacks a subject.
    """
    if table is not None:
        by_subject = read_subject_values(table, column)
        missing = sorted(set(archive.subjects[rows].tolist()) - set(by_subject))
        if missing:
            raise ExtractError(f"{table}: expected a row for each subject, got none for {name_some(missing)}")
        return np.array([by_subject[str(subject)] for subject in archive.subjects[rows]], dtype=str)
    if column not in archive.manifest.columns:
        raise ExtractError(
            f"{archive.path}: expected the column {column} in the manifest, got "
            f"{', '.join(archive.manifest.columns)}; name one of these, or "
            "give a --table of subjects that has it"
        )
    return archive.manifest[column].to_numpy(dtype=str)[rows]


def read_subject_values(table: Path, column: str) -> dict[str, str]:
    """A column of a CSV table with one row a subject, or several that agree.

    Raises:
        ExtractError: if the table cannot be read, lacks a column or contradicts itself.
    """
    try:
        read = pd.read_csv(
            table, dtype=str, keep_default_na=False, encoding="utf-8-sig", sep=None, engine="python"
        )
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise ExtractError(f"{table}: expected a CSV table of subjects, got {error}") from error
    names = [name for name in SUBJECT_COLUMNS if name in read.columns]
    if not names or column not in read.columns:
        wanted = f"the column {column}" if names else f"one of the columns {', '.join(SUBJECT_COLUMNS)}"
        raise ExtractError(f"{table}: expected {wanted}, got {', '.join(map(str, read.columns))}")
    values: dict[str, str] = {}
    for subject, value in zip(read[names[0]].str.strip(), read[column].str.strip(), strict=True):
        if values.setdefault(subject, value) != value:
            raise ExtractError(
                f"{table}: expected one {column} for {subject}, got {values[subject]!r} and {value!r}"
            )
    return values


def site_of(source: str, label: str) -> str:
    """What of a source path names the place it came from.

    The folders other than the class's own, or else what the file's name begins with before any digit:
    `HH/glioma/3.png` gives `HH`, `IXI132-HH-1415.nrrd` gives `IXI`.
    """
    path = PurePosixPath(source)
    folders = "/".join(part for part in path.parts[:-1] if part != label)
    return folders or re.split(r"\d", path.stem, maxsplit=1)[0].rstrip("-_. ")


def match_rows(
    archive: Archive, rows: np.ndarray, column: str, value: str, table: Path | None = None
) -> np.ndarray:
    """(len(rows),) bool: which of these images have the value.

    A value with `*`, `?` or `[...]` is a pattern for the whole text. In the column `source` a value also
    stands for the place (`site_of`) and for a path's beginning.
    """
    found = column_values(archive, rows, column, table)
    is_match = found == value
    if any(mark in value for mark in WILDCARDS):
        is_match |= np.array([fnmatchcase(text, value) for text in found], bool)
    elif column == "source" and table is None:
        labels = archive.manifest["label"].to_numpy(dtype=str)[rows]
        is_match |= np.char.startswith(found, value)
        is_match |= np.array(
            [site_of(text, label) == value for text, label in zip(found, labels, strict=True)], bool
        )
    return is_match


def list_values(
    archive: Archive, rows: np.ndarray, column: str, table: Path | None = None
) -> tuple[str, ...]:
    """All values of a column, for one fold each; of `source`, all places.

    Raises:
        ExtractError: if there are fewer than two or more than 20.
    """
    found = column_values(archive, rows, column, table)
    if column == "source" and table is None:
        labels = archive.manifest["label"].to_numpy(dtype=str)[rows]
        found = np.array([site_of(text, label) for text, label in zip(found, labels, strict=True)], dtype=str)
    values = sorted(set(found.tolist()))
    if "" in values:
        raise ExtractError(
            f"{table or archive.path}: expected a value of {column} for each image, got none for "
            f"{int((found == '').sum())} of {len(found)}; name the ones to hold out with {column}=VALUE"
        )
    if not 2 <= len(values) <= MAX_SITES:
        raise ExtractError(
            f"{table or archive.path}: expected 2 to {MAX_SITES} different values of {column} to hold "
            "out in turn, "
            f"got {len(values)} ({name_some([repr(value) for value in values])}); name the ones to hold "
            f"out with {column}=VALUE"
        )
    return tuple(values)
