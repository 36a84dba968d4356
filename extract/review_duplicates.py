"""Pictures that are there twice, as a review sees them: within the training part, or locked across parts."""

from dataclasses import dataclass

from extract.archive import Archive
from extract.duplicates import DuplicateGroup, find_alike, find_identical
from extract.errors import ExtractError
from extract.fold import Split
from extract.progress import Progress, no_progress
from extract.survey import survey_pictures


@dataclass(frozen=True)
class TrainingDuplicates:
    """Groups of pictures of the training part that show the same thing."""

    groups: tuple[tuple[int, ...], ...]  # two or more rows of the archive each, ascending
    likeness: dict[tuple[int, int], float]  # of near duplicates: two rows (ascending), correlation up to 1
    locked: tuple[tuple[int, ...], ...]  # training rows of groups that also stand in validation or test


def training_duplicates(
    archive: Archive, split: Split, fold: int, progress: Progress = no_progress
) -> TrainingDuplicates:
    """Look for identical and nearly identical pictures.

    A group that reaches into validation or test is a leak. It is reported by its training images alone, and
    not among `groups`: whoever decided on it would decide in the light of images that are locked.

    Raises:
        ExtractError: if a picture is damaged.
    """
    survey = survey_pictures(archive, progress)
    if survey.errors:
        raise ExtractError(f"{archive.path.name}: {survey.errors[0]}; see `synthlabel extract verify`")
    found = _join(find_identical(archive, survey), find_alike(archive, survey, progress=progress))
    side_of = {
        int(row): part
        for part in ("train", "val", "test")
        for row in split.rows(archive, fold, part).tolist()
    }
    groups, locked = [], []
    for group in found:
        training = tuple(row for row in group.rows if side_of.get(row) == "train")
        if any(side_of.get(row) in ("val", "test") for row in group.rows):
            locked += [training] if training else []
        elif len(training) > 1:
            groups.append(training)
    likeness = {(pair.row, pair.other): pair.likeness for group in found for pair in group.pairs}
    return TrainingDuplicates(tuple(groups), likeness, tuple(locked))


def _join(
    identical: tuple[DuplicateGroup, ...], alike: tuple[DuplicateGroup, ...]
) -> tuple[DuplicateGroup, ...]:
    """All groups; identical pictures that belong to a group of near duplicates stand in that one."""
    covered = {row for group in alike for row in group.rows}
    return (*(group for group in identical if not covered.intersection(group.rows)), *alike)
