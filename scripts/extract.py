"""`synthlabel extract`: volumes and image folders to archives, splits, contact sheets, checks."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from extract.errors import ExtractError, SettingsError
from scripts.building import building_options, print_summary
from scripts.dataset import dataset
from scripts.extract_images import images, preprocess
from scripts.extract_pack import cache, pack, unpack
from scripts.progress import progress_bar

if TYPE_CHECKING:
    from extract.split import Split

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def commands() -> None:
    """Volumes and image folders to archives; subjects and splits."""


commands.add_command(dataset)
for command in (images, preprocess, pack, unpack, cache):
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
@click.option("--source", type=FOLDER, required=True, help="Folder of NRRD volumes.")
@click.option("--dest", type=FILE, required=True, help="Archive to write (.zip).")
@click.option("--size", type=int, default=256, show_default=True, help="Pixels a side, a power of two.")
@click.option(
    "--planes", default="sagittal,coronal", show_default=True, help="Some of sagittal,coronal,axial."
)
@click.option(
    "--angles", default="0", show_default=True, metavar="DEG", help="start:stop:step (inclusive) or a,b,c."
)
@click.option("--step-mm", type=float, default=None, help="Distance between slices.  [default: 3]")
@click.option(
    "--slices-per-plane", type=int, default=None, help="Slices at each angle, instead of --step-mm."
)
@click.option(
    "--fov-mm", type=float, default=None, help="Side of the field.  [default: what the largest head needs]"
)
@click.option(
    "--noise-below",
    type=float,
    default=0.25,
    show_default=True,
    help="A slice with less than this share of its plane's largest tissue area is noise.",
)
@click.option(
    "--noise-share", type=float, default=1.0, show_default=True, help="At most this share is noise."
)
@click.option(
    "--subjects", type=FILE, default=None, help="CSV of file and subject_id.  [default: file names]"
)
@click.option("--orientation", default=None, help="Three letters (RAS, LPS, ...) for headers that give none.")
@building_options
def volumes(
    source: Path,
    dest: Path,
    size: int,
    planes: str,
    angles: str,
    step_mm: float | None,
    slices_per_plane: int | None,
    fov_mm: float | None,
    noise_below: float,
    noise_share: float,
    subjects: Path | None,
    orientation: str | None,
    workers: int | None,
    skip_unreadable: bool,
    overwrite: bool,
) -> None:
    """Slice NRRD volumes into an archive; classes are the planes and noise."""
    from extract.planes import SliceConfig
    from extract.volumes import build_volume_archive

    if step_mm is not None and slices_per_plane is not None:
        raise SettingsError("give --step-mm or --slices-per-plane, not both")
    config = SliceConfig(
        planes=tuple(name.strip() for name in planes.split(",")),
        angles_deg=parse_angles(angles),
        size=size,
        step_mm=3.0 if step_mm is None else step_mm,
        slices_per_plane=slices_per_plane,
        fov_mm=fov_mm,
        noise_below=noise_below,
        noise_share=noise_share,
        orientation=orientation,
    )
    with progress_bar("volumes") as progress:
        summary = build_volume_archive(
            source, dest, config, subjects=subjects, workers=workers, skip_unreadable=skip_unreadable,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
    print_summary(summary, "volumes")


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


def parse_angles(text: str) -> tuple[float, ...]:
    """Angles in degrees from `start:stop:step` (the stop belongs to it) or a list with commas.

    Raises:
        SettingsError: if the text is neither.
    """
    if ":" not in text:
        return parse_numbers(text, "--angles")
    try:
        start, stop, step = (float(part) for part in text.split(":"))
        num = int((stop - start) / step + 1e-9) + 1
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise SettingsError(
            f"--angles must be start:stop:step such as -21:21:5 or a list, got {text!r}"
        ) from error
    if num < 1 or num > 1000:
        raise SettingsError(
            f"--angles must give at least one angle on the way from start to stop, got {text!r}"
        )
    return tuple(start + step * number for number in range(num))


def parse_numbers(text: str, flag: str) -> tuple[float, ...]:
    """Numbers from a list with commas.

    Raises:
        SettingsError: if one is none.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(f"{flag} must be numbers with commas between them, got {text!r}") from error


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
