"""A study folder as it is read for the report: its plan, its runs, what failed and what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from extract.language import Message, Percent
from extract.progress import Progress, no_progress
from semisup.audit import read_audit
from semisup.errors import StudyError
from semisup.folders import PREDICTIONS, RUN_JSON, STUDY_JSON, read_json
from semisup.ledger import read_ledger
from semisup.statistics import RunCounts, count_predictions
from semisup.statistics.unseen import model_mark


@dataclass(frozen=True)
class FinishedRun:
    """One run with its test predictions."""

    folder: Path
    info: dict[str, Any]  # run.json
    files: np.ndarray  # (T,) str
    subjects: np.ndarray  # (T,) str
    labels: np.ndarray  # (T,) int64
    probs: np.ndarray  # (T, C)
    counts: RunCounts

    @property
    def arm(self) -> str:
        return self.info["arm"]

    @property
    def fold(self) -> int:
        return self.info["fold"]

    @property
    def seed(self) -> int:
        return self.info["seed"]

    @property
    def fraction(self) -> float:
        """Share of labels; whatever stands there, `supervised_full` has them all."""
        return 1.0 if self.arm == "supervised_full" else float(self.info["fraction"])

    @property
    def rounds(self) -> list[dict[str, Any]]:
        return self.info.get("rounds") or []

    def read_ledger(self) -> pd.DataFrame | None:
        """The run's ledger; None for an arm without a pool."""
        path = self.folder / "ledger.parquet"
        return read_ledger(path) if path.exists() else None


@dataclass(frozen=True)
class StudyRecords:
    """Everything that a study folder says."""

    study_dir: Path
    study: dict[str, Any]  # study.json
    runs: tuple[FinishedRun, ...]  # ordered by arm as planned, fraction, fold, seed
    failures: tuple[tuple[str, str], ...]  # what failed, and the cause
    missing: tuple[str, ...]  # planned runs that have left nothing yet
    generators: tuple[dict[str, Any], ...]  # fold and kimg of those that the study trained
    audit: dict[str, Any] | None = None  # audit.json, where an expert has read the pseudo-labels
    leaks: tuple[FinishedRun, ...] = ()  # runs with a deliberate fault, which are in no comparison

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.study["classes"])

    def select(self, arm: str, fraction: float) -> list[FinishedRun]:
        """The runs of one arm at one fraction."""
        return [run for run in self.runs if run.arm == arm and np.isclose(run.fraction, fraction)]


def read_records(study_dir: Path, progress: Progress = no_progress) -> StudyRecords:
    """Read a study folder and check that its runs can be compared.

    Raises:
        StudyError: if a file is missing or damaged, or runs of one fold were tested on different images.
    """
    study = read_json(study_dir / STUDY_JSON)
    if not study.get("classes"):
        raise StudyError(
            f"{study_dir / STUDY_JSON}: expected the list 'classes', got none; run the study anew"
        )
    runs, failures, seen = [], [], set()
    paths = sorted((study_dir / "runs").glob(f"[!.]*/{RUN_JSON}"))
    for number, path in enumerate(paths):
        progress(number, len(paths), "reading the runs")
        info = read_json(path)
        try:
            seen.add(_identity(info))
            if info["status"] == "done":
                runs.append(read_finished(path.parent, info, len(study["classes"])))
            else:
                failures.append((run_title(info), info.get("error") or Message("no cause was recorded")))
        except KeyError as error:
            raise StudyError(
                f"{path}: expected the key {error}, got none; remove this folder and run again"
            ) from error
    missing = [run_title(info) for info in study.get("runs", []) if _identity(info) not in seen]
    order = {arm: index for index, arm in enumerate(study.get("arms", []))}
    runs.sort(key=lambda run: (order.get(run.arm, len(order)), run.arm, run.fraction, run.fold, run.seed))
    leaks = [run for run in runs if run.info.get("leak")]
    runs = [run for run in runs if not run.info.get("leak")]
    _check_same_tests(runs)
    return StudyRecords(
        study_dir,
        study,
        tuple(runs),
        tuple(failures),
        tuple(missing),
        _read_generators(study_dir),
        read_audit(study_dir),
        tuple(leaks),
    )


def run_title(info: dict[str, Any]) -> Message:
    """For instance "pseudo_real at 20 %, fold 0, seed 1"."""
    return Message(
        "{arm} at {fraction}, fold {fold}, seed {seed}",
        arm=info["arm"],
        fraction=Percent(info["fraction"]),
        fold=str(info["fold"]),
        seed=str(info["seed"]),
    )


def _identity(info: dict[str, Any]) -> tuple[str, int, int, float]:
    return info["arm"], info["fold"], info["seed"], float(info["fraction"])


def read_finished(
    folder: Path, info: dict[str, Any], num_classes: int, name: str = PREDICTIONS
) -> FinishedRun:
    """One run with its predictions.

    Raises:
        StudyError: if they are missing or damaged.
    """
    path = folder / name
    wanted = ["file", "subject", "label", *(f"p_{k}" for k in range(num_classes))]
    try:
        table = pd.read_parquet(path)
        probs = table[wanted[3:]].to_numpy(float)  # (T, C)
        files, subjects = table["file"].to_numpy(str), table["subject"].to_numpy(str)
        labels = table["label"].to_numpy(np.int64)
        counts = count_predictions(
            info["fold"],
            info["seed"],
            subjects,
            labels,
            probs.argmax(axis=1),
            num_classes,
            model_mark(probs),
        )
    except (OSError, ValueError, KeyError) as error:
        detail = " ".join(str(error).split())
        raise StudyError(
            f"{path}: expected a table with the columns {', '.join(wanted)}, got: {detail}; "
            "remove this run's folder and run the study again"
        ) from error
    return FinishedRun(folder, info, files, subjects, labels, probs, counts)


def _read_generators(study_dir: Path) -> tuple[dict[str, Any], ...]:
    """What the study wrote about the generators it trained; one that was given has left nothing."""
    found = [read_json(path) for path in study_dir.glob("gans/*/gan.json")]
    found = [info for info in found if not info.get("leak")]
    return tuple(sorted(found, key=lambda info: info["fold"]))


def _check_same_tests(runs: Sequence[FinishedRun]) -> None:
    """A difference is paired only if every run of a fold was tested on the same images."""
    first: dict[int, FinishedRun] = {}
    for run in runs:
        other = first.setdefault(run.fold, run)
        if len(run.files) != len(other.files) or set(run.files) != set(other.files):
            num_apart = len(set(run.files) ^ set(other.files))
            raise StudyError(
                f"{run.folder}: expected the test images of {other.folder.name} (both are fold {run.fold}), "
                f"got {num_apart} that only one of them has; such runs cannot be compared"
            )
