"""`synthlabel semisup`: studies of pseudo-labels, from a plan to a report."""

import sys
from pathlib import Path

import click

from extract.errors import SynthlabelError
from scripts.progress import progress_bar
from scripts.semisup_audit import audit
from scripts.semisup_query import query

STUDY = click.option(
    "--study",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Study file (YAML); see docs/studies.md.",
)
OUTDIR = click.option(
    "--outdir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the study.",
)


@click.group()
def commands() -> None:
    """Pseudo-label studies: plan, run, report, questions and audits."""


commands.add_command(query)
commands.add_command(audit)


@commands.command()
@STUDY
def plan(study: Path) -> None:
    """Check a study file against its data and print what it would run."""
    from semisup.config import load_study
    from semisup.plan import make_plan
    from semisup.status import plan_table

    click.echo(plan_table(make_plan(load_study(study))))


@commands.command()
@STUDY
@OUTDIR
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes at once; the numbers do not depend on it.  [default: 2, or 1 on one core]",
)
def run(study: Path, outdir: Path, jobs: int | None) -> None:
    """Run a study, or go on with it: what is done is not done again, what failed is tried again."""
    from semisup.study import run_study

    with progress_bar("study") as progress:
        summary = run_study(study, outdir, jobs=jobs, command=command_line(), progress=progress)
    click.echo(f"{outdir}: {summary.num_done} of {summary.num_runs} runs done")
    for title, cause in summary.failures:
        click.echo(f"failed: {title}: {cause}", err=True)
    if summary.num_done:
        print_report(outdir)
    if summary.failures:
        raise SynthlabelError(
            f"{outdir}: {summary.num_runs - summary.num_done} of {summary.num_runs} runs have no result, for "
            "the causes above; the others are kept, and the same command tries again"
        )


@commands.command()
@OUTDIR
def report(outdir: Path) -> None:
    """Write the report of what a study has so far, and print its verdict."""
    print_report(outdir)


@commands.command()
@OUTDIR
def status(outdir: Path) -> None:
    """Print how far a study is, while it runs or after."""
    from semisup.status import status_table, study_status

    click.echo(status_table(study_status(outdir)))


def print_report(outdir: Path) -> None:
    """Write report.html and print the verdict and where it lies."""
    from semisup.report import write_report

    summary = write_report(outdir)
    click.echo(f"\n{summary.verdict}\n\nreport: {summary.path}")


def command_line() -> list[str]:
    """The command as one would type it again."""
    return ["synthlabel", *sys.argv[1:]]
