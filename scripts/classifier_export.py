"""`synthlabel classifier export`: a run as one file for other programs."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--model", "run_dir", type=FOLDER, required=True, help="Folder of a finished run.")
@click.option("--format", "kind", type=click.Choice(["onnx"]), default="onnx", show_default=True)
@click.option(
    "--dest", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write (.onnx)."
)
@click.option("--data", type=FILE, default=None, help="Archive whose images it is checked with, as well.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-4,
    show_default=True,
    help="Largest difference of a probability from PyTorch's.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
def export(
    run_dir: Path, kind: str, dest: Path, data: Path | None, tolerance: float, overwrite: bool
) -> None:
    """Write a classifier as ONNX, prepared pixels to calibrated probabilities, checked against PyTorch."""
    from classifier.export import export_onnx, open_table

    images = None if data is None else open_table(data)
    summary = export_onnx(run_dir, dest, images=images, tolerance=tolerance, overwrite=overwrite)
    click.echo(
        f"{summary.dest}: {summary.num_bytes / 1e6:.1f} MB, {summary.description.name} beside it; differs "
        f"from PyTorch by at most {summary.largest_difference:.1g} in a probability and "
        f"{summary.largest_logit_difference:.1g} in a logit, on {summary.num_checked} images"
    )
