"""Files that a classifier is to judge: pictures, volumes, archives, and folders of them.

Every picture and every slice goes through the very functions that made the training archive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classifier.errors import ClassifierError
from classifier.preparation import InputSettings
from extract.archive import Archive, open_archive
from extract.building import Unreadable, list_files, walk_files
from extract.errors import ExtractError, SettingsError
from extract.images import fit_picture
from extract.picture_file import DICOM_SUFFIXES, PICTURE_SUFFIXES, read_picture
from extract.planes import Slice, slice_volume
from extract.volume import VOLUME_SUFFIXES, Volume, load_volume, open_volume
from extract.volume_files import VolumeFile, list_volumes
from extract.volume_survey import survey_volume


@dataclass(frozen=True)
class InputImage:
    """One image to judge, with what is known about it."""

    given: str  # the input that it came with, as the user named it
    file: str  # below a folder, or the entry of an archive; the name of a single file
    pixels: np.ndarray  # (C, H, W) uint8, as archives hold images
    volume: str = ""  # of a slice: the volume's name
    plane: str = ""
    angle_deg: float | None = None
    tilt_deg: float | None = None
    slice_index: int | None = None
    position_mm: float | None = None
    label: str = ""  # class name, where an archive says it
    subject: str = ""


@dataclass(frozen=True)
class Source:
    """A file to read, or several that make up one volume."""

    given: str
    file: str
    kind: str  # "picture", "volume" or "archive"
    path: Path
    volume: VolumeFile | None = None  # of a folder of volumes, whose `path` is the folder


def list_sources(inputs: Sequence[Path], settings: InputSettings) -> list[Source]:
    """What is to be read, in the order of the inputs, folders sorted by name.

    Raises:
        ExtractError: if an input is not there, is of no known kind, or a folder holds nothing to read.
        SettingsError: if there is a volume, and nobody knows how to slice it.
    """
    sources = [source for path in inputs for source in _sources_of(Path(path), settings)]
    unmasked = [source for source in sources if source.kind != "archive"]
    if settings.is_masked and unmasked:
        raise SettingsError(
            f"{unmasked[0].path} is no archive, and the classifier was trained on images masked by "
            "`classifier segment apply`: make an archive of the files, mask it by the same segmenter and "
            "give that; or, if the files are masked already, say how they fit with --fit"
        )
    return sources


def read_source(source: Source, settings: InputSettings) -> Iterator[InputImage | Unreadable]:
    """The images of a source, or why it cannot be read.

    Raises:
        ClassifierError: if an archive holds images of another shape than the training's.
    """
    if source.kind == "archive":
        with open_archive(source.path) as archive:
            check_archive(archive, settings)
            for index in range(len(archive)):
                yield archive_image(archive, index, source.given)
        return
    try:
        if source.kind == "volume":
            yield from _read_slices(source, settings)
        else:
            yield InputImage(source.given, source.file, _read_picture(source.path, settings))
    except ExtractError as error:
        yield Unreadable(source.file, str(error))


def _sources_of(path: Path, settings: InputSettings) -> list[Source]:
    given, lower = f"{path}", path.name.lower()
    if path.is_dir():
        return _sources_in(path, settings)
    if not path.exists():
        raise ExtractError(f"{path}: expected a picture, a volume, a folder or an archive, got nothing there")
    if lower.endswith(".zip"):
        return [Source(given, path.name, "archive", path)]
    if lower.endswith(VOLUME_SUFFIXES):
        _require_slices(path, settings)
        return [Source(given, path.name, "volume", path)]
    if lower.endswith(DICOM_SUFFIXES) and settings.made_from == "volumes":
        raise SettingsError(
            f"{path} is one DICOM file, and the classifier was trained on slices of volumes: give the folder "
            "that holds the whole series"
        )
    if lower.endswith((*PICTURE_SUFFIXES, *DICOM_SUFFIXES)):
        return [Source(given, path.name, "picture", path)]
    known = ", ".join((*PICTURE_SUFFIXES, *DICOM_SUFFIXES, *VOLUME_SUFFIXES))
    raise ExtractError(f"{path}: expected a picture or a volume ({known}) or an archive (.zip)")


def _sources_in(folder: Path, settings: InputSettings) -> list[Source]:
    """Volumes where the classifier takes some, otherwise pictures, DICOM files among them."""
    given = f"{folder}"
    if settings.slices is None:
        names = [path.name.lower() for path in walk_files(folder)]
        if names and all(name.endswith(VOLUME_SUFFIXES) for name in names):
            _require_slices(folder, settings)
        files, _ = list_files(folder, (*PICTURE_SUFFIXES, *DICOM_SUFFIXES), "pictures")
        return [Source(given, file, "picture", folder / file) for file in files]
    try:
        volumes, _ = list_volumes(folder)
    except ExtractError:
        files, _ = list_files(folder, PICTURE_SUFFIXES, "volumes or pictures")
        return [Source(given, file, "picture", folder / file) for file in files]
    return [Source(given, item.name, "volume", folder, item) for item in volumes]


def _require_slices(path: Path, settings: InputSettings) -> None:
    if settings.slices is None:
        what = (
            "was trained on pictures" if settings.made_from == "images" else "does not say how it sliced them"
        )
        raise SettingsError(
            f"{path} is a volume, and the classifier {what}: give --like ARCHIVE (one made with `extract "
            "volumes` as the training's was), or --planes, --slices-per-plane and --fov-mm"
        )


def _read_picture(path: Path, settings: InputSettings) -> np.ndarray:
    pixels = read_picture(path, settings.rgb)
    height, width = pixels.shape[:2]
    if settings.fit is None and height != width:
        raise SettingsError(
            f"{path} has {width}x{height} pixels, and the classifier does not say how pictures that are not "
            "square were fitted: give --fit pad, crop or squash as for `extract images`, or --like ARCHIVE"
        )
    return to_planes(fit_picture(pixels, settings.size, settings.picture.fit))


def to_planes(pixels: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) to (C, H, W), as archives give it."""
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _read_slices(source: Source, settings: InputSettings) -> Iterator[InputImage]:
    assert settings.slices is not None
    for item in _slices_of(_load(source, settings), settings):
        yield InputImage(
            given=source.given,
            file=source.file,
            pixels=to_planes(item.pixels),
            volume=source.file,
            plane=item.plane,
            angle_deg=item.angle_deg,
            tilt_deg=item.tilt_deg,
            slice_index=item.slice_index,
            position_mm=item.position_mm,
        )


