"""Projection of every picture of a folder: how well a generator can make each of them."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from extract.atomic import write_text
from extract.building import list_files
from extract.images import PICTURE_SUFFIXES
from extract.progress import Progress, no_progress
from gan.errors import GanError
from gan.images import prepare_outdir
from gan.project import ProjectConfig, ProjectSummary, project_image
from gan.projected import write_projected_w

COLUMNS = ("picture", "folder", "distance", "start_distance", "final_distance", "psnr_db", "ssim")


@dataclass(frozen=True)
class FolderSummary:
    """What was made of a folder."""

    table: Path
    num_pictures: int
    mean_psnr_db: float
    mean_ssim: float


def project_folder(
    network: Path,
    pictures: Path,
    outdir: Path,
    config: ProjectConfig | None = None,
    *,
    device: str = "cpu",
    progress: Progress = no_progress,
    overwrite: bool = False,
) -> FolderSummary:
    """Project each picture below a folder, as `project_image` does, into a folder of its own name.

    Written beside them are `projections.csv`, one line a picture, and `projected_w.npz` with all of the w in
    the order of its lines, for `gan generate --projected-w`.

    Raises:
        ExtractError: if there are no pictures, or one cannot be read.
        GanError: if two pictures have the same name but for the ending, or as `project_image`.
    """
    config = config or ProjectConfig()
    names, _ = list_files(pictures, PICTURE_SUFFIXES, "pictures")
    folders = [str(PurePosixPath(name).with_suffix("")) for name in names]
    twins = sorted({folder for folder in folders if folders.count(folder) > 1})
    if twins:
        raise GanError(
            f"{pictures}: expected pictures of different names, got two called {twins[0]}; rename one of them"
        )
    prepare_outdir(outdir, ["projections.csv", "projected_w.npz"], overwrite)
    found: list[ProjectSummary] = []
    for number, (name, folder) in enumerate(zip(names, folders, strict=True)):

        def report(step: int, total: int, message: str, number: int = number, name: str = name) -> None:
            progress(number * total + step, len(names) * total, f"{name}: {message}")

        found.append(
            project_image(
                network,
                pictures / name,
                outdir / folder,
                config,
                device=device,
                progress=report,
                overwrite=overwrite,
            )
        )
    ws = []
    for folder in folders:
        with np.load(outdir / folder / "projected_w.npz", allow_pickle=False) as arrays:
            ws.append(arrays["w"])
    write_projected_w(outdir / "projected_w.npz", np.concatenate(ws))
    write_text(outdir / "projections.csv", _table(names, folders, found))
    return FolderSummary(
        outdir / "projections.csv",
        len(names),
        float(np.mean([summary.psnr_db for summary in found])),
        float(np.mean([summary.ssim for summary in found])),
    )


def _table(names: list[str], folders: list[str], found: list[ProjectSummary]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, folder, summary in zip(names, folders, found, strict=True):
        figures = (summary.start_distance, summary.final_distance, summary.psnr_db, summary.ssim)
        writer.writerow([name, folder, summary.distance_name, *(f"{value:.6g}" for value in figures)])
    return text.getvalue()
