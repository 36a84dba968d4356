"""A folder of volumes to an archive: survey all, agree on one field of view, then slice."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from extract.archive import ArchiveWriter, ImageRecord
from extract.building import BuildSummary, Unreadable, refuse_unreadable
from extract.dicom_header import check_tag
from extract.errors import ExtractError, SettingsError
from extract.parallel import map_ordered, num_workers
from extract.phantom_origin import phantom_origin
from extract.planes import NOISE, SliceConfig, pack_slices
from extract.png import encode_png
from extract.progress import Progress, no_progress
from extract.stored_volume import PHANTOM_NOTE
from extract.subjects import read_subject_table
from extract.volume import Volume, load_volume
from extract.volume_files import VolumeFile, list_volumes, name_subject
from extract.volume_survey import Survey, survey_volume


@dataclass(frozen=True)
class EncodedSlice:
    """One slice as it leaves a worker."""

    png: bytes
    record: ImageRecord


@dataclass(frozen=True)
class _Done:
    """What a worker found out about one volume, and its slices where they were made."""

    item: VolumeFile
    subject: str
    patient: str  # of DICOM: PatientID
    survey: Survey
    slices: tuple[EncodedSlice, ...] = ()
    phantom: str = ""  # the recipe of a procedural volume, see `extract.phantom`


@dataclass(frozen=True)
class _Work:
    """What a worker needs to know, the same for all volumes."""

    source: Path
    config: SliceConfig
    subject_of: dict[str, str]
    subject_tag: str | None


def build_volume_archive(
    source: Path,
    dest: Path,
    config: SliceConfig,
    *,
    subjects: Path | None = None,
    subject_tag: str | None = None,
    workers: int | None = None,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> BuildSummary:
    """Slice every volume below a folder into one archive.

    All slices share one field of view, so that sizes compare. Where `config.fov_mm` does not give it, all
    volumes are read and surveyed first, and read again to be sliced. Nothing is written if a volume is bad.
    The same bytes come out whatever `workers` is.

    Args:
        source: folder of NRRD and NIfTI files and DICOM series.
        dest: archive to write.
        config: planes, angles, size.
        subjects: table of `file` and `subject_id`; None = each volume is its own subject, named by its path.
        subject_tag: DICOM keyword that names the subject instead, such as PatientID.
        workers: processes; None = one a core.
        skip_unreadable: leave bad volumes out instead of stopping.
        overwrite: replace an archive that is there.
        progress: told of each volume, twice where there are two rounds.

    Raises:
        ExtractError: if there are no volumes, a bad one, one without a subject, or a patient under two names.
        SettingsError: if the subjects are told in two ways, or by an unknown tag.
    """
    check_tag(subject_tag)
    if subjects is not None and subject_tag is not None:
        raise SettingsError("give --subjects or --subject-tag, not both")
    writer = ArchiveWriter(
        dest,
        overwrite=overwrite,
        classes=[*config.planes, NOISE],
        preparation={"kind": "volumes", **asdict(config)},
    )
    volumes, num_ignored = list_volumes(source, subjects, progress)
    table = None if subjects is None else read_subject_table(subjects)
    work = _Work(source, config, {item.name: name_subject(item, table) for item in volumes}, subject_tag)
    workers = num_workers(workers, len(volumes))
    rounds = 1 if config.fov_mm else 2
    watched = _Watch(progress, rounds * len(volumes))
    good: list[tuple[VolumeFile, Survey | None]] = [(item, None) for item in volumes]
    fov_mm = config.fov_mm or 0.0
    unreadable: list[Unreadable] = []
    patients: dict[str, tuple[str, str]] = {}  # PatientID -> the first volume and its subject
    if rounds == 2:
        surveyed, unreadable = _survey_all(volumes, work, workers, watched)
        refuse_unreadable(unreadable, len(volumes), "volumes", skip_unreadable)
        for done in surveyed if subjects is None else ():
            _check_patient(done, patients)
        fields = [done.survey.field_mm(config.planes, config.is_tilted) for done in surveyed]
        fov_mm = float(np.ceil(max(fields)))
        good = [(done.item, done.survey) for done in surveyed]
        watched.total = len(volumes) + len(good)
    counts: Counter[str] = Counter()
    people: set[str] = set()
    recipes: list[str] = []
    slicing = partial(_slice, work=work, fov_mm=fov_mm)
    with writer:
        results = map_ordered(slicing, good, workers)
        for result in results:
            watched.told(result, "slicing")
            if isinstance(result, Unreadable):  # in a single round: found only now
                unreadable.append(result)
                if not skip_unreadable:
                    rest = volumes[[item.name for item in volumes].index(result.file) + 1 :]
                    unreadable += _survey_all(rest, work, workers, watched)[1]  # one message names them all
                    refuse_unreadable(unreadable, len(volumes), "volumes", skip_unreadable)
                continue
            if subjects is None:
                _check_patient(result, patients)
            people.add(result.subject)
            recipes.append(result.phantom)
            for encoded in result.slices:
                writer.add_png(encoded.png, config.pixel_shape, encoded.record)
                counts[encoded.record.label] += 1
        refuse_unreadable(unreadable, len(volumes), "volumes", skip_unreadable)
        origin = phantom_origin(recipes)  # only where there is one: other archives' bytes stay as they were
        writer.describe(
            fov_mm=fov_mm,
            left_out=[item.file for item in unreadable],
            **({"phantom": origin} if origin else {}),
        )
    return BuildSummary(
        dest,
        len(volumes) - len(unreadable),
        sum(counts.values()),
        len(people),
        dict(sorted(counts.items())),
        tuple(unreadable),
        num_ignored,
    )


class _Watch:
    """Counts volumes over both rounds for whoever watches."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def told(self, result: "_Done | Unreadable", what: str) -> None:
        """Report one more volume."""
        self.done += 1
        name = result.file if isinstance(result, Unreadable) else result.item.name
        self.progress(self.done, self.total, f"{what} {name}")


