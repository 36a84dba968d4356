"""A data set whose training part has wrong labels that somebody planted, and a model that learned from them."""

from dataclasses import dataclass
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
    twins: tuple[int, int]  # one training picture of two people under two labels


def make_planted(folder: Path, num_subjects: int = 72, images_each: int = 4, steps: int = 60) -> Planted:
    """Train on labels of which one in twenty is wrong; some seconds."""
    labels = np.repeat(np.arange(num_subjects) % len(CLASSES), images_each)
    pixels = toy_pixels(labels, 32, seed=3)
    subjects = [f"p{index // images_each:03d}" for index in range(len(labels))]
    data, split_path = folder / "planted.zip", folder / "planted.split.json"
    _write(data, labels, pixels, subjects)
    with open_archive(data) as archive:  # drawn by the right labels; the wrong ones stay within training
        split = make_split(archive, num_folds=3, fractions=(1.0,), val_share=0.2, seed=0)
        train = split.rows(archive, 0, "train")
    rng = np.random.default_rng(1)
    first = int(train[0])
    second = int(next(row for row in train if labels[row] != labels[first]))
    pixels[second] = pixels[first]
    others = [int(row) for row in train if row not in (first, second)]
    wrong = sorted(int(row) for row in rng.choice(others, round(SHARE * len(train)), replace=False))
    shown = labels.copy()
    shown[wrong] = (labels[wrong] + 1) % len(CLASSES)
    _write(data, shown, pixels, subjects)
    with open_archive(data) as archive:
        split = make_split(archive, num_folds=3, fractions=(1.0,), val_share=0.2, seed=0)
        train = set(split.rows(archive, 0, "train").tolist())
        write_split(split, split_path)
    config = ClassifierConfig(steps=steps, batch_size=32, validate_every=steps // 2)
    train_run(data, split_path, 0, 1.0, config, folder / "run")
    kept = tuple(row for row in wrong if row in train)
    return Planted(data, split_path, folder / "run", kept, (first, second))


def _write(path: Path, labels: np.ndarray, pixels: np.ndarray, subjects: list[str]) -> None:
    with ArchiveWriter(path, overwrite=True) as writer:
        for index, label in enumerate(labels):
            writer.add(pixels[index, 0], ImageRecord(label=CLASSES[label], subject=subjects[index]))
