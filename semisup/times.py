"""How long each job took, a line a job in `times.jsonl`: what `status` reckons with, no more."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from semisup.plan import Job
from semisup.workers import Verdict

TIMES = "times.jsonl"
MIN_SHARE = 0.05  # a job of which less was left says nothing about a whole one


def note_time(study_dir: Path, job: Job, verdict: Verdict) -> None:
    """Append how long a job took; scaled to a whole one where an earlier attempt had begun it."""
    if verdict.share < MIN_SHARE or not study_dir.exists():
        return
    line = {"key": job.key, "kind": job.kind, "seconds": round(verdict.seconds / verdict.share, 2)}
    with open(study_dir / TIMES, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(line) + "\n")


def read_times(study_dir: Path) -> dict[str, float]:
    """Seconds by the key of each job that is noted; a line cut short by a power cut is left out."""
    return dict(_lines(study_dir / TIMES))


def _lines(path: Path) -> Iterator[tuple[str, float]]:
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, KeyError, TypeError):
            line = json.loads(text)
            yield str(line["key"]), float(line["seconds"])
