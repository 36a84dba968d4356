"""`synthlabel classifier train` and `find-rate`: settings or a recipe, images, and a training on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifier.config import ClassifierConfig, read_settings
from classifier.recipes import Recipe, chance_note, find_recipe, from_chance, with_config, with_size
from extract.errors import SettingsError
from scripts.classifier_evaluate import print_evaluation
from scripts.progress import progress_bar
from scripts.training_settings import chosen_settings, training_options

if TYPE_CHECKING:
    from classifier.recipe_data import TrainingData
    from extract.progress import Progress

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER_SIZE = 64  # pixels a side that a folder is packed at where neither a recipe nor --size says


def data_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What to train on, and which settings to begin with."""
    for option in reversed((
        click.option(
            "--data",
            type=click.Path(exists=True, path_type=Path),
            required=True,
            help="Archive of labeled images (.zip), or a folder with a folder a class.",
        ),
        click.option(
            "--split",
            "split_path",
            type=FILE,
            help="Split of its subjects (.split.json).  [default: made beside --outdir]",
        ),
        click.option("--fold", type=click.IntRange(min=0), default=0, show_default=True),
        click.option(
            "--fraction",
            type=float,
            default=1.0,
            show_default=True,
            help="Labeled fraction of the training subjects.",
        ),
        click.option("--subjects", type=FILE, help="CSV of files and subjects.  [default: manifest.csv]"),
        click.option("--subject-pattern", metavar="REGEX", help="Finds the subject in the path of a file."),
        click.option("--label-column", metavar="NAME", help="Column of classes.  [default: the folders]"),
        click.option("--recipe", "recipe_name", metavar="NAME", help="Settings by name, see `recipes`."),
        click.option("--settings", type=FILE, help="Settings in JSON, as `classifier tune` writes them."),
        click.option(
            "--size",
            type=int,
            metavar="PIXELS",
            help="Side of the images that the network sees.  [default: the recipe's, or that of the images]",
        ),
    )):  # fmt: skip
        function = option(function)
    return function


@click.command()
@data_options
@click.option("--epochs", type=float, help="Passes over the training images, in place of --steps.")
@training_options
@click.option(
    "--allow-other-archive",
    is_flag=True,
    help="Take weights of an own training on another archive: you know that the people differ.",
)
@click.option(
    "--outdir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run."
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the run, or the begun training of other settings, that stands in --outdir.",
)
@click.pass_context
def train(
    ctx: click.Context,
    fold: int,
    fraction: float,
    epochs: float | None,
    allow_other_archive: bool,
    outdir: Path,
    overwrite: bool,
    **options: Any,
) -> None:
    """Train a classifier; validation chooses checkpoint and temperature, the test part stays closed."""
    if epochs is not None and options["steps"] is not None:
        raise click.UsageError("--epochs and --steps both set the length of the training: give one of them")
    recipe = chosen_recipe(options)
    config = chosen_settings(ctx, options, recipe.config)
    recipe = with_config(recipe, config)
    if epochs is None and options["steps"] is None:
        epochs = recipe.epochs
    from classifier.job import train_run

    with progress_bar("training") as progress:
        made = training_data(recipe, options, outdir, config.seed, progress)
        classifier, evaluation = train_run(
            made.archive,
            made.split,
            fold,
            fraction,
            config,
            outdir,
            epochs=epochs,
            allow_other_archive=allow_other_archive,
            overwrite=overwrite,
            progress=progress,
        )
    done = classifier.history.iloc[-1]
    click.echo(
        f"{outdir}: {config.arch}, {done['step']:.0f} steps in {done['seconds']:.1f} s, "
        f"temperature {classifier.temperature:.2f}"
    )
    print_evaluation(evaluation)


@click.command("find-rate")
@data_options
@click.option("--tests", type=click.IntRange(min=10), default=100, show_default=True, help="Rates to try.")
@training_options
@click.option(
    "--outdir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the curve."
)
@click.pass_context
def find_rate(
    ctx: click.Context, fold: int, fraction: float, tests: int, outdir: Path, **options: Any
) -> None:
    """Try learning rates on the labeled part, from very small to far too large, and suggest one."""
    recipe = chosen_recipe(options)
    config = chosen_settings(ctx, options, recipe.config)
    recipe = with_config(recipe, config)
    from classifier.rate_finder import find_rate_for

    with progress_bar("testing rates") as progress:
        made = training_data(recipe, options, outdir, config.seed, progress)
        found = find_rate_for(
            made.archive, made.split, fold, fraction, config, outdir, num_steps=tests, progress=progress
        )
    click.echo(f"{outdir}: rates.csv, rates.png; suggested --lr {found.suggestion:.2g}")


def chosen_recipe(options: dict[str, Any]) -> Recipe:
    """The recipe asked for, told where it starts from chance; or one around plain settings."""
    name, settings, size = options["recipe_name"], options["settings"], options["size"]
    if name is not None and settings is not None:
        raise click.UsageError("--recipe and --settings both name settings to begin with: give one of them")
    if name is None:
        config = read_settings(settings) if settings else ClassifierConfig()
        recipe = Recipe(
            name="plain settings",
            summary="",
            data="",
            config=config,
            epochs=None,
            image_size=FOLDER_SIZE,
            smallest_size=8,
        )
        return recipe if size is None else with_size(recipe, size)
    recipe = find_recipe(name)
    if size is not None:
        recipe = with_size(recipe, size)
    if recipe.expects_weights and not (options["pretrained"] or options["weights"]):
        click.echo(f"note: {chance_note(recipe)}", err=True)
        recipe = from_chance(recipe)
    return recipe


def training_data(
    recipe: Recipe, options: dict[str, Any], outdir: Path, seed: int, progress: Progress
) -> TrainingData:
    """The archive and the split that the options name, made where they name a folder or no split."""
    from classifier.recipe_data import recipe_data
    from extract.layouts import SubjectRule

    data, table, pattern = options["data"], options["subjects"], options["subject_pattern"]
    column = options["label_column"]
    rule = None
    if table is not None or pattern is not None:
        rule = SubjectRule(table=table, pattern=pattern, label_column=column)
    elif column is not None:
        recipe = replace(recipe, label_column=column)
    if not data.is_dir() and (rule is not None or column is not None):
        raise SettingsError(
            f"--subjects, --subject-pattern and --label-column go with a folder, {data} is an archive, which "
            "knows its subjects and classes: leave them out"
        )
    made = recipe_data(recipe, data, options["split_path"], outdir, rule=rule, seed=seed, progress=progress)
    for note in made.notes:
        click.echo(f"note: {note}", err=True)
    return made
