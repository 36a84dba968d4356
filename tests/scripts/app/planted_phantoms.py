"""Phantom slices with wrong labels planted in the training part, one picture twice, and a model of them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from classifier.config import ClassifierConfig
from classifier.job import train_run
from extract.archive import ArchiveWriter, open_archive, read_record
from extract.phantom import PhantomConfig, write_phantoms
from extract.planes import SliceConfig
from extract.split import make_split, write_split
from extract.volumes import build_volume_archive


@dataclass(frozen=True)
class PlantedPhantoms:
    """Where everything lies, and which rows of the archive are wrong."""

    run: Path
    archive: Path
    split: Path
    wrong: tuple[int, ...]


def make_planted_phantoms(
    folder: Path, size: int = 64, num_subjects: int = 16, steps: int = 80, num_wrong: int = 4
) -> PlantedPhantoms:
    """Phantoms as `make_phantom_model` has them; some training slices stand under the other plane."""
    write_phantoms(folder / "volumes", num_subjects, 0, PhantomConfig(voxel_mm=5.0))
    config = SliceConfig(planes=("sagittal", "coronal"), size=size, slices_per_plane=5, noise_below=0.4)
    right, data, split_path = folder / "right.zip", folder / "planes.zip", folder / "planes.split.json"
    build_volume_archive(
        folder / "volumes", right, config, subjects=folder / "volumes" / "subjects.csv", workers=1
    )
    with open_archive(right) as archive:
        split = make_split(archive, num_folds=3, fractions=(1.0,), val_share=0.3, seed=0)
        train = split.rows(archive, 0, "train")
        planes = train[[archive.classes[archive.labels[row]] != "noise" for row in train]]
        wrong = sorted(np.random.default_rng(4).choice(planes[2:], num_wrong, replace=False).tolist())
        other = {"sagittal": "coronal", "coronal": "sagittal"}
        twin = int(planes[0])  # once more at the end, under the other name
        with ArchiveWriter(data, classes=archive.classes, preparation=archive.preparation) as writer:
            for row in (*range(len(archive)), twin):
                record = read_record(archive.row(row), f"{right}")
                if row in wrong or len(writer) == len(archive):
                    record = replace(record, label=other[record.label])
                writer.add_png(archive.read_png(row), archive.image_shape[1:], record)
    right.unlink()
    with open_archive(data) as archive:
        write_split(replace(split, archive_sha256=archive.sha256), split_path)
    settings = ClassifierConfig(steps=steps, batch_size=32, validate_every=steps // 2)
    train_run(data, split_path, 0, 1.0, settings, folder / "run")
    return PlantedPhantoms(folder / "run", data, split_path, tuple(wrong))
