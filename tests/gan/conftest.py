"""A tiny archive of discs and bars, a split of it, and tiny trainings on both."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.split import make_split, write_split
from gan.config import TrainConfig
from gan.training import train

SIZE = 16
NUM_SUBJECTS = 12
IMAGES_PER_SUBJECT = 4


def write_shapes(dest: Path, channels: int = 1, size: int = SIZE) -> Path:
    """Per subject two discs and two bars whose brightness tells the subject."""
    rows, columns = np.mgrid[:size, :size]
    with ArchiveWriter(dest) as writer:
        for subject in range(NUM_SUBJECTS):
            for number in range(IMAGES_PER_SUBJECT):
                is_disc = number % 2 == 0
                radius = size / 5 + number / 2
                disc = np.hypot(rows - size / 2, columns - size / 2) < radius
                bar = abs(columns - size / 2 - number) < 2
                pixels = np.where(disc if is_disc else bar, 40 + 15 * subject, number).astype(np.uint8)
                if channels == 3:
                    pixels = np.stack([pixels, pixels, 255 - pixels], axis=2)
                writer.add(pixels, ImageRecord(label="disc" if is_disc else "bar", subject=f"s{subject:02d}"))
    return dest


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes.zip")


@pytest.fixture(scope="session")
def shapes_split(shapes: Path) -> Path:
    with open_archive(shapes) as archive:
        split = make_split(archive, num_folds=3, fractions=(0.5, 1.0), val_share=0.25, seed=0)
    path = shapes.with_name("shapes.split.json")
    write_split(split, path)
    return path


@pytest.fixture(scope="session")
def tiny(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """About a second for 0.1 kimg: 16 px, at most 16 channels; ticks of 32 images; every regulariser on."""
    return TrainConfig(
        data=shapes,
        outdir=tmp_path_factory.mktemp("runs"),
        kimg=0.096,
        batch=8,
        gamma=1.0,
        channel_base=128,
        channel_max=16,
        latent_dim=16,
        grid=(2, 2),
        tick_kimg=0.032,
        snap=1,
        device="cpu",
    )


@pytest.fixture(scope="session")
def trained(tiny: TrainConfig, shapes_split: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The final snapshot of a tiny training on fold 1."""
    outdir = tmp_path_factory.mktemp("trained")
    return train(replace(tiny, split=shapes_split, fold=1, kimg=0.04, outdir=outdir))


@pytest.fixture(scope="session")
def trained_conditional(tiny: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The final snapshot of a tiny class-conditional training."""
    return train(replace(tiny, cond=True, kimg=0.024, outdir=tmp_path_factory.mktemp("conditional")))
