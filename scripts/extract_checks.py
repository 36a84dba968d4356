"""`synthlabel extract split | show | verify`: parts by subject, a contact sheet, what is in an archive."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from extract.errors import ExtractError, SettingsError
from scripts.destinations import check_suffix, refuse_existing
from scripts.number_lists import parse_numbers
from scripts.progress import progress_bar

if TYPE_CHECKING:
    from extract.held_out import HeldOut
    from extract.split import Split
    from extract.verify import ClassCount

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--data", type=FILE, required=True, help="Archive to split.")
@click.option("--dest", type=FILE, required=True, help="Split to write (.split.json).")
@click.option("--folds", type=int, default=None, help="Outer folds over the subjects.  [default: 5]")
@click.option(
    "--fractions", default="0.2,0.5,0.7", show_default=True, help="Labeled fractions; 1.0 is always there."
)
@click.option(
    "--val-share", type=float, default=0.15, show_default=True, help="Of the subjects that are not tested."
)
@click.option(
    "--hold-out",
    multiple=True,
    metavar="COLUMN[=VALUE]",
    help="Test on one site in place of drawn folds; again for more folds; COLUMN alone: each value in turn.",
)
@click.option(
    "--test-column",
    default=None,
    metavar="COLUMN=VALUE",
    help="The test part is fixed: the images with this value, in one fold.",
)
@click.option(
    "--table", type=FILE, default=None, help="CSV of subjects with that column.  [default: manifest]"
)
@click.option(
    "--whole-subjects", is_flag=True, help="Test subjects with all images where only some have the value."
)
@click.option("--link-near", is_flag=True, help="Keep subjects together that share near duplicates, too.")
@click.option(
    "--min-likeness", type=float, default=0.93, show_default=True, help="Of near duplicates (--link-near)."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--overwrite", is_flag=True, help="Replace a split that is there: results made with it lose their basis."
)
def split(
    data: Path,
    dest: Path,
    folds: int | None,
    fractions: str,
    val_share: float,
    hold_out: tuple[str, ...],
    test_column: str | None,
    table: Path | None,
    whole_subjects: bool,
    link_near: bool,
    min_likeness: float,
    seed: int,
    overwrite: bool,
) -> None:
    """Split an archive's subjects, once, before anything is trained."""
    from extract.archive import open_archive
    from extract.duplicates import alike_subjects
    from extract.split import make_split, write_split
    from extract.split_table import table_text, tabulate_split

    check_suffix(dest, ".json")
    refuse_existing(dest, overwrite)
    held_out = _held_out(hold_out, test_column)
    if held_out is None and (table or whole_subjects):
        raise SettingsError("--table and --whole-subjects need --hold-out or --test-column")
    if held_out is not None and folds is not None:
        raise SettingsError("give --folds, --hold-out or --test-column, not several of them")
    numbers = parse_numbers(fractions, "--fractions")
    with open_archive(data) as archive, progress_bar("split") as progress:
        links = alike_subjects(archive, min_likeness, progress) if link_near else None
        made = make_split(
            archive, num_folds=5 if folds is None else folds, fractions=numbers, val_share=val_share,
            seed=seed, links=links, held_out=held_out, table=table, whole_subjects=whole_subjects,
        )  # fmt: skip
        write_split(made, dest)
        _warn_of_review(archive.preparation.get("reviewed"))
        lines = tabulate_split(made, archive)
        classes = archive.classes
    click.echo(table_text(lines, classes))
    _print_linked(made)
    click.echo(f"{dest}: {len(made.folds)} {'folds' if len(made.folds) > 1 else 'fold'} of {data.name}")


