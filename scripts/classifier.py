"""`synthlabel classifier`: train on the labeled part of a split, evaluate on a part that was kept out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from classifier.config import ClassifierConfig, read_settings
from scripts.classifier_evaluate import evaluate, print_evaluation
from scripts.classifier_explain import explain
from scripts.classifier_export import export
from scripts.classifier_predict import predict
from scripts.classifier_pretrain import pretrain
from scripts.classifier_recipes import recipes
from scripts.classifier_segment import segment
from scripts.classifier_tune import tune
from scripts.progress import progress_bar
from scripts.training_settings import chosen_settings, training_options

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def commands() -> None:
    """Train and evaluate classifiers on archives."""


commands.add_command(recipes)
commands.add_command(pretrain)
commands.add_command(tune)
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
@click.option("--epochs", type=float, help="Passes over the training images, in place of --steps.")
@click.option("--settings", type=FILE, help="Settings in JSON, as `classifier tune` writes them.")
@training_options
@click.option(
    "--outdir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run."
)
@click.option("--overwrite", is_flag=True, help="Replace the run that stands in --outdir.")
@click.pass_context
def train(
    ctx: click.Context,
    data: Path,
    split_path: Path,
    fold: int,
    fraction: float,
    epochs: float | None,
    settings: Path | None,
    outdir: Path,
    overwrite: bool,
    **options: Any,
) -> None:
    """Train a classifier; validation chooses checkpoint and temperature, the test part stays closed."""
    if epochs is not None and options["steps"] is not None:
        raise click.UsageError("--epochs and --steps both set the length of the training: give one of them")
    config = chosen_settings(ctx, options, read_settings(settings) if settings else ClassifierConfig())
    from classifier.job import train_run

    with progress_bar("training") as progress:
        classifier, evaluation = train_run(
            data,
            split_path,
            fold,
            fraction,
            config,
            outdir,
            epochs=epochs,
            overwrite=overwrite,
            progress=progress,
        )
    done = classifier.history.iloc[-1]
    click.echo(
        f"{outdir}: {config.arch}, {done['step']:.0f} steps in {done['seconds']:.1f} s, "
        f"temperature {classifier.temperature:.2f}"
    )
    print_evaluation(evaluation)


@commands.command("find-rate")
@click.option("--data", type=FILE, required=True, help="Archive of labeled images (.zip).")
@click.option("--split", "split_path", type=FILE, required=True, help="Split of its subjects (.split.json).")
@click.option("--fold", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--fraction", type=float, default=1.0, show_default=True, help="Labeled fraction.")
@click.option("--settings", type=FILE, help="Settings in JSON, as `classifier tune` writes them.")
@click.option("--tests", type=click.IntRange(min=10), default=100, show_default=True, help="Rates to try.")
@training_options
@click.option(
    "--outdir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the curve."
)
@click.pass_context
def find_rate(
    ctx: click.Context,
    data: Path,
    split_path: Path,
    fold: int,
    fraction: float,
    settings: Path | None,
    tests: int,
    outdir: Path,
    **options: Any,
) -> None:
    """Try learning rates on the labeled part, from very small to far too large, and suggest one."""
    config = chosen_settings(ctx, options, read_settings(settings) if settings else ClassifierConfig())
    from classifier.rate_finder import find_rate_for

    with progress_bar("testing rates") as progress:
        found = find_rate_for(
            data, split_path, fold, fraction, config, outdir, num_steps=tests, progress=progress
        )
    click.echo(f"{outdir}: rates.csv, rates.png; suggested --lr {found.suggestion:.2g}")


for command in (evaluate, explain, predict, export):
    commands.add_command(command)
