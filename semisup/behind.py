"""The images behind a number of the report: a typed choice, and a row for each image and run that it counts.

What a table says as a mean over runs is here a list of rows: as many as the runs have together. Ledgers and
predictions are read by column and filter, those of the chosen runs alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from extract.seeds import derive_seed
from semisup.errors import StudyError
from semisup.folders import PREDICTIONS, RUN_JSON, read_json
from semisup.ledger import LEDGER_FILE
from semisup.run_list import ListedRun
from semisup.select import SELECTED

Outcome = Literal["selected", "passed over", "turned away"]  # by the rule, by the rule, by a gate
Order = Literal["mixed", "surest first", "least sure first"]
ORDERS: tuple[Order, ...] = ("mixed", "surest first", "least sure first")
COLUMNS = ("run", "fold", "seed", "row", "archive_sha256", "image", "said", "label", "confidence", "reason")


@dataclass(frozen=True)
class PoolChoice:
    """Images of the pool in one round, by what became of them."""

    round_index: int
    outcome: Outcome = "selected"
    said: int | None = None  # class that they were given; of those without a pseudo-label the most probable
    reason: str = ""  # the ledger's word: a gate's name, "below threshold", ...; empty = any


@dataclass(frozen=True)
class TestedChoice:
    """Images of the test part, by the expert's class and by what the kept model said."""

    label: int | None = None
    said: int | None = None
    only_wrong: bool = False


Choice = PoolChoice | TestedChoice


@dataclass(frozen=True)
class RecordedRun:
    """The record of a run without its predictions: enough for its rounds."""

    listed: ListedRun
    info: dict[str, Any]  # run.json

    @property
    def arm(self) -> str:
        return self.listed.arm

    @property
    def fraction(self) -> float:
        return self.listed.fraction

    @property
    def rounds(self) -> list[dict[str, Any]]:
        return self.info.get("rounds") or []


def read_recorded(study_dir: Path, runs: Sequence[ListedRun]) -> list[RecordedRun]:
    """The records of some runs, for `summary.round_results`.

    Raises:
        StudyError: if one is damaged or gone.
    """
    return [RecordedRun(run, read_json(study_dir / "runs" / run.key / RUN_JSON)) for run in runs]


def has_ledger(study_dir: Path, runs: Sequence[ListedRun]) -> bool:
    """Whether any of these runs looked at a pool image by image."""
    return any((study_dir / "runs" / run.key / LEDGER_FILE).exists() for run in runs)


def rows_behind(
    study_dir: Path, study: Mapping[str, Any], runs: Sequence[ListedRun], choice: Choice
) -> pd.DataFrame:
    """One row for each image and run that the choice counts.

    Args:
        study: `study.json`.
        runs: finished ones, of one arm at one share of labels.

    Returns:
        Columns `run` (place in `runs`), `fold`, `seed` (of the run), `row` (in the run's file),
        `archive_sha256`, `image`, `said` (class number: pseudo-label, or the most probable one), `label` (the
        expert's; -1 where the file does not know it), `confidence` in [0, 1], `reason` (the ledger's word).

    Raises:
        StudyError: if a ledger or a table of predictions is damaged or gone.
    """
    tables = []
    for number, run in enumerate(runs):
        folder = study_dir / "runs" / run.key
        if isinstance(choice, TestedChoice):
            table = _test_rows(folder / PREDICTIONS, str(study.get("archive_sha256", "")), choice)
        else:
            table = _pool_rows(folder / LEDGER_FILE, choice)
        for name, value in (("run", number), ("fold", run.fold), ("seed", run.seed)):
            table = table.append_column(name, pa.array(np.full(len(table), value, np.int64)))
        tables.append(table.select(COLUMNS))
    if not tables:
        return pd.DataFrame({name: [] for name in COLUMNS})
    rows = pa.concat_tables(tables)  # strings become categories: the same few, or the same in each run
    return rows.to_pandas(categories=["archive_sha256", "reason", "image"])


def count_reasons(rows: pd.DataFrame) -> dict[str, int]:
    """How many rows each word of the ledger has, the most frequent first."""
    counts = rows["reason"].value_counts()
    return {str(reason): int(count) for reason, count in counts.items() if count and str(reason)}


def confusion_of_tests(study_dir: Path, runs: Sequence[ListedRun], num_classes: int) -> np.ndarray:
    """(C, C) test images by truth and prediction, seeds averaged and folds added up, as in the report.

    Raises:
        StudyError: if a table of predictions is damaged or gone.
    """
    total = np.zeros((num_classes, num_classes))
    for fold in sorted({run.fold for run in runs}):
        own = [run for run in runs if run.fold == fold]
        for run in own:
            labels, probs = _predictions(study_dir / "runs" / run.key / PREDICTIONS)
            np.add.at(total, (labels, probs.argmax(axis=1)), 1 / len(own))
    return total