@click.command()
@click.option("--data", type=FILE, required=True, help="Archive to look at.")
@click.option("--dest", type=FILE, required=True, help="Contact sheet to write (.png).")
@click.option("--columns", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--rows", type=click.IntRange(min=1), default=2, show_default=True, help="Rows a class.")
@click.option("--class", "class_name", default=None, help="This class alone.  [default: all]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice of images.")
@click.option("--overwrite", is_flag=True, help="Replace a picture that is there.")
def show(
    data: Path, dest: Path, columns: int, rows: int, class_name: str | None, seed: int, overwrite: bool
) -> None:
    """Draw a contact sheet: samples of each class over the subjects."""
    from extract.archive import open_archive
    from extract.show import write_contact_sheet

    check_suffix(dest, ".png")
    refuse_existing(dest, overwrite)
    with open_archive(data) as archive:
        write_contact_sheet(
            archive, dest, columns=columns, rows_per_class=rows, seed=seed, class_name=class_name
        )
    click.echo(f"{dest}: contact sheet of {data.name}")


@click.command()
@click.option("--data", type=FILE, required=True, help="Archive to check.")
@click.option("--split", type=FILE, default=None, help="Its split, to be checked as well.")
@click.option("--html", type=FILE, default=None, help="Page to write with all findings and pictures (.html).")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, for programs.")
@click.option(
    "--min-likeness",
    type=float,
    default=0.93,
    show_default=True,
    help="Correlation of fine structure that makes two pictures near duplicates.",
)
@click.option("--no-near", is_flag=True, help="Do not look for near duplicates.")
@click.option("--overwrite", is_flag=True, help="Replace a page that is there.")
def verify(
    data: Path, split: Path | None, html: Path | None, as_json: bool, min_likeness: float, no_near: bool,
    overwrite: bool,
) -> None:  # fmt: skip
    """Say what is in an archive and its split; exit code 1 if anything is wrong."""
    from extract.archive import open_archive
    from extract.findings import findings_json
    from extract.page import write_page
    from extract.verify import verify_archive

    if html is not None:
        check_suffix(html, ".html", "--html")
        refuse_existing(html, overwrite)
    with open_archive(data) as archive, progress_bar("verify") as progress:
        found = verify_archive(
            archive, split, progress, min_likeness=min_likeness, look_for_alike=not no_near
        )
        if html is not None:
            write_page(archive, found, html)
        findings = findings_json(archive, found) if as_json else None
    if findings is not None:
        click.echo(json.dumps(findings, indent=1))
    else:
        _print_counts(found.counts, found.num_images, found.num_subjects)
        for text in (*found.warnings, *found.remarks):
            click.echo(f"note: {text}")
        if html is not None:
            click.echo(f"{html}: page of {data.name}")
    if found.errors:
        raise ExtractError(
            f"{data}: {len(found.errors)} {'fault' if len(found.errors) == 1 else 'faults'}:"
            + "".join(f"\n  {error}" for error in found.errors)
        )
    if findings is None:
        checked = f"; {split.name}: {len(found.split.folds)} folds are sound" if split and found.split else ""
        click.echo(f"{data}: {found.num_images} pictures are sound{checked}")


def _held_out(hold_out: tuple[str, ...], test_column: str | None) -> "HeldOut | None":
    from extract.held_out import HeldOut, parse_column_values

    if hold_out and test_column is not None:
        raise SettingsError("give --hold-out or --test-column, not both")
    if test_column is not None:
        if "=" not in test_column:
            raise SettingsError(f"--test-column must be COLUMN=VALUE, such as part=test, got {test_column}")
        return HeldOut(*parse_column_values((test_column,), "--test-column"))
    return HeldOut(*parse_column_values(hold_out, "--hold-out")) if hold_out else None


def _warn_of_review(reviews: object) -> None:
    """A reviewed archive has a split already; another one tests with images that were chosen or relabeled."""
    if reviews:
        click.secho(
            "Warning: images of this archive were excluded or relabeled in a review (synthlabel extract "
            "review). A new split may test with them, and then says too much; keep to the split that was "
            "written with the archive.",
            fg="yellow",
            err=True,
        )


def _print_linked(made: "Split") -> None:
    if made.linked_subjects:
        groups = ", ".join("+".join(group) for group in made.linked_subjects[:5])
        more = f" and {len(made.linked_subjects) - 5} more" if len(made.linked_subjects) > 5 else ""
        what = "an identical picture or a near duplicate" if made.links_alike else "an identical picture"
        click.echo(f"kept together because they share {what}: {groups}{more}")
    moved = made.held_out.moved_subjects if made.held_out else ()
    if moved:
        click.echo(
            f"note: {len(moved)} subjects are tested with images of other values of "
            f"{made.held_out.column if made.held_out else ''}, too: {', '.join(moved[:5])}"
        )


def _print_counts(counts: "tuple[ClassCount, ...]", num_images: int, num_subjects: int) -> None:
    width = max([len(line.name) for line in counts] + [5])
    click.echo(f"{'class':<{width}}  images  subjects  images a subject  mean brightness (median)")
    for line in counts:
        spread = f"{line.min_images} to {line.max_images}" if line.num_subjects else "-"
        brightness = f"{line.darkest:.0f} to {line.brightest:.0f} ({line.median_brightness:.0f})"
        click.echo(
            f"{line.name:<{width}}  {line.num_images:6d}  {line.num_subjects:8d}  {spread:<16}  {brightness}"
        )
    click.echo(f"{'all':<{width}}  {num_images:6d}  {num_subjects:8d}")
