"""`synthlabel extract dataset`: what the official dataset tool does, with its options."""

from pathlib import Path

import click

from scripts.progress import progress_bar


def _named_path(ctx: click.Context, param: click.Parameter, value: str) -> Path:
    if not value:
        raise click.BadParameter("must not be an empty text")
    return Path(value)


@click.command()
@click.option(
    "--source", required=True, callback=_named_path, metavar="PATH",
    help="Folder, .zip, *_lmdb, cifar-10-python.tar.gz or train-images-idx3-ubyte.gz.",
)  # fmt: skip
@click.option(
    "--dest", required=True, callback=_named_path, metavar="PATH",
    help="Archive to write (.zip), or a new or empty folder.",
)  # fmt: skip
@click.option("--max-images", type=int, help="At most so many images.  [default: all]")
@click.option("--resize-filter", default="lanczos", show_default=True, help="box, lanczos.")
@click.option("--transform", help="center-crop, center-crop-wide.  [default: resize alone]")
@click.option("--width", type=int, help="Pixels.  [default: as the source]")
@click.option("--height", type=int, help="Pixels.  [default: as the source]")
@click.option(
    "--subject-pattern",
    metavar="REGEX",
    help="Finds the subject in a picture's path.  [default: subjects are unknown]",
)
@click.option("--skip-unreadable", is_flag=True, help="Leave bad pictures out instead of stopping.")
@click.option("--overwrite", is_flag=True, help="Replace an archive that is there.")
def dataset(
    source: Path,
    dest: Path,
    max_images: int | None,
    resize_filter: str,
    transform: str | None,
    width: int | None,
    height: int | None,
    subject_pattern: str | None,
    skip_unreadable: bool,
    overwrite: bool,
) -> None:
    """Bring a folder, zip or packed data set into an archive, as the official dataset tool does."""
    from extract.dataset_tool import build_dataset
    from extract.transforms import Transform

    settings = Transform(transform, width, height, resize_filter)
    with progress_bar("dataset") as progress:
        summary = build_dataset(
            source, dest, settings, max_images=max_images, subject_pattern=subject_pattern,
            skip_unreadable=skip_unreadable, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    for item in summary.unreadable:
        click.echo(f"left out: {item}", err=True)
    for count, what in (
        (summary.num_unlabeled, "pictures have no label in dataset.json and stay unlabeled; the official "
         "code reads labels for all pictures or for none"),
        (summary.num_unused_labels, "labels of dataset.json are for names that are not there"),
        (summary.num_too_small, "pictures are too small and were left out"),
        (summary.num_transparent, "pictures have transparent parts, which were laid on black"),
    ):  # fmt: skip
        if count:
            click.echo(f"warning: {count:,} {what}", err=True)
    if summary.num_subjects is None:
        click.echo(
            "note: subjects are unknown, so that the archive cannot be split; --subject-pattern finds them "
            "in the pictures' paths",
            err=True,
        )
    height_px, width_px, *colors = summary.image_shape
    classes = f", {len(summary.counts)} classes" if summary.counts else ", no labels"
    click.echo(
        f"{summary.dest}: {summary.num_images:,} images, {width_px}x{height_px} {'RGB' if colors else 'gray'}"
        f"{classes}"
    )
