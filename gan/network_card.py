"""A generator's card: what it is, whom it learned from, how good it was found, and whether it copies."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan.runfolder import OPTIONS_NAME
from gan.snapshot import IMPORTED_PREFIX, Snapshot

AUDIT_FORMAT = "synthlabel-audit-1"  # as `gan.audit_report` writes it
AUDIT_FILE = "audit.json"


@dataclass(frozen=True)
class MeasuredQuality:
    """One figure of `gan evaluate` or of the training itself."""

    name: str  # such as fid@task
    value: float
    num_real: int
    num_fake: int


@dataclass(frozen=True)
class AuditFinding:
    """What the latest audit of this very snapshot said."""

    word: str  # "copies", "leaning", "no sign", "cannot be told"
    num_images: int
    num_flagged: int | None  # None = it could not be told
    num_expected: float | None  # of as many real images of other people


@dataclass(frozen=True)
class NetworkCard:
    """What there is to say of a generator."""

    name: str  # of the file
    run: str  # name of the folder it lies in
    kimg: float  # thousands of real images shown; 0 where unknown
    image_shape: tuple[int, int, int]  # (C, H, W)
    classes: tuple[str, ...]  # empty = it makes images without a class
    archive_name: str  # empty where it is not recorded
    archive_sha256: str  # empty where imported
    is_imported: bool  # of an official file, which does not say whom it was trained on
    has_ancestors: bool  # it started from weights that were trained on other archives
    part: str  # of the split it learned from: "train"; "all" without a split
    fold: int | None
    num_subjects: int
    snapshot_sha256: str
    quality: tuple[MeasuredQuality, ...]
    audit: AuditFinding | None  # None = no audit of this snapshot was found beside its run


def network_card(snapshot: Snapshot) -> NetworkCard:
    """The card of a snapshot, from its header and its run folder; damaged figures are left out."""
    run_dir = snapshot.path.parent
    is_imported = snapshot.archive_sha256.startswith(IMPORTED_PREFIX)
    return NetworkCard(
        name=snapshot.path.name,
        run=run_dir.resolve().name,
        kimg=snapshot.kimg,
        image_shape=snapshot.image_shape,
        classes=snapshot.classes,
        archive_name="" if (archive := recorded_archive(run_dir)) is None else archive.name,
        archive_sha256="" if is_imported else snapshot.archive_sha256,
        is_imported=is_imported,
        has_ancestors=bool(snapshot.earlier_archives),
        part=snapshot.part,
        fold=snapshot.fold,
        num_subjects=len(snapshot.subjects),
        snapshot_sha256=snapshot.sha256,
        quality=_measured(run_dir, snapshot),
        audit=_audited(run_dir, snapshot.sha256),
    )


def recorded_archive(run_dir: Path) -> Path | None:
    """Where the archive lay that a run was trained on; None where it does not say."""
    recorded = _read_object(run_dir / OPTIONS_NAME).get("training_set_kwargs")
    path = recorded.get("path") if isinstance(recorded, dict) else None
    return Path(path) if isinstance(path, str) else None


def _measured(run_dir: Path, snapshot: Snapshot) -> tuple[MeasuredQuality, ...]:
    """The latest figure of each name that was taken of this snapshot."""
    found: dict[str, MeasuredQuality] = {}
    for path in sorted(run_dir.glob("metric-*.jsonl")):
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            line = _object(text)
            if line.get("snapshot_pkl") != snapshot.path.name:
                continue
            if line.get("snapshot_sha256", snapshot.sha256) != snapshot.sha256:
                continue
            results = line.get("results")
            for name, value in results.items() if isinstance(results, dict) else ():
                counts = line.get("num_real"), line.get("num_fake")
                if isinstance(value, (int, float)) and all(isinstance(count, int) for count in counts):
                    found[name] = MeasuredQuality(name, float(value), *counts)  # type: ignore[arg-type]
    return tuple(found.values())


def _audited(run_dir: Path, snapshot_sha256: str) -> AuditFinding | None:
    """Looked for in the run folder, in the folders within it, and in those beside it."""
    places = {
        *run_dir.glob(AUDIT_FILE),
        *run_dir.glob(f"*/{AUDIT_FILE}"),
        *run_dir.parent.glob(f"*/{AUDIT_FILE}"),
    }
    newest = sorted(places, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    for path in newest:
        content = _read_object(path)
        if content.get("format") != AUDIT_FORMAT or content.get("snapshot_sha256") != snapshot_sha256:
            continue
        copies = content.get("copies") or {}
        return AuditFinding(
            word=str(content.get("verdict", "cannot be told")),
            num_images=int(content.get("num_images", 0)),
            num_flagged=copies.get("num_flagged"),
            num_expected=copies.get("num_expected"),
        )
    return None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return _object(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}


def _object(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
