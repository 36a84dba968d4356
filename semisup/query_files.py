"""The answer of a query as a file."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from extract.atomic import replace_file
from extract.json_values import json_value


def write_csv(table: pa.Table, path: Path) -> None:
    """Write CSV (UTF-8): whole numbers stay whole, what is missing is empty, lists are JSON."""
    with replace_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(table.column_names)
        for batch in table.to_batches():
            columns = (column.to_pylist() for column in batch.columns)
            writer.writerows([_cell(value) for value in row] for row in zip(*columns, strict=True))


def write_json_rows(table: pa.Table, path: Path) -> None:
    """Write a JSON list with one object a row; NaN becomes null, times and other kinds become text."""
    with replace_file(path) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        handle.write("[")
        separator = "\n"
        for batch in table.to_batches():
            for row in batch.to_pylist():
                handle.write(separator + json.dumps(json_value(row), ensure_ascii=False, default=str))
                separator = ",\n"
        handle.write("\n]\n")


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(json_value(value), ensure_ascii=False, default=str)
    return value