def _load(source: Source, settings: InputSettings) -> Volume:
    assert settings.slices is not None
    orientation = settings.slices.orientation
    if source.volume is not None:
        return load_volume(source.volume.open(source.path, orientation))
    return load_volume(open_volume(source.path, orientation))


def _slices_of(volume: Volume, settings: InputSettings) -> list[Slice[np.ndarray]]:
    config = settings.slices
    assert config is not None
    survey = survey_volume(volume, config.parsed_windows())
    fov_mm = config.fov_mm or float(np.ceil(survey.field_mm(config.planes, config.is_tilted)))
    return slice_volume(volume, survey, config, fov_mm)


def archive_image(archive: Archive, index: int, given: str) -> InputImage:
    """One image of an archive with what its manifest says."""
    row = archive.row(index)
    return InputImage(
        given=given,
        file=archive.names[index],
        pixels=archive.read_image(index),
        plane=row["plane"],
        angle_deg=_number(row["angle_deg"]),
        tilt_deg=_number(row["tilt_deg"]),
        slice_index=int(row["slice_index"]) if row["slice_index"] else None,
        position_mm=_number(row["position_mm"]),
        label=archive.classes[archive.labels[index]] if archive.labels[index] >= 0 else "",
        subject=str(archive.subjects[index]),
    )


def check_archive(archive: Archive, settings: InputSettings) -> None:
    """Raise a ClassifierError where an archive's images have not the shape of the training's."""
    expected = (3 if settings.rgb else 1, settings.size, settings.size)
    if archive.image_shape != expected:
        raise ClassifierError(
            f"{archive.path}: expected images of shape {expected} (channels, height, width) as in training, "
            f"got {archive.image_shape}: make the archive alike (--size, --rgb)"
        )


def _number(cell: str) -> float | None:
    return float(cell) if cell else None
