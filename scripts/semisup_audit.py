"""`synthlabel semisup audit`: what an expert says about the pseudo-labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts.progress import progress_bar

if TYPE_CHECKING:
    from semisup.audit import AuditSummary
    from semisup.audit_statistics import ReaderResult

STUDY = click.argument("study", type=click.Path(exists=True, file_okay=False, path_type=Path))


@click.group()
def audit() -> None:
    """Have an expert read a blinded sample of the pseudo-labels."""


@audit.command("export")
@STUDY
@click.option(
    "--dest", type=click.Path(file_okay=False, path_type=Path), required=True,
    help="Folder to hand out; outside the study.",
)  # fmt: skip
@click.option(
    "--num", type=click.IntRange(min=1), default=200, show_default=True, help="Pseudo-labels to draw."
)
@click.option(
    "--arm",
    "arms",
    multiple=True,
    help="Arm to draw from; can be repeated.  [default: all with pseudo-labels]",
)
@click.option(
    "--fraction", "fractions", type=float, multiple=True,
    help="Share of labels; can be repeated.  [default: that of the primary comparison]",
)  # fmt: skip
@click.option(
    "--round",
    "rounds",
    type=click.IntRange(min=1),
    multiple=True,
    help="Round; can be repeated.  [default: all]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw, the codes and the order.")
@click.option(
    "--enlarge", type=click.IntRange(1, 16), default=1, metavar="TIMES",
    help="Add copies that many times larger, for the eye.",
)  # fmt: skip
@click.option(
    "--semicolons", is_flag=True, help="Separate the sheet's cells as spreadsheets in Spanish expect."
)
@click.option("--overwrite", is_flag=True, help="Replace an export that nobody has filled in.")
def export(
    study: Path,
    dest: Path,
    num: int,
    arms: tuple[str, ...],
    fractions: tuple[float, ...],
    rounds: tuple[int, ...],
    seed: int,
    enlarge: int,
    semicolons: bool,
    overwrite: bool,
) -> None:
    """Write a blinded sample of pseudo-labeled images of STUDY into a folder, with a sheet to fill in.

    The key that says what each picture was taken for stays in the study.
    """
    from semisup.audit_export import export_audit

    with progress_bar("exporting") as progress:
        summary = export_audit(
            study, dest, num=num, arms=arms, fractions=fractions, rounds=rounds, seed=seed, enlarge=enlarge,
            semicolons=semicolons, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    click.echo(
        f"{dest}: {summary.num_pictures} pictures for {summary.num_pseudo_labels} of "
        f"{summary.num_population:,} pseudo-labels, drawn from {summary.num_strata} strata\n"
        f"Hand out this folder; the key is {summary.key}\n"
        f"Then: synthlabel semisup audit import {study} {dest / 'labels.csv'}"
    )


@audit.command("import")
@STUDY
@click.argument(
    "sheets", nargs=-1, required=True, metavar="LABELS...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the result of another export.")
def import_(study: Path, sheets: tuple[Path, ...], overwrite: bool) -> None:
    """Say how wrong the pseudo-labels of STUDY are, from filled-in LABELS (labels.csv), one a reader.

    Writes audit.json into the study. A sheet may be unfinished; the same command reads it again later.
    """
    from semisup.audit import import_audit

    summary = import_audit(study, sheets, overwrite=overwrite)
    for reader in summary.result.readers:
        _print_reader(reader, summary)
    for pair in summary.result.agreements:
        kappa = "undefined" if pair.kappa != pair.kappa else f"{pair.kappa:.2f}"
        both = " and ".join(pair.readers)
        click.echo(
            f"{both} agree on {100 * pair.agreement:.0f} % of {pair.num_pictures} pictures, kappa {kappa}"
            if pair.num_pictures
            else f"{both} have no picture in common"
        )
    if summary.num_exports > 1:
        click.echo(f"(this study has {summary.num_exports} exports; this is {summary.export})")
    click.echo(f"{summary.path}: written; the report reads it")


def _print_reader(reader: ReaderResult, summary: AuditSummary) -> None:
    from semisup.audit import describe_estimate

    click.echo(
        f"{reader.reader}: {reader.num_answered} of {reader.num_pictures} pictures answered, "
        f"{reader.num_unsure} unsure, {reader.num_none} of no class"
    )
    if reader.num_answered < reader.num_pictures:
        click.echo("  (unfinished: right if the sheet was read from top to bottom, for its order is random)")
    click.echo(f"  wrong pseudo-labels  {describe_estimate(reader.error)}  ({reader.error.method})")
    click.echo(f"  with unsure as wrong {describe_estimate(reader.error_if_unsure_wrong)}")
    for name, estimate in zip(summary.sample.classes, reader.by_class, strict=True):
        click.echo(f"  taken for {name}: {describe_estimate(estimate)}")
    edges = ["0", *(f"{edge:.5g}" for edge in summary.band_edges), "1"]
    for k, estimate in enumerate(reader.by_band):
        click.echo(f"  confidence {edges[k]} to {edges[k + 1]}: {describe_estimate(estimate)}")
