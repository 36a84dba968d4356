"""The leakage sheet: what was checked about a study's data after the fact, and what was found.

Nothing here is asserted because the software took care of it. Every line is computed anew from the files: the
split against the archive, the subjects that each model says it saw against those it was tested on, the pools
against their snapshots, the predictions against the archive's labels. What cannot be checked because a file
is missing is unknown.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from extract.archive import Archive
from extract.language import Message
from extract.split import PARTS
from semisup.examples import Shelf
from semisup.folders import MODEL_FOLDER
from semisup.records import FinishedRun, StudyRecords

Outcome = Literal["passed", "failed", "unknown", "noted"]
NUM_NAMED = 5  # subjects or runs named where a check fails


@dataclass(frozen=True)
class Check:
    """One line of the sheet."""

    name: str  # stable, for programs
    what: Message  # what was checked
    outcome: Outcome
    found: Message  # in words
    evidence: str = ""  # a hash, settings, or a message with counts
    vetoes: bool = False  # a failure means that test results may be too good: no headline then


@dataclass(frozen=True)
class Material:
    """What the checks look at, each file read once."""

    records: StudyRecords
    shelf: Shelf
    split_text: str | None = None  # as it lies there; None = no such file
    split_problem: str = ""
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # model.json by run

    @property
    def archive(self) -> Archive | None:
        return self.shelf.data

    @cached_property
    def folds(self) -> list[dict[str, Any]] | None:
        """The split's folds as they stand in its file, with nothing checked; None where there is none."""
        with suppress(ValueError, KeyError, TypeError):
            content = json.loads(self.split_text or "")
            return [dict(fold) for fold in content["folds"]]
        return None

    @cached_property
    def sides(self) -> list[dict[str, set[str]]] | None:
        """Subjects of each part of each fold, at all labels."""
        if self.folds is None:
            return None
        return [
            {part: set(map(str, fold["val"]["1.0"] if part == "val" else fold[part])) for part in PARTS}
            for fold in self.folds
        ]

    @property
    def used_folds(self) -> list[int]:
        return list(self.records.study.get("folds", range(len(self.sides or []))))

    @property
    def runs(self) -> tuple[FinishedRun, ...]:
        """Finished runs; those that leak on purpose are not among them."""
        return self.records.runs


def gather(records: StudyRecords, shelf: Shelf) -> Material:
    """Read what the checks need; a file that is missing leaves them unknown."""
    path = records.study_dir / str(records.study.get("split", ""))
    text, problem = None, ""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = f"{path.name}: {getattr(error, 'strerror', None) or error}"
    models = {}
    for run in records.runs:
        with suppress(OSError, ValueError):
            models[run.folder.name] = json.loads(
                (run.folder / MODEL_FOLDER / "model.json").read_text(encoding="utf-8")
            )
    return Material(records, shelf, text, problem, models)


def check_data(material: Material) -> tuple[Check, ...]:
    """Every check of the sheet, in the order in which a reader asks."""
    from semisup.checks_of_data import data_checks
    from semisup.checks_of_generators import generator_checks
    from semisup.checks_of_runs import run_checks
    from semisup.checks_of_split import split_checks

    makers = (data_checks, split_checks, run_checks, generator_checks)
    return tuple(check for make in makers for check in make(material))


def failed(checks: Sequence[Check]) -> list[Check]:
    """Those that found a fault."""
    return [check for check in checks if check.outcome == "failed"]


def name_few(names: Sequence[str], most: int = NUM_NAMED) -> str:
    """The first few names and how many there are besides."""
    shown = ", ".join(names[:most])
    return f"{shown}, ... ({len(names)})" if len(names) > most else shown


def no_split(material: Material) -> Message:
    """Why a check that needs the split is unknown."""
    return Message("the split is not there, or cannot be read")


def no_data(material: Material) -> Message:
    """Why a check that needs archive, split and runs is unknown."""
    if material.archive is None:
        return Message("the archive is not there")
    return no_split(material) if material.sides is None else Message("no finished run to check")


def brief(problem: str) -> str:
    """An error without the folder that its file lies in."""
    place, colon, rest = problem.partition(": ")
    return f"{place.replace(chr(92), '/').rsplit('/', 1)[-1]}{colon}{rest}"
