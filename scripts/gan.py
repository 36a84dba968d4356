"""`synthlabel gan`: train StyleGAN2-ADA on an archive, and sample images from it."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from extract.progress import no_progress
from scripts.gan_latent import mix, project, sweep, video
from scripts.gan_networks import export, import_
from scripts.gan_quality import audit, evaluate
from scripts.progress import progress_bar

BOOL = click.BOOL  # official switches take a value: --mirror=1


@click.group("gan")
def commands() -> None:
    """Train StyleGAN2-ADA on an archive and sample images from it."""


commands.add_command(evaluate)
commands.add_command(audit)
commands.add_command(import_)
commands.add_command(export)
commands.add_command(mix)
commands.add_command(project)
commands.add_command(sweep)
commands.add_command(video)


def _grid_size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    columns, cross, rows = value.lower().partition("x")
    if not (cross and columns.isdecimal() and rows.isdecimal()):
        raise click.BadParameter(f"expected columns x rows such as 8x8, got '{value}'")
    return int(columns), int(rows)


@commands.command()
# What to train on
@click.option(
    "--outdir", type=click.Path(file_okay=False, path_type=Path), help="Where to make the run folder."
)
@click.option("--data", type=click.Path(path_type=Path), help="Archive (.zip) or folder of training images.")
@click.option(
    "--split", type=click.Path(path_type=Path), help="Split file: train on one fold's training part alone."
)
@click.option("--fold", type=int, default=0, show_default=True, help="Fold of --split.")
@click.option("--fraction", type=float, help="Of --split: train on the labeled part at this fraction alone.")
@click.option(
    "--cond",
    type=BOOL,
    default=False,
    show_default=True,
    help="Class-conditional, with the archive's labels.",
)
@click.option("--subset", type=int, help="Train on so many images only.  [default: all]")
@click.option(
    "--mirror", type=BOOL, default=False, show_default=True, help="Show each image mirrored as well."
)
# How
@click.option(
    "--cfg",
    default="auto",
    show_default=True,
    help="auto, stylegan2, paper256, paper512, paper1024, cifar; small = small images on a CPU.",
)
@click.option("--kimg", type=float, help="Length of training in thousands of images.  [default: by --cfg]")
@click.option("--batch", type=int, help="Images an iteration.  [default: by --cfg]")
@click.option("--gamma", type=float, help="R1 weight.  [default: by --cfg]")
@click.option("--aug", help="noaug, ada, fixed.  [default: ada]")
@click.option("--p", type=float, help="Strength for --aug=fixed.")
@click.option("--target", type=float, help="Target of ADA.  [default: 0.6]")
@click.option(
    "--augpipe",
    help="blit, geom, color, filter, noise, cutout, bg, bgc, bgcf, bgcfn, bgcfnc.  [default: bgc]",
)
@click.option(
    "--resume",
    help="Run folder, 'latest' or 'auto': go on exactly; a snapshot or an official network (.pkl, ffhq256, "
    "...): start from its weights.",
)
@click.option("--freezed", type=int, help="Layers of the discriminator that are not trained.  [default: 0]")
@click.option("--seed", type=int, default=0, show_default=True)
# Where, and what to write
@click.option(
    "--gpus",
    type=int,
    default=1,
    show_default=True,
    help="Processes that train together, one a GPU; with --device=cpu on the CPU. Not needed with torchrun.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda.")
@click.option(
    "--precision",
    help="fp32, bf16, fp16; auto = fastest here.  [default: fp32 on a CPU and with --cfg=small, else fp16]",
)
@click.option("--fp32", type=BOOL, default=False, show_default=True, help="Same as --precision=fp32.")
@click.option("--nhwc", type=BOOL, default=False, show_default=True, help="Channels-last memory.")
@click.option("--nobench", type=BOOL, default=False, show_default=True, help="No cuDNN benchmarking.")
@click.option("--allow-tf32", type=BOOL, default=False, show_default=True)
@click.option(
    "--workers", type=int, default=3, show_default=True, help="Accepted for old command lines; has no effect."
)
@click.option(
    "--snap", type=int, help="Ticks (of 4 kimg) between snapshots.  [default: 50; 5 with --cfg=small]"
)
@click.option(
    "--metrics",
    help="Measured after each snapshot: none, fid50k_full, fid@task,kid@task, ...  [default: fid50k_full on "
    "a GPU with Inception weights, else none]",
)
@click.option(
    "--extractor",
    multiple=True,
    metavar="NAME=PATH",
    help="Network that --metrics look through, such as task=CLASSIFIER_RUN; may be given again.",
)
@click.option(
    "--best",
    metavar="RESULT",
    help="Which measure marks the best snapshot.  [default: the first of --metrics]",
)
@click.option("--keep", type=int, help="Keep so many of the newest snapshots, and the best.  [default: all]")
@click.option(
    "--grid",
    callback=_grid_size,
    metavar="COLSxROWS",
    help="Size of the sample grids.  [default: 8x8 on a CPU]",
)
@click.option("--latent-dim", type=int, help="Size of z and w.  [default: by --cfg]")
@click.option("--channel-base", type=int, help="Channels at resolution r: this / r.  [default: by --cfg]")
@click.option("--channel-max", type=int, help="But at most so many.  [default: by --cfg]")
@click.option("-n", "--dry-run", is_flag=True, help="Print options and plan, and create nothing.")
@click.option(
    "--probe",
    type=click.FloatRange(min=0),
    default=15.0,
    show_default=True,
    metavar="SEC",
    help="With --dry-run: train for so long to tell time and memory; 0 = do not.",
)
@click.pass_context
def train(ctx: click.Context, dry_run: bool, probe: float, **options: Any) -> None:
    """Train a generator on the training part of one fold (or on all images without --split).

    Ctrl-C and SIGTERM write the state first; --resume RUN_FOLDER (or latest) then goes on exactly.
    """
    from gan.distributed import place_of_this_process
    from gan.errors import PeerFailed, TrainingInterrupted
    from gan.planning import plan
    from gan.training import train as run_training
    from scripts.extractors import open_training_extractors

    given = {name for name in options if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
    place = place_of_this_process()
    if place.count > 1 and "gpus" not in given:  # torchrun counts the processes, now and when going on
        options["gpus"], given = place.count, given | {"gpus"}
    config = _train_config(options, given)
    is_first = place.rank == 0  # of the processes that torchrun started, one speaks
    extractors = open_training_extractors(config.extractor, config.metrics, config.device) if is_first else {}
    if dry_run:
        with progress_bar("measuring") as progress:
            planned, summary = plan(config, progress, probe, extractors)
        click.echo("\nTraining options:")
        click.echo(json.dumps(planned, indent=2))
        click.echo(f"\n{summary}\n\nDry run; exiting.")
        return
    try:
        with progress_bar("training") if is_first else nullcontext(no_progress) as progress:
            snapshot = run_training(config, progress, echo=click.echo, extractors=extractors)
    except TrainingInterrupted as stopped:
        if is_first:
            click.echo(f"\nTraining was {stopped}", err=True)
        ctx.exit(128 + stopped.signal_number)
    except PeerFailed:  # which has told why
        ctx.exit(1)
    if is_first:
        click.echo(f"{snapshot}: the trained generator")


def _train_config(options: dict[str, Any], given: set[str]) -> Any:
    """Options of a new run; or those of the run that is continued, with what was given now."""
    from dataclasses import replace

    from gan.config import TrainConfig
    from gan.networks import choose_device, fastest_precision
    from gan.runfolder import find_latest_run
    from gan.state import read_state_header, stored_config

    resume = options["resume"]
    run_dir = None
    if resume in ("latest", "auto") and options["outdir"] is not None:
        run_dir = find_latest_run(options["outdir"])
    elif resume and Path(resume).is_dir():
        run_dir = Path(resume)
    if options["precision"] == "auto":
        options["precision"] = fastest_precision(choose_device(options["device"]))
    if run_dir is not None:
        stored = stored_config(read_state_header(run_dir))
        outdir = options["outdir"] or run_dir.parent
        if "metrics" in given:  # the choice of the best was among those before
            given |= {"best"}
        return replace(
            stored, **{name: options[name] for name in given} | {"resume": str(run_dir), "outdir": outdir}
        )
    for name in ("outdir", "data"):
        if options[name] is None:
            raise click.UsageError(f"Missing option '--{name}'.")
    return TrainConfig(**options)


@commands.command()
@click.option(
    "--network",
    type=click.Path(path_type=Path),
    required=True,
    help="Snapshot, or run folder for its newest.",
)
@click.option("--seeds", help="Range such as 0-1999, or list such as 3,7,12.")
@click.option(
    "--projected-w",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Latents of `gan project` (.npz) instead of seeds; needs --outdir.",
)
@click.option("--trunc", "truncation_psi", type=float, default=1.0, show_default=True, help="Truncation psi.")
@click.option(
    "--class", "class_name", help="Class, name or number (conditional networks); all = each in turn."
)
@click.option("--class-shares", help="Shares of the classes instead, such as normal=0.7,tumor=0.3.")
@click.option("--noise-mode", default="const", show_default=True, help="const, random, none.")
@click.option("--dest", type=click.Path(path_type=Path), help="Archive to write (.zip).")
@click.option(
    "--outdir", type=click.Path(file_okay=False, path_type=Path), help="Folder for seed0000.png, ... instead."
)
@click.option("--batch", "batch_size", type=int, default=32, show_default=True, help="Images at a time.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda.")
@click.option(
    "--precision",
    help="fp32, bf16 or fp16 (GPU) in the highest resolutions.  [default: fp32 on a CPU, else as trained]",
)
@click.option("--overwrite", is_flag=True, help="Replace an archive or pictures that exist.")
def generate(
    network: Path,
    seeds: str | None,
    projected_w: Path | None,
    truncation_psi: float,
    class_name: str | None,
    class_shares: str | None,
    noise_mode: str,
    dest: Path | None,
    outdir: Path | None,
    batch_size: int,
    device: str,
    precision: str | None,
    overwrite: bool,
) -> None:
    """Sample images into an archive (--dest) or into PNG files (--outdir)."""
    from gan.class_shares import parse_shares
    from gan.generate import generate_archive, generate_png_files
    from gan.projected import generate_projected_png_files
    from gan.sampling import check_sampling
    from gan.seeds import parse_seeds
    from gan.snapshot import read_snapshot

    if projected_w is not None:
        for flag, given in (("--seeds", seeds), ("--class", class_name), ("--class-shares", class_shares)):
            if given is not None:
                click.echo(f"Warning: {flag} is ignored when using --projected-w", err=True)
        if outdir is None or dest is not None:
            raise click.UsageError("--projected-w writes pictures: give --outdir FOLDER, and no --dest")
        with progress_bar("sampling") as progress:
            summary = generate_projected_png_files(
                network, projected_w, outdir, noise_mode=noise_mode, batch_size=batch_size, device=device,
                precision=precision, progress=progress, overwrite=overwrite,
            )  # fmt: skip
        click.echo(f"{summary.dest}: {summary.num_images} images of projected latents from {summary.network}")
        return
    if seeds is None:
        raise click.UsageError("--seeds option is required when not using --projected-w")
    if (dest is None) == (outdir is None):
        raise click.UsageError("expected either --dest ARCHIVE.zip or --outdir FOLDER, got both or neither")
    numbers = parse_seeds(seeds)
    shares = None if class_shares is None else parse_shares(class_shares)
    check_sampling(numbers, noise_mode, batch_size, truncation_psi)
    if class_name is not None and not read_snapshot(network).classes:
        click.echo(f"Warning: --class={class_name} is ignored, {network} is not class-conditional", err=True)
    with progress_bar("sampling") as progress:
        if dest is not None:
            summary = generate_archive(
                network, numbers, dest, truncation_psi=truncation_psi, class_name=class_name,
                class_shares=shares, noise_mode=noise_mode, batch_size=batch_size, device=device,
                precision=precision, progress=progress, overwrite=overwrite,
            )  # fmt: skip
        else:
            assert outdir is not None
            summary = generate_png_files(
                network, numbers, outdir, truncation_psi=truncation_psi, class_name=class_name,
                class_shares=shares, noise_mode=noise_mode, batch_size=batch_size, device=device,
                precision=precision, progress=progress, overwrite=overwrite,
            )  # fmt: skip
    click.echo(
        f"{summary.dest}: {summary.num_images} images{_by_class(summary.counts)} from {summary.network} in "
        f"{summary.seconds:.0f} s"
    )


def _by_class(counts: dict[str, int]) -> str:
    return f" ({', '.join(f'{name} {count}' for name, count in counts.items())})" if len(counts) > 1 else ""
