"""`synthlabel extract pack`, `unpack` and `cache`: archives as folders and back, and what is kept of them."""

from pathlib import Path

import click

from scripts.progress import progress_bar

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--data", type=FILE, required=True, help="Archive to unpack.")
@click.option("--dest", type=FOLDER, required=True, help="New or empty folder.")
@click.option("--split", type=FILE, default=None, help="Its split: the parts become folders.")
@click.option("--fold", type=click.IntRange(min=0), default=0, show_default=True, help="Fold of the split.")
@click.option(
    "--fraction", type=float, default=1.0, show_default=True, help="Labeled fraction of the training part."
)
def unpack(data: Path, dest: Path, split: Path | None, fold: int, fraction: float) -> None:
    """Write an archive as a folder of classes for other programs."""
    from extract.archive import open_archive
    from extract.unpack import unpack_archive

    with open_archive(data) as archive, progress_bar("unpack") as progress:
        summary = unpack_archive(archive, dest, split=split, fold=fold, fraction=fraction, progress=progress)
    counts = ", ".join(f"{part} {count}" for part, count in sorted(summary.counts.items()))
    click.echo(f"{dest}: {summary.num_images} pictures of {data.name} ({counts})")


@click.command()
@click.option("--source", type=FOLDER, required=True, help="Folder that unpack has written.")
@click.option("--dest", type=FILE, required=True, help="Archive to write (.zip).")
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Pack the folder as it is now: pictures moved to another class, removed or edited.",
)
@click.option("--overwrite", is_flag=True, help="Replace an archive that is there.")
def pack(source: Path, dest: Path, accept_changes: bool, overwrite: bool) -> None:
    """Write an unpacked folder back to an archive."""
    from extract.pack import pack_folder

    with progress_bar("pack") as progress:
        summary = pack_folder(
            source, dest, accept_changes=accept_changes, overwrite=overwrite, progress=progress
        )
    counts = ", ".join(f"{name or '(unlabeled)'} {count}" for name, count in summary.counts.items())
    changes = [
        f"{count} {what}"
        for count, what in (
            (summary.num_removed, "removed"),
            (summary.num_relabeled, "relabeled"),
            (summary.num_edited, "edited"),
        )
        if count
    ]
    changed = f"; changed by hand: {', '.join(changes)}" if changes else ""
    click.echo(f"{dest}: {summary.num_images} images of {summary.num_subjects} subjects ({counts}){changed}")


@click.command()
@click.option(
    "--keep-gb",
    type=click.FloatRange(min=0),
    default=None,
    help="Remove files, those unused for longest first, until this much is left; 0 removes all.",
)
@click.option("--check", is_flag=True, help="Read every file, and remove those that are damaged.")
def cache(keep_gb: float | None, check: bool) -> None:
    """List, check or clear the decoded images."""
    from extract.cache_folder import CACHE_VARIABLE, cache_dir
    from extract.cached import list_cached, remove_damaged, trim_cache

    if check:
        with progress_bar("check") as progress:
            damaged = remove_damaged(progress)
        for path in damaged:
            click.echo(f"removed, because its content is not what was written: {path.name}")
    if keep_gb is not None:
        removed = trim_cache(int(keep_gb * 1e9))
        click.echo(f"removed {len(removed)} files, {sum(item.num_bytes for item in removed) / 1e9:.3f} GB")
    kept = list_cached()
    for item in kept:
        click.echo(
            f"{item.num_bytes / 1e9:9.3f} GB  last used {item.last_used:%Y-%m-%d %H:%M}  {item.path.name}"
        )
    click.echo(
        f"{cache_dir()}: {len(kept)} files of decoded images, "
        f"{sum(item.num_bytes for item in kept) / 1e9:.3f} GB (another folder: {CACHE_VARIABLE})"
    )
