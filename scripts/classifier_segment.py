"""`synthlabel classifier segment train | apply`: learn to find the lungs, then keep them alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from extract.errors import SettingsError
from scripts.progress import progress_bar

if TYPE_CHECKING:
    from classifier.segment_apply import ApplySummary
    from classifier.segment_job import PartMeasures

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
SHOWN = (("dice", "Dice"), ("iou", "IoU"), ("hd95_px", "HD95, pixels"), ("asd_px", "mean edge distance, px"))
NUM_NAMED = 8


@click.group()
def segment() -> None:
    """Find the lungs in chest X-rays, and keep them alone."""


@segment.command()
@click.option("--images", type=FOLDER, required=True, help="Folder of pictures.")
@click.option(
    "--masks",
    type=FOLDER,
    required=True,
    multiple=True,
    help="Folder of masks of the same names; again for a second lung's masks, which are united.",
)
@click.option(
    "--subject-pattern",
    default=None,
    metavar="REGEX",
    help="Finds the subject in a picture's path.  [default: each picture is another subject]",
)
@click.option("--size", type=int, default=128, show_default=True, help="Pixels a side for the network.")
@click.option("--width", type=int, default=12, show_default=True, help="Channels of the first level.")
@click.option("--depth", type=int, default=4, show_default=True, help="Halvings.")
@click.option("--norm", type=click.Choice(["group", "batch"]), default="group", show_default=True)
@click.option("--steps", type=int, default=600, show_default=True, help="Optimiser steps, exactly.")
@click.option("--batch", type=int, default=8, show_default=True, help="Images a step.")
@click.option("--lr", type=float, default=3e-3, show_default=True, help="Peak learning rate.")
@click.option("--weight-decay", type=float, default=0.01, show_default=True)
@click.option(
    "--preprocessing",
    default="zscore",
    show_default=True,
    metavar="NAME|FILE.json",
    help="Gray levels before the network, kept in the run.",
)
@click.option("--augment/--no-augment", default=True, show_default=True)
@click.option("--mirror", is_flag=True, help="Also mirror left-right.")
@click.option("--threshold", type=float, default=0.5, show_default=True, help="Probability of lung.")
@click.option("--val-share", type=float, default=0.15, show_default=True, help="Of the subjects.")
@click.option("--test-share", type=float, default=0.15, show_default=True, help="Of the subjects.")
@click.option("--validate-every", type=int, default=50, show_default=True, metavar="STEPS")
@click.option("--min-area", type=float, default=0.01, show_default=True, help="Smallest lung, share.")
@click.option("--smooth", type=int, default=0, show_default=True, metavar="PIXELS", help="Of the cleaning.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the parts and the training.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--outdir", type=NEW_FOLDER, required=True, help="Folder of the run.")
@click.option("--skip-unreadable", is_flag=True, help="Leave bad or unpaired files out instead of stopping.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the run, or the begun training of other settings, that stands in --outdir.",
)
def train(
    images: Path,
    masks: tuple[Path, ...],
    subject_pattern: str | None,
    size: int,
    width: int,
    depth: int,
    norm: str,
    steps: int,
    batch: int,
    lr: float,
    weight_decay: float,
    preprocessing: str,
    augment: bool,
    mirror: bool,
    threshold: float,
    val_share: float,
    test_share: float,
    validate_every: int,
    min_area: float,
    smooth: int,
    seed: int,
    device: str,
    outdir: Path,
    skip_unreadable: bool,
    overwrite: bool,
) -> None:
    """Train a U-Net on pictures with masks; measure it on subjects that it never saw.

    A training that was stopped goes on with the same command.
    """
    from classifier.mask_cleaning import CleaningConfig
    from classifier.segment_config import SegmentConfig
    from extract.preprocessing import load_preprocessing

    config = SegmentConfig(
        size=size,
        width=width,
        depth=depth,
        norm=norm,
        steps=steps,
        batch_size=batch,
        lr=lr,
        weight_decay=weight_decay,
        preprocessing=load_preprocessing(preprocessing),
        augment=augment,
        mirror=mirror,
        threshold=threshold,
        val_share=val_share,
        test_share=test_share,
        validate_every=validate_every,
        seed=seed,
        device=device,
    )
    cleaning = CleaningConfig(min_area=min_area, smooth=smooth)
    from classifier.segment_job import train_segment_run

    with progress_bar("segment") as progress:
        _, measured, pairs = train_segment_run(
            images, masks, outdir, config, cleaning=cleaning, subject_pattern=subject_pattern,
            skip_unreadable=skip_unreadable, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    for item in pairs.unreadable:
        click.echo(f"left out: {item}", err=True)
    click.echo(f"{outdir}: U-Net, {size} px, {steps} steps on {len(pairs)} pairs")
    for part in measured.values():
        _print_measures(part)


@segment.command()
@click.option("--model", "run_dir", type=FOLDER, required=True, help="Folder of a finished run.")
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="Archive (.zip), or folder of pictures.",
)
@click.option(
    "--dest", type=click.Path(path_type=Path), required=True, help="Archive to write (.zip), or folder."
)
@click.option(
    "--masks", type=NEW_FOLDER, default=None, help="New folder for the masks, named as the images of --data."
)
@click.option("--overlays", type=FILE, default=None, help="Sheet to write.  [default: DEST-overlays.png]")
@click.option("--split", "split_path", type=FILE, default=None, help="Split of --data, carried over to DEST.")
@click.option(
    "--keep",
    type=click.Choice(["lungs", "surroundings"]),
    default="lungs",
    show_default=True,
    help="surroundings: everything but the lungs, as a control.",
)
@click.option("--outside", type=click.Choice(["black", "mean"]), default="black", show_default=True)
@click.option("--margin", type=int, default=0, show_default=True, metavar="PIXELS", help="Kept around.")
@click.option("--crop", is_flag=True, help="Cut to the lungs; in an archive a square of its size.")
@click.option(
    "--min-lungs", type=int, default=2, show_default=True, help="Fewer than so many are implausible: 1 or 2."
)
@click.option(
    "--implausible",
    type=click.Choice(["keep", "drop"]),
    default="keep",
    show_default=True,
    help="Pictures without plausible lungs: as they were, or left out.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--skip-unreadable", is_flag=True, help="Folder: leave bad pictures out instead of stopping.")
@click.option("--overwrite", is_flag=True, help="Replace an archive, sheet and table that are there.")
def apply(
    run_dir: Path,
    data: Path,
    dest: Path,
    masks: Path | None,
    overlays: Path | None,
    split_path: Path | None,
    keep: str,
    outside: str,
    margin: int,
    crop: bool,
    min_lungs: int,
    implausible: str,
    device: str,
    skip_unreadable: bool,
    overwrite: bool,
) -> None:
    """Write an archive, or a folder of pictures, with the lungs alone."""
    from classifier.lung_pixels import ApplyConfig

    config = ApplyConfig(
        keep=keep, outside=outside, margin=margin, crop=crop, min_lungs=min_lungs, implausible=implausible
    )
    is_folder = data.is_dir()
    _check_kinds(is_folder, dest, overlays, split_path)
    from classifier.segment_apply import apply_to_archive, apply_to_folder
    from classifier.segmenter import load_segmenter

    segmenter = load_segmenter(run_dir, device)
    with progress_bar("masking") as progress:
        if is_folder:
            summary = apply_to_folder(
                segmenter, data, dest, config, masks=masks, overlays=overlays,
                skip_unreadable=skip_unreadable, overwrite=overwrite, progress=progress,
            )  # fmt: skip
        else:
            from extract.archive import open_archive
            from extract.split import read_split

            with open_archive(data) as archive:
                split = None if split_path is None else read_split(split_path, archive)
                summary = apply_to_archive(
                    segmenter, archive, dest, config, masks=masks, overlays=overlays, split=split,
                    overwrite=overwrite, progress=progress,
                )  # fmt: skip
    _print_summary(summary, config.implausible, masks)


def _check_kinds(is_folder: bool, dest: Path, overlays: Path | None, split_path: Path | None) -> None:
    """Raise SettingsError where files and folders are mixed up."""
    is_archive = dest.suffix.lower() == ".zip"
    if is_folder and is_archive:
        raise SettingsError(
            f"--data is a folder of pictures, so --dest must be a folder, got {dest}; make an archive of the "
            "pictures first, with `synthlabel extract images`, for a masked archive"
        )
    if not is_folder and not is_archive:
        raise SettingsError(f"--dest must end in .zip, got {dest}")
    if is_folder and split_path is not None:
        raise SettingsError("--split goes with an archive, --data is a folder of pictures")
    if overlays is not None and overlays.suffix.lower() != ".png":
        raise SettingsError(f"--overlays must end in .png, got {overlays}")


def _print_measures(part: PartMeasures) -> None:
    click.echo(
        f"{part.part}: {len(part.table)} images, subjects: {part.num_subjects} (95 % intervals by subject)"
    )
    click.echo(f"  {'':22s} {'as found':28s} cleaned")
    for name, shown in SHOWN:
        cells = []
        for stage in ("raw", "cleaned"):
            mean = part.means[stage][name]
            undefined = f" ({mean.num_undefined} without)" if mean.num_undefined else ""
            cells.append(f"{mean.mean:.3f}  [{mean.low:.3f}, {mean.high:.3f}]{undefined}")
        click.echo(f"  {shown:22s} {cells[0]:28s} {cells[1]}")
    found = part.table["num_lungs"].value_counts()
    less = ", ".join(f"{found[count]} with {count}" for count in (1, 0) if count in found.index)
    click.echo(f"  two lungs in {found.get(2, 0)} of {len(part.table)}" + (f", {less}" if less else ""))


def _print_summary(summary: ApplySummary, implausible: str, masks: Path | None) -> None:
    for item in summary.unreadable:
        click.echo(f"left out: {item}", err=True)
    if summary.num_seen:
        click.echo(
            f"note: the segmenter was trained on the subjects of {summary.num_seen} of these pictures: their "
            "masks are better than others will be",
            err=True,
        )
    num_bad = len(summary.implausible)
    click.echo(
        f"{summary.dest}: {summary.num_written} of {summary.num_images} images, lungs are "
        f"{summary.mean_share:.0%} of a picture"
    )
    if num_bad:
        what = "kept unmasked" if implausible == "keep" else "left out"
        named = ", ".join(summary.implausible[:NUM_NAMED])
        more = f" and {num_bad - NUM_NAMED} more" if num_bad > NUM_NAMED else ""
        click.echo(f"  without plausible lungs, {what}: {num_bad} ({named}{more})")
        by_class = ", ".join(
            f"{name or '(unlabeled)'} {bad} of {count}" for name, (count, bad) in summary.num_by_class.items()
        )
        click.echo(f"  by class: {by_class}")
        if implausible == "keep" and len(summary.num_by_class) > 1:
            click.echo("  (an unmasked picture among masked ones can give its class away: see the table)")
    else:
        click.echo("  plausible lungs in every picture")
    written = [*map(str, summary.files), *([str(masks)] if masks else [])]
    click.echo(f"  beside it: {', '.join(written)}")
