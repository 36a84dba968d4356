"""Which generator may serve a fold: one that draws such images and learned from nobody who judges there."""

from pathlib import Path
from typing import TYPE_CHECKING

from extract.archive import Archive
from extract.split import Split
from semisup.errors import StudyError

if TYPE_CHECKING:
    from gan.snapshot import Snapshot


def read_fit_snapshot(network: Path, archive: Archive, split: Split, fold: int) -> "Snapshot":
    """Read a snapshot and refuse it where it saw a validation or test subject of the fold.

    Raises:
        GanError: naming the subjects seen, or why it cannot be known whether any was.
        StudyError: if it draws images of another shape, or only of a class that it is told.
    """
    from gan.snapshot import read_snapshot, refuse_overlap  # torch

    snapshot = read_snapshot(network)
    for part in ("test", "val"):  # named in the error
        judges = split.subjects(fold, part)  # at fraction 1: all who judge at any fraction
        refuse_overlap(snapshot, judges, archive.sha256, f"the {part} part of fold {fold}")
    if snapshot.image_shape != archive.image_shape:
        raise StudyError(
            f"{snapshot.path}: expected a generator of images {archive.image_shape} (C, H, W) as in "
            f"{archive.path}, got {snapshot.image_shape}; train one on this archive"
        )
    if snapshot.classes:
        raise StudyError(
            f"{snapshot.path}: expected an unconditional generator, whose images wait for a label, got one "
            f"that draws the classes {', '.join(snapshot.classes)}; train one without --cond"
        )
    return snapshot
