"""`synthlabel gan mix | project | sweep | video`: what lies in a generator's latent space."""

from pathlib import Path

import click

from scripts.extractors import extractor_option, open_one_extractor
from scripts.progress import progress_bar

NETWORK = click.option(
    "--network",
    type=click.Path(path_type=Path),
    required=True,
    help="Snapshot, or run folder for its newest.",
)
OUTDIR = click.option(
    "--outdir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to."
)
TRUNC = click.option(
    "--trunc", "truncation_psi", type=float, default=1.0, show_default=True, help="Truncation psi."
)
CLASS = click.option("--class", "class_name", help="Class, name or number (conditional networks).")
NOISE_MODE = click.option("--noise-mode", default="const", show_default=True, help="const, random, none.")
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace files that exist.")


@click.command()
@NETWORK
@click.option("--rows", required=True, help="Seeds that give the coarse styles, one a row: 0-3 or 3,7,12.")
@click.option("--cols", required=True, help="Seeds that give the styles of --styles, one a column.")
@click.option("--styles", default="0-6", show_default=True, help="Style inputs taken from the column's seed.")
@TRUNC
@NOISE_MODE
@OUTDIR
@CLASS
@DEVICE
@OVERWRITE
def mix(
    network: Path,
    rows: str,
    cols: str,
    styles: str,
    truncation_psi: float,
    noise_mode: str,
    outdir: Path,
    class_name: str | None,
    device: str,
    overwrite: bool,
) -> None:
    """Mix the styles of two sets of seeds: <row>-<col>.png for each pair, and grid.png."""
    from gan.mix import mix_styles
    from gan.seeds import parse_seeds

    with progress_bar("mixing") as progress:
        summary = mix_styles(
            network, parse_seeds(rows, "--rows"), parse_seeds(cols, "--cols"), outdir,
            styles=parse_seeds(styles, "--styles"), truncation_psi=truncation_psi, noise_mode=noise_mode,
            class_name=class_name, device=device, progress=progress, overwrite=overwrite,
        )  # fmt: skip
    click.echo(
        f"{summary.grid}: {summary.num_images} pictures, styles {', '.join(map(str, summary.styles))} of "
        f"{summary.num_styles} from the columns"
    )


@click.command()
@NETWORK
@click.option(
    "--target",
    type=click.Path(path_type=Path),
    required=True,
    help="Picture to project, or a folder of them.",
)
@click.option("--num-steps", type=int, default=1000, show_default=True)
@click.option("--seed", type=int, default=303, show_default=True)
@click.option("--save-video", type=click.BOOL, default=True, show_default=True, help="Write proj.mp4.")
@OUTDIR
@click.option(
    "--distance",
    help="vgg16, discriminator, pixels.  [default: vgg16 if its weights are here, else discriminator]",
)
@click.option(
    "--vgg16",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Weights of VGG16 as torchvision saves them.",
)
@CLASS
@DEVICE
@OVERWRITE
def project(
    network: Path,
    target: Path,
    num_steps: int,
    seed: int,
    save_video: bool,
    outdir: Path,
    distance: str | None,
    vgg16: Path | None,
    class_name: str | None,
    device: str,
    overwrite: bool,
) -> None:
    """Find the latent w whose image comes closest to a picture, or to each of a folder."""
    from gan.project import ProjectConfig, project_image
    from gan.project_folder import project_folder

    config = ProjectConfig(num_steps, seed, distance, vgg16, save_video, class_name)
    with progress_bar("projecting") as progress:
        if target.is_dir():
            found = project_folder(
                network, target, outdir, config, device=device, progress=progress, overwrite=overwrite
            )
            click.echo(
                f"{found.table}: {found.num_pictures} pictures, PSNR {found.mean_psnr_db:.1f} dB and SSIM "
                f"{found.mean_ssim:.3f} on average"
            )
            return
        summary = project_image(
            network, target, outdir, config, device=device, progress=progress, overwrite=overwrite
        )
    click.echo(
        f"{outdir / 'proj.png'}: PSNR {summary.psnr_db:.1f} dB, SSIM {summary.ssim:.3f}; distance "
        f"{summary.start_distance:.4f} -> {summary.final_distance:.4f} by {summary.distance_description}"
    )


