"""A small archive with a split that is reviewed, for the tests of every package."""

from dataclasses import dataclass
from pathlib import Path

from extract.archive import open_archive
from extract.review_log import log_path
from extract.review_scope import ReviewScope, review_scope
from extract.split import make_split, read_split, write_split
from tests.extract.making import many_subjects, write_archive


@dataclass(frozen=True)
class Reviewed:
    """Where everything lies, and what may be decided on."""

    archive: Path
    split: Path
    log: Path
    scope: ReviewScope
    training: tuple[str, ...]  # images of fold 0
    locked: tuple[str, ...]  # its validation and test images


def make_reviewed(folder: Path, num_subjects: int = 24) -> Reviewed:
    """Three images a subject, one of each class a, b and c; three folds."""
    path = folder / "data.zip"
    with write_archive(path, many_subjects(num_subjects)) as archive:
        write_split(
            make_split(archive, num_folds=3, fractions=(0.5,), val_share=0.2, seed=0),
            folder / "data.split.json",
        )
    return open_reviewed(path, folder / "data.split.json")


def open_reviewed(path: Path, split_path: Path, fold: int = 0) -> Reviewed:
    with open_archive(path) as archive:
        split = read_split(split_path, archive)
        scope = review_scope(archive, split, fold)
        locked = [archive.names[row] for part in ("val", "test") for row in split.rows(archive, fold, part)]
    return Reviewed(path, split_path, log_path(path, fold), scope, tuple(scope.images), tuple(locked))
