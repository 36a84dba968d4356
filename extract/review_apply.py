"""A new archive and split from an archive and the decisions on it; the archive itself stays as it is.

The new split has the reviewed fold alone. What is trained with in one fold is tested with in another: there,
test images would be missing or relabeled because a model got them wrong, and the test would flatter it.
"""

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from extract.archive import Archive, ArchiveWriter, open_archive, read_record
from extract.atomic import scratch_folder
from extract.errors import ExtractError, SettingsError
from extract.fold import Split
from extract.progress import Progress, no_progress
from extract.review_log import ReviewLog, log_path, read_log
from extract.review_rows import ACTIONS, EXCLUDE, RELABEL, UNDO, ReviewRow, current_decisions
from extract.review_scope import ReviewScope, review_scope
from extract.split import carry_split, read_split, write_split

REVIEWED = "reviewed"  # of `preparation.json`: one entry a review that the images have gone through
REPORT_INTERVAL = 500  # images between two reports of progress


@dataclass(frozen=True)
class ReviewSummary:
    """What was written."""

    dest: Path
    split: Path
    num_images: int
    num_relabeled: int
    num_excluded: int
    num_kept: int  # decided to stay as they are
    num_left_subjects: int  # of whom no image is left


def count_actions(decisions: dict[str, ReviewRow]) -> dict[str, int]:
    """How many images are to be kept, relabeled and excluded."""
    counts = Counter(row.action for row in decisions.values())
    return {action: counts[action] for action in ACTIONS if action != UNDO}


def read_review(data: Path, split: Path, fold: int) -> tuple[ReviewScope, ReviewLog]:
    """What may be decided on, and what was.

    Raises:
        ExtractError: if archive, split or decisions are damaged or do not belong together.
        SettingsError: if the split has no such fold.
    """
    with open_archive(data) as archive:
        scope = review_scope(archive, read_split(split, archive), fold)
    return scope, read_log(log_path(data, fold), scope)


def apply_review(
    data: Path,
    split: Path,
    fold: int,
    dest: Path,
    dest_split: Path,
    *,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> ReviewSummary:
    """Write the archive that the decisions describe, and its split.

    Excluded images are left out, relabeled ones have their new label; the bytes of all others and the order
    stay. `preparation.json` names the file of decisions by its hash. Every subject stays in its part.

    Args:
        data: the archive that was reviewed; its decisions lie beside it.
        dest, dest_split: to write; both appear, or none.

    Raises:
        ExtractError: if there are no decisions, they are not of this archive, split and fold, what is left is
            no sound split, or something stands at dest.
        SettingsError: if the split has no such fold, or dest is what was reviewed.
    """
    _check_places(data, split, dest, dest_split, overwrite)
    with open_archive(data) as archive:
        before = read_split(split, archive)
        log = read_log(log_path(data, fold), review_scope(archive, before, fold))
        decisions = current_decisions(log.rows)
        counts = count_actions(decisions)
        if not counts[RELABEL] + counts[EXCLUDE]:
            raise ExtractError(
                f"{log.path.name}: expected images to relabel or exclude, got none; nothing was written"
            )
        with scratch_folder(dest) as scratch:
            made, made_split = scratch / dest.name, scratch / dest_split.name
            _write_archive(archive, log, fold, before, decisions, made, progress)
            with open_archive(made) as reviewed:
                carried = carry_fold(before, fold, reviewed)
                left = set(archive.subjects.tolist()) - set(reviewed.subjects.tolist())
                num_images = len(reviewed)
            write_split(carried, made_split)
            os.replace(made, dest)
            os.replace(made_split, dest_split)
    return ReviewSummary(
        dest, dest_split, num_images, counts[RELABEL], counts[EXCLUDE], counts["keep"], len(left)
    )


def carry_fold(split: Split, fold: int, reviewed: Archive) -> Split:
    """The split of a reviewed archive: the one fold whose validation and test images nobody has touched.

    Raises:
        ExtractError: if what is left is no sound split, because a part has lost a class for instance.
    """
    held = split.held_out
    if held is not None:
        held = replace(held, values=(held.values[fold],))
    try:
        return carry_split(replace(split, folds=(split.folds[fold],), held_out=held), reviewed)
    except ExtractError as error:
        raise ExtractError(
            f"after these decisions fold {fold} is no sound split any more ({error.__cause__ or error}); "
            "nothing was written; undo some of them. (Do not split the reviewed archive anew: images would "
            "be tested with that were chosen in the light of a model.)"
        ) from error


def _check_places(data: Path, split: Path, dest: Path, dest_split: Path, overwrite: bool) -> None:
    for place in (dest, dest_split):
        if any(place.exists() and place.samefile(source) for source in (data, split) if source.exists()):
            raise SettingsError(
                f"{place}: this is what was reviewed, and it stays as it is; name another file"
            )
        if place.exists() and not overwrite:
            raise ExtractError(
                f"{place}: already exists and is left alone; choose another name or pass --overwrite"
            )
    if dest_split.parent.resolve() != dest.parent.resolve():
        raise SettingsError(f"the new split must lie beside the new archive, got {dest_split} and {dest}")


def _write_archive(
    archive: Archive,
    log: ReviewLog,
    fold: int,
    split: Split,
    decisions: dict[str, ReviewRow],
    dest: Path,
    progress: Progress,
) -> None:
    channels, height, width = archive.image_shape
    shape = (height, width) if channels == 1 else (height, width, channels)
    hashes = archive.manifest["sha256"].tolist()
    with ArchiveWriter(dest, classes=archive.classes, preparation=archive.preparation) as writer:
        for index, name in enumerate(archive.names):
            decided = decisions.get(name)
            if decided is None or decided.action != EXCLUDE:
                record = read_record(archive.row(index), f"{archive.path}")
                if decided is not None and decided.action == RELABEL:
                    record = replace(record, label=decided.new_label)
                data = archive.read_png(index)
                archive.check_hash(data, index, hashes[index])
                writer.add_png(data, shape, record)
            if (index + 1) % REPORT_INTERVAL == 0 or index + 1 == len(archive):
                progress(index + 1, len(archive), "writing what was reviewed")
        review = {
            "archive": archive.path.name,
            "archive_sha256": archive.sha256,
            "split_sha256": split.sha256,
            "fold": fold,
            "decisions_sha256": log.sha256,
            **{f"num_{action}": number for action, number in count_actions(decisions).items()},
        }
        writer.describe(**{REVIEWED: [*archive.preparation.get(REVIEWED, []), review]})
