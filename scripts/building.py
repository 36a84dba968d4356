"""What the commands that build archives have in common: options, and the line that says what was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from extract.building import BuildSummary


def building_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command shares which builds an archive from many files."""
    for option in (
        click.option("--overwrite", is_flag=True, help="Replace an archive that is there."),
        click.option("--skip-unreadable", is_flag=True, help="Leave bad files out instead of stopping."),
        click.option(
            "--workers", type=click.IntRange(min=1), default=None, help="Processes.  [default: one a core]"
        ),
    ):
        function = option(function)
    return function


def print_summary(summary: BuildSummary, what: str) -> None:
    """Say what was left out and what should be looked at, then what was made."""
    for item in summary.unreadable:
        click.echo(f"left out: {item}", err=True)
    if summary.num_ignored:
        click.echo(f"ignored: {summary.num_ignored} other files in the folder", err=True)
    if summary.empty_folders:
        click.echo(f"note: no picture in the folder {', '.join(map(repr, summary.empty_folders))}", err=True)
    for note in summary.notes:
        click.echo(f"note: {note}", err=True)
    counts = ", ".join(f"{name} {count}" for name, count in summary.counts.items())
    left_out = f", {len(summary.unreadable)} left out" if summary.unreadable else ""
    click.echo(
        f"{summary.dest}: {summary.num_images} images of {summary.num_subjects} subjects from "
        f"{summary.num_files} "
        f"{what}{left_out} ({counts})"
    )
