"""Which volumes a folder holds: NRRD and NIfTI files, and DICOM series, at any depth."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from extract.building import walk_files
from extract.dicom_header import SeriesKey, looks_like_dicom, read_series_key, require_pydicom
from extract.errors import ExtractError
from extract.progress import Progress, no_progress
from extract.stored_volume import StoredVolume
from extract.subjects import SubjectTable
from extract.volume import VOLUME_SUFFIXES, open_files

FORMATS = f"{', '.join(VOLUME_SUFFIXES)}, DICOM series"


@dataclass(frozen=True)
class VolumeFile:
    """One volume below a folder."""

    name: str  # path below the folder; of a DICOM series its folder, and its number where it has company
    files: tuple[str, ...]  # that make it up
    fault: str = ""  # why it is none after all

    def open(self, folder: Path, orientation: str | None = None) -> StoredVolume:
        """Read its header.

        Raises:
            ExtractError: if it cannot be used.
        """
        if self.fault:
            raise ExtractError(self.fault)
        name = f"{folder / self.name}"
        return open_files(name, [folder / file for file in self.files], orientation)


def list_volumes(
    source: Path, subjects: Path | None = None, progress: Progress = no_progress
) -> tuple[list[VolumeFile], int]:
    """The volumes below a folder, sorted by name, and how many other files there are.

    Args:
        subjects: the list of subjects; where it lies in the folder it is no "other file".
        progress: told of each file that is looked at for being DICOM.

    Raises:
        ExtractError: if there is no such folder, nothing in it, or DICOM without the extra that reads it.
    """
    source = Path(source)
    if not source.is_dir():
        raise ExtractError(
            f"{source}: expected a folder of volumes, got {'a file' if source.exists() else 'nothing there'}"
        )
    names = sorted(path.relative_to(source).as_posix() for path in walk_files(source))
    found = [VolumeFile(name, (name,)) for name in names if name.lower().endswith(VOLUME_SUFFIXES)]
    others = [name for name in names if not name.lower().endswith(VOLUME_SUFFIXES)]
    marked = [name for name in others if looks_like_dicom(source / name)]
    if marked:
        require_pydicom()
    series, num_no_images = _group_series(source, marked, progress)
    found += series
    if not found:
        raise ExtractError(f"{source}: expected volumes ({FORMATS}), got none among {len(names)} files")
    ignored = set(others) - set(marked)
    if subjects is not None and subjects.resolve().is_relative_to(source.resolve()):
        ignored.discard(subjects.resolve().relative_to(source.resolve()).as_posix())
    return sorted(found, key=lambda item: item.name), len(ignored) + num_no_images


def name_subject(item: VolumeFile, table: SubjectTable | None) -> str:
    """The subject of a volume: from the table, by its name or its folder; else its name without suffix."""
    if table is not None:
        return table.find(item.name)[0]
    lower = item.name.lower()
    suffix = next((s for s in sorted(VOLUME_SUFFIXES, key=len, reverse=True) if lower.endswith(s)), "")
    return item.name[: len(item.name) - len(suffix)]


def _group_series(source: Path, marked: Sequence[str], progress: Progress) -> tuple[list[VolumeFile], int]:
    """One volume for each series in a folder; files without a picture (reports, directories) are counted."""
    series: dict[tuple[str, str], list[str]] = defaultdict(list)
    numbers: dict[tuple[str, str], SeriesKey] = {}
    faults: list[VolumeFile] = []
    num_no_images = 0
    for count, name in enumerate(marked):
        progress(count + 1, len(marked), "looking at DICOM files")
        try:
            key = read_series_key(source / name)
        except ExtractError as error:
            faults.append(VolumeFile(name, (name,), str(error)))
            continue
        if not key.is_image:
            num_no_images += 1
            continue
        place = (PurePosixPath(name).parent.as_posix(), key.uid)
        series[place].append(name)
        numbers[place] = key
    volumes = []
    for (folder, uid), files in series.items():
        beside = [key for (other, _), key in numbers.items() if other == folder]
        name = folder
        if len(beside) > 1 or folder == ".":
            number = numbers[folder, uid].number
            alone = sum(key.number == number for key in beside) == 1 and number
            name = (PurePosixPath(folder) / (f"series-{number}" if alone else uid)).as_posix()
        volumes.append(VolumeFile(name, tuple(files)))
    return volumes + faults, num_no_images
