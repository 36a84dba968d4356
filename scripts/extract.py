"""`synthlabel extract`: volumes and image folders to archives, splits, contact sheets, checks."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from extract.errors import SettingsError
from scripts.dataset import dataset
from scripts.destinations import parse_numbers, refuse_existing
from scripts.extract_checks import show, split, verify
from scripts.progress import progress_bar

if TYPE_CHECKING:
    from extract.building import BuildSummary

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def commands() -> None:
    """Volumes and image folders to archives; subjects and splits."""


commands.add_command(dataset)
for checking in (split, show, verify):
    commands.add_command(checking)


def building_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `volumes` and `images` share."""
    for option in (
        click.option("--overwrite", is_flag=True, help="Replace an archive that is there."),
        click.option("--skip-unreadable", is_flag=True, help="Leave bad files out instead of stopping."),
        click.option(
            "--workers", type=click.IntRange(min=1), default=None, help="Processes.  [default: one a core]"
        ),
    ):
        function = option(function)
    return function


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
    _print_summary(summary, "volumes")


@commands.command()
@click.option("--source", type=FOLDER, required=True, help="Folder with one folder a class.")
@click.option("--dest", type=FILE, required=True, help="Archive to write (.zip).")
@click.option("--size", type=int, default=256, show_default=True, help="Pixels a side, a power of two.")
@click.option("--subjects", type=FILE, default=None, help="CSV of files and subjects.")
@click.option(
    "--subject-pattern",
    default=None,
    metavar="REGEX",
    help="Finds the subject in a file's path: the group `subject`, or all groups joined by -.",
)
@click.option(
    "--file-column", default=None, help="Column of file paths.  [default: file, path, ..., class/name]"
)
@click.option(
    "--subject-column", default=None, help="Column of subjects.  [default: subject_id, patient_key, ...]"
)
@click.option("--label-column", default=None, help="Column of classes.  [default: the folder is the class]")
@click.option("--rgb", is_flag=True, help="Keep color; otherwise gray.")
@click.option(
    "--fit",
    type=click.Choice(["pad", "crop", "squash"]),
    default="pad",
    show_default=True,
    help="What to do with pictures that are not square.",
)
@building_options
def images(
    source: Path,
    dest: Path,
    size: int,
    subjects: Path | None,
    subject_pattern: str | None,
    file_column: str | None,
    subject_column: str | None,
    label_column: str | None,
    rgb: bool,
    fit: str,
    workers: int | None,
    skip_unreadable: bool,
    overwrite: bool,
) -> None:
    """Bring a folder of pictures into an archive."""
    from extract.images import ImageConfig, SubjectRule, build_image_archive

    config = ImageConfig(size=size, rgb=rgb, fit=fit)
    rule = SubjectRule(subjects, subject_pattern, file_column, subject_column, label_column)
    with progress_bar("images") as progress:
        summary = build_image_archive(
            source, dest, config, rule, workers=workers, skip_unreadable=skip_unreadable, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
    _print_summary(summary, "pictures")


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


def _print_summary(summary: "BuildSummary", what: str) -> None:
    for item in summary.unreadable:
        click.echo(f"left out: {item}", err=True)
    if summary.num_ignored:
        click.echo(f"ignored: {summary.num_ignored} other files in the folder", err=True)
    if summary.empty_folders:
        click.echo(f"note: no picture in the folder {', '.join(map(repr, summary.empty_folders))}", err=True)
    counts = ", ".join(f"{name} {count}" for name, count in summary.counts.items())
    left_out = f", {len(summary.unreadable)} left out" if summary.unreadable else ""
    click.echo(
        f"{summary.dest}: {summary.num_images} images of {summary.num_subjects} subjects from "
        f"{summary.num_files} "
        f"{what}{left_out} ({counts})"
    )
