"""A folder that `extract.unpack` has written, back to an archive: the same bytes, if nobody changed it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from unicodedata import normalize

import numpy as np
import pandas as pd

from extract.archive import ArchiveWriter, read_record
from extract.archive_lists import BASIC_COLUMNS, IMAGE_SUFFIXES, parse_preparation
from extract.building import list_files
from extract.errors import ExtractError, name_some
from extract.file_hash import picture_hash
from extract.json_values import parse_json
from extract.png import decode_image, encode_png
from extract.progress import Progress, no_progress
from extract.safe_names import decode_name, file_names
from extract.tables import read_table
from extract.unpack import MANIFEST, PLACE_COLUMN, PREPARATION, UNLABELED

MAX_LIST_BYTES = 2**30
REPORT_INTERVAL = 500  # images between two reports of progress


@dataclass(frozen=True)
class PackSummary:
    """What was packed, and what had been changed in the folder."""

    dest: Path
    num_images: int
    num_subjects: int
    counts: dict[str, int]  # images by class
    num_removed: int = 0
    num_relabeled: int = 0
    num_edited: int = 0


@dataclass(frozen=True)
class _Picture:
    """A row of the folder's manifest and the file that belongs to it."""

    row: dict[str, str]
    file: str  # below the folder
    label: str  # of the folder it lies in; empty = unlabeled


