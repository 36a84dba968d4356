"""`synthlabel semisup status`: how far a study is, once or again and again."""

import json
import time
from pathlib import Path

import click


@click.command()
@click.option(
    "--outdir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the study.",
)
@click.option(
    "--watch",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SEC",
    help="Print it every so many seconds until nothing is left to do, or Ctrl-C.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with --watch one object a line.")
def status(outdir: Path, watch: float | None, as_json: bool) -> None:
    """Print how far a study is and how long it may take yet, while it runs or after."""
    from semisup.status import status_json, status_table, study_status

    while True:
        found = study_status(outdir)
        if as_json:
            click.echo(json.dumps(status_json(found), ensure_ascii=False))
        else:
            if watch:
                click.clear()
            click.echo(status_table(found))
        if watch is None or found.is_over:
            return
        time.sleep(watch)
