"""`synthlabel classifier`: train on the labeled part of a split, evaluate on a part that was kept out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts.classifier_segment import segment
from scripts.progress import progress_bar

if TYPE_CHECKING:
    from classifier.job import Evaluation

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece")


@click.group()
def commands() -> None:
    """Train and evaluate classifiers on archives."""


commands.add_command(segment)


@commands.command()
@click.option("--data", type=FILE, required=True, help="Archive of labeled images (.zip).")
@click.option("--split", "split_path", type=FILE, required=True, help="Split of its subjects (.split.json).")
@click.option("--fold", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--fraction",
    type=float,
    default=1.0,
    show_default=True,
    help="Labeled fraction of the training subjects.",
)
@click.option("--arch", default="small_resnet", show_default=True, help="small_resnet, or any timm name.")
@click.option("--pretrained", is_flag=True, help="Start from timm's published weights.")
@click.option("--steps", type=int, default=600, show_default=True, help="Optimiser steps, exactly.")
@click.option("--batch", type=int, default=64, show_default=True, help="Images a step.")
@click.option(
    "--lr",
    type=float,
    help="Peak learning rate.  [default: 0.005 for small_resnet, 0.001 for timm, 0.0003 pretrained]",
)
@click.option("--weight-decay", type=float, default=0.05, show_default=True)
@click.option("--label-smoothing", type=float, default=0.0, show_default=True)
@click.option("--balance-classes", is_flag=True, help="Weigh classes inversely to their frequency.")
@click.option(
    "--augment/--no-augment", default=True, show_default=True, help="Small shifts, turns, zooms, brightness."
)
@click.option(
    "--preprocessing",
    default="plain",
    show_default=True,
    metavar="NAME|FILE.json",
    help="Steps before the network, kept in the model; see `synthlabel extract preprocess`.",
)
@click.option("--mirror", is_flag=True, help="Also mirror left-right; only where no label names a side.")
@click.option("--validate-every", type=int, default=100, show_default=True, metavar="STEPS")
@click.option(
    "--keep",
    type=click.Choice(["best", "last"]),
    default="best",
    show_default=True,
    help="Checkpoint to keep.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--outdir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run."
)
@click.option("--overwrite", is_flag=True, help="Replace the run that stands in --outdir.")
def train(
    data: Path,
    split_path: Path,
    fold: int,
    fraction: float,
    arch: str,
    pretrained: bool,
    steps: int,
    batch: int,
    lr: float | None,
    weight_decay: float,
    label_smoothing: float,
    balance_classes: bool,
    augment: bool,
    preprocessing: str,
    mirror: bool,
    validate_every: int,
    keep: str,
    seed: int,
    device: str,
    outdir: Path,
    overwrite: bool,
) -> None:
    """Train a classifier; validation chooses checkpoint and temperature, the test part stays closed."""
    from classifier.config import ClassifierConfig
    from extract.preprocessing import load_preprocessing

    config = ClassifierConfig(
        arch=arch,
        pretrained=pretrained,
        steps=steps,
        batch_size=batch,
        lr=lr,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        balance_classes=balance_classes,
        augment=augment,
        preprocessing=load_preprocessing(preprocessing),
        mirror=mirror,
        validate_every=validate_every,
        keep=keep,
        seed=seed,
        device=device,
    )
    from classifier.job import train_run

    with progress_bar("training") as progress:
        classifier, evaluation = train_run(
            data, split_path, fold, fraction, config, outdir, overwrite=overwrite, progress=progress
        )
    seconds = classifier.history["seconds"].iloc[-1]
    click.echo(
        f"{outdir}: {arch}, {steps} steps in {seconds:.1f} s, temperature {classifier.temperature:.2f}"
    )
    _print_evaluation(evaluation)


@commands.command()
@click.option("--model", "run_dir", type=FOLDER, required=True, help="Folder of a finished run.")
@click.option("--data", type=FILE, required=True, help="Archive of labeled images (.zip).")
@click.option("--split", "split_path", type=FILE, required=True, help="Split of its subjects (.split.json).")
@click.option("--fold", type=click.IntRange(min=0), default=None, help="Default: the fold of the training.")
@click.option("--fraction", type=float, default=None, help="For --part val. Default: that of the training.")
@click.option("--part", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
def evaluate(
    run_dir: Path, data: Path, split_path: Path, fold: int | None, fraction: float | None, part: str
) -> None:
    """Measure a classifier on a part whose subjects it has not seen; adds files to its folder."""
    from classifier.job import evaluate_run

    with progress_bar("evaluating") as progress:
        evaluation = evaluate_run(
            run_dir, data, split_path, part, fold=fold, fraction=fraction, progress=progress
        )
    _print_evaluation(evaluation)
    click.echo(f"{run_dir}: metrics.json, predictions.parquet, confusion-{part}.png, reliability-{part}.png")


def _print_evaluation(evaluation: Evaluation) -> None:
    note = (
        "95 % intervals by subject"
        if evaluation.intervals
        else "no intervals: they take two subjects or more"
    )
    click.echo(
        f"{evaluation.part}: {evaluation.num_images} images, subjects: {evaluation.num_subjects} ({note})"
    )
    for name in SHOWN:
        interval = evaluation.intervals.get(name)
        shown = f"  [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
        click.echo(f"  {name.replace('_', ' '):18s} {evaluation.metrics[name]:.3f}{shown}")
    if evaluation.missing_classes:
        click.echo(f"  no image of class {', '.join(evaluation.missing_classes)}: the means leave it out")
    if evaluation.part == "val":
        click.echo("  (validation chose the checkpoint and the temperature: expect less on the test part)")
    elif evaluation.openings > 1:
        click.echo(f"  (this part was opened {evaluation.openings} times with this run)")
