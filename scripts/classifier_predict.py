"""`synthlabel classifier predict`: what a trained classifier says of pictures, volumes and archives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from extract.errors import SettingsError
from scripts.classifier_input import input_options, parse_input_settings
from scripts.destinations import refuse_existing
from scripts.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from classifier.inputs import InputImage
    from classifier.predict import Predictions

NUM_SHOWN = 12  # rows on the screen
MAX_EXPLAINED = 200


@click.command()
@click.argument(
    "inputs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="INPUT..."
)
@click.option(
    "--model",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="Folder of a finished run, or an .onnx file of `classifier export`.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Table to write, .csv or .json.  [default: the screen alone]",
)
@click.option(
    "--reject-below",
    type=float,
    default=None,
    metavar="P",
    help='Say "not sure" below this probability.  [default: the run\'s own rule, decision.json]',
)
@click.option(
    "--explain",
    "explain_dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help=f"Folder for Grad-CAM pictures of the first {MAX_EXPLAINED} images.",
)
@click.option("--skip-unreadable", is_flag=True, help="End well although some files could not be read.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--overwrite", is_flag=True, help="Replace --out and the pictures of --explain.")
@input_options
def predict(
    inputs: tuple[Path, ...],
    model: Path,
    out: Path | None,
    reject_below: float | None,
    explain_dir: Path | None,
    skip_unreadable: bool,
    device: str,
    overwrite: bool,
    like: Path | None,
    fit: str | None,
    planes: str | None,
    angles: str | None,
    slices_per_plane: int | None,
    step_mm: float | None,
    fov_mm: float | None,
) -> None:
    """Judge INPUT: pictures (PNG, JPEG, TIFF, DICOM), volumes (NRRD, NIfTI, DICOM), folders, archives."""
    from classifier.predict import check_out, refuse_unreadable_inputs, volumes_beside, write_predictions
    from classifier.predict_run import load_judge, predict_run

    if explain_dir is not None and model.is_file():
        raise SettingsError(
            "--explain needs gradients, which an exported network has not: give the run's folder"
        )
    if out is not None:
        check_out(out)
        refuse_existing(out, overwrite)
        if out.suffix.lower() == ".csv":
            refuse_existing(volumes_beside(out), overwrite)
    classifier = load_judge(model, device)
    settings = parse_input_settings(classifier, like, fit, planes, angles, slices_per_plane, step_mm, fov_mm)
    kept: list[InputImage] = []

    def keep(images: Sequence[InputImage], probs: np.ndarray) -> None:
        if explain_dir is not None:
            kept.extend(images[: max(0, MAX_EXPLAINED - len(kept))])

    with progress_bar("predicting") as progress:
        predictions = predict_run(
            classifier, model, inputs, settings=settings, confidence=reject_below, watch=keep,
            progress=progress,
        )  # fmt: skip
    _show(predictions)
    if out is not None:
        for path in write_predictions(predictions, out):
            click.echo(f"{path}: written")
    if explain_dir is not None and kept:
        from classifier.explain_run import ExplainConfig, write_explanations
        from classifier.run import Classifier

        assert isinstance(classifier, Classifier)
        summary = write_explanations(classifier, kept, ExplainConfig(), explain_dir, overwrite=overwrite)
        click.echo(f"{explain_dir}: {summary.num_pictures} pictures by grad-cam, layer {summary.layer}")
    for item in predictions.unreadable if skip_unreadable else ():
        click.echo(f"left out: {item}", err=True)
    refuse_unreadable_inputs(predictions, skip_unreadable)


def _show(predictions: Predictions) -> None:
    """A few rows for the eye, and the counts."""
    for title, table in (("volumes", predictions.volumes), ("images", predictions.images)):
        if len(table):
            click.echo(f"{len(table)} {title}")
            _show_rows(table, predictions.classes)
    images = predictions.images
    if len(images):
        counts = images["decision"].value_counts()
        click.echo("decided: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    click.echo(f"by {predictions.settings['decision']['by']}")
    for note in predictions.notes:
        click.echo(f"note: {note}", err=True)


def _show_rows(table: pd.DataFrame, classes: tuple[str, ...]) -> None:
    columns = [
        name
        for name in ("file", "volume", "plane", "angle_deg", "slice_index", "num_slices")
        if name in table
    ]
    if "volume" in columns and "file" in columns:
        columns.remove("volume")
    columns += [*[f"p_{name}" for name in classes[:6]], "class"]
    columns += [name for name in ("decision",) if name in table and (table[name] != table["class"]).any()]
    shown = table[columns].head(NUM_SHOWN)
    click.echo(shown.to_string(index=False, float_format=lambda value: f"{value:.3f}", max_colwidth=48))
    if len(table) > NUM_SHOWN:
        click.echo(f"  ... and {len(table) - NUM_SHOWN} more (--out writes them all)")
