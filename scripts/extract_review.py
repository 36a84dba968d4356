"""`synthlabel extract review`: what was decided on an archive's images, and the archive that follows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from extract.errors import SettingsError
from scripts.destinations import check_suffix
from scripts.progress import progress_bar

if TYPE_CHECKING:
    from extract.review_log import ReviewLog

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--data", type=FILE, required=True, help="Archive that was reviewed.")
@click.option("--split", type=FILE, default=None, help="Its split.  [default: the one beside it]")
@click.option(
    "--fold", type=click.IntRange(min=0), default=0, show_default=True, help="Fold that was reviewed."
)
@click.option(
    "--dest",
    type=FILE,
    default=None,
    help="Archive to write (.zip), its split beside it (.split.json).  [default: list the decisions]",
)
@click.option("--overwrite", is_flag=True, help="Replace an archive and split that are there.")
def review(data: Path, split: Path | None, fold: int, dest: Path | None, overwrite: bool) -> None:
    """List the decisions of a review, or write the archive that follows from them.

    Decisions are made on the page Review of `synthlabel app`, and lie beside the archive, which stays as it
    is. The new split has the reviewed fold alone: its validation and test images were locked.
    """
    from extract.review_apply import apply_review, count_actions, read_review
    from extract.review_rows import current_decisions
    from extract.review_scope import SPLIT_SUFFIX, find_split

    if not data.is_file():
        raise SettingsError(f"--data must be an archive (.zip), got {data}, which is not there")
    split = split or find_split(data)
    if dest is None:
        _, log = read_review(data, split, fold)
        _print_rows(log)
        counts = count_actions(current_decisions(log.rows))
        said = ", ".join(f"{number} to {action}" for action, number in counts.items())
        click.echo(f"{log.path}: {said} (fold {fold} of {split.name}); --dest NEW.zip applies them")
        return
    check_suffix(dest, ".zip")
    dest_split = dest.with_name(f"{dest.stem}{SPLIT_SUFFIX}")
    with progress_bar("review") as progress:
        made = apply_review(data, split, fold, dest, dest_split, overwrite=overwrite, progress=progress)
    if made.num_left_subjects:
        click.echo(f"note: of {made.num_left_subjects} subjects no image is left")
    click.echo(
        f"{dest}: {made.num_images} images, {made.num_relabeled} relabeled, {made.num_excluded} left out"
    )
    click.echo(
        f"{dest_split}: fold {fold} of {split.name} as fold 0; in the others, reviewed images are tested with"
    )


def _print_rows(log: ReviewLog) -> None:
    from extract.review_rows import RELABEL, UNDO, standing_rows

    standing = {row.number for row in standing_rows(log.rows)}
    for row in log.rows:
        what = f"{row.old_label or '(none)'} -> {row.new_label}" if row.action == RELABEL else row.action
        what = f"undo {row.undoes}" if row.action == UNDO else what
        mark = "" if row.action == UNDO or row.number in standing else "  (undone)"
        click.echo(f"{row.number:4d}  {row.time}  {row.image}  {what}  by {row.author}{mark}")
    if log.cut_line:
        click.echo(f"note: line {log.cut_line} was cut off while it was written and does not count")