def each_once(rows: pd.DataFrame, order: Order = "mixed") -> pd.DataFrame:
    """Each image once, with the number of runs (`times`) that it is counted in.

    Args:
        order: by the mean confidence, or mixed: drawn without regard to it, always alike, for a page of the
            surest images would flatter.
    """
    if rows.empty:
        return rows.assign(times=0)
    keys = rows.groupby(["archive_sha256", "image"], observed=True, sort=True).ngroup().to_numpy()
    num = int(keys.max()) + 1
    times = np.bincount(keys, minlength=num)
    confidence = np.bincount(keys, weights=rows["confidence"].to_numpy(), minlength=num) / times
    first = np.zeros(num, dtype=np.int64)
    first[keys[::-1]] = np.arange(len(rows))[::-1]  # the first row of each image
    if order == "mixed":
        places = np.random.default_rng(derive_seed("images behind a number")).permutation(num)
    else:
        places = np.argsort(-confidence if order == "surest first" else confidence, kind="stable")
    return rows.iloc[first[places]].assign(times=times[places])


def _pool_rows(path: Path, choice: PoolChoice) -> pa.Table:
    with _readable(path):
        names = pq.read_schema(path).names
        wanted = ["round_index", "archive_sha256", "image", "predicted", "confidence", "decision"]
        wanted += [name for name in ("gate", "pseudo_label") if name in names]
        table = pq.read_table(path, columns=wanted, read_dictionary=["archive_sha256", "decision", "gate"])
        decision = _Words.of(table["decision"])
        gate = _Words.of(table["gate"]) if "gate" in names else _Words(np.zeros(len(table), np.int64), [""])
        said = table["predicted"].to_numpy().astype(np.int64)
        is_selected = decision.are(SELECTED)
        if "pseudo_label" in names:  # where labels are kept, they need not be the predicted ones
            said = np.where(is_selected, table["pseudo_label"].to_numpy().astype(np.int64), said)
        chosen = table["round_index"].to_numpy() == choice.round_index
        passed = gate.are("")
        if choice.outcome == "selected":
            chosen &= is_selected
        else:
            chosen &= ~is_selected & (passed if choice.outcome == "passed over" else ~passed)
        if choice.said is not None:
            chosen &= said == choice.said
        if choice.reason:
            chosen &= np.where(passed, decision.are(choice.reason), gate.are(choice.reason))
        rows = np.flatnonzero(chosen)
        found = table.select(["archive_sha256", "image", "confidence"]).take(pa.array(rows))
    reason = np.where(passed[rows], decision.at(rows), gate.at(rows))
    return pa.table(
        {
            "archive_sha256": found["archive_sha256"].cast(pa.string()),
            "image": found["image"].cast(pa.string()),
            "confidence": found["confidence"].cast(pa.float64()),
            "row": rows,
            "said": said[rows],
            "label": np.full(len(rows), -1),
            "reason": pa.array(reason, pa.string()),
        }
    )


@dataclass(frozen=True)
class _Words:
    """A column of few different words."""

    codes: np.ndarray  # (N,) int, places in `values`
    values: list[str]

    @staticmethod
    def of(column: pa.ChunkedArray) -> "_Words":
        words = column.combine_chunks()
        if not isinstance(words.type, pa.DictionaryType):
            words = words.dictionary_encode()
        codes = words.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return _Words(codes, [*(str(value) for value in words.dictionary.to_pylist()), ""])  # -1: the last

    def are(self, word: str) -> np.ndarray:
        """(N,) bool."""
        return np.array([value == word for value in self.values], dtype=bool)[self.codes]

    def at(self, rows: np.ndarray) -> np.ndarray:
        """The words of some rows."""
        return np.array(self.values, dtype=object)[self.codes[rows]]


def _test_rows(path: Path, archive_sha256: str, choice: TestedChoice) -> pa.Table:
    labels, probs = _predictions(path)
    said = probs.argmax(axis=1)
    chosen = np.ones(len(labels), dtype=bool)
    if choice.label is not None:
        chosen &= labels == choice.label
    if choice.said is not None:
        chosen &= said == choice.said
    if choice.only_wrong:
        chosen &= said != labels
    rows = np.flatnonzero(chosen)
    with _readable(path):
        files = pq.read_table(path, columns=["file"])["file"].take(pa.array(rows))
    return pa.table(
        {
            "archive_sha256": pa.array([archive_sha256] * len(rows), pa.string()),
            "image": files.cast(pa.string()),
            "confidence": probs[rows, said[rows]],
            "row": rows,
            "said": said[rows],
            "label": labels[rows],
            "reason": pa.array([""] * len(rows), pa.string()),
        }
    )


def _predictions(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(T,) labels and (T, C) probabilities."""
    with _readable(path):
        count = sum(name.startswith("p_") for name in pq.read_schema(path).names)
        table = pq.read_table(path, columns=["label", *(f"p_{k}" for k in range(count))])
        columns = [table[f"p_{k}"].to_numpy() for k in range(count)]
        return table["label"].to_numpy().astype(np.int64), np.stack(columns, axis=1)


class _readable:
    """What goes wrong with a Parquet file as a sentence."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError | ValueError | KeyError | pa.ArrowException):
            raise StudyError(
                f"{self._path.parent.name}/{self._path.name}: expected a table of the study, got a file that "
                f"cannot be read ({' '.join(str(error).split())}); remove this run's folder and run the "
                "study again"
            ) from error


def read_rows(path: Path, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Whole rows of a ledger or a table of predictions, in the given order.

    Raises:
        StudyError: if the file is damaged or gone.
    """
    with _readable(path):
        yield from pq.read_table(path).take(pa.array(rows, pa.int64())).to_pylist()
