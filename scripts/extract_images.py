"""`synthlabel extract images` and `preprocess`: pictures to archives, and what networks see of them."""

from __future__ import annotations

from pathlib import Path

import click

from extract.errors import ExtractError, SettingsError
from scripts.building import building_options, print_summary
from scripts.progress import progress_bar

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--source", type=FOLDER, required=True, help="Folder of pictures, at any depth.")
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
    "--subject-tag",
    default=None,
    metavar="KEYWORD",
    help="DICOM element that names the subject, such as PatientID.",
)
@click.option("--labels", type=FILE, default=None, help="CSV of files (or their ids) and classes.")
@click.option(
    "--label-pattern",
    default=None,
    metavar="REGEX",
    help="Finds the class in a file's path: the group `label`, or all groups joined by -.",
)
@click.option(
    "--layout",
    type=click.Choice(["auto", "classes", "parts"]),
    default="auto",
    show_default=True,
    help="First folders: classes, or parts (train, val, test) with classes below.",
)
@click.option(
    "--file-column", default=None, help="Column of file paths or ids.  [default: file, path, ..., class/name]"
)
@click.option(
    "--subject-column", default=None, help="Column of subjects.  [default: subject_id, patient_key, ...]"
)
@click.option(
    "--label-column",
    default=None,
    help="Column of classes.  [default: label, class, ... of --labels; otherwise the folder is the class]",
)
@click.option("--part-column", default=None, help="Column of parts, kept as provenance.")
@click.option(
    "--class-name", "class_names", multiple=True, metavar="OLD=NEW", help="Write a class by another name."
)
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
    subject_tag: str | None,
    labels: Path | None,
    label_pattern: str | None,
    layout: str,
    file_column: str | None,
    subject_column: str | None,
    label_column: str | None,
    part_column: str | None,
    class_names: tuple[str, ...],
    rgb: bool,
    fit: str,
    workers: int | None,
    skip_unreadable: bool,
    overwrite: bool,
) -> None:
    """Bring a folder of pictures (PNG, JPEG, TIFF, DICOM, ...) into an archive."""
    from extract.images import ImageConfig, SubjectRule, build_image_archive

    config = ImageConfig(size=size, rgb=rgb, fit=fit)
    rule = SubjectRule(
        table=subjects,
        pattern=subject_pattern,
        tag=subject_tag,
        file_column=file_column,
        subject_column=subject_column,
        label_column=label_column,
        labels=labels,
        label_pattern=label_pattern,
        part_column=part_column,
        layout=layout,
        class_names=parse_names(class_names),
    )
    with progress_bar("images") as progress:
        summary = build_image_archive(
            source, dest, config, rule, workers=workers, skip_unreadable=skip_unreadable, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
    print_summary(summary, "pictures")


@click.command()
@click.option("--data", type=FILE, required=True, help="Archive to take images from.")
@click.option("--dest", type=FILE, required=True, help="Picture to write (.png).")
@click.option(
    "--preset",
    "presets",
    multiple=True,
    metavar="NAME|FILE.json",
    help="A way to show; may be given several times.  [default: every preset]",
)
@click.option("--images", "num_images", type=click.IntRange(1, 64), default=8, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice of images.")
@click.option("--overwrite", is_flag=True, help="Replace a picture that is there.")
def preprocess(
    data: Path, dest: Path, presets: tuple[str, ...], num_images: int, seed: int, overwrite: bool
) -> None:
    """Draw originals beside ways of preprocessing, for `classifier train --preprocessing`."""
    from extract.archive import open_archive
    from extract.preprocess_sheet import write_preprocess_sheet
    from extract.preprocessing import PRESETS, load_preprocessing

    if dest.suffix.lower() != ".png":
        raise SettingsError(f"--dest must end in .png, got {dest}")
    if dest.exists() and not overwrite:
        raise ExtractError(
            f"{dest}: already exists and is left alone; choose another name or pass --overwrite"
        )
    ways = {name: load_preprocessing(name) for name in presets or PRESETS}
    with open_archive(data) as archive:
        write_preprocess_sheet(archive, ways, dest, num_images=num_images, seed=seed)
    click.echo(f"{dest}: {len(ways)} ways of preprocessing {data.name}")


def parse_names(given: tuple[str, ...]) -> dict[str, str]:
    """OLD=NEW to a mapping.

    Raises:
        SettingsError: if one is not of this form, or names an old class twice.
    """
    names: dict[str, str] = {}
    for text in given:
        old, mark, new = text.partition("=")
        if not (mark and old and new) or old in names:
            raise SettingsError(f"--class-name must be OLD=NEW, each OLD once, got {text!r}")
        names[old] = new
    return names
