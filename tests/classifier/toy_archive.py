"""A toy archive with a split, and an array of images that tells which rows were looked at."""

from pathlib import Path

import numpy as np

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.split import make_split, read_split, write_split
from tests.classifier.toys import CLASSES, toy_pixels


def write_toys(
    folder: Path, num_subjects: int = 24, images_each: int = 3, size: int = 16
) -> tuple[Path, Path]:
    """An archive of subjects of one class each, and a split of it into three folds."""
    labels = np.repeat(np.arange(num_subjects) % len(CLASSES), images_each)
    pixels = toy_pixels(labels, size, seed=1)
    data, split_path = folder / "toy.zip", folder / "toy.split.json"
    with ArchiveWriter(data) as writer:
        for index, label in enumerate(labels):
            record = ImageRecord(label=CLASSES[label], subject=f"p{index // images_each:02d}")
            writer.add(pixels[index, 0], record)
    with open_archive(data) as archive:
        split = make_split(archive, num_folds=3, fractions=(0.5, 1.0), val_share=0.25, seed=0)
        write_split(split, split_path)
    return data, split_path


def rows_of(data: Path, split_path: Path, fold: int, *parts: str) -> set[int]:
    """The rows of some parts of a fold, all labels counted."""
    with open_archive(data) as archive:
        split = read_split(split_path, archive)
        return {int(row) for part in parts for row in split.rows(archive, fold, part)}


class Watched(np.ndarray):
    """Images that note the rows they were asked for, and refuse those that nobody may see."""

    def __new__(cls, images: np.ndarray, forbidden: set[int]):
        watched = np.asarray(images).view(cls)
        watched.forbidden, watched.seen = forbidden, set()
        return watched

    def __array_finalize__(self, source):
        self.forbidden = getattr(source, "forbidden", set())
        self.seen = getattr(source, "seen", set())

    def __getitem__(self, key):
        rows = {int(row) for row in np.atleast_1d(np.arange(len(self))[key])} if self.ndim == 4 else set()
        assert not rows & self.forbidden, f"rows {sorted(rows & self.forbidden)} were looked at"
        self.seen |= rows
        return np.asarray(self)[key]
