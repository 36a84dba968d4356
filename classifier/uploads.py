"""Files that come over a web page: checked, put where the readers find them, and gone again.

The readers of `classifier.inputs` refuse damaged files by themselves; here stands what is dangerous only
because somebody else chose the file: too much of it, names with paths, headers that point at other files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory

from classifier.inputs import list_sources
from classifier.preparation import InputSettings
from extract.building import Unreadable
from extract.errors import ExtractError, SynthlabelError
from extract.language import Message
from extract.nrrd_file import MAX_HEADER_BYTES
from extract.picture_file import DICOM_SUFFIXES, PICTURE_SUFFIXES
from extract.safe_names import file_names
from extract.volume import NIFTI_SUFFIXES, NRRD_SUFFIXES, VOLUME_SUFFIXES, open_volume
from extract.volume_files import list_volumes

UPLOAD_SUFFIXES = (*PICTURE_SUFFIXES, *DICOM_SUFFIXES, ".nrrd", *NIFTI_SUFFIXES)
DICOM_MARK = slice(128, 132), b"DICM"  # after the preamble; scanners often leave the suffix out
MEGABYTE = 10**6  # as Streamlit counts them
NO_ROOM = b"synthlabel: no room in memory for this file"  # the server's, in the place of a file
MAX_SHOWN_NAME = 120  # characters
SERIES, SERIES_NAME = "series", "DICOM"


@dataclass(frozen=True)
class UploadLimits:
    """What one person may give at once: memory is for the work, not for whoever sends most."""

    num_files: int = 200
    file_megabytes: int = 256
    total_megabytes: int = 384
    num_voxels: int = 2**27  # 512 x 512 x 512; half a gigabyte as float32


@dataclass(frozen=True)
class Upload:
    """One file as a browser sends it."""

    name: str  # whatever its owner calls it
    data: bytes | memoryview


@dataclass(frozen=True)
class StoredUploads:
    """Uploads as files on disk, for the time of a `with` block."""

    folder: Path
    inputs: tuple[Path, ...]  # for `predict_files`: files, and one folder for all slices of DICOM series
    names: tuple[str, ...]  # (N,) what to call each input
    refused: tuple[Unreadable, ...]


@contextmanager
def stored_uploads(
    uploads: Sequence[Upload], settings: InputSettings, limits: UploadLimits | None = None
) -> Iterator[StoredUploads]:
    """Write uploads to a temporary folder, which is removed at the end of the block, whatever happens.

    What is too large, of no known kind, or not what its header says is refused with a sentence.

    Args:
        settings: how the classifier turns files into images.
    """
    limits = limits or UploadLimits()
    with TemporaryDirectory(prefix="synthlabel-app-") as name:
        folder = Path(name)
        inputs: list[Path] = []
        names: list[str] = []
        refused: list[Unreadable] = []
        room = limits.total_megabytes * MEGABYTE
        for number, upload in enumerate(uploads):
            shown = shown_name(upload.name)
            try:
                if number >= limits.num_files:
                    raise ExtractError(
                        Message(
                            "{name}: expected at most {limit} files at once, got {num}; give the others "
                            "afterwards, or use `synthlabel classifier predict` for whole folders",
                            name=shown,
                            limit=limits.num_files,
                            num=len(uploads),
                        )
                    )
                if upload.data == NO_ROOM:
                    raise ExtractError(_crowded(shown))
                _check_size(shown, len(upload.data), room, limits)
                path, is_slice = _place(folder, number, upload, settings)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(upload.data)
                room -= len(upload.data)
                if is_slice:
                    continue
                _check_volume(path, shown, settings, limits)
                list_sources([path], settings)
            except SynthlabelError as error:
                refused.append(Unreadable(shown, reason_of(error, folder)))
            else:
                inputs.append(path)
                names.append(shown)
        if (folder / SERIES).exists():
            try:
                _check_series(folder / SERIES, settings, limits)
            except SynthlabelError as error:
                refused.append(Unreadable(SERIES_NAME, reason_of(error, folder)))
            else:
                inputs.append(folder / SERIES)
                names.append(SERIES_NAME)
        yield StoredUploads(folder, tuple(inputs), tuple(names), tuple(refused))


def shown_name(name: str) -> str:
    """The last part of a file's name, without what cannot be printed, and not endless."""
    last = PureWindowsPath(PurePosixPath(name).name).name
    clean = "".join(character for character in last if character.isprintable()).strip() or "file"
    if len(clean) <= MAX_SHOWN_NAME:
        return clean
    return f"{clean[: MAX_SHOWN_NAME // 2]}...{clean[-MAX_SHOWN_NAME // 2 :]}"


