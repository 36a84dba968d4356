"""Which generator may serve a fold: one that learned from nobody who judges there."""

from pathlib import Path
from typing import TYPE_CHECKING

from extract.split import Split

if TYPE_CHECKING:
    from gan.snapshot import Snapshot


def read_fit_snapshot(network: Path, archive_sha256: str, split: Split, fold: int) -> "Snapshot":
    """Read a snapshot and refuse it where it saw a validation or test subject of the fold.

    Raises:
        GanError: naming the subjects seen, or why it cannot be known whether any was.
    """
    from gan.snapshot import read_snapshot, refuse_overlap  # torch

    snapshot = read_snapshot(network)
    for part in ("test", "val"):  # named in the error
        judges = split.subjects(fold, part)  # at fraction 1: all who judge at any fraction
        refuse_overlap(snapshot, judges, archive_sha256, f"the {part} part of fold {fold}")
    return snapshot
