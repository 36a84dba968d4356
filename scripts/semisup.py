"""`synthlabel semisup`: studies of pseudo-labels, from a plan to a report."""

import os
import sys
from pathlib import Path

import click

from extract.errors import SynthlabelError
from extract.language import LANGUAGES
from scripts.progress import progress_bar
from scripts.semisup_audit import audit
from scripts.semisup_plan import plan
from scripts.semisup_query import query
from scripts.semisup_status import status

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
LANG = click.option(
    "--lang",
    type=click.Choice(LANGUAGES),
    default="en",
    show_default=True,
    help="Language of the report; in Spanish it is report.es.html.",
)


@click.group()
def commands() -> None:
    """Pseudo-label studies: plan, run, report, questions and audits."""


commands.add_command(plan)
commands.add_command(status)
commands.add_command(query)
commands.add_command(audit)


@commands.command()
@STUDY
@OUTDIR
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes at once; the numbers do not depend on it.  [default: 2, 1 on one core, or one a GPU]",
)
@click.option(
    "--gpus",
    metavar="LIST",
    help="GPUs of this machine, such as 0,1: each job gets one of them.  [default: all jobs share the first]",
)
@click.option(
    "--ray",
    "ray_address",
    metavar="ADDRESS",
    help="Work on a Ray cluster: HOST:PORT, auto (the one that this machine belongs to, else as local), or "
    "local (one of this machine alone). --outdir must lie on a path that all its machines share.",
)
@LANG
def run(
    study: Path, outdir: Path, jobs: int | None, gpus: str | None, ray_address: str | None, lang: str
) -> None:
    """Run a study, or go on with it: what is done is not done again, what failed is tried again."""
    from semisup.study import run_study

    with progress_bar("study") as progress:
        summary = run_study(
            study,
            outdir,
            jobs=jobs,
            gpus=named_gpus(gpus),
            ray_address=ray_address,
            command=command_line(),
            progress=progress,
        )
    click.echo(f"{outdir}: {summary.num_done} of {summary.num_runs} runs done")
    for title, cause in summary.failures:
        click.echo(f"failed: {title}: {cause}", err=True)
    if summary.num_done:
        print_report(outdir, lang)
    if summary.failures:
        raise SynthlabelError(
            f"{outdir}: {summary.num_runs - summary.num_done} of {summary.num_runs} runs have no result, for "
            "the causes above; the others are kept, and the same command tries again"
        )


@commands.command()
@OUTDIR
@LANG
def report(outdir: Path, lang: str) -> None:
    """Write the report of what a study has so far, its tables and figures, and print its verdict."""
    print_report(outdir, lang)


def named_gpus(text: str | None) -> tuple[str, ...]:
    """What `--gpus` names, checked against the GPUs that are there."""
    if text is None:
        return ()
    from classifier.threads import num_cuda_devices
    from semisup.lanes import parse_gpus

    return parse_gpus(text, os.environ.get("CUDA_VISIBLE_DEVICES"), num_cuda_devices())


def print_report(outdir: Path, lang: str) -> None:
    """Write the report and print its verdict, checks that failed, and where it lies."""
    from semisup.report import write_report

    summary = write_report(outdir, lang)
    click.echo(f"\n{summary.verdict}\n\nreport: {summary.path}")
    for fault in summary.faults:
        click.echo(f"check failed: {fault}", err=True)
    for path in summary.beside:
        click.echo(f"{path}: beside a file that was edited and is left alone")


def command_line() -> list[str]:
    """The command as one would type it again."""
    return ["synthlabel", *sys.argv[1:]]
