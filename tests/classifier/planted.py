"""A data set with wrong labels planted in its training part, and a model that learned from them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from classifier.config import ClassifierConfig
from classifier.job import train_run
from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.split import make_split, write_split
from tests.classifier.toys import CLASSES, toy_pixels

SHARE = 0.05


@dataclass(frozen=True)
class Planted:
    """Where everything lies, and which rows of the archive are wrong."""

    archive: Path
    split: Path
    run: Path
    wrong: tuple[int, ...]
    twins: tuple[int, int]  # one training picture of one person under two labels


def make_planted(folder: Path, num_subjects: int = 60, images_each: int = 4, steps: int = 40) -> Planted:
    """Train on labels of which one in twenty is wrong; some seconds."""
    labels = np.repeat(np.arange(num_subjects) % len(CLASSES), images_each)
    pixels = toy_pixels(labels, 32, seed=3)
    subjects = [f"p{index // images_each:03d}" for index in range(len(labels))]
    data, split_path = folder / "planted.zip", folder / "planted.split.json"
    _write(data, labels, pixels, subjects)
    with open_archive(data) as archive:
        split = make_split(archive, num_folds=3, fractions=(1.0,), val_share=0.2, seed=0)
        train = split.rows(archive, 0, "train")
    first, second = int(train[0]), int(train[1])  # of one subject
    pixels[second] = pixels[first]
    drawn = np.random.default_rng(1).choice(train[images_each:], round(SHARE * len(train)), replace=False)
    wrong = tuple(sorted(int(row) for row in drawn))
    shown = labels.copy()
    for row in (second, *wrong):
        shown[row] = (labels[row] + 1) % len(CLASSES)
    _write(data, shown, pixels, subjects)
    with open_archive(data) as archive:  # the same people on each side: only training labels are wrong
        write_split(replace(split, archive_sha256=archive.sha256), split_path)
    config = ClassifierConfig(steps=steps, batch_size=32, validate_every=steps // 2)
    train_run(data, split_path, 0, 1.0, config, folder / "run")
    return Planted(data, split_path, folder / "run", wrong, (first, second))


def _write(path: Path, labels: np.ndarray, pixels: np.ndarray, subjects: list[str]) -> None:
    with ArchiveWriter(path, overwrite=True) as writer:
        for index, label in enumerate(labels):
            writer.add(pixels[index, 0], ImageRecord(label=CLASSES[label], subject=subjects[index]))