def _survey_all(
    volumes: Sequence[VolumeFile], work: _Work, workers: int, watched: _Watch
) -> tuple[list[_Done], list[Unreadable]]:
    """What can be used, and what cannot."""
    good, bad = [], []
    for result in map_ordered(partial(_survey, work=work), volumes, workers):
        watched.told(result, "surveying")
        if isinstance(result, Unreadable):
            bad.append(result)
        else:
            good.append(result)
    return good, bad


def _check_patient(done: _Done, patients: dict[str, tuple[str, str]]) -> None:
    """Refuse two subjects that DICOM says are one person: they could land on two sides of a split."""
    if not done.patient:
        return
    first, subject = patients.setdefault(done.patient, (done.item.name, done.subject))
    if subject != done.subject:
        raise ExtractError(
            f"{done.item.name}: expected a patient to be one subject, but it has the PatientID of "
            f"{first}, and they count as {done.subject!r} and {subject!r}; pass "
            "--subject-tag "
            "PatientID, or a table with --subjects (which decides, where an ID was blanked for all)"
        )


def _load(item: VolumeFile, work: _Work) -> tuple[Volume, str, str, str]:
    """The volume, its subject, its patient, and the recipe of a phantom."""
    stored = item.open(work.source, work.config.orientation)
    subject = work.subject_of[item.name]
    if work.subject_tag is not None:
        subject = stored.tag(work.subject_tag)
        if not subject:
            raise ExtractError(
                f"{stored.name}: expected the subject in the DICOM tag {work.subject_tag}, got none; "
                "give the subjects with --subjects"
            )
    return load_volume(stored), subject, stored.tag("PatientID"), stored.tag(PHANTOM_NOTE)


def _survey(item: VolumeFile, work: _Work) -> _Done | Unreadable:
    """Where the volume's tissue is, or why it cannot be used."""
    try:
        volume, subject, patient, _ = _load(item, work)
        return _Done(item, subject, patient, survey_volume(volume, work.config.parsed_windows()))
    except ExtractError as error:
        return Unreadable(item.name, str(error))


def _slice(known: tuple[VolumeFile, Survey | None], work: _Work, fov_mm: float) -> _Done | Unreadable:
    """The slices of a volume, which may have been surveyed already, or why it cannot be used."""
    item, survey = known
    try:
        volume, subject, patient, recipe = _load(item, work)
        survey = survey or survey_volume(volume, work.config.parsed_windows())
    except ExtractError as error:
        return Unreadable(item.name, str(error))
    slices = encode_slices(volume, survey, work.config, fov_mm, subject=subject, source=item.name)
    return _Done(item, subject, patient, survey, slices, recipe)


def encode_slices(
    volume: Volume, survey: Survey, config: SliceConfig, fov_mm: float, *, subject: str, source: str
) -> tuple[EncodedSlice, ...]:
    """All slices of one volume, as PNGs with their rows of the manifest."""
    return tuple(
        EncodedSlice(
            made.pixels,
            ImageRecord(
                label=made.label,
                subject=subject,
                source=source,
                plane=made.plane,
                angle_deg=made.angle_deg,
                slice_index=made.slice_index,
                position_mm=made.position_mm,
                tilt_deg=made.tilt_deg,
                affine=made.place.to_text(),
            ),
        )
        for made in pack_slices(volume, survey, config, fov_mm, encode_png)
    )
