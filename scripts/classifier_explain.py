"""`synthlabel classifier explain`: what a classifier looks at, and how much of it lies outside masks."""

from __future__ import annotations

from pathlib import Path

import click

from extract.errors import SettingsError
from scripts.classifier_input import input_options, parse_input_settings
from scripts.progress import progress_bar

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--model", "run_dir", type=FOLDER, required=True, help="Folder of a finished run.")
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="Archive (.zip), picture, volume, or folder of them.",
)
@click.option(
    "--method",
    type=click.Choice(["grad-cam", "guided", "activations", "attention", "patches"]),
    default="grad-cam",
    show_default=True,
    help="attention and patches are for vision transformers.",
)
@click.option("--class", "class_name", default=None, help="Explain this class.  [default: the one given]")
@click.option("--layer", default=None, help="Module to explain by.  [default: the last with a useful map]")
@click.option(
    "--limit", type=int, default=12, show_default=True, help="Pictures: for each class of an archive, or all."
)
@click.option("--opacity", type=float, default=0.6, show_default=True, help="Of the map in the overlay.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice of an archive's images.")
@click.option("--split", "split_path", type=FILE, default=None, help="Split, with --part.")
@click.option(
    "--part", type=click.Choice(["val", "test"]), default=None, help="Take the archive's images of this part."
)
@click.option(
    "--masks",
    type=click.Path(exists=True, path_type=Path),
    default=None,
    help="Folder or zip of masks named as the archive's images: measure how much of Grad-CAM lies outside.",
)
@click.option(
    "--outdir",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Folder for the pictures.  [default: explain-METHOD in the run's folder]",
)
@click.option("--overwrite", is_flag=True, help="Replace explanations that are there.")
@input_options
def explain(
    run_dir: Path,
    data: Path,
    method: str,
    class_name: str | None,
    layer: str | None,
    limit: int,
    opacity: float,
    seed: int,
    split_path: Path | None,
    part: str | None,
    masks: Path | None,
    outdir: Path | None,
    overwrite: bool,
    like: Path | None,
    fit: str | None,
    planes: str | None,
    angles: str | None,
    slices_per_plane: int | None,
    step_mm: float | None,
    fov_mm: float | None,
) -> None:
    """Draw what a classifier looks at; with masks, measure how much of it lies outside them."""
    from classifier.explain_run import ExplainConfig, explain_run, mask_share_run
    from classifier.run import load_classifier

    config = ExplainConfig(method, class_name, layer, limit, opacity, seed)
    if (split_path is None) != (part is None):
        raise SettingsError("give --split and --part together, or neither")
    settings = parse_input_settings(
        load_classifier(run_dir), like, fit, planes, angles, slices_per_plane, step_mm, fov_mm
    )
    outdir = outdir or run_dir / f"explain-{method}"
    with progress_bar("explaining") as progress:
        summary = explain_run(
            run_dir, data, config, outdir, settings=settings, split_path=split_path, part=part,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
    for item in summary.unreadable:
        click.echo(f"left out: {item}", err=True)
    for note in summary.notes:
        click.echo(f"note: {note}", err=True)
    where = f", layer {summary.layer}" if summary.layer else ""
    sheets = f", {', '.join(summary.sheets)}" if summary.sheets else ""
    click.echo(f"{outdir}: {summary.num_pictures} pictures by {method}{where}{sheets}")
    if masks is None:
        return
    with progress_bar("masks") as progress:
        share = mask_share_run(
            run_dir, data, masks, class_name=class_name, layer=layer, split_path=split_path, part=part,
            progress=progress,
        )  # fmt: skip
    click.echo(share.sentence())
    if share.num_without_mask or share.num_without_map:
        click.echo(
            f"  left out: {share.num_without_mask} images without a mask, {share.num_without_map} where "
            "nothing speaks for the class"
        )
    if part is not None:
        click.echo(f"  added to metrics.json of {run_dir}, part {part}")
