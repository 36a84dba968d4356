"""A table of text cells from a CSV file, in whichever of the usual forms a spreadsheet saved it."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from extract.errors import ExtractError, name_some

SEPARATORS = ",;\t|"
SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # how .xlsx and .xls begin
BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
FALLBACK = "cp1252"  # what Windows in western Europe and the Americas calls "ANSI"
MAX_BYTES = 2**28  # a row a picture: enough for millions of them


@dataclass(frozen=True)
class CsvTable:
    """Cells as text, stripped; the index of `frame` holds each row's line in the file."""

    frame: pd.DataFrame
    notes: tuple[str, ...] = ()  # what was guessed and should be looked at


def read_csv_table(path: Path) -> CsvTable:
    """Read a CSV table with a header; separator and encoding are found out.

    Commas, semicolons, tabs or bars separate; UTF-8 with or without a byte order mark, UTF-16 with one, and
    Windows-1252 are read. Empty lines do not count.

    Raises:
        ExtractError: if the file is a spreadsheet, no text, has no header, names a column twice, or a row
            has another number of cells than the header.
    """
    text, encoding = _decode(path)
    lines = text.splitlines(keepends=True)
    separator = ""
    if lines and lines[0].lower().startswith("sep=") and len(lines[0].rstrip("\r\n")) == 5:
        separator = lines[0][4]  # what Excel writes for itself
        lines[0] = "\n"  # keeps the line numbers
    header = next((line for line in lines if line.strip()), "")
    separator = separator or max(SEPARATORS, key=lambda mark: _count_outside_quotes(header, mark))
    columns, rows, numbers = _parse(path, "".join(lines), separator)
    notes: tuple[str, ...] = ()
    if encoding == FALLBACK:
        notes = (
            f"{path.name} is not in UTF-8 and was read as Windows-1252: look at names with accents, or save "
            "it as 'CSV UTF-8'",
        )
    return CsvTable(pd.DataFrame(rows, columns=columns, index=numbers, dtype=str), notes)


def _decode(path: Path) -> tuple[str, str]:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ExtractError(
                f"{path}: expected a CSV table of at most {MAX_BYTES // 2**20} MB, got {size // 2**20} MB"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ExtractError(f"{path}: expected a CSV table, got {error.strerror or error}") from error
    if data.startswith(SPREADSHEETS):
        raise ExtractError(
            f"{path}: expected a CSV table, got a spreadsheet (.xlsx or .xls); save it as 'CSV UTF-8'"
        )
    marked = [name for mark, name in BOMS if data.startswith(mark)]
    for encoding in marked or ("utf-8", FALLBACK):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return text, encoding
    raise ExtractError(f"{path}: expected a CSV table, got bytes that are no text; save it as 'CSV UTF-8'")


def _count_outside_quotes(line: str, mark: str) -> int:
    return sum(part.count(mark) for part in line.split('"')[::2])


def _parse(path: Path, text: str, separator: str) -> tuple[list[str], list[list[str]], list[int]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns: list[str] = []
    rows: list[list[str]] = []
    numbers: list[int] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not cells:
                continue
            if not columns:
                columns = cells
                continue
            while len(cells) > len(columns) and not cells[-1]:  # separators at the end of a line
                cells.pop()
            if len(cells) != len(columns):
                raise ExtractError(
                    f"{path}: expected {len(columns)} cells in each row ({', '.join(columns)}), got "
                    f"{len(cells)} in line {reader.line_num}; put cells that hold {separator!r} in quotes"
                )
            rows.append(cells)
            numbers.append(reader.line_num)
    except csv.Error as error:
        raise ExtractError(
            f"{path}: expected a CSV table, got line {reader.line_num} that is none ({error})"
        ) from error
    while columns and not columns[-1] and all(not row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    if not any(columns):
        raise ExtractError(f"{path}: expected a CSV table with a line of column names, got an empty file")
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise ExtractError(f"{path}: expected each column once, got {name_some(repeated)} twice")
    return columns, rows, numbers
