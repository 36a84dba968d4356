"""The best snapshot of a run by one measure: found among its evaluations, marked by `best.json`, kept."""

import json
from pathlib import Path
from typing import Any

from extract.archive import file_sha256
from extract.atomic import write_text
from gan.measures import Measures, training_lines
from gan.runfolder import OPTIONS_NAME
from gan.snapshot import BEST_FORMAT, BEST_NAME, SNAPSHOT_PATTERN, read_mark, read_snapshot

COMPARABLE = ("weights_sha256", "num_real", "num_fake")  # what two figures must share to be compared


def best_line(run_dir: Path, measures: Measures) -> dict[str, Any] | None:
    """The best evaluation so far, among those that are comparable with the latest; None before the first.

    Of equals the earliest is the best. A figure that is no number is never the best, nor is a snapshot that
    is there no more.
    """
    if measures.best_metric is None:
        return None
    lines = training_lines(run_dir, measures.best_metric.text)
    lines = [line for line in lines if all(line[key] == lines[-1][key] for key in COMPARABLE)]
    judged = [line for line in lines if line["results"].get(measures.best_result) is not None]
    sign = 1 if measures.best_metric.lower_is_better else -1
    judged.sort(key=lambda line: sign * line["results"][measures.best_result])
    return next((line for line in judged if _is_there(run_dir, line)), None)


def _is_there(run_dir: Path, line: dict[str, Any]) -> bool:
    """Whether the snapshot that a line is about still stands under its name."""
    path = run_dir / line["snapshot_pkl"]
    return path.is_file() and read_snapshot(path).kimg == line["kimg"]


def mark_best(run_dir: Path, measures: Measures) -> dict[str, Any] | None:
    """Bring `best.json` up to date with the evaluations; returns what it says now, if that is new."""
    if measures.best_metric is None:
        return None
    line = best_line(run_dir, measures)
    path = run_dir / BEST_NAME
    if line is None:
        path.unlink(missing_ok=True)  # of an evaluation that a resumed training has dropped
        return None
    before = read_mark(path) if path.is_file() else {}
    snapshot = run_dir / line["snapshot_pkl"]
    marked = {
        "format": BEST_FORMAT,
        "metric": measures.best_metric.text,
        "result": measures.best_result,
        "value": line["results"][measures.best_result],
        "lower_is_better": measures.best_metric.lower_is_better,
        "kimg": line["kimg"],
        "snapshot": snapshot.name,
        "snapshot_sha256": file_sha256(snapshot),
        "extractor": line["extractor"],
        "weights_sha256": line["weights_sha256"],
        "num_real": line["num_real"],
        "num_fake": line["num_fake"],
    }
    if marked == before:
        return None
    write_text(path, json.dumps(marked, indent=2) + "\n")
    return marked


def drop_old_snapshots(run_dir: Path, keep: int | None) -> list[Path]:
    """Delete all but the newest `keep` snapshots, and what some file of the run or beside it names.

    Named are the best one, and any that a JSON file in the run folder or the options of a neighbouring run
    mention.

    Returns:
        What was deleted.
    """
    if keep is None:
        return []
    snapshots = sorted(run_dir.glob(SNAPSHOT_PATTERN))
    naming = [path for path in run_dir.glob("*.json") if path.name != OPTIONS_NAME]
    mentions = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in naming)
    others = [
        path.read_text(encoding="utf-8", errors="replace")
        for path in run_dir.parent.glob(f"*/{OPTIONS_NAME}")
        if path.parent != run_dir
    ]
    dropped = [
        path
        for path in snapshots[:-keep]
        if path.name not in mentions and not any(f"{run_dir.name}/{path.name}" in text for text in others)
    ]
    for path in dropped:
        path.unlink()
    return dropped
