"""The process that answers one query: a locked engine with limits, which ends with its answer.

A process of its own because no engine stops everything from inside: one call such as
`repeat('x', 4000000000)` heeds neither the engine's memory limit nor an interruption. What goes too far here
is ended by the system or by `semisup.query`, and takes nothing with it.

It reads its task from the standard input (JSON), writes the answer to the standard output (an Arrow stream),
and a refusal to the standard error (JSON). Started as `python -m semisup.query_worker`.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from extract.errors import SynthlabelError
from semisup.query_tables import StudyTables, open_study_tables

EXIT_REFUSED = 3
BATCH_ROWS = 16_384
HEADROOM_MB = 1024  # beyond the engine's own limit: the interpreter, Arrow's buffers, the libraries' tables

# Nothing of this can be changed by a query: the last line locks the configuration.
LOCKED = (
    "SET temp_directory = ''",  # never spill to a disk
    "SET allow_community_extensions = false",
    "SET python_enable_replacements = false",  # no variable of this program is a table
    "SET errors_as_json = true",
    "SET enable_external_access = false",  # no file, no folder, no network, no other database
    "SET lock_configuration = true",
)


EXPLAIN = "EXPLAIN "


class _Moved(Exception):
    """An engine's error about a statement that was shifted by some characters."""

    def __init__(self, error: duckdb.Error, num_chars: int) -> None:
        super().__init__(str(error))
        self.error, self.num_chars = error, num_chars


class Refused(Exception):
    """A statement that is not answered, with what to say about it."""

    def __init__(self, kind: str, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.content = {"kind": kind, "message": message, "position": position}


def open_engine(tables: StudyTables, memory_mb: int, threads: int) -> duckdb.DuckDBPyConnection:
    """An engine in memory that sees the study's tables and nothing else.

    There is no table in it, only views over Arrow relations: nothing that could be written to.
    """
    engine = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{memory_mb}MB",
            "threads": threads,
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        },
    )
    for name, relation in tables.relations.items():
        engine.register(name, relation)
    for name, select in tables.views.items():
        engine.execute(f"CREATE VIEW {name} AS {select}")
    for setting in LOCKED:
        engine.execute(setting)
    return engine


def check_statement(engine: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Let one SELECT pass (WITH, FROM, VALUES, DESCRIBE, SUMMARIZE are SELECTs in other words).

    Raises:
        Refused: for anything else, and for more than one.
        duckdb.Error: for what is no SQL.
    """
    statements = engine.extract_statements(sql)
    if len(statements) != 1:
        raise Refused("usage", f"expected one statement, got {len(statements)}")
    kind = statements[0].type
    if kind == duckdb.StatementType.MULTI:
        raise Refused("usage", "expected one SELECT, got a PIVOT without IN; name its values with IN (...)")
    if kind != duckdb.StatementType.SELECT:
        raise Refused("usage", f"expected one SELECT, got {kind.name}: a query only reads")


def answer(task: dict[str, Any]) -> None:
    """Answer one query to the standard output."""
    engine = open_engine(open_study_tables(Path(task["study_dir"])), task["memory_mb"], task["threads"])
    check_statement(engine, task["sql"])
    relation = _bind(engine, task["sql"])
    if relation is None:
        raise Refused("usage", "expected one SELECT, got a statement without an answer")
    batches = relation.to_arrow_reader(BATCH_ROWS)
    with pa.ipc.new_stream(sys.stdout.buffer, batches.schema) as stream:
        for batch in batches:
            stream.write_batch(batch)


def _bind(engine: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation | None:
    """The answer as a stream that has not begun; what is wrong with the names in it is found here."""
    try:
        return engine.sql(sql)
    except duckdb.Error as error:
        if "{" in str(error):
            raise
        try:
            engine.execute(EXPLAIN + sql)  # plans without running, and says the place of the fault
        except duckdb.Error as placed:
            raise _Moved(placed, len(EXPLAIN)) from error
        raise


def limit_memory(memory_mb: int) -> None:
    """Ask the system to refuse what the engine does not count; where it cannot, the engine's limit stays."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        size = (memory_mb + HEADROOM_MB) * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def main() -> int:
    """Do the one task and return the exit code."""
    task = json.load(sys.stdin)
    limit_memory(task["memory_mb"])
    try:
        answer(task)
        return 0
    except Refused as refused:
        content = refused.content
    except SynthlabelError as error:
        content = {"kind": "study", "message": str(error)}
    except (MemoryError, pa.ArrowMemoryError, duckdb.OutOfMemoryException):
        content = {"kind": "memory", "message": ""}
    except BrokenPipeError:  # the reader has enough
        return 0
    except _Moved as moved:
        content = _describe(moved.error, moved.num_chars)
    except duckdb.Error as error:
        content = _describe(error)
    except (OSError, pa.ArrowException) as error:  # a file of the study that was removed or is damaged
        content = {"kind": "study", "message": f"a file cannot be read: {' '.join(str(error).split())}"}
    print(json.dumps(content), file=sys.stderr, flush=True)
    return EXIT_REFUSED


def _describe(error: duckdb.Error, num_before: int = 0) -> dict[str, Any]:
    """The engine's own words and the place that it points at."""
    text = str(error)
    try:
        found = json.loads(text[text.index("{") :])
    except ValueError:
        found = {"exception_message": text}
    message = str(found.get("exception_message", text))
    if found.get("exception_type") in ("Out of Memory",) or "bad_alloc" in text:
        return {"kind": "memory", "message": message}
    position = found.get("position")
    return {
        "kind": "sql",
        "message": message,
        "position": max(int(position) - num_before, 0) if position is not None else None,
        "subject": found.get("error_subtype") if found.get("type") is None else found["type"],
        "name": found.get("name"),
    }


if __name__ == "__main__":
    sys.exit(main())
