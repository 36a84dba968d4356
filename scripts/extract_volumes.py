"""`synthlabel extract volumes` and `place-back`: volumes to slices, and slices to volumes."""

from pathlib import Path

import click

from extract.errors import SettingsError
from scripts.building import building_options, print_summary
from scripts.number_lists import parse_angles
from scripts.progress import progress_bar

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
DEGREES = "start:stop:step (inclusive) or a,b,c."


@click.command()
@click.option(
    "--source", type=FOLDER, required=True, help="Folder of volumes: NRRD, NIfTI, DICOM series, at any depth."
)
@click.option("--dest", type=FILE, required=True, help="Archive to write (.zip).")
@click.option("--size", type=int, default=256, show_default=True, help="Pixels a side, a power of two.")
@click.option(
    "--planes", default="sagittal,coronal", show_default=True, help="Some of sagittal,coronal,axial."
)
@click.option("--angles", default="0", show_default=True, metavar="DEG", help=DEGREES)
@click.option(
    "--tilts",
    default="0",
    show_default=True,
    metavar="DEG",
    help="About the plane's other axis, as --angles.",
)
@click.option("--step-mm", type=float, default=None, help="Distance between slices.  [default: 3]")
@click.option(
    "--slices-per-plane", type=int, default=None, help="Slices at each angle, instead of --step-mm."
)
@click.option("--slab-mm", type=float, default=0.0, show_default=True, help="Thickness of a slice; 0 = none.")
@click.option(
    "--slab",
    type=click.Choice(["mean", "max"]),
    default="mean",
    show_default=True,
    help="What a thick slice shows of its thickness.",
)
@click.option(
    "--fov-mm", type=float, default=None, help="Side of the field.  [default: what the largest head needs]"
)
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="WINDOW",
    help="What becomes black and white: percentile:LOW,HIGH (of the non-zero voxels), values:LOW,HIGH, or "
    "ct:NAME with brain, subdural, stroke, soft, abdomen, liver, mediastinum, lung, bone, temporal-bone, "
    "angio. Three times with --rgb windows.  [default: percentile:1,99.5]",
)
@click.option(
    "--rgb",
    type=click.Choice(["gray", "neighbors", "windows"]),
    default=None,
    help="Three channels: the same thrice, the slice between its neighbors, or three windows.  [default: "
    "one]",
)
@click.option(
    "--neighbor-mm",
    type=float,
    default=3.0,
    show_default=True,
    help="With --rgb neighbors: how far the red one is behind, the blue one ahead.",
)
@click.option(
    "--noise-below",
    type=float,
    default=0.25,
    show_default=True,
    help="A slice with less than this share of its plane's largest tissue area is noise.",
)
@click.option(
    "--noise-share", type=float, default=1.0, show_default=True, help="At most this share is noise."
)
@click.option(
    "--subjects", type=FILE, default=None, help="CSV of file and subject_id.  [default: file names]"
)
@click.option(
    "--subject-tag", default=None, metavar="KEYWORD", help="DICOM tag that names the subject: PatientID, ..."
)
@click.option("--orientation", default=None, help="Three letters (RAS, LPS, ...) for headers that give none.")
@building_options
def volumes(
    source: Path,
    dest: Path,
    size: int,
    planes: str,
    angles: str,
    tilts: str,
    step_mm: float | None,
    slices_per_plane: int | None,
    slab_mm: float,
    slab: str,
    fov_mm: float | None,
    windows: tuple[str, ...],
    rgb: str | None,
    neighbor_mm: float,
    noise_below: float,
    noise_share: float,
    subjects: Path | None,
    subject_tag: str | None,
    orientation: str | None,
    workers: int | None,
    skip_unreadable: bool,
    overwrite: bool,
) -> None:
    """Slice volumes into an archive; classes are the planes and noise."""
    from extract.planes import SliceConfig
    from extract.volumes import build_volume_archive
    from extract.windows import DEFAULT_WINDOW

    if step_mm is not None and slices_per_plane is not None:
        raise SettingsError("give --step-mm or --slices-per-plane, not both")
    config = SliceConfig(
        planes=tuple(name.strip() for name in planes.split(",")),
        angles_deg=parse_angles(angles),
        tilts_deg=parse_angles(tilts, "--tilts"),
        size=size,
        step_mm=3.0 if step_mm is None else step_mm,
        slices_per_plane=slices_per_plane,
        slab_mm=slab_mm,
        slab=slab,
        fov_mm=fov_mm,
        windows=windows or (DEFAULT_WINDOW,),
        rgb=rgb,
        neighbor_mm=neighbor_mm,
        noise_below=noise_below,
        noise_share=noise_share,
        orientation=orientation,
    )
    with progress_bar("volumes") as progress:
        summary = build_volume_archive(
            source, dest, config, subjects=subjects, subject_tag=subject_tag, workers=workers,
            skip_unreadable=skip_unreadable, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    print_summary(summary, "volumes")


@click.command("place-back")
@click.option("--data", type=FILE, required=True, help="Archive made by `extract volumes`.")
@click.option(
    "--volumes", "folder", type=FOLDER, required=True, help="Folder of the volumes it was made from."
)
@click.option("--dest", type=FOLDER, required=True, help="Folder to write to: a NRRD for each volume.")
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    default=None,
    help="Zip or folder of gray PNGs named as the archive's images.  [default: its own pictures]",
)
@click.option(
    "--table",
    type=FILE,
    default=None,
    help="CSV or Parquet with one number a slice: columns file and --column.",
)
@click.option("--column", default=None, help="Of --table: which one holds the numbers.")
@click.option(
    "--kind",
    type=click.Choice(["values", "labels"]),
    default="values",
    show_default=True,
    help="Interpolate numbers, or vote on labels.",
)
@click.option("--planes", default=None, help="Use these planes alone.  [default: all]")
@click.option("--orientation", default=None, help="As it was given to `extract volumes`.")
@click.option("--overwrite", is_flag=True, help="Replace volumes that are there.")
def place_back(
    data: Path,
    folder: Path,
    dest: Path,
    masks: Path | None,
    table: Path | None,
    column: str | None,
    kind: str,
    planes: str | None,
    orientation: str | None,
    overwrite: bool,
) -> None:
    """Put slices, masks or one number a slice back into volumes, on the grid of their sources."""
    from extract.archive import open_archive
    from extract.mask_files import open_masks
    from extract.orientation import check_orientation
    from extract.place_back import place_back as place
    from extract.place_back import read_pictures, read_table

    if masks is not None and table is not None:
        raise SettingsError("give --masks or --table, not both")
    if (table is None) != (column is None):
        raise SettingsError("give --table and --column together")
    check_orientation(orientation)
    with open_archive(data) as archive, progress_bar("place-back") as progress:
        if masks is not None:
            read = open_masks(masks, archive.manifest["file"].tolist())
        elif table is not None and column is not None:
            read = read_table(archive, table, column)
        else:
            read = read_pictures(archive)
        written = place(
            archive, folder, dest, read, kind=kind, orientation=orientation, overwrite=overwrite,
            planes=None if planes is None else tuple(name.strip() for name in planes.split(",")),
            progress=progress,
        )  # fmt: skip
    click.echo(
        f"{dest}: {len(written)} {'volume' if len(written) == 1 else 'volumes'} from slices of {data.name}"
    )
