"""A tiny classifier of phantom slices with everything that the page shows of one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from classifier.config import ClassifierConfig
from classifier.job import train_run
from extract.archive import open_archive
from extract.phantom import PhantomConfig, write_phantoms
from extract.planes import SliceConfig
from extract.split import make_split, write_split
from extract.volumes import build_volume_archive


@dataclass(frozen=True)
class PhantomModel:
    """Where everything lies."""

    run: Path
    archive: Path
    split: Path
    volume: Path  # of a test subject
    pictures: tuple[Path, ...]  # slices of test subjects


def make_phantom_model(folder: Path, size: int = 32, num_subjects: int = 8, steps: int = 24) -> PhantomModel:
    """Phantoms, their slices, a split, a run, and some pictures; some seconds."""
    write_phantoms(folder / "volumes", num_subjects, 0, PhantomConfig(voxel_mm=5.0))
    config = SliceConfig(planes=("sagittal", "coronal"), size=size, slices_per_plane=5, noise_below=0.4)
    archive_path, split_path = folder / "planes.zip", folder / "planes.split.json"
    subjects = folder / "volumes" / "subjects.csv"
    build_volume_archive(folder / "volumes", archive_path, config, subjects=subjects, workers=1)
    with open_archive(archive_path) as archive:
        split = make_split(archive, num_folds=2, fractions=(1.0,), val_share=0.3, seed=0)
        write_split(split, split_path)
        test = np.flatnonzero(np.isin(archive.subjects, split.folds[0].test))
        pictures = []
        for row in test[:: max(1, len(test) // 4)][:4].tolist():
            path = folder / f"slice{row:03d}.png"
            Image.fromarray(archive.read_image(row)[0]).save(path)
            pictures.append(path)
        volume = folder / "volumes" / f"{split.folds[0].test[0]}.nrrd"
    settings = ClassifierConfig(steps=steps, batch_size=32, validate_every=steps // 2)
    train_run(archive_path, split_path, 0, 1.0, settings, folder / "run")
    return PhantomModel(folder / "run", archive_path, split_path, volume, tuple(pictures))
