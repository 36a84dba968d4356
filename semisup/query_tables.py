"""A study folder as tables: what `query` may see, as Arrow relations that are read when they are asked for.

The large ones (ledger, predictions) stay in their Parquet files: an Arrow dataset joins a run's key, arm,
fold, seed and fraction to the rows of its file, and reads the columns that a query names.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from semisup.arms import ARMS
from semisup.errors import StudyError
from semisup.folders import RUN_JSON, STUDY_JSON, read_json

# What stands beside each row of a run's files, under names that the files themselves do not use.
RUN_FIELDS = {
    "study_run": pa.string(),
    "study_arm": pa.string(),
    "study_fold": pa.int32(),
    "study_seed": pa.int64(),
    "study_fraction": pa.float64(),
}
RUN_COLUMNS = (
    "study_run AS run, study_arm AS arm, study_fold AS fold, study_seed AS seed, study_fraction AS fraction"
)
# Columns that every ledger shows, those that an older one lacks as NULL; probabilities are added by class.
LEDGER_TYPES = {
    "round_index": pa.int32(),
    "image": pa.string(),
    "archive_sha256": pa.string(),
    "image_sha256": pa.string(),
    "snapshot_sha256": pa.string(),
    "seed": pa.int64(),
    "truncation_psi": pa.float64(),
    "teacher_sha256": pa.string(),
    "confidence": pa.float64(),
    "predicted": pa.int32(),
    "rule": pa.string(),
    "threshold": pa.float64(),
    "decision": pa.string(),
    "weight": pa.float32(),
    "gate": pa.string(),
    "uncertainty": pa.float64(),
    "uncertainty_method": pa.string(),
    "gate_value": pa.float64(),
    "gate_nearest": pa.string(),
}
PREDICTION_TYPES = {"file": pa.string(), "subject": pa.string(), "label": pa.int64()}
NESTED = frozenset({"settings", "rounds"})  # of run.json: not flattened into `runs`


@dataclass(frozen=True)
class StudyTables:
    """Arrow relations by hidden name, and the views over them by the name that a query uses."""

    relations: dict[str, pa.Table | ds.Dataset]
    views: dict[str, str]  # SELECT statements


def open_study_tables(study_dir: Path) -> StudyTables:
    """Lay out a study folder as tables; no row of a ledger or of predictions is read yet.

    Raises:
        StudyError: if the folder is no study, or a file in it is damaged.
    """
    study = read_json(study_dir / STUDY_JSON)
    classes = [str(name) for name in study.get("classes") or []]
    if not classes:
        raise StudyError(f"{study_dir / STUDY_JSON}: expected the list 'classes', got none; run it anew")
    runs = [(path.parent, read_json(path)) for path in sorted(study_dir.glob(f"runs/[!.]*/{RUN_JSON}"))]
    done = [(folder, info) for folder, info in runs if info.get("status") == "done"]
    probs = {f"p_{k}": pa.float64() for k in range(len(classes))}
    raw_probs = {f"raw_{name}": kind for name, kind in probs.items()}
    ledger = _dataset(done, "ledger.parquet", {**LEDGER_TYPES, **raw_probs, **probs})
    predictions = _dataset(done, "predictions.parquet", {**PREDICTION_TYPES, **probs})
    relations = {
        "_ledger": ledger,
        "_predictions": predictions,
        "_runs": _table([_run_row(folder, info) for folder, info in runs], list(_run_row(None, {}))),
        "_rounds": _rounds_table(done),
        "_arms": _arms_table(study, runs),
        "_classes": pa.table({"number": pa.array(range(len(classes)), pa.int32()), "name": classes}),
    }  # fmt: skip
    return StudyTables(relations, _views(classes, ledger.schema))


def _views(classes: Sequence[str], ledger: pa.Schema) -> dict[str, str]:
    names = "[" + ", ".join("'" + name.replace("'", "''") + "'" for name in classes) + "]"
    probs = [f"p_{k}" for k in range(len(classes))]
    chosen = f"list_position([{', '.join(probs)}], {_greatest(probs)}) - 1"
    own = ", ".join(
        {
            "seed": "seed AS image_seed",
            "predicted": f"predicted, {names}[predicted + 1] AS predicted_class",
        }.get(name, f'"{name}"')
        for name in ledger.names
        if name not in RUN_FIELDS
    )
    return {
        "ledger": f"SELECT {RUN_COLUMNS}, {own} FROM _ledger",
        "predictions": f"SELECT {RUN_COLUMNS}, file, subject, label, {names}[label + 1] AS label_class, "
        f"predicted, {names}[predicted + 1] AS predicted_class, predicted = label AS is_correct, "
        f"{', '.join(probs)} FROM (SELECT *, CAST({chosen} AS INTEGER) AS predicted FROM _predictions)",
        "runs": "SELECT * FROM _runs",
        "rounds": "SELECT * FROM _rounds",
        "arms": "SELECT * FROM _arms",
        "classes": "SELECT * FROM _classes",
    }  # fmt: skip


def _greatest(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"greatest({', '.join(names)})"


def _dataset(
    runs: Iterable[tuple[Path, Mapping[str, Any]]], name: str, types: Mapping[str, pa.DataType]
) -> ds.FileSystemDataset:
    """One relation over a file that each of many runs may have."""
    files = pafs.LocalFileSystem()
    parquet = ds.ParquetFileFormat()
    fields = dict(types)
    fragments = []
    for folder, info in runs:
        path = folder / name
        if not path.exists():
            continue
        for field in _read_schema(path):  # columns of later versions show as they are
            fields.setdefault(field.name, field.type)
        fragments.append(
            parquet.make_fragment(str(path), filesystem=files, partition_expression=_beside(folder, info))
        )
    schema = pa.schema([*RUN_FIELDS.items(), *fields.items()])
    return ds.FileSystemDataset(fragments, schema, parquet, files)


def _read_schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path}: expected a Parquet table, got a file that cannot be read "
            f"({' '.join(str(error).split())}); remove this run's folder and run the study again"
        ) from error


def _beside(folder: Path, info: Mapping[str, Any]) -> ds.Expression:
    """What is true of every row of a run's file."""
    values = _run_columns(folder, info).values()
    expression = None
    for (name, kind), value in zip(RUN_FIELDS.items(), values, strict=True):
        equal = ds.field(name) == pa.scalar(value, kind)
        expression = equal if expression is None else expression & equal
    return expression


