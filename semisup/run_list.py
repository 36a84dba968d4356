"""What each run of a study says of itself in short, kept between two looks at a folder that grows.

A study of ten thousand runs is looked at every few seconds while it runs: a `run.json` is read once, and
again only when its file has changed.
"""

import hashlib
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semisup.folders import RUN_JSON, read_json


@dataclass(frozen=True, slots=True)
class ListedRun:
    """One run that has left something."""

    key: str  # name of its folder in runs/
    arm: str
    fold: int
    seed: int
    fraction: float  # share of labels; whatever stands there, `supervised_full` has them all
    status: str  # "done" | "failed"
    error: str | None
    seconds: float | None  # that it took, if done
    is_leak: bool  # commits a fault on purpose: never a result

    @property
    def is_done(self) -> bool:
        return self.status == "done"


@dataclass(frozen=True)
class RunList:
    """All runs of a study that have left something, as they were at one moment."""

    runs: Mapping[str, ListedRun]  # by key, in the order of the keys
    state: str  # another one as soon as anything of it has changed
    newest_ns: int = 0  # when the last of their records was written, since 1970

    def done(self, arm: str, fraction: float) -> list[ListedRun]:
        """Finished runs of one arm at one share of labels, by fold and seed."""
        found = (run for run in self.runs.values() if run.is_done and run.arm == arm)
        same = [run for run in found if abs(run.fraction - fraction) < 1e-9]
        return sorted(same, key=lambda run: (run.fold, run.seed))


class RunReader:
    """Reads the runs of one study, again and again; several threads may share one."""

    def __init__(self, study_dir: Path) -> None:
        self.study_dir = Path(study_dir)
        self._known: dict[str, tuple[tuple[int, int], ListedRun | None]] = {}
        self._lock = threading.Lock()

    def read(self) -> RunList:
        """Look at the folder; files that have not changed since the last look are not read.

        Raises:
            StudyError: if a record is damaged.
        """
        with self._lock:
            seen = self._look()
            self._known = {
                key: known
                if (known := self._known.get(key)) and known[0] == stamp
                else self._fresh(key, stamp)
                for key, stamp in seen.items()
            }
            runs = {key: listed for key, (_, listed) in self._known.items() if listed is not None}
        content = ";".join(f"{key} {stamp}" for key, stamp in seen.items())
        newest = max((stamp[0] for stamp in seen.values()), default=0)
        return RunList(runs, hashlib.sha256(content.encode()).hexdigest(), newest)

    def _look(self) -> dict[str, tuple[int, int]]:
        """When each record was written, and its size."""
        seen = {}
        with suppress(FileNotFoundError), os.scandir(self.study_dir / "runs") as entries:
            for name in sorted(entry.name for entry in entries if not entry.name.startswith(".")):
                with suppress(FileNotFoundError, NotADirectoryError):
                    found = os.stat(self.study_dir / "runs" / name / RUN_JSON)
                    seen[name] = (found.st_mtime_ns, found.st_size)
        return seen

    def _fresh(self, key: str, stamp: tuple[int, int]) -> tuple[tuple[int, int], ListedRun | None]:
        path = self.study_dir / "runs" / key / RUN_JSON
        if not path.exists():  # replaced at this very moment: a failed run that is tried again
            return stamp, None
        return stamp, listed_run(key, read_json(path))


def listed_run(key: str, info: Mapping[str, Any]) -> ListedRun | None:
    """What `run.json` says in short; None where it is not of a run."""
    try:
        arm, is_done = str(info["arm"]), info["status"] == "done"
        return ListedRun(
            key,
            arm,
            int(info["fold"]),
            int(info["seed"]),
            1.0 if arm == "supervised_full" else float(info["fraction"]),
            str(info["status"]),
            info.get("error"),
            float(info["seconds"]) if is_done and info.get("seconds") is not None else None,
            bool(info.get("leak")),
        )
    except (KeyError, TypeError, ValueError):
        return None
