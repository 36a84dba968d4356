"""Which subject, class and part a file has: from a table, or from a pattern over its path."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from extract.csv_table import read_csv_table
from extract.errors import ExtractError, SettingsError, name_some

FILE_COLUMNS = ("file", "path", "filename", "image")
SUBJECT_COLUMNS = ("subject_id", "subject", "patient_key", "patient_id", "patient")
LABEL_COLUMNS = ("label", "class", "clase", "target", "diagnosis", "finding")
ID_COLUMNS = (*FILE_COLUMNS, "id", "image_id", "name")  # of a table of labels, where "id" is no person's


@dataclass(frozen=True)
class SubjectTable:
    """Subject and, if asked for, class of each file, by its path below the source folder."""

    path: Path
    subjects: dict[str, str]
    labels: dict[str, str] | None
    notes: tuple[str, ...] = ()

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


@dataclass(frozen=True)
class FileTable:
    """Some columns of a table with a row a file, by what the table calls the file."""

    path: Path
    columns: Mapping[str, dict[str, str]]  # what it says (subject, label, part) -> file -> value
    notes: tuple[str, ...] = ()
    _names: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def num_rows(self) -> int:
        """How many files the table lists."""
        return len(self._names)

    def match(self, files: Sequence[str]) -> list[str]:
        """What the table calls each file: its path, its path without suffix, its name, or its name without.

        Raises:
            ExtractError: if a file has no row, or one row names several files.
        """
        taken: dict[str, str] = {}
        found, missing = [], []
        for file in files:
            path = PurePosixPath(file)
            known = (file, path.with_suffix("").as_posix(), path.name, path.stem)
            name = next((name for name in known if name in self._names), None)
            if name is None:
                missing.append(file)
                continue
            if name in taken:
                raise ExtractError(
                    f"{self.path}: expected one file for the row {name}, got {taken[name]} and {file}; write "
                    "their paths below the source folder into the table"
                )
            taken[name] = file
            found.append(name)
        if missing:
            others = f" (nor for {len(missing) - 1} other files)" if len(missing) > 1 else ""
            raise ExtractError(
                f"{self.path}: expected a row for {missing[0]}, got none{others}; add it, or move the "
                f"file away (the table names its files {name_some(sorted(self._names)[:3])}, ...)"
            )
        return found


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
    table = read_file_table(
        path, file_column, subject_column=subject_column or SUBJECT_COLUMNS, label_column=label_column
    )
    return SubjectTable(table.path, table.columns["subject"], table.columns.get("label"), table.notes)


def read_file_table(
    path: Path,
    file_column: str | None = None,
    *,
    subject_column: str | tuple[str, ...] | None = None,
    label_column: str | tuple[str, ...] | None = None,
    part_column: str | None = None,
) -> FileTable:
    """Read what a CSV table says of files.

    Args:
        file_column: names the files; None = what is recognized, see `read_subject_table`. A table of labels
            (with `label_column` and without `subject_column`) may also call them `id`.
        subject_column, label_column, part_column: a column, or several of which the first that is there
            counts; None = not asked for.

    Raises:
        ExtractError: if the table cannot be read, lacks a column, is empty in one, or names a file twice.
    """
    path = Path(path)
    read = read_csv_table(path)
    table = read.frame
    files = _file_names(path, table, file_column, ID_COLUMNS if subject_column is None else FILE_COLUMNS)
    columns: dict[str, dict[str, str]] = {}
    asked = (
        ("subject", subject_column, "--subject-column"),
        ("label", label_column, "--label-column"),
        ("part", part_column, "--part-column"),
    )
    for what, wanted, flag in asked:
        if wanted is None:
            continue
        values = table[_pick(path, table, wanted, flag)]
        empty = [files[line] or f"line {line}" for line in table.index[(values == "") | (files == "")]]
        if empty:
            raise ExtractError(
                f"{path}: expected a value in column {values.name} of each row, got none for "
                f"{name_some(empty)}"
            )
        numbered = _plain_numbers(values) if what == "label" else values
        columns[what] = dict(zip(files, numbered, strict=True))
    repeated = files[files.duplicated()].tolist()
    if repeated:
        raise ExtractError(f"{path}: expected one row a file, got several for {name_some(repeated)}")
    return FileTable(path, columns, read.notes, frozenset(files))


def compile_pattern(pattern: str, flag: str = "--subject-pattern") -> re.Pattern[str]:
    """Compile a pattern over paths.

    Raises:
        SettingsError: if it is no regular expression.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise SettingsError(f"{flag} must be a regular expression, got {pattern!r} ({error})") from error


def match_subject(pattern: re.Pattern[str], file: str) -> str:
    """The group named `subject`, or all groups joined by "-", or the whole match.

    Raises:
        ExtractError: if the pattern does not match the file's path below the source folder.
    """
    return match_path(pattern, file, "subject", "--subject-pattern")


def match_path(pattern: re.Pattern[str], file: str, group: str, flag: str) -> str:
    """What a pattern finds in a path: the named group, or all groups joined by "-", or the whole match.

    Raises:
        ExtractError: if it finds nothing.
    """
    match = pattern.search(file)
    named = match.groupdict().get(group) if match else None
    value = named or ("-".join(part for part in match.groups() if part) or match.group(0) if match else "")
    if not value:
        raise ExtractError(
            f"{file}: expected a path that {flag} {pattern.pattern!r} matches, got one that it does not"
        )
    return value


def _file_names(
    path: Path, table: pd.DataFrame, asked: str | None, known: tuple[str, ...]
) -> "pd.Series[str]":
    has_both = {"class", "name"} <= set(table.columns) and not set(FILE_COLUMNS) & set(table.columns)
    if asked is None and has_both:
        files = table["class"] + "/" + table["name"]
    else:
        files = table[_pick(path, table, asked or known, "--file-column")]
    return files.str.replace("\\", "/").str.removeprefix("./")


def _pick(path: Path, table: pd.DataFrame, wanted: str | tuple[str, ...], flag: str) -> str:
    for column in (wanted,) if isinstance(wanted, str) else wanted:
        if column in table.columns:
            return column
    named = wanted if isinstance(wanted, str) else f"one of {', '.join(wanted)}"
    remedy = (
        f"check {flag}" if isinstance(wanted, str) else f"rename a column, or (extract images) give {flag}"
    )
    raise ExtractError(f"{path}: expected the column {named}, got {', '.join(table.columns)}; {remedy}")


def _plain_numbers(labels: Iterable[str]) -> list[str]:
    """Classes by number, as a program wrote them with a decimal point, without it: 1.0 is 1."""
    labels = list(labels)
    if all(re.fullmatch(r"\d+(\.0+)?", label) for label in labels):
        return [str(int(float(label))) for label in labels]
    return labels
