"""A small generator of phantom slices, for the tests of the page Generate."""

from dataclasses import dataclass
from pathlib import Path

from extract.archive import open_archive
from extract.phantom import PhantomConfig, write_phantoms
from extract.planes import SliceConfig
from extract.split import make_split, write_split
from extract.volumes import build_volume_archive
from gan.config import TrainConfig
from gan.training import train


@dataclass(frozen=True)
class PhantomNetwork:
    """Where everything lies."""

    snapshot: Path
    run: Path
    archive: Path
    split: Path


def make_phantom_network(
    folder: Path,
    size: int = 32,
    num_subjects: int = 12,
    kimg: float = 0.008,
) -> PhantomNetwork:
    """Phantoms, their slices, a split, and a conditional generator of its training part; some seconds."""
    write_phantoms(folder / "volumes", num_subjects, 0, PhantomConfig(voxel_mm=5.0))
    config = SliceConfig(planes=("sagittal", "coronal"), size=size, slices_per_plane=5, noise_below=0.4)
    archive_path, split_path = folder / "slices.zip", folder / "slices.split.json"
    subjects = folder / "volumes" / "subjects.csv"
    build_volume_archive(folder / "volumes", archive_path, config, subjects=subjects, workers=1)
    with open_archive(archive_path) as archive:
        write_split(make_split(archive, num_folds=2, fractions=(1.0,), val_share=0.3, seed=0), split_path)
    settings = TrainConfig(
        data=archive_path, split=split_path, fold=0, cond=True, outdir=folder / "runs", kimg=kimg, batch=8,
        gamma=1.0, channel_base=256, channel_max=32, latent_dim=32,
        grid=(2, 2), snap=1, device="cpu",
    )  # fmt: skip
    snapshot = train(settings)
    return PhantomNetwork(snapshot, snapshot.parent, archive_path, split_path)
