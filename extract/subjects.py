"""Which subject a file shows: from a table, or from a pattern over its name."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from extract.errors import ExtractError, SettingsError, name_some

FILE_COLUMNS = ("file", "path", "filename", "image")
SUBJECT_COLUMNS = ("subject_id", "subject", "patient_key", "patient_id", "patient")


@dataclass(frozen=True)
class SubjectTable:
    """Subject and, if asked for, class of each file, by its path below the source folder."""

    path: Path
    subjects: dict[str, str]
    labels: dict[str, str] | None

    def find(self, file: str) -> tuple[str, str | None]:
        """Subject and class of a file.

        Raises:
            ExtractError: if the table does not list it.
        """
        if file not in self.subjects:
            raise ExtractError(
                f"{self.path}: expected a row for {file}, got none; add it, or move the file away"
            )
        return self.subjects[file], None if self.labels is None else self.labels[file]


def read_subject_table(
    path: Path,
    file_column: str | None = None,
    subject_column: str | None = None,
    label_column: str | None = None,
) -> SubjectTable:
    """Read a CSV table of files and subjects.

    Args:
        path: the table. Files are named by `file` (or `path`, `filename`, `image`), relative to the source
            folder, or by the two columns `class` and `name`, which stand for `class/name`.
        file_column, subject_column: columns to use in place of those that are recognized.
        label_column: column that holds the class; None = classes come from elsewhere.

    Raises:
        ExtractError: if the table cannot be read, lacks a column, is empty in one, or contradicts itself.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except UnicodeDecodeError as error:
        raise ExtractError(
            f"{path}: expected a CSV table in UTF-8, got other bytes ({error.reason}); save it as "
            "'CSV UTF-8' (a spreadsheet's .xlsx is no CSV)"
        ) from error
    except (OSError, ValueError) as error:
        raise ExtractError(f"{path}: expected a CSV table of files and subjects, got {error}") from error
    if len(table.columns) == 1 and any(mark in str(table.columns[0]) for mark in ";\t"):
        raise ExtractError(
            f"{path}: expected columns with commas between them, got semicolons or tabs "
            f"({table.columns[0]!r}); save it as CSV with commas"
        )
    if (
        file_column is None
        and {"class", "name"} <= set(table.columns)
        and not set(FILE_COLUMNS) & set(table.columns)
    ):
        files = table["class"] + "/" + table["name"]
    else:
        files = table[_pick(path, table, file_column, FILE_COLUMNS, "--file-column")]
    files = files.str.strip().str.replace("\\", "/").str.removeprefix("./")
    subjects = table[_pick(path, table, subject_column, SUBJECT_COLUMNS, "--subject-column")].str.strip()
    labels = None
    if label_column is not None:
        labels = table[_pick(path, table, label_column, (), "--label-column")].str.strip()
    columns = [subjects] if labels is None else [subjects, labels]
    for column in columns:
        rows = np.flatnonzero(column == "").tolist()
        empty = [str(files.iat[row]) or f"line {row + 2}" for row in rows]
        if empty:
            raise ExtractError(
                f"{path}: expected a value in column {column.name} of each row, got none for "
                f"{name_some(empty)}"
            )
    repeated = files[files.duplicated()].tolist()
    if repeated:
        raise ExtractError(f"{path}: expected one row a file, got several for {name_some(repeated)}")
    return SubjectTable(
        Path(path),
        dict(zip(files, subjects, strict=True)),
        None if labels is None else dict(zip(files, labels, strict=True)),
    )


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile the subject pattern.

    Raises:
        SettingsError: if it is no regular expression.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise SettingsError(
            f"--subject-pattern must be a regular expression, got {pattern!r} ({error})"
        ) from error


def match_subject(pattern: re.Pattern[str], file: str) -> str:
    """The group named `subject`, or all groups joined by "-", or the whole match.

    Raises:
        ExtractError: if the pattern does not match the file's path below the source folder.
    """
    match = pattern.search(file)
    named = match.groupdict().get("subject") if match else None
    subject = named or (
        "-".join(group for group in match.groups() if group) or match.group(0) if match else ""
    )
    if not subject:
        raise ExtractError(
            f"{file}: expected a path that --subject-pattern {pattern.pattern!r} matches, got one "
            "that it does not"
        )
    return subject


def _pick(path: Path, table: pd.DataFrame, asked: str | None, known: tuple[str, ...], flag: str) -> str:
    for column in (asked,) if asked is not None else known:
        if column in table.columns:
            return str(column)
    wanted = asked if asked is not None else f"one of {', '.join(known)}"
    remedy = f"check {flag}" if asked is not None else f"rename a column, or (extract images) give {flag}"
    raise ExtractError(
        f"{path}: expected the column {wanted}, got {', '.join(map(str, table.columns))}; {remedy}"
    )
