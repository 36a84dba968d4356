"""`synthlabel classifier pretrain`: an encoder from unlabeled images."""

from __future__ import annotations

from pathlib import Path

import click

from scripts.progress import progress_bar

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--data", type=FILE, required=True, help="Archive of images (.zip); labels are not used.")
@click.option(
    "--split", "split_path", type=FILE, help="Learn from the training part of a fold alone (.split.json)."
)
@click.option("--fold", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--steps", type=int, default=2000, show_default=True, help="Optimiser steps, exactly.")
@click.option("--batch", type=int, default=64, show_default=True, help="Images a step.")
@click.option("--lr", type=float, default=2e-3, show_default=True, help="Peak learning rate.")
@click.option("--weight-decay", type=float, default=0.01, show_default=True)
@click.option(
    "--noise-sigma", type=float, default=0.5, show_default=True,
    help="Gaussian noise, in standard deviations of the image.",
)  # fmt: skip
@click.option(
    "--drop-share", type=float, default=0.25, show_default=True, help="Share of patches that are blanked."
)
@click.option(
    "--patch", type=int, default=4, show_default=True, metavar="PIXELS",
    help="Side of a blanked patch; 1 drops pixels.",
)  # fmt: skip
@click.option(
    "--loss", type=click.Choice(["mse", "ssim+l1"]), default="mse", show_default=True,
    help="Squared error, or structural similarity with absolute error.",
)  # fmt: skip
@click.option(
    "--code-width", type=int, default=16, show_default=True,
    help="Channels of the bottleneck; 16 hold a sixteenth of a gray image's numbers.",
)  # fmt: skip
@click.option(
    "--preprocessing", default="pneumonia-backbone", show_default=True, metavar="NAME|FILE.json",
    help="Steps before the network; see `synthlabel extract preprocess`.",
)  # fmt: skip
@click.option(
    "--augment/--no-augment", default=True, show_default=True, help="Small shifts, turns and zooms."
)
@click.option(
    "--hold-out", type=float, default=0.1, show_default=True,
    help="Share of the subjects that the reconstruction is measured on.",
)  # fmt: skip
@click.option("--validate-every", type=int, default=100, show_default=True, metavar="STEPS")
@click.option(
    "--save-every", type=int, default=100, show_default=True, metavar="STEPS",
    help="Steps between two states to go on from.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--outdir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run."
)
@click.option("--overwrite", is_flag=True, help="Begin anew where --outdir holds a pretraining.")
def pretrain(
    data: Path,
    split_path: Path | None,
    fold: int,
    steps: int,
    batch: int,
    lr: float,
    weight_decay: float,
    noise_sigma: float,
    drop_share: float,
    patch: int,
    loss: str,
    code_width: int,
    preprocessing: str,
    augment: bool,
    hold_out: float,
    validate_every: int,
    save_every: int,
    seed: int,
    device: str,
    outdir: Path,
    overwrite: bool,
) -> None:
    """Pretrain an encoder on unlabeled images by undoing noise; killed, it goes on with the same command.

    `classifier train --arch denoiser_se --weights OUTDIR/encoder.safetensors` makes a classifier of it.
    """
    from classifier.denoising import NoiseConfig
    from classifier.pretrain_config import PretrainConfig
    from extract.preprocessing import load_preprocessing

    config = PretrainConfig(
        steps=steps,
        batch_size=batch,
        lr=lr,
        weight_decay=weight_decay,
        noise=NoiseConfig(noise_sigma, drop_share, patch),
        loss=loss,
        code_width=code_width,
        preprocessing=load_preprocessing(preprocessing),
        augment=augment,
        hold_out=hold_out,
        validate_every=validate_every,
        save_every=save_every,
        seed=seed,
        device=device,
    )
    from classifier.pretrain_job import pretrain_run

    with progress_bar("pretraining") as progress:
        summary = pretrain_run(
            data, outdir, config, split_path=split_path, fold=fold, overwrite=overwrite, progress=progress
        )
    if summary.resumed_at:
        click.echo(f"{outdir}: went on from step {summary.resumed_at}")
    click.echo(
        f"{outdir}: {steps} steps in {summary.seconds:.1f} s on {summary.num_images} images of "
        f"{summary.num_subjects} subjects; no label was used"
    )
    measured = summary.measured
    click.echo(
        f"squared error on {summary.num_held_out_images} images of {summary.num_held_out_subjects} held-out "
        f"subjects: {measured['val_mse']:.3f}, where blanked {measured['val_mse_dropped']:.3f} (the noised "
        f"images themselves: {measured['noised_mse']:.3f}; plain gray: 1)"
    )
    click.echo(f"{summary.encoder}: for `classifier train --arch denoiser_se --weights`")
