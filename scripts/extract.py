"""`synthlabel extract`: volumes and image folders to archives, splits, contact sheets, checks."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from extract.errors import ExtractError, SettingsError
from scripts.dataset import dataset
from scripts.extract_images import images, preprocess
from scripts.extract_pack import cache, pack, unpack
from scripts.extract_volumes import place_back, volumes
from scripts.number_lists import parse_numbers
from scripts.progress import progress_bar

if TYPE_CHECKING:
    from extract.split import Split

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def commands() -> None:
    """Volumes and image folders to archives; subjects and splits."""


commands.add_command(dataset)
for command in (volumes, place_back, images, preprocess, pack, unpack, cache):
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


@commands.command()
@click.option("--data", type=FILE, required=True, help="Archive to split.")
@click.option("--dest", type=FILE, required=True, help="Split to write (.split.json).")
@click.option("--folds", type=int, default=5, show_default=True, help="Outer folds over the subjects.")
@click.option(
    "--fractions", default="0.2,0.5,0.7", show_default=True, help="Labeled fractions; 1.0 is always there."
)
@click.option(
    "--val-share", type=float, default=0.15, show_default=True, help="Of the subjects that are not tested."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--overwrite", is_flag=True, help="Replace a split that is there: results made with it lose their basis."
)
def split(
    data: Path, dest: Path, folds: int, fractions: str, val_share: float, seed: int, overwrite: bool
) -> None:
    """Split an archive's subjects, once, before anything is trained."""
    from extract.archive import open_archive
    from extract.split import make_split, write_split

    check_suffix(dest, ".json")
    refuse_existing(dest, overwrite)
    numbers = parse_numbers(fractions, "--fractions")
    with open_archive(data) as archive:
        made = make_split(archive, num_folds=folds, fractions=numbers, val_share=val_share, seed=seed)
        write_split(made, dest)
        for number in range(len(made.folds)):
            click.echo(f"fold {number}: " + "; ".join(_describe_parts(made, archive, number)))
    if made.linked_subjects:
        groups = ", ".join("+".join(group) for group in made.linked_subjects[:5])
        more = f" and {len(made.linked_subjects) - 5} more" if len(made.linked_subjects) > 5 else ""
        click.echo(f"kept together because they share an identical picture: {groups}{more}")
    click.echo(f"{dest}: {folds} folds of {data.name}")


@commands.command()
@click.option("--data", type=FILE, required=True, help="Archive to look at.")
@click.option("--dest", type=FILE, required=True, help="Contact sheet to write (.png).")
@click.option("--columns", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--rows", type=click.IntRange(min=1), default=2, show_default=True, help="Rows a class.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice of images.")
@click.option("--overwrite", is_flag=True, help="Replace a picture that is there.")
def show(data: Path, dest: Path, columns: int, rows: int, seed: int, overwrite: bool) -> None:
    """Draw a contact sheet: samples of each class over the subjects."""
    from extract.archive import open_archive
    from extract.show import write_contact_sheet

    check_suffix(dest, ".png")
    refuse_existing(dest, overwrite)
    with open_archive(data) as archive:
        write_contact_sheet(archive, dest, columns=columns, rows_per_class=rows, seed=seed)
    click.echo(f"{dest}: contact sheet of {data.name}")


@commands.command()
@click.option("--data", type=FILE, required=True, help="Archive to check.")
@click.option("--split", type=FILE, default=None, help="Its split, to be checked as well.")
def verify(data: Path, split: Path | None) -> None:
    """Check pictures, labels, duplicates and the split; exit code 1 if anything is wrong."""
    from extract.archive import open_archive
    from extract.verify import verify_archive

    with open_archive(data) as archive, progress_bar("verify") as progress:
        found = verify_archive(archive, split, progress)
    width = max([len(line.name) for line in found.counts] + [5])
    click.echo(f"{'class':<{width}}  images  subjects  images a subject")
    for line in found.counts:
        spread = f"{line.min_images} to {line.max_images}" if line.num_subjects else "-"
        click.echo(f"{line.name:<{width}}  {line.num_images:6d}  {line.num_subjects:8d}  {spread}")
    click.echo(f"{'all':<{width}}  {found.num_images:6d}  {found.num_subjects:8d}")
    for warning in found.warnings:
        click.echo(f"note: {warning}")
    if found.errors:
        raise ExtractError(
            f"{data}: {len(found.errors)} {'fault' if len(found.errors) == 1 else 'faults'}:"
            + "".join(f"\n  {error}" for error in found.errors)
        )
    checked = f"; {split.name}: {len(found.split.folds)} folds are sound" if split and found.split else ""
    click.echo(f"{data}: {found.num_images} pictures are sound{checked}")


def check_suffix(dest: Path, suffix: str) -> None:
    """Raise SettingsError unless the name says what will be written: a mix-up could cost an archive."""
    if dest.suffix.lower() != suffix:
        raise SettingsError(f"--dest must end in {suffix}, got {dest}")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise ExtractError where a file stands that may not be replaced."""
    if path.exists() and not overwrite:
        raise ExtractError(
            f"{path}: already exists and is left alone; choose another name or pass --overwrite"
        )


def _describe_parts(split: "Split", archive: Any, fold: int) -> list[str]:
    chosen = split.folds[fold]

    def size(part: str, fraction: float) -> str:
        num_images = len(split.rows(archive, fold, part, fraction))
        return f"{len(split.subjects(fold, part, fraction))} ({num_images} images)"

    labeled = ", ".join(f"{fraction:g}: {size('train', fraction)}" for fraction in split.fractions)
    return [
        f"test {size('test', 1.0)}",
        f"val {size('val', 1.0)}",
        f"train {len(chosen.train)}, labeled {labeled}",
    ]
