"""`synthlabel extract`: volumes and image folders to archives, splits, contact sheets, checks."""

from pathlib import Path

import click

from scripts.dataset import dataset
from scripts.destinations import refuse_existing
from scripts.extract_checks import show, split, verify
from scripts.extract_images import images, preprocess
from scripts.extract_pack import cache, pack, unpack
from scripts.extract_review import review
from scripts.extract_volumes import place_back, volumes
from scripts.progress import progress_bar

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def commands() -> None:
    """Volumes and image folders to archives; subjects and splits."""


for command in (
    volumes, place_back, images, preprocess, dataset, split, show, verify, review, pack, unpack, cache,
):  # fmt: skip
    commands.add_command(command)


@commands.command()
@click.option("--out", type=FOLDER, required=True, help="Folder to write to.")
@click.option("--subjects", type=click.IntRange(min=1), default=12, show_default=True, help="How many heads.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--voxel-mm", type=float, default=2.6, show_default=True, help="Voxel size.")
@click.option("--noise", type=float, default=0.045, show_default=True, help="Noise, white matter = 1.")
@click.option("--overwrite", is_flag=True, help="Replace phantoms that are there.")
def phantom(out: Path, subjects: int, seed: int, voxel_mm: float, noise: float, overwrite: bool) -> None:
    """Write procedural brain volumes (NRRD) and subjects.csv, to try things without data."""
    from extract.phantom import PhantomConfig, write_phantoms

    config = PhantomConfig(voxel_mm=voxel_mm, noise=noise)
    refuse_existing(out / "subjects.csv", overwrite)  # written last; without it a set is not finished
    with progress_bar("phantoms") as progress:
        paths = write_phantoms(out, subjects, seed, config, progress=progress)
    click.echo(f"{out}: {len(paths)} volumes and subjects.csv")
