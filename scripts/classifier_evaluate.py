"""`synthlabel classifier evaluate`, and what it and `train` print of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts.progress import progress_bar

if TYPE_CHECKING:
    from classifier.job import Evaluation

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
SHARE = click.FloatRange(0, 1)
SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece")


@click.command()
@click.option("--model", "run_dir", type=FOLDER, required=True, help="Folder of a finished run.")
@click.option("--data", type=FILE, required=True, help="Archive of labeled images (.zip).")
@click.option("--split", "split_path", type=FILE, required=True, help="Split of its subjects (.split.json).")
@click.option("--fold", type=click.IntRange(min=0), default=None, help="Default: the fold of the training.")
@click.option("--fraction", type=float, default=None, help="For --part val. Default: that of the training.")
@click.option("--part", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Subgroups by a column of the manifest or of --table; can be repeated.  [default: columns with 2 to "
    "12 values]",
)
@click.option("--table", type=FILE, help="CSV with one row a subject, for --by (sex, age, ...).")
@click.option(
    "--coverage",
    type=SHARE,
    help="Reject the least sure images so that this share of validation is decided.  [default: 0.9]",
)
@click.option("--risk", type=SHARE, help="Or so that at most this share of what is decided is wrong.")
@click.option("--positive", metavar="CLASS", help="Of two classes the one looked for, for the thresholds.")
@click.option(
    "--combine",
    type=click.Choice(["mean", "log"]),
    default="mean",
    show_default=True,
    help="Mean of the probabilities of a subject's images, or of their logarithms.",
)
@click.option("--page/--no-page", default=True, show_default=True, help="Write evaluation-PART.html.")
@click.option(
    "--page-only", is_flag=True, help="Draw the page of an earlier evaluation again; opens nothing."
)
def evaluate(
    run_dir: Path,
    data: Path,
    split_path: Path,
    fold: int | None,
    fraction: float | None,
    part: str,
    by: tuple[str, ...],
    table: Path | None,
    coverage: float | None,
    risk: float | None,
    positive: str | None,
    combine: str,
    page: bool,
    page_only: bool,
) -> None:
    """Measure a classifier on a part whose subjects it has not seen; adds files to its folder.

    Thresholds and rejection are chosen on the validation part of the training, never on the part that is
    measured, and kept in decision.json.
    """
    if page_only:
        from classifier.page import redraw_page

        click.echo(redraw_page(run_dir, part, data))
        return
    from classifier.evaluation import EvaluationOptions
    from classifier.job import evaluate_run

    options = EvaluationOptions(
        by=by or None,
        table=table,
        risk=risk,
        coverage=coverage,
        positive=positive,
        combine=combine,
        page=page,
    )
    with progress_bar("evaluating") as progress:
        evaluation = evaluate_run(
            run_dir, data, split_path, part, fold=fold, fraction=fraction, options=options, progress=progress
        )
    print_evaluation(evaluation)
    shown = f"evaluation-{part}.html, " if page else ""
    click.echo(
        f"{run_dir}: {shown}metrics.json, predictions.parquet, curves-{part}.csv, subgroups-{part}.csv, "
        f"subjects-{part}.csv and pictures"
    )


def print_evaluation(evaluation: Evaluation) -> None:
    """The main numbers with their intervals, and what to keep in mind."""
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
    by_subject = evaluation.report["subject_level"]
    if "metrics" in by_subject:
        interval = by_subject["intervals_95"].get("balanced_accuracy")
        shown = f"  [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
        value = by_subject["metrics"]["balanced_accuracy"]
        click.echo(f"  by subject, balanced accuracy {value:.3f}{shown}")
    chosen = evaluation.report["rejection"].get("chosen")
    if chosen and chosen["confidence"] is not None:
        click.echo(
            f"  left to a person below a confidence of {chosen['confidence']:.3f}: {chosen['coverage']:.0%} "
            f"decided, {chosen['risk']:.1%} of these wrong"
        )
    elif chosen and chosen["note"]:
        click.echo(f"  ({chosen['note']})")
    if evaluation.missing_classes:
        click.echo(f"  no image of class {', '.join(evaluation.missing_classes)}: the means leave it out")
    if evaluation.part == "val":
        click.echo("  (validation chose the checkpoint and the temperature: expect less on the test part)")
    elif evaluation.openings > 1:
        click.echo(f"  (this part was opened {evaluation.openings} times with this run)")
