"""Which generator may serve a fold: one that draws such images and learned from nobody who judges there."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from extract.archive import Archive
from extract.errors import name_some
from extract.split import Split
from semisup.errors import StudyError

if TYPE_CHECKING:
    from gan.snapshot import Snapshot


def read_fit_snapshot(
    network: Path,
    archive: Archive,
    split: Split,
    fold: int,
    *,
    fraction: float | None = None,
    conditional: bool = False,
    deliberate_leak: bool = False,
) -> "Snapshot":
    """Read a snapshot and refuse it where it saw a validation or test subject of the fold.

    Args:
        fraction: of labels; a training subject whose labels are withheld there may not have been seen either.
        conditional: the generator must draw the archive's classes as told; else it must know of none.
        deliberate_leak: let one pass that saw who judges, and only such a one: for the arm `leak_generator`,
            which shows what that would have claimed.

    Raises:
        GanError: naming the subjects seen, or why it cannot be known whether any was.
        StudyError: if it draws images of another shape or other classes, or saw more than the fraction.
    """
    from gan.snapshot import read_snapshot, refuse_overlap  # torch

    snapshot = read_snapshot(network)
    for part in ("test", "val"):  # named in the error
        judges = split.subjects(fold, part)  # at fraction 1: all who judge at any fraction
        if not deliberate_leak:
            refuse_overlap(snapshot, judges, archive.sha256, f"the {part} part of fold {fold}")
        elif not set(judges) <= set(snapshot.subjects):
            raise StudyError(
                f"{snapshot.path}: expected a generator that saw all subjects, to show what that would have "
                f"claimed, got one that did not see all of the {part} part of fold {fold}; train it without "
                "--split"
            )
    if snapshot.image_shape != archive.image_shape:
        raise StudyError(
            f"{snapshot.path}: expected a generator of images {archive.image_shape} (C, H, W) as in "
            f"{archive.path}, got {snapshot.image_shape}; train one on this archive"
        )
    if fraction is not None:
        withheld = sorted(set(snapshot.subjects) & set(split.subjects(fold, "unlabeled", fraction)))
        if withheld:
            raise StudyError(
                f"{snapshot.path}: expected a generator that saw the labeled images of fold {fold} at "
                f"{fraction:.0%} alone, got one that saw {len(withheld)} subjects whose labels are withheld "
                f"there ({', '.join(withheld[:8])}); train it with --fraction {fraction:g}"
            )
    if conditional and snapshot.classes != archive.classes:
        raise StudyError(
            f"{snapshot.path}: expected a generator that draws the classes {', '.join(archive.classes)}, got "
            f"{', '.join(snapshot.classes) or 'one that knows of none'}; train it with --cond"
        )
    if snapshot.classes and not conditional:
        raise StudyError(
            f"{snapshot.path}: expected an unconditional generator, whose images wait for a label, got one "
            f"that draws the classes {', '.join(snapshot.classes)}; train one without --cond"
        )
    return snapshot


def refuse_seen_subjects(seen: Iterable[str], tested: Iterable[str]) -> None:
    """Refuse to test a model on subjects that it was trained on, or chosen by.

    Raises:
        StudyError: naming some of them.
    """
    tested = set(map(str, tested))
    both = sorted(set(map(str, seen)) & tested)
    if both:
        raise StudyError(
            f"the model of this run learned from, or was chosen by, {len(both)} of the {len(tested)} "
            f"subjects that it would be tested on ({name_some(both)}); results on them would be too good. "
            "Split by subject"
        )
