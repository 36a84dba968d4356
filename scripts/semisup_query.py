"""`synthlabel semisup query`: questions to the ledger in SQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from extract.errors import SettingsError
from scripts.destinations import refuse_existing

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CELL_CHARS = 44  # on the screen; files hold everything
NEW_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("study", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("sql", required=False)
@click.option("--schema", is_flag=True, help="Print the tables with their columns, types and meanings.")
@click.option("--csv", "csv_path", type=NEW_FILE, metavar="FILE", help="Write the answer as CSV.")
@click.option("--json", "json_path", type=NEW_FILE, metavar="FILE", help="Write the answer as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace these files.")
@click.option(
    "--rows", type=click.IntRange(min=1), default=40, show_default=True, help="Shown on the screen."
)
@click.option(
    "--max-rows", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Of the answer."
)
@click.option(
    "--time-limit", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True,
    metavar="SECONDS", help="After which a query is stopped.",
)  # fmt: skip
@click.option(
    "--memory", type=click.IntRange(min=64), default=2048, show_default=True, metavar="MB",
    help="That a query may take.",
)  # fmt: skip
def query(
    study: Path,
    sql: str | None,
    schema: bool,
    csv_path: Path | None,
    json_path: Path | None,
    overwrite: bool,
    rows: int,
    max_rows: int,
    time_limit: float,
    memory: int,
) -> None:
    """Answer one SELECT about all rounds of the study in folder STUDY; nothing is ever written to it.

    For instance: synthlabel semisup query study "SELECT arm, round_index, decision, count(*) FROM ledger
    GROUP BY ALL ORDER BY ALL"
    """
    from semisup.query import QueryLimits, query_table
    from semisup.query_files import write_csv, write_json_rows

    if schema:
        if sql or csv_path or json_path:
            raise SettingsError(
                "--schema prints the tables and nothing else; leave out the query and the files"
            )
        _print_schema(study)
        return
    if sql is None:
        raise SettingsError(
            'expected a query such as "SELECT * FROM runs", got none; --schema prints the tables'
        )
    for path in (csv_path, json_path):
        if path:
            refuse_existing(path, overwrite)
    table = query_table(study, sql, QueryLimits(time_limit, memory, max_rows=max_rows))
    if csv_path:
        write_csv(table, csv_path)
        click.echo(f"{csv_path}: {table.num_rows:,} rows")
    if json_path:
        write_json_rows(table, json_path)
        click.echo(f"{json_path}: {table.num_rows:,} rows")
    if not (csv_path or json_path):
        _print_table(table, rows)


def _print_schema(study: Path) -> None:
    from semisup.query import describe_tables
    from semisup.query_columns import TABLE_MEANINGS

    columns = describe_tables(study)
    width = max(len(column.name) for column in columns)
    kind_width = max(len(column.kind) for column in columns)
    for table, meaning in TABLE_MEANINGS.items():
        click.echo(f"{table}: {meaning}")
        for column in columns:
            if column.table == table:
                click.echo(f"  {column.name:{width}}  {column.kind:{kind_width}}  {column.meaning}")
        click.echo()


def _print_table(table: pa.Table, max_rows: int) -> None:
    names = table.column_names
    shown = [
        list(row) for row in zip(*(c.to_pylist() for c in table.slice(0, max_rows).columns), strict=True)
    ]
    cells = [[_cell(value) for value in row] for row in shown]
    is_number = [all(isinstance(row[k], int | float | None) for row in shown) for k in range(len(names))]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for row in (names, *cells):
        parts = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, is_number, strict=True)
        )
        click.echo("  ".join(parts).rstrip())
    hidden = table.num_rows - len(shown)
    noun = "row" if table.num_rows == 1 else "rows"
    click.echo(
        f"({table.num_rows:,} {noun}"
        + (f", the first {len(shown)} shown; --rows shows more, --csv writes all)" if hidden else ")")
    )


def _cell(value: Any) -> str:
    """A value for the screen: short, on one line, and nothing that a terminal would obey."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "".join(character if character.isprintable() else "?" for character in str(value))
    return text if len(text) <= MAX_CELL_CHARS else text[: MAX_CELL_CHARS - 1] + "…"
