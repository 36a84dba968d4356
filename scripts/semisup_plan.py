"""`synthlabel semisup plan`: what a study would run, what that takes, and what it can show."""

import json
from pathlib import Path

import click

from scripts.progress import progress_bar


@click.command()
@click.option(
    "--study",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Study file (YAML); see docs/studies.md.",
)
@click.option(
    "--probe",
    "probe_sec",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SEC",
    help="Train a scratch classifier and a scratch generator for so long each to tell the time; 0 = do not.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes at once to reckon with.  [default: as `run` takes]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(study: Path, probe_sec: float, jobs: int | None, as_json: bool) -> None:
    """Check a study file against its data and print what it would run, what that takes, what it can show."""
    from semisup.config import load_study
    from semisup.estimate import estimate_study
    from semisup.plan import make_plan
    from semisup.plan_table import estimate_table, plan_json, plan_table

    planned = make_plan(load_study(study))
    with progress_bar("probe") as progress:
        estimate = estimate_study(planned, probe_sec, jobs, progress)
    if as_json:
        click.echo(json.dumps(plan_json(planned, estimate), indent=1, ensure_ascii=False))
    else:
        click.echo(f"{plan_table(planned)}\n\n{estimate_table(estimate)}")