@click.command()
@NETWORK
@click.option("--psi", default="0.3,0.5,0.7,0.85,1", show_default=True, help="Truncation psi to compare.")
@click.option("--seeds", default="0-999", show_default=True, help="Sampled at each psi.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Archive to compare with.  [default: that of the training]",
)
@click.option("--split", type=click.Path(path_type=Path), help="Its split.  [default: that of the training]")
@click.option("--fold", type=int, help="Fold of --split.  [default: that of the training]")
@extractor_option()
@click.option("--class", "class_name", help="Class (conditional networks).  [default: all, as in the data]")
@click.option("--columns", type=int, default=10, show_default=True, help="Samples a psi in the picture.")
@NOISE_MODE
@click.option("--batch", "batch_size", type=int, default=32, show_default=True, help="Images at a time.")
@OUTDIR
@DEVICE
@OVERWRITE
def sweep(
    network: Path,
    psi: str,
    seeds: str,
    data: Path | None,
    split: Path | None,
    fold: int | None,
    extractor_paths: dict[str, Path],
    class_name: str | None,
    columns: int,
    noise_mode: str,
    batch_size: int,
    outdir: Path,
    device: str,
    overwrite: bool,
) -> None:
    """Compare truncation psi: samples, precision, recall, density, coverage and FID of each."""
    from gan.evaluation import find_reference, open_reference
    from gan.seeds import parse_seeds
    from gan.snapshot import read_snapshot
    from gan.sweep import SweepConfig, parse_psi, sweep_truncation

    config = SweepConfig(
        parse_psi(psi), tuple(parse_seeds(seeds)), class_name, noise_mode, columns, batch_size
    )
    extractor = open_one_extractor(extractor_paths, device, "a sweep")
    snapshot = read_snapshot(network)
    found = find_reference(snapshot, data, False, split, fold)
    with progress_bar("sweep") as progress:
        reals = open_reference(found, snapshot, progress)
        summary = sweep_truncation(
            snapshot.path, outdir, reals, extractor, config, fold=found.fold if found.split else None,
            device=device, progress=progress, overwrite=overwrite,
        )  # fmt: skip
    click.echo(f"psi    precision  recall  density  coverage  fid@{summary.extractor}")
    for row in summary.rows:
        click.echo(
            f"{row.psi:<5g}  {row.precision:9.3f}  {row.recall:6.3f}  {row.density:7.3f}  {row.coverage:8.3f}"
            f"  {row.fid:.4g}"
        )
    click.echo(
        f"{outdir}: {summary.num_fake:,} images a psi against {summary.num_real:,} real ones; coverage is "
        f"highest at psi {summary.best_coverage.psi:g}"
    )


@click.command()
@NETWORK
@click.option("--seeds", required=True, help="Seeds to walk through, and back to the first: 0-7 or 3,7,12.")
@click.option("--frames-per-seed", type=int, help="From one seed to the next.  [default: 60]")
@click.option("--seconds", type=float, help="Length of the video, instead of --frames-per-seed.")
@click.option("--fps", type=float, default=30.0, show_default=True)
@TRUNC
@click.option(
    "--space",
    default="z",
    show_default=True,
    help="z = along the sphere of latents; w = a smooth curve in w.",
)
@click.option("--class", "class_name", help="Class (conditional networks); all = each seed as every class.")
@click.option("--grid", default="1x1", show_default=True, metavar="COLSxROWS", help="Walks side by side.")
@NOISE_MODE
@click.option("--dest", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Video (.mp4).")
@DEVICE
@OVERWRITE
def video(
    network: Path,
    seeds: str,
    frames_per_seed: int | None,
    seconds: float | None,
    fps: float,
    truncation_psi: float,
    space: str,
    class_name: str | None,
    grid: str,
    noise_mode: str,
    dest: Path,
    device: str,
    overwrite: bool,
) -> None:
    """Walk through the latent space from seed to seed, as a video that loops."""
    from gan.seeds import parse_seeds
    from gan.video import VideoConfig, parse_grid, write_interpolation

    config = VideoConfig(
        tuple(parse_seeds(seeds)), frames_per_seed, seconds, fps, truncation_psi, space, class_name,
        parse_grid(grid), noise_mode,
    )  # fmt: skip
    with progress_bar("video") as progress:
        summary = write_interpolation(
            network, dest, config, device=device, progress=progress, overwrite=overwrite
        )
    click.echo(f"{dest}: {summary.num_frames} frames, {summary.seconds:.1f} s, from {summary.network}")
