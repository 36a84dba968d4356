"""SQL over all rounds of a study, read-only: the question goes to a locked engine in a process of its own."""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from extract.errors import SettingsError
from semisup.errors import StudyError
from semisup.query_columns import TABLE_MEANINGS, all_columns, column_meaning

ROOT = Path(__file__).parents[1]  # where the process finds `semisup`, whatever the working folder is
MAX_SQL_CHARS = 100_000


@dataclass(frozen=True)
class QueryLimits:
    """What one query may use before it is ended."""

    seconds: float = 60.0
    memory_mb: int = 2048
    threads: int = 2
    max_rows: int = 1_000_000  # of the answer

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_mb", "threads", "max_rows"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be more than 0, got {getattr(self, name)}")


DEFAULT_LIMITS = QueryLimits()


@dataclass(frozen=True)
class Column:
    """One column that a query can ask for."""

    table: str
    name: str
    kind: str  # SQL type
    meaning: str


def query_study(study_dir: Path, sql: str, limits: QueryLimits = DEFAULT_LIMITS) -> pd.DataFrame:
    """Answer one SELECT over the tables of a study: ledger, predictions, runs, rounds, arms, classes.

    Nothing is written; files outside the study, the network and the engine's settings are out of reach.

    Args:
        sql: one SELECT; `describe_tables` lists what there is.

    Raises:
        SettingsError: for SQL that cannot be answered, with the place.
        StudyError: if the folder is no study, a file in it is damaged, or a limit is exceeded.
    """
    return query_table(study_dir, sql, limits).to_pandas()


def query_table(study_dir: Path, sql: str, limits: QueryLimits = DEFAULT_LIMITS) -> pa.Table:
    """The same as an Arrow table, in which whole numbers stay whole where some are missing."""
    if not sql.strip():
        raise SettingsError('SQL: expected a query such as "SELECT * FROM runs", got nothing')
    if len(sql) > MAX_SQL_CHARS:
        raise SettingsError(f"SQL: expected at most {MAX_SQL_CHARS:,} characters, got {len(sql):,}")
    task = {
        "study_dir": str(Path(study_dir).resolve()),
        "sql": sql,
        "memory_mb": limits.memory_mb,
        "threads": limits.threads,
    }
    with _Worker(task, limits.seconds) as worker:
        return worker.read(sql, limits)


def describe_tables(study_dir: Path) -> list[Column]:
    """All columns of a study's tables, with their SQL types and meanings."""
    names = ", ".join(f"'{name}'" for name in TABLE_MEANINGS)
    found = query_table(
        study_dir,
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        f"WHERE table_name IN ({names}) ORDER BY table_name, ordinal_position",
    ).to_pylist()
    order = list(TABLE_MEANINGS)
    found.sort(key=lambda row: order.index(row["table_name"]))  # stable
    return [
        Column(row["table_name"], row["column_name"], row["data_type"],
               column_meaning(row["table_name"], row["column_name"]))
        for row in found
    ]  # fmt: skip


class _Worker:
    """A process with one task and a deadline; it is gone when the block ends, however that was."""

    def __init__(self, task: dict[str, Any], seconds: float) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "semisup.query_worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        self._is_late = False
        self._deadline = threading.Timer(seconds, self._end_late)
        self._deadline.daemon = True
        self._deadline.start()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(task).encode())
            self._process.stdin.close()

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._deadline.cancel()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()

    def read(self, sql: str, limits: QueryLimits) -> pa.Table:
        """The whole answer, or the refusal as an error."""
        batches: list[pa.RecordBatch] = []
        num_rows = 0
        schema = None
        # A stream may be cut off; the exit code says why.
        with suppress(pa.ArrowInvalid, OSError), pa.ipc.open_stream(self._process.stdout) as stream:
            schema = stream.schema
            for batch in stream:
                batches.append(batch)
                num_rows += len(batch)
                if num_rows > limits.max_rows:
                    raise StudyError(
                        f"the answer has more than {limits.max_rows:,} rows; aggregate, add LIMIT, or allow "
                        "more (--max-rows)"
                    )
        assert self._process.stderr is not None
        said = self._process.stderr.read()
        code = self._process.wait()
        if self._is_late:
            raise StudyError(
                f"the query was stopped after {limits.seconds:g} seconds; ask for less, or allow more "
                "(--time-limit)"
            )
        if code or schema is None:
            raise _refusal(said, code, sql, limits)
        return pa.Table.from_batches(batches, schema)

    def _end_late(self) -> None:
        self._is_late = True
        self._process.kill()


def _refusal(said: bytes, code: int, sql: str, limits: QueryLimits) -> Exception:
    """What the process said on its way out, as the error to raise."""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    try:
        content = json.loads(lines[-1])
        kind = content["kind"]
    except (ValueError, KeyError, IndexError, TypeError):
        content, kind = {}, "memory" if code < 0 or "Memory" in "".join(lines[-3:]) else "crash"
    if kind == "memory":
        return StudyError(
            f"the query was stopped because it took more than {limits.memory_mb:,} MB; ask for fewer columns "
            "or rows, or allow more (--memory)"
        )
    if kind == "study":
        return StudyError(content["message"])
    if kind == "usage":
        return SettingsError(f"SQL: {content['message']}")
    if kind == "sql":
        return SettingsError(_sql_sentence(content, sql))
    return StudyError(f"the query engine ended with code {code}: {' '.join(lines[-1:]) or 'it said nothing'}")


def _sql_sentence(content: dict[str, Any], sql: str) -> str:
    """ "SQL, line 1, character 8: there is no column 'foo'; did you mean 'fold'?" """
    place = "SQL"
    if content.get("position") is not None:
        before = sql.encode()[: content["position"]].decode("utf-8", "replace")
        place = f"SQL, line {before.count(chr(10)) + 1}, character {len(before) - before.rfind(chr(10))}"
    name, subject = str(content.get("name") or ""), content.get("subject")
    if subject == "Table":
        return f"{place}: there is no table {name!r}; there are {', '.join(TABLE_MEANINGS)} (see --schema)"
    first, *rest = str(content["message"]).splitlines()
    hint = next(
        (line.strip() for line in rest if line.startswith(("Did you mean", "Candidate bindings"))), ""
    )
    if subject == "COLUMN_NOT_FOUND" and name:
        close = get_close_matches(name, all_columns(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "--schema lists the columns"
        first = f"there is no column {name!r} in what FROM names"
    return f"{place}: {first.rstrip('.!')}{'; ' + hint if hint else ''}"
