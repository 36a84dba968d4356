"""Progress bars on the terminal: what `extract.progress.Progress` looks like to a person."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from extract.progress import Progress

LOG_INTERVAL_SEC = 10.0  # without a terminal: one line at most this often, so that logs stay readable


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Yield a `Progress` that draws a bar on standard error; lines now and then where it is no terminal."""
    if not sys.stderr.isatty():
        yield _line_reporter(title)
        return
    bar = Bar(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[message]}"),
        console=Console(stderr=True), transient=False,
    )  # fmt: skip
    with bar:
        task = bar.add_task(title, total=None, message="")
        is_first = True

        def report(done: int, total: int, message: str) -> None:
            nonlocal is_first
            if is_first:  # what an earlier run has done says nothing of the speed of this one
                bar.reset(task, completed=done, total=total, message=message)
                is_first = False
            bar.update(task, completed=done, total=total, message=message)

        yield report


def _line_reporter(title: str) -> Progress:
    last = time.monotonic()
    first: tuple[float, int] | None = None  # time and place of the first report: a resumed job begins midway

    def report(done: int, total: int, message: str) -> None:
        nonlocal last, first
        now = time.monotonic()
        if first is None or done < first[1]:
            first = (now, done)
        if now - last < LOG_INTERVAL_SEC:
            return
        last = now
        started, done_before = first
        rate = (done - done_before) / max(now - started, 1e-9)
        left = f" ({(total - done) / rate:.0f} s left)" if rate > 0 else ""
        click.echo(f"{title}: {done}/{total} {message}{left}", err=True)

    return report
