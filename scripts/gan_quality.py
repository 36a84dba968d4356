"""`synthlabel gan evaluate` and `audit`: how good a generator is, and whether it copies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts.extractors import extractor_option, open_extractors, open_one_extractor
from scripts.progress import progress_bar

if TYPE_CHECKING:
    from gan.audit import Audit
    from gan.evaluation import Evaluation

BOOL = click.BOOL
FILE = click.Path(path_type=Path)


@click.command()
@click.option("--network", type=FILE, help="Snapshot, or run folder for its newest.")
@click.option(
    "--metrics",
    default="fid50k_full",
    show_default=True,
    help="Comma list: official names, or fid, kid, pr, dc, ppl with an extractor (fid@task).",
)
@click.option("--data", type=FILE, help="Archive to compare with.  [default: that of the training]")
@click.option("--mirror", type=BOOL, help="Mirrored copies count as real.  [default: as in the training]")
@click.option("--gpus", type=int, default=1, show_default=True)
@click.option("--verbose", type=BOOL, default=True, show_default=True, help="Show progress.")
@extractor_option()
@click.option("--split", type=FILE, help="Split of --data.  [default: that of the training]")
@click.option("--fold", type=int, help="Fold of --split.  [default: that of the training]")
@click.option("--part", help="Part of the fold: train, val, test.  [default: train]")
@click.option("--reals", type=FILE, help="Without --network: archive of real images.")
@click.option("--fakes", type=FILE, help="Without --network: archive that is judged.")
@click.option("--num", type=int, default=50_000, show_default=True, help="Images a side, at most.")
@click.option("--trunc", "truncation_psi", type=float, default=1.0, show_default=True, help="Truncation psi.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--batch", "batch_size", type=int, default=32, show_default=True, help="Images at a time.")
@click.option("--json", "json_path", type=FILE, help="Write the results to this file as well.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda.")
@click.option("--overwrite", is_flag=True, help="Replace --json if it exists.")
def evaluate(
    network: Path | None,
    metrics: str,
    data: Path | None,
    mirror: bool | None,
    gpus: int,
    verbose: bool,
    extractor_paths: dict[str, Path],
    split: Path | None,
    fold: int | None,
    part: str | None,
    reals: Path | None,
    fakes: Path | None,
    num: int,
    truncation_psi: float,
    seed: int,
    batch_size: int,
    json_path: Path | None,
    device: str,
    overwrite: bool,
) -> None:
    """Measure a generator, or an archive of images (--reals, --fakes): FID, KID, precision, recall, ...

    Every figure rests on a feature extractor, named behind its @; figures of two are never compared.
    """
    from extract.progress import no_progress
    from gan.evaluation import evaluate_archives, evaluate_network, write_evaluation
    from gan.metric_names import needed_extractors, parse_metrics

    if (network is None) == (reals is None and fakes is None) or (reals is None) != (fakes is None):
        raise click.UsageError("expected either --network SNAPSHOT or both --reals A.zip and --fakes B.zip")
    if gpus < 1:
        raise click.BadParameter("must be at least 1", param_hint="--gpus")
    if gpus > 1:
        raise click.UsageError(f"--gpus={gpus}: measures are taken on one device; leave --gpus out")
    if json_path is not None and json_path.exists() and not overwrite:
        raise click.UsageError(f"--json: {json_path} exists already; choose another name or pass --overwrite")
    wanted = parse_metrics(metrics)
    if not wanted:
        raise click.UsageError("--metrics: expected at least one measure, got none")
    extractors = open_extractors(needed_extractors(wanted), extractor_paths, device)
    with progress_bar("measuring") as bar:
        progress = bar if verbose else no_progress
        if network is not None:
            evaluation = evaluate_network(
                network, wanted, extractors, data=data, mirror=mirror, split=split, fold=fold, part=part,
                num=num, truncation_psi=truncation_psi, seed=seed, batch_size=batch_size, device=device,
                progress=progress,
            )  # fmt: skip
        else:
            assert reals is not None and fakes is not None
            evaluation = evaluate_archives(
                reals, fakes, wanted, extractors, split=split, fold=fold or 0, part=part or "train", num=num,
                seed=seed, batch_size=batch_size, progress=progress,
            )  # fmt: skip
    if json_path is not None:
        write_evaluation(evaluation, json_path, overwrite=overwrite)
    _print_evaluation(evaluation)


def _print_evaluation(evaluation: Evaluation) -> None:
    click.echo(f"{evaluation.judged} against {evaluation.reference}")
    names = [name for result in evaluation.results for name in result.results]
    width = max([len("measure"), *map(len, names)])
    click.echo(f"{'measure':{width}s}  {'value':>12s}  {'reals':>7s}  {'fakes':>7s}  extractor (weights)")
    for result in evaluation.results:
        for name, value in result.results.items():
            extractor = f"{result.metric.extractor} ({result.weights_sha256[:8]})"
            reals = f"{result.num_real:,}" if result.num_real else "-"
            click.echo(f"{name:{width}s}  {value:12.6g}  {reals:>7s}  {result.num_fake:7,}  {extractor}")
    for note in evaluation.notes:
        click.echo(f"Note: {note}.")
    for path in evaluation.written:
        click.echo(f"{path}: one line added")


@click.command()
@click.option("--network", type=FILE, help="Snapshot, or run folder for its newest; with --seeds.")
@click.option("--seeds", default="0-1999", show_default=True, help="Images of --network to audit.")
@click.option("--fakes", type=FILE, help="Archive of generated images instead (.zip).")
@click.option("--data", type=FILE, help="Archive learned from.  [default: that of --network]")
@click.option("--split", type=FILE, help="Its split.  [default: that of --network]")
@click.option("--fold", type=int, help="Fold learned from.  [default: that of --network]")
@extractor_option(
    "Also find neighbours by this network: task=RUN of `classifier train`, inception, vgg16, dinov2."
)
@click.option(
    "--mirror", type=BOOL, default=True, show_default=True, help="A mirrored copy is a copy as well."
)
@click.option("--trunc", "truncation_psi", type=float, default=1.0, show_default=True, help="Truncation psi.")
@click.option("--noise-mode", default="const", show_default=True, help="const, random, none.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws behind intervals.")
@click.option("--batch", "batch_size", type=int, default=32, show_default=True, help="Images at a time.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda.")
@click.option(
    "--outdir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for audit.json, nearest.csv, copies.csv, worst-pairs.png.",
)
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier audit.")
def audit(
    network: Path | None,
    seeds: str,
    fakes: Path | None,
    data: Path | None,
    split: Path | None,
    fold: int | None,
    extractor_paths: dict[str, Path],
    mirror: bool,
    truncation_psi: float,
    noise_mode: str,
    seed: int,
    batch_size: int,
    device: str,
    outdir: Path,
    overwrite: bool,
) -> None:
    """Say whether generated images copy training images; held-out people tell what is chance.

    Neighbours are found by plain intensities, and by the network of --extractor where it is given.
    """
    from gan.audit import audit as run_audit
    from gan.audit_report import check_outdir, describe_rule, write_audit
    from gan.seeds import parse_seeds

    check_outdir(outdir, overwrite)
    extractor = open_one_extractor(extractor_paths, device, "an audit")
    with progress_bar("auditing") as progress:
        found = run_audit(
            extractor, network=network, seeds=parse_seeds(seeds) if network else (), fakes=fakes, data=data,
            split=split, fold=fold, mirror=mirror, truncation_psi=truncation_psi, noise_mode=noise_mode,
            batch_size=batch_size, device=device, seed=seed, progress=progress,
        )  # fmt: skip
    write_audit(found, outdir, overwrite=overwrite)
    click.echo(f"{outdir}: {found.verdict.sentence}")
    _print_audit(found)
    click.echo(f"Rule: {describe_rule(found)}.")
    for note in found.notes:
        click.echo(f"Note: {note}.")


def _print_audit(found: Audit) -> None:
    held_out = found.authentic_held_out
    beside = "" if held_out is None else f" (of real held-out images: {held_out:.1%})"
    click.echo(f"  authentic images       {found.authentic.mean():.1%}{beside}")
    if found.leaning is not None:
        for label, figure in (
            ("nearer to training", found.leaning.share),
            ("ratio of distances", found.leaning.ratio),
        ):
            click.echo(f"  {label:22s} {figure.value:.3f}  [{figure.low:.3f}, {figure.high:.3f}]")
