"""What a snapshot is measured against: looked up in its run folder and held against the hashes it carries."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from extract.archive import Archive, open_archive
from extract.errors import SettingsError, name_some
from extract.fold import PARTS
from extract.folder_archive import archive_of
from extract.split import Split
from gan.errors import GanError
from gan.features import FeatureExtractor, TaughtOnSubjects
from gan.runfolder import OPTIONS_NAME
from gan.snapshot import Snapshot


@dataclass(frozen=True)
class Reference:
    """What a snapshot learned from, found on disk: the archive, the split, and whether mirrored."""

    data: Path
    mirror: bool
    split: Path | None
    fold: int
    part: str  # "train", "val", "test"; "all" without a split


def find_reference(
    snapshot: Snapshot,
    data: Path | None = None,
    mirror: bool | None = None,
    split: Path | None = None,
    fold: int | None = None,
    part: str | None = None,
) -> Reference:
    """Settle what a snapshot is compared with; what is not given is looked up beside it.

    Raises:
        SettingsError: if options contradict each other.
        GanError: if a file that the run recorded is gone or was changed.
    """
    recorded = _recorded_options(snapshot.path.parent)
    own = recorded.get("synthlabel", {}).get("options", {})
    if data is None:
        data = _recorded_file(recorded.get("training_set_kwargs", {}).get("path"), snapshot, "--data")
    if mirror is None:
        mirror = bool(recorded.get("training_set_kwargs", {}).get("xflip", False))
    with open_archive(archive_of(data)) as archive:
        is_its_own = archive.sha256 == snapshot.archive_sha256
    if split is None and snapshot.split_sha256 is not None and is_its_own:
        split = _recorded_file(own.get("split"), snapshot, "--split")
        fold = snapshot.fold if fold is None else fold
    if split is None and (part is not None or fold is not None):
        option = f"--part={part}" if part is not None else f"--fold={fold}"
        raise SettingsError(f"{option}: expected the split that it is a part of, got none; give --split FILE")
    if split is None:
        return Reference(data, mirror, None, 0, "all")
    if part is not None and part not in PARTS:
        raise SettingsError(f"--part must be one of {', '.join(PARTS)}, got '{part}'")
    if fold is None:
        fold = snapshot.fold if snapshot.fold is not None and is_its_own else 0
    return Reference(data, mirror, split, fold, part or "train")


def part_rows(split: Split, archive: Archive, fold: int, part: str) -> np.ndarray:
    """Rows of a part's real images, errors in the words of the flags."""
    if not 0 <= fold < len(split.folds):
        raise SettingsError(f"--fold={fold}: {split.path} has {len(split.folds)} folds, numbered from 0")
    if part not in PARTS:
        raise SettingsError(f"--part must be one of {', '.join(PARTS)}, got '{part}'")
    return split.rows(archive, fold, part)


def seen_rows(snapshot: Snapshot, rows: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Of the rows of a generator's own training part, those of the people whom it learned from.

    A generator of a labeled fraction has seen some of them alone; its header names everybody it saw.

    Args:
        rows: (N,) int of the archive.
        subjects: (M,) str, of all its images.
    """
    return rows[np.isin(subjects[rows], snapshot.subjects)]


def is_own_part(
    snapshot: Snapshot, part: str, archive_sha256: str, split_sha256: str | None, fold: int | None
) -> bool:
    """Whether a part is the one that the generator was trained on, or a labeled fraction of."""
    return (
        part in ("train", "all")
        and archive_sha256 == snapshot.archive_sha256
        and split_sha256 == snapshot.split_sha256
        and (split_sha256 is None or fold == snapshot.fold)
    )


def refuse_taught(
    extractors: Mapping[str, FeatureExtractor], subjects: Sequence[str], archive_sha256: str, what: str
) -> None:
    """Refuse to judge on held-out subjects with a network that learned from them.

    Raises:
        GanError: naming the subjects, or that it cannot be known.
    """
    for name, extractor in extractors.items():
        if not isinstance(extractor, TaughtOnSubjects):
            continue
        if extractor.archive_sha256 != archive_sha256:
            raise GanError(
                f"--extractor {name}: expected a network trained on this archive ({archive_sha256[:12]}), "
                f"got one of another ({extractor.archive_sha256[:12] or 'none recorded'}), so it cannot be "
                f"checked whether it learned from {what}; train one with classifier train --data --split"
            )
        seen = sorted(set(subjects) & {*extractor.train_subjects, *extractor.val_subjects})
        if seen:
            raise GanError(
                f"--extractor {name}: the network learned from, or was chosen on, {len(seen)} of the "
                f"{len(set(subjects))} subjects of {what} ({name_some(seen)}); take one that was trained on "
                "the training part of the same fold"
            )


def _recorded_options(run_dir: Path) -> dict[str, Any]:
    path = run_dir / OPTIONS_NAME
    if not path.is_file():
        return {}
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GanError(
            f"{path}: expected JSON, got {error}; give --data, --split and --mirror instead"
        ) from error
    return options if isinstance(options, dict) else {}


def _recorded_file(recorded: str | None, snapshot: Snapshot, option: str) -> Path:
    if recorded is None:
        raise GanError(
            f"Could not look up dataset options; please specify {option}: {snapshot.path.parent} has no "
            f"{OPTIONS_NAME} that names it"
        )
    path = Path(recorded)
    if not path.exists():
        raise GanError(
            f"Could not look up dataset options; please specify {option}: {path}, which the run was trained "
            "with, is not there any more"
        )
    return path
