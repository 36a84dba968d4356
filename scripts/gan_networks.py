"""`synthlabel gan import` and `export`: networks from and for the official code."""

from pathlib import Path

import click


@click.command("import")
@click.argument("source")
@click.argument("dest", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--force-fp16", is_flag=True, help="Four highest resolutions in float16 on a GPU, with its clamp."
)
@click.option("--overwrite", is_flag=True, help="Replace a snapshot that exists.")
def import_(source: str, dest: Path, force_fp16: bool, overwrite: bool) -> None:
    """Make a snapshot of an official network file (.pkl), running nothing in it.

    SOURCE is a file, or the name of a published network that is in the cache (ffhq256, ...). DEST is the
    snapshot (.safetensors). Whom the network was trained on stays unknown, and the snapshot says so.
    """
    from gan.official import import_network
    from gan.official_files import find_network

    summary = import_network(find_network(source), dest, force_fp16=force_fp16, overwrite=overwrite)
    for note in summary.networks.notes:
        click.echo(f"Note: {note}", err=True)
    channels, side, _ = summary.networks.image_shape
    click.echo(
        f"{dest}: {'RGB' if channels == 3 else f'{channels}-channel'} images of {side} pixels, "
        f"{len(summary.snapshot.classes) or 'no'} classes, from {summary.networks.kind} file "
        f"{summary.networks.source}"
    )


@click.command("export")
@click.argument("network", type=click.Path(path_type=Path))
@click.argument("dest", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
def export(network: Path, dest: Path, overwrite: bool) -> None:
    """Write a snapshot as a network file (.pkl) that the official PyTorch code reads.

    NETWORK is a snapshot, or a run folder for its newest.
    """
    from gan.export import export_network

    summary = export_network(network, dest, overwrite=overwrite)
    for note in summary.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(f"{dest}: the networks of {summary.snapshot.path} for the official code")
