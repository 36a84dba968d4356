"""CSV tables that a program wrote, read strictly: what a spreadsheet has bent is an error, not a guess."""

import csv
import io

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from extract.errors import ExtractError, name_some

MAX_CELL_CHARS = 4096  # numpy gives each row of a text column the room of the longest one
MAX_HEADER_CHARS = 2**16
MAX_NAME_CHARS = 255  # of a class or a subject


def read_table(text: str, where: str) -> pd.DataFrame:
    """A table of text cells from CSV with a header; every row has a cell for every column.

    Raises:
        ExtractError: beginning with `where`, naming the line at fault.
    """
    if "\0" in text:
        raise ExtractError(f"{where}: expected a table as text, got a NUL byte in it; make or copy it anew")
    text = text.removeprefix("\ufeff")
    header = _read_header(text, where)
    try:
        table = _read_fast(text, header)
    except (pa.ArrowException, UnicodeEncodeError):
        table = _read_by_line(text, header, where)  # which says what is wrong, and where
    for name in header:
        longest = int(table[name].str.len().max()) if len(table) else 0
        if longest > MAX_CELL_CHARS:
            raise ExtractError(
                f"{where}: expected cells of at most {MAX_CELL_CHARS} characters, got {longest} in {name}"
            )
    return table


def _read_fast(text: str, header: list[str]) -> pd.DataFrame:
    """Ten times as fast as Python's reader, which counts where there are 10^5 rows."""
    read = pa_csv.read_csv(
        io.BytesIO(text.encode()),
        pa_csv.ReadOptions(use_threads=False),
        pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        pa_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
    )
    return read.to_pandas()


def _read_by_line(text: str, header: list[str], where: str) -> pd.DataFrame:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        next(reader)
        for row in reader:
            if len(row) != len(header):
                raise ExtractError(
                    f"{where}: expected {len(header)} cells in line {reader.line_num}, got {len(row)}; undo "
                    "what an editor or a spreadsheet has changed"
                )
            rows.append(row)
    except csv.Error as error:
        raise ExtractError(
            f"{where}: expected a table, got a fault in line {reader.line_num}: {error}"
        ) from error
    return pd.DataFrame(rows, columns=header, dtype=str)


def _read_header(text: str, where: str) -> list[str]:
    try:
        header = next(csv.reader(io.StringIO(text[:MAX_HEADER_CHARS], newline=""), strict=True), [])
    except csv.Error as error:
        raise ExtractError(f"{where}: expected a table, got a fault in line 1: {error}") from error
    if not any(header):
        raise ExtractError(f"{where}: expected a table with a header, got nothing in it")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise ExtractError(
            f"{where}: expected columns with commas between them, got semicolons or tabs ({header[0]:.80}); "
            "take the file as it was written, not as a spreadsheet has saved it"
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ExtractError(f"{where}: expected each column once, got {name_some(repeated)} more than once")
    return header