def pack_folder(
    source: Path,
    dest: Path,
    *,
    accept_changes: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> PackSummary:
    """Write an unpacked folder back to an archive.

    A picture is known by its name, whose number is unique; its class is that of the folder it lies in. Which
    part (`train`, `val`, ...) it lies in does not count: a split says that.

    Args:
        accept_changes: pack the folder as it is now: without pictures that are gone, with the classes of
            those that were moved, and edited ones with their new pixels. Otherwise these are refused.
        overwrite: replace an archive that is there.

    Raises:
        ExtractError: if the folder was not written by `unpack_archive`, has pictures that its manifest does
            not list, or was changed in a way that is not accepted; nothing is written then.
    """
    source = Path(source)
    manifest = _read_manifest(source)
    described = parse_preparation(
        parse_json(_read_text(source / PREPARATION), str(source / PREPARATION)), str(source)
    )
    found = _find_files(source)
    classes = set(described.classes or set(manifest["label"]) - {""})
    pictures, removed = _match(source, manifest, found, classes)
    relabeled = [picture.file for picture in pictures if picture.label != picture.row["label"]]
    if not accept_changes:
        _refuse_changes(source, removed, relabeled)
    counts: Counter[str] = Counter()
    subjects: set[str] = set()
    num_edited = 0
    settings = described.settings
    with ArchiveWriter(
        dest,
        overwrite=overwrite,
        classes=sorted(classes | {picture.label for picture in pictures} - {""}),
        preparation=settings,
    ) as writer:
        for number, picture in enumerate(pictures):
            data, shape, is_edited = _read_picture(source, picture, accept_changes)
            num_edited += is_edited
            record = replace(read_record(picture.row, str(source / MANIFEST)), label=picture.label)
            writer.add_png(data, shape, record)
            counts[record.label] += 1
            subjects.add(record.subject)
            if (number + 1) % REPORT_INTERVAL == 0 or number + 1 == len(pictures):
                progress(number + 1, len(pictures), "packing")
        if removed or relabeled or num_edited:
            changes = {"removed": len(removed), "relabeled": len(relabeled), "edited": num_edited}
            writer.describe(changed_by_hand=changes)
    return PackSummary(
        dest, len(pictures), len(subjects - {""}), dict(sorted(counts.items())), len(removed), len(relabeled),
        num_edited,
    )  # fmt: skip


def _read_manifest(source: Path) -> pd.DataFrame:
    path = source / MANIFEST
    table = read_table(_read_text(path), str(path))
    missing = [column for column in (PLACE_COLUMN, *BASIC_COLUMNS) if column not in table.columns]
    if missing:
        raise ExtractError(
            f"{path}: expected the column {name_some(missing)}, got {name_some(list(table.columns))}; pack "
            "takes folders that `synthlabel extract unpack` has written, others go through `synthlabel "
            "extract images`"
        )
    nobody = table.loc[(table["origin"] != "synthetic") & (table["subject"] == ""), "file"].tolist()
    if nobody:
        raise ExtractError(
            f"{path}: expected a subject for each real picture, got none for {name_some(nobody)}; an archive "
            "that came without subjects gets them by `synthlabel extract dataset --subject-pattern`, before "
            "it is unpacked"
        )
    repeated = table["file"][table["file"].duplicated()].tolist()
    if repeated:
        raise ExtractError(f"{path}: expected one row a picture, got several for {name_some(repeated)}")
    return table.sort_values("file", kind="stable", ignore_index=True)


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise ExtractError(
            f"{path}: expected a file that `synthlabel extract unpack` has written, got nothing there; "
            "folders from elsewhere go through `synthlabel extract images`"
        )
    if path.stat().st_size > MAX_LIST_BYTES:
        raise ExtractError(f"{path}: expected at most {MAX_LIST_BYTES:,} bytes, got {path.stat().st_size:,}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ExtractError(
            f"{path}: expected UTF-8 as unpack wrote it, got other bytes ({error.reason}); take the file as "
            "it was written, not as a spreadsheet has saved it"
        ) from error


def _find_files(source: Path) -> dict[str, str]:
    """Path below the source of each picture, by its name."""
    files, _ = list_files(source, IMAGE_SUFFIXES, "pictures")
    found: dict[str, str] = {}
    for file in files:
        name = normalize("NFC", PurePosixPath(file).name)
        if name in found:
            raise ExtractError(
                f"{source}: expected each picture once, got {found[name]} and {file}; remove one of the two"
            )
        found[name] = file
    return found


def _match(
    source: Path, manifest: pd.DataFrame, found: dict[str, str], classes: Iterable[str]
) -> tuple[list[_Picture], list[str]]:
    """The manifest's rows with their files, and the places of those that have none."""
    class_of = {normalize("NFC", folder): name for name, folder in file_names(sorted(classes)).items()}
    left, pictures, removed = dict(found), [], []
    for row in manifest.to_dict("records"):
        file = left.pop(normalize("NFC", PurePosixPath(row[PLACE_COLUMN]).name), None)
        if file is None:
            removed.append(row[PLACE_COLUMN])
        else:
            cells = {str(column): str(cell) for column, cell in row.items()}
            pictures.append(_Picture(cells, file, _label_of(source, file, class_of)))
    if left:
        raise ExtractError(
            f"{source}: expected pictures that {MANIFEST} lists, got {name_some(sorted(left.values()))} "
            "beside them; move them away, or bring all through `synthlabel extract images` with their "
            "subjects"
        )
    return pictures, removed


def _label_of(source: Path, file: str, class_of: dict[str, str]) -> str:
    match PurePosixPath(file).parts:
        case (part, _) if part == UNLABELED:
            return ""
        case (_, folder, _):
            label = class_of.get(normalize("NFC", folder)) or decode_name(folder)
            if label is not None:
                return label
    raise ExtractError(
        f"{source / file}: expected a picture at PART/CLASS/NAME or {UNLABELED}/NAME below {source}, as "
        "unpack wrote it; move it back"
    )


def _refuse_changes(source: Path, removed: list[str], relabeled: list[str]) -> None:
    told = []
    if removed:
        told.append(f"{len(removed)} are gone ({name_some(removed)})")
    if relabeled:
        told.append(f"{len(relabeled)} lie in the folder of another class ({name_some(relabeled)})")
    if told:
        raise ExtractError(
            f"{source}: expected the pictures as they were unpacked, but {' and '.join(told)}; put them "
            "back, or pass --accept-changes to pack them as they are now"
        )


def _read_picture(
    source: Path, picture: _Picture, accept_changes: bool
) -> tuple[bytes, tuple[int, ...], bool]:
    """The PNG to store, its (H, W) or (H, W, 3), and whether its pixels are not those that were unpacked."""
    path = source / picture.file
    data = path.read_bytes()
    pixels = decode_image(data, str(path))
    pixels = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    is_edited = picture_hash(data) != picture.row["sha256"]
    if is_edited and not accept_changes:
        raise ExtractError(
            f"{path}: expected the picture as it was unpacked, got another (its SHA-256 differs from that in "
            f"{MANIFEST}); put it back, or pass --accept-changes to pack it as it is now"
        )
    if is_edited or path.suffix.lower() != ".png":
        data = encode_png(pixels)
    return data, pixels.shape, is_edited
