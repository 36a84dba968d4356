"""A folder of volumes to an archive: survey all, agree on one field of view, then slice."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from extract.archive import ArchiveWriter, ImageRecord
from extract.building import BuildSummary, Unreadable, list_files, refuse_unreadable
from extract.errors import ExtractError
from extract.parallel import map_ordered, num_workers
from extract.planes import NOISE, SliceConfig, Survey, slice_volume, survey_volume
from extract.png import encode_png
from extract.progress import Progress, no_progress
from extract.subjects import read_subject_table
from extract.volume import VOLUME_SUFFIXES, read_volume


@dataclass(frozen=True)
class _Encoded:
    """One slice as it leaves a worker."""

    png: bytes
    record: ImageRecord


def build_volume_archive(
    source: Path,
    dest: Path,
    config: SliceConfig,
    *,
    subjects: Path | None = None,
    workers: int | None = None,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> BuildSummary:
    """Slice every volume below a folder into one archive.

    All volumes are read and surveyed first: a bad one is found before any work is lost, and all slices
    share one field of view, so that sizes compare. The same bytes come out whatever `workers` is.

    Args:
        source: folder of .nrrd and .nhdr files.
        dest: archive to write.
        config: planes, angles, size.
        subjects: table of `file` and `subject_id`; None = each file is its own subject, named by its stem.
        workers: processes; None = one a core.
        skip_unreadable: leave bad volumes out instead of stopping.
        overwrite: replace an archive that is there.
        progress: told of each volume, twice.

    Raises:
        ExtractError: if there are no volumes, a bad one, or one without a subject.
    """
    writer = ArchiveWriter(
        dest,
        overwrite=overwrite,
        classes=[*config.planes, NOISE],
        preparation={"kind": "volumes", **asdict(config)},
    )
    files, num_ignored = list_files(source, VOLUME_SUFFIXES, "NRRD volumes", subjects)
    subject_of = _name_subjects(files, subjects)
    workers = num_workers(workers, len(files))
    surveys: dict[str, Survey] = {}
    unreadable: list[Unreadable] = []
    survey = partial(_survey_file, source=source, config=config)
    for number, (file, result) in enumerate(zip(files, map_ordered(survey, files, workers), strict=True)):
        progress(number + 1, 2 * len(files), f"surveying {file}")
        if isinstance(result, Unreadable):
            unreadable.append(result)
        else:
            surveys[file] = result
    refuse_unreadable(unreadable, len(files), "volumes", skip_unreadable)

    fov_mm = config.fov_mm or float(np.ceil(max(item.field_mm(config.planes) for item in surveys.values())))
    counts: Counter[str] = Counter()
    slicing = partial(_slice_file, source=source, config=config, fov_mm=fov_mm, subject_of=subject_of)
    with writer:
        writer.describe(fov_mm=fov_mm, left_out=[item.file for item in unreadable])
        for number, encoded in enumerate(map_ordered(slicing, list(surveys.items()), workers)):
            for item in encoded:
                writer.add_png(item.png, (config.size, config.size), item.record)
                counts[item.record.label] += 1
            progress(len(files) + number + 1, len(files) + len(surveys), "slicing")
    num_subjects = len({subject_of[file] for file in surveys})
    return BuildSummary(
        dest,
        len(surveys),
        sum(counts.values()),
        num_subjects,
        dict(sorted(counts.items())),
        tuple(unreadable),
        num_ignored,
    )


def _name_subjects(files: Sequence[str], subjects: Path | None) -> dict[str, str]:
    if subjects is None:
        return {file: PurePosixPath(file).with_suffix("").as_posix() for file in files}
    table = read_subject_table(subjects)
    return {file: table.find(file)[0] for file in files}


def _survey_file(file: str, source: Path, config: SliceConfig) -> Survey | Unreadable:
    """Where the volume's tissue is, or why it cannot be used."""
    try:
        return survey_volume(read_volume(source / file, config.orientation))
    except ExtractError as error:
        return Unreadable(file, str(error))


def _slice_file(
    surveyed: tuple[str, Survey], source: Path, config: SliceConfig, fov_mm: float, subject_of: dict[str, str]
) -> list[_Encoded]:
    file, survey = surveyed
    volume = read_volume(source / file, config.orientation)
    return [
        _Encoded(
            encode_png(item.pixels),
            ImageRecord(
                label=item.label,
                subject=subject_of[file],
                source=file,
                plane=item.plane,
                angle_deg=item.angle_deg,
                slice_index=item.slice_index,
                position_mm=item.position_mm,
            ),
        )
        for item in slice_volume(volume, survey, config, fov_mm)
    ]
