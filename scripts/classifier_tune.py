"""`synthlabel classifier tune`: search settings on inner folds of a training part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.classifier_train import chosen_recipe, data_options, training_data
from scripts.progress import progress_bar
from scripts.training_settings import DEFAULTS, chosen_settings, training_options

if TYPE_CHECKING:
    from classifier.config import ClassifierConfig
    from classifier.search_space import SearchSpace
    from classifier.tune_report import Tuning

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@data_options
@click.option("--space", "space_path", type=FILE, help="Choices in YAML or JSON, by name of the setting.")
@click.option(
    "--try", "tried", multiple=True, metavar="NAME=A,B|LOW..HIGH",
    help="Choices for one setting, in place of those of --space or the default; may be repeated.",
)  # fmt: skip
@click.option("--trials", type=int, default=30, show_default=True, help="Trials in all sessions together.")
@click.option("--timeout-minutes", type=float, help="Begin no trial after that time.  [default: none]")
@click.option("--jobs", type=int, default=1, show_default=True, help="Processes that run trials.")
@click.option(
    "--inner-folds", type=int, default=1, show_default=True,
    help="1: one hold-out; K: each training subject validates once.",
)  # fmt: skip
@click.option(
    "--inner-share", type=float, default=0.25, show_default=True,
    help="Share of the training subjects that the one hold-out takes.",
)  # fmt: skip
@click.option(
    "--startup-trials", type=int, default=8, show_default=True,
    help="Drawn at random before the sampler learns and trials are pruned.",
)  # fmt: skip
@click.option("--prune/--no-prune", default=True, show_default=True, help="Stop trials below the median.")
@training_options
@click.option(
    "--allow-other-archive",
    is_flag=True,
    help="Take weights of an own training on another archive: you know that the people differ.",
)
@click.option(
    "--outdir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the tuning."
)
@click.option("--overwrite", is_flag=True, help="Begin anew where --outdir holds a tuning.")
@click.pass_context
def tune(
    ctx: click.Context,
    fold: int,
    fraction: float,
    space_path: Path | None,
    tried: tuple[str, ...],
    trials: int,
    timeout_minutes: float | None,
    jobs: int,
    inner_folds: int,
    inner_share: float,
    startup_trials: int,
    prune: bool,
    allow_other_archive: bool,
    outdir: Path,
    overwrite: bool,
    **options: Any,
) -> None:
    """Search settings inside the training part; validation and test stay closed.

    Searched are network, learning rate, size, loss, mask, augmentation and (with weights) freeze depth,
    unless --space or --try say otherwise. What an option, a recipe or --settings sets is not searched unless
    --try or --space name it. The training is as long as --steps says. Killed, a tuning goes on with the same
    command. `classifier train --settings OUTDIR/best-settings.json` uses what it found.
    """
    from classifier.tune_config import TuneConfig

    recipe = chosen_recipe(options)
    config = chosen_settings(ctx, options, recipe.config)
    tune_config = TuneConfig(
        trials=trials,
        timeout_minutes=timeout_minutes,
        jobs=jobs,
        inner_folds=inner_folds,
        inner_share=inner_share,
        startup_trials=startup_trials,
        prune=prune,
        seed=config.seed,
    )
    from classifier.tuning import tune_run

    with progress_bar("tuning") as progress:
        made = training_data(recipe, options, outdir, config.seed, progress)
        given = {name for name in DEFAULTS if options.get(name) is not None}
        space = _make_space(space_path, tried, made.archive, config, given)
        tuning = tune_run(
            made.archive, made.split, fold, fraction, config, space, tune_config, outdir,
            allow_other_archive=allow_other_archive, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    _print_tuning(tuning, outdir, trials, inner_folds)


def _make_space(
    space_path: Path | None, tried: tuple[str, ...], data: Path, config: ClassifierConfig, given: set[str]
) -> SearchSpace:
    """The choices of file and options; the default's where neither says anything."""
    from classifier.search_space import parse_choices, read_space
    from classifier.tuning import complete_space

    chosen = read_space(space_path) if space_path else {}
    named = [parse_choices(text) for text in tried]
    where = (
        f"{space_path}" if space_path and not tried else "--try" if not space_path else "--space with --try"
    )
    return complete_space(
        chosen | dict(named), data, config, given, is_whole=space_path is not None, where=where
    )


def _print_tuning(tuning: Tuning, outdir: Path, num_trials: int, num_folds: int) -> None:
    from classifier.tune_report import BEST, FEW_TRIALS, NOTE, PICTURE, SUMMARY, TRIALS

    session, best = tuning.session, tuning.best
    assert best is not None
    if session.num_before or session.num_interrupted:
        click.echo(
            f"{outdir}: went on after {session.num_before} finished trials; {session.num_interrupted} that "
            "were running when the last session was killed count as failed and were run again"
        )
    ended = ", ".join(f"{number} {state}" for state, number in sorted(tuning.counts.items()))
    train, val = tuning.inner_sizes[0]
    how = f"{num_folds} inner folds" if num_folds > 1 else f"one hold-out ({train} to train, {val} to judge)"
    click.echo(
        f"{outdir}: {len(tuning.trials)} of {num_trials} trials ({ended}) on {tuning.num_images} images of "
        f"{tuning.num_subjects} training subjects, {how}; validation and test were not looked at"
    )
    click.echo(f"best: trial {best.trial}, {tuning.monitor.replace('_', ' ')} {best.score:.3f} inside")
    for name, value in best.settings.items():
        click.echo(f"  {name:18s} {value}")
    if tuning.importance:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in tuning.importance.items())
        num_complete = tuning.counts.get("complete", 0)
        doubt = f" (of {num_complete} trials: says little)" if num_complete < FEW_TRIALS else ""
        click.echo(f"importance{doubt}: {shares}")
    click.echo(NOTE)
    click.echo(f"{outdir}: {BEST}, {TRIALS}, {SUMMARY}, {PICTURE}")
