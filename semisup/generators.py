"""What the generators of a study's pools cost and saw, as far as the study folder and the snapshots say."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semisup.folders import RECORDS, read_json
from semisup.records import FinishedRun, StudyRecords

STATS = "stats.jsonl"  # beside a snapshot: one line a tick of its training
SAME_KIMG = 0.5  # two counts of thousands of images that differ by less are the same tick


@dataclass(frozen=True)
class Generator:
    """One generator with the pools drawn from it."""

    snapshot_sha256: str
    folds: tuple[int, ...]  # whose pools it draws
    fraction: float | None  # of labels that it saw; None = all training images, without labels
    conditional: bool
    kimg: float | None  # thousands of real images shown; None = unknown
    seconds: float | None  # of its training, on the clock; None = unknown
    device: str | None
    pool_seconds: float | None  # of drawing its images
    num_images: int  # drawn, in all its pools
    pool_keys: tuple[str, ...]
    used_by: tuple[tuple[str, float], ...]  # arm and fraction of finished runs
    num_runs: int  # finished, of all of them


def read_generators(records: StudyRecords) -> tuple[Generator, ...]:
    """Every generator whose images a finished run could choose from, by fold."""
    pools: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(records.study_dir.glob(f"pools/*/{RECORDS['pool']}")):
        made = read_json(path)
        if made.get("leak"):  # a deliberate fault serves no result
            continue
        made.setdefault("key", path.parent.name)
        pools.setdefault(str(made.get("snapshot_sha256", "")), []).append(made)
    trained = {str(made.get("snapshot_sha256", "")): made for made in records.generators}
    found = [
        _describe(sha256, made, trained.get(sha256), records) for sha256, made in pools.items() if sha256
    ]
    return tuple(sorted(found, key=lambda one: (one.folds, one.fraction or 2.0, one.snapshot_sha256)))


def draws_from(run: FinishedRun) -> str | None:
    """The pool that a run took images from; None where it has none, or takes its counts alone."""
    return None if run.arm == "duplicated_real" else run.info.get("pool_key")


def _describe(
    sha256: str, pools: Sequence[dict[str, Any]], trained: dict[str, Any] | None, records: StudyRecords
) -> Generator:
    keys = {str(made["key"]) for made in pools}
    users = [run for run in records.runs if draws_from(run) in keys]
    cost = _cost(pools[0], trained, records.study_dir)
    drawn = [made.get("seconds") for made in pools]
    return Generator(
        snapshot_sha256=sha256,
        folds=tuple(sorted({int(made["fold"]) for made in pools if "fold" in made})),
        fraction=pools[0].get("fraction"),
        conditional=bool(pools[0].get("conditional")),
        kimg=cost["kimg"],
        seconds=cost["seconds"],
        device=cost["device"],
        pool_seconds=None if None in drawn else float(sum(drawn)),  # type: ignore[arg-type]
        num_images=sum(int(made.get("num_images") or 0) for made in pools),
        pool_keys=tuple(sorted(keys)),
        used_by=tuple(dict.fromkeys((run.arm, run.fraction) for run in users)),
        num_runs=len(users),
    )


def _cost(pool: dict[str, Any], trained: dict[str, Any] | None, study_dir: Path) -> dict[str, Any]:
    """Kimg, seconds and device: of the training's record, of the pool's, or of the files of its folder."""
    cost: dict[str, Any] = dict.fromkeys(("kimg", "seconds", "device"))
    said = {"kimg": pool.get("gan_kimg"), "seconds": pool.get("gan_seconds")}
    for source in (trained or {}, said):
        cost = {name: source.get(name) if value is None else value for name, value in cost.items()}
    if cost["seconds"] is None:
        snapshot = study_dir / str(pool.get("network", ""))
        cost["kimg"] = _kimg_of_name(snapshot) if cost["kimg"] is None else cost["kimg"]
        cost["seconds"] = training_seconds(snapshot, cost["kimg"])
    return cost


def _kimg_of_name(snapshot: Path) -> float | None:
    """`network-snapshot-000040.safetensors` was written at 40 kimg; another name says nothing."""
    digits = snapshot.stem.rpartition("-")[2]
    return float(digits) if digits.isdigit() and snapshot.exists() else None


def training_seconds(snapshot: Path, kimg: float | None) -> float | None:
    """How long a snapshot was trained on the clock, by the statistics beside it; None where they are not."""
    found = None
    with suppress(OSError):
        for text in (snapshot.parent / STATS).read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                line = json.loads(text)
                shown, seconds = line["Progress/kimg"]["mean"], float(line["Timing/total_sec"]["mean"])
                if kimg is not None and shown <= kimg + SAME_KIMG and math.isfinite(seconds):
                    found = seconds
    return found