def _run_columns(folder: Path | None, info: Mapping[str, Any]) -> dict[str, Any]:
    arm = info.get("arm")
    return {
        "run": folder.name if folder else None,
        "arm": arm,
        "fold": info.get("fold"),
        "seed": info.get("seed"),
        "fraction": 1.0 if arm == "supervised_full" else info.get("fraction"),
    }


def _run_row(folder: Path | None, info: Mapping[str, Any]) -> dict[str, Any]:
    """run.json on one line: `test_metrics: {accuracy: 0.9}` becomes `test_accuracy`."""
    row = _run_columns(folder, info)
    row |= {"status": info.get("status"), "error": info.get("error"), "best_round": info.get("best_round")}
    for key, value in info.items():
        if key in row or key in NESTED or key == "key":
            continue
        if isinstance(value, Mapping):
            short = key.removesuffix("_metrics")
            row |= {f"{short}_{name}": _cell(item) for name, item in value.items()}
        else:
            row[key] = _cell(value)
    return row


def _rounds_table(done: Iterable[tuple[Path, Mapping[str, Any]]]) -> pa.Table:
    rows = [
        {
            **_run_columns(folder, info),
            "round_index": entry.get("round_index"),
            "is_kept": entry.get("round_index") == info.get("best_round"),
            **{key: _cell(value) for key, value in entry.items()},
        }
        for folder, info in done
        for entry in info.get("rounds") or []
    ]
    return _table(rows, [*_run_columns(None, {}), "round_index", "is_kept"])


def _arms_table(study: Mapping[str, Any], runs: Sequence[tuple[Path, Mapping[str, Any]]]) -> pa.Table:
    planned = [run.get("arm") for run in study.get("runs") or []]
    rows = [
        {
            "arm": arm,
            "text": (study.get("arm_texts") or {}).get(arm, ARMS[arm].text if arm in ARMS else ""),
            "pool": ARMS[arm].pool if arm in ARMS else None,
            "num_planned": planned.count(arm),
            "num_done": sum(i.get("arm") == arm and i.get("status") == "done" for _, i in runs),
            "num_failed": sum(i.get("arm") == arm and i.get("status") == "failed" for _, i in runs),
        }
        for arm in study.get("arms") or []
    ]
    return _table(rows, ["arm", "text", "pool", "num_planned", "num_done", "num_failed"])


def _cell(value: Any) -> Any:
    """A value as one cell: numbers, words, and lists of numbers as they are, anything else as JSON."""
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | Mapping) else value


def _table(rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> pa.Table:
    """Rows whose keys may differ; a column of mixed kinds (as no version of ours writes) becomes text."""
    columns = dict.fromkeys([*first, *(key for row in rows for key in row)])
    arrays = {}
    for name in columns:
        values = [row.get(name) for row in rows]
        try:
            found = pa.array(values)
            arrays[name] = found.cast(pa.string()) if found.type == pa.null() else found
        except pa.ArrowException:
            arrays[name] = pa.array([None if value is None else json.dumps(value) for value in values])
    return pa.table(arrays)
