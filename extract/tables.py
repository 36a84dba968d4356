"""CSV tables that a program wrote, read strictly: what a spreadsheet has bent is an error, not a guess."""

import csv
import io

import pandas as pd

from extract.errors import ExtractError, name_some

MAX_CELL_CHARS = 4096  # numpy gives each row of a text column the room of the longest one
MAX_NAME_CHARS = 255  # of a class or a subject


def read_table(text: str, where: str) -> pd.DataFrame:
    """A table of text cells from CSV with a header; every row has a cell for every column.

    Raises:
        ExtractError: beginning with `where`, naming the line at fault.
    """
    if "\0" in text:
        raise ExtractError(f"{where}: expected a table as text, got a NUL byte in it; make or copy it anew")
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = next(reader, [])
        _check_header(header, where)
        rows = []
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
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    for name, cells in zip(header, columns, strict=True):
        longest = max(map(len, cells), default=0)
        if longest > MAX_CELL_CHARS:
            raise ExtractError(
                f"{where}: expected cells of at most {MAX_CELL_CHARS} characters, got {longest} in {name}"
            )
    return pd.DataFrame(dict(zip(header, columns, strict=True)), columns=header, dtype=str)


def _check_header(header: list[str], where: str) -> None:
    if not header:
        raise ExtractError(f"{where}: expected a table with a header, got nothing in it")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise ExtractError(
            f"{where}: expected columns with commas between them, got semicolons or tabs ({header[0]:.80}); "
            "take the file as it was written, not as a spreadsheet has saved it"
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ExtractError(f"{where}: expected each column once, got {name_some(repeated)} more than once")