def without_folder(text: str, folder: Path) -> str:
    """A sentence without the temporary folder that its file lies in, which means nothing to its owner."""
    return re.sub(re.escape(f"{folder}/") + r"(?:\d{4}/)?", "", text).replace(f"{folder}", "the files")


def _check_size(shown: str, num_bytes: int, room: int, limits: UploadLimits) -> None:
    size = f"{num_bytes / MEGABYTE:,.0f}"
    if not num_bytes:
        raise ExtractError(
            Message("{name}: expected a picture or a volume, got an empty file; copy it anew", name=shown)
        )
    if num_bytes > limits.file_megabytes * MEGABYTE:
        raise ExtractError(
            Message(
                "{name}: expected at most {limit} MB a file, got {size} MB; crop the volume, or use "
                "`synthlabel classifier predict`, which has no such limit",
                name=shown,
                limit=limits.file_megabytes,
                size=size,
            )
        )
    if num_bytes > room:
        raise ExtractError(
            Message(
                "{name}: expected at most {limit} MB altogether, and the files before it leave {room} MB for "
                "its {size} MB; give it alone",
                name=shown,
                limit=limits.total_megabytes,
                room=f"{room / MEGABYTE:,.0f}",
                size=size,
            )
        )


def _place(folder: Path, number: int, upload: Upload, settings: InputSettings) -> tuple[Path, bool]:
    """Where an upload is written, and whether it is one slice of a DICOM series."""
    shown = shown_name(upload.name)
    lower = shown.lower()
    place, mark = DICOM_MARK
    is_dicom = lower.endswith(DICOM_SUFFIXES) or bytes(upload.data[place]) == mark
    if lower.endswith(".nhdr"):
        raise ExtractError(_detached(shown))
    if not is_dicom and not lower.endswith(UPLOAD_SUFFIXES):
        raise ExtractError(
            Message(
                "{name}: expected a picture or a volume ({known}), got a file of another kind",
                name=shown,
                known=", ".join(UPLOAD_SUFFIXES),
            )
        )
    safe = file_names([shown])[shown]
    if is_dicom and settings.made_from == "volumes":
        return folder / SERIES / f"{number:04d}-{safe}", True
    if is_dicom and not lower.endswith(DICOM_SUFFIXES):
        safe += DICOM_SUFFIXES[0]
    elif not safe.lower().endswith(UPLOAD_SUFFIXES):  # a long name was cut
        safe += "".join(PurePosixPath(shown).suffixes[-2:] if lower.endswith(".gz") else [Path(shown).suffix])
    return folder / f"{number:04d}" / safe, False


def _crowded(shown: str) -> Message:
    return Message(
        "{name}: expected room in memory beside the files that are open, got none; remove some, or close "
        "other windows of this page, and give it again",
        name=shown,
    )


def _detached(shown: str) -> Message:
    return Message(
        "{name}: expected a volume in one file, got a header whose voxels lie in another; store both in one "
        ".nrrd",
        name=shown,
    )


def _check_volume(path: Path, shown: str, settings: InputSettings, limits: UploadLimits) -> None:
    """Refuse a volume whose header points at other files, or promises more voxels than fit."""
    if not path.name.lower().endswith(VOLUME_SUFFIXES) or settings.slices is None:
        return
    if path.name.lower().endswith(NRRD_SUFFIXES):
        with open(path, "rb") as handle:
            head = handle.read(MAX_HEADER_BYTES)
        if re.search(rb"^\s*data ?file\s*:", head.split(b"\n\n")[0], re.IGNORECASE | re.MULTILINE):
            raise ExtractError(_detached(shown))
    _check_voxels(shown, open_volume(path, settings.slices.orientation).shape, limits)


def _check_series(folder: Path, settings: InputSettings, limits: UploadLimits) -> None:
    """Refuse what are no slices of a volume, or too many voxels of them."""
    assert settings.slices is not None
    for item in list_volumes(folder)[0]:
        if not item.fault:  # which is told when it is read
            _check_voxels(SERIES_NAME, item.open(folder, settings.slices.orientation).shape, limits)


def _check_voxels(shown: str, shape: tuple[int, int, int], limits: UploadLimits) -> None:
    if prod(shape) > limits.num_voxels:
        raise ExtractError(
            Message(
                "{name}: expected at most {limit} voxels, got {num} ({shape}); crop the volume, or use "
                "`synthlabel classifier predict`",
                name=shown,
                limit=limits.num_voxels,
                num=prod(shape),
                shape=" x ".join(map(str, shape)),
            )
        )


def reason_of(error: SynthlabelError, folder: Path) -> str:
    """The sentence of an error, without the temporary folder; a `Message` where it was one."""
    said = error.args[0] if error.args else ""
    return said if isinstance(said, Message) else without_folder(f"{error}", folder)
