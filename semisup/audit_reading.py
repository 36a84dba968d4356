"""Reading an export picture by picture: where exports lie, their readers' sheets, and what comes next.

An export is the folder of `audit export`, handed out or in the study's `audits/`. Each reader has a sheet of
the same form in it: `labels.csv` is the one that was handed out, `labels-NAME.csv` that of a named reader.
"""

import hashlib
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from extract.errors import ExtractError, SettingsError
from extract.file_hash import file_sha256
from extract.png import decode_image
from extract.progress import Progress, no_progress
from semisup.audit import check_ledgers
from semisup.audit_export import IMAGES, SHEET, ExportSummary, export_audit
from semisup.audit_key import KEY_FOLDER, read_keys, sample_of
from semisup.audit_sheet import num_filled, read_begun
from semisup.audit_statistics import Answer, AuditSample
from semisup.errors import StudyError

NAMED = "labels-"  # and the reader's name: their sheet
SAMPLE = "sample-"  # and a number: the folder of one that was drawn on the page
MAX_NAME = 40  # characters
NUM_LOOKED_AT = 5  # pictures that tell whose a folder is; one of them may be damaged
MIN_TIMED = 3  # answers before a time is foretold


@dataclass(frozen=True)
class OpenExport:
    """An export whose pictures can be shown; nothing in it tells what they were taken for but `sample`."""

    folder: Path
    export: str
    sample: AuditSample
    hashes: dict[str, str]  # of each picture's file, by code

    @property
    def codes(self) -> list[str]:
        """The pictures in the order of the sheet, which is random."""
        return self.sample.pictures


@dataclass(frozen=True)
class ReaderSheet:
    """One reader's sheet of an export."""

    path: Path
    reader: str  # the name; empty for the sheet that was handed out
    num_answered: int
    num_pictures: int
    problem: str = ""  # why it cannot be read

    @property
    def is_complete(self) -> bool:
        """Whether every picture has an answer."""
        return self.num_answered == self.num_pictures


def draw_in_study(
    study_dir: Path,
    num: int,
    *,
    arms: Collection[str] = (),
    fractions: Collection[float] = (),
    num_bands: int,
    progress: Progress = no_progress,
) -> ExportSummary:
    """Draw a new sample into the study's own `audits/sample-N`, other than all before it.

    Raises:
        SettingsError, StudyError: as `export_audit`.
    """
    folder = study_dir / KEY_FOLDER
    number = 1
    while (folder / f"{SAMPLE}{number}").exists():
        number += 1
    seed = len(read_keys(study_dir))  # the first is the one that the command would draw
    return export_audit(
        study_dir, folder / f"{SAMPLE}{number}", num=num, arms=arms, fractions=fractions, num_bands=num_bands,
        seed=seed, progress=progress,
    )  # fmt: skip


def list_exports(study_dir: Path, elsewhere: Path | None = None) -> list[OpenExport]:
    """The exports in a study's `audits/`, and one that was handed out.

    Folders with other things in them are passed over.

    Raises:
        StudyError: if a key is damaged, or the folder elsewhere is no export of the study.
    """
    keys = read_keys(study_dir)
    found = [_match(folder, keys) for folder in _folders(study_dir)]
    exports = [one for one in found if one]
    if elsewhere is not None and elsewhere.resolve() not in [one.folder.resolve() for one in exports]:
        exports.insert(0, open_export(study_dir, elsewhere))
    return exports


def unknown_folders(study_dir: Path) -> list[Path]:
    """Folders in a study's `audits/` that look like exports and belong to no key, or hold other pictures.

    Raises:
        StudyError: if a key is damaged.
    """
    keys = read_keys(study_dir)
    return [folder for folder in _folders(study_dir) if _match(folder, keys) is None]


def _folders(study_dir: Path) -> list[Path]:
    found = (path.parent for path in (study_dir / KEY_FOLDER).glob(f"[!.]*/{IMAGES}"))
    return sorted(found, key=lambda folder: _natural(folder.name))


def open_export(study_dir: Path, folder: Path) -> OpenExport:
    """An export by its folder.

    Raises:
        StudyError: if it is none of this study.
    """
    found = _match(folder, read_keys(study_dir))
    if found is None:
        raise StudyError(
            f"{folder}: expected a folder that `semisup audit export {study_dir}` wrote, with {IMAGES}/ and "
            f"a key in {study_dir / KEY_FOLDER}, got none; name the study that it was exported from"
        )
    return found


def _match(folder: Path, keys: Sequence[dict[str, Any]]) -> OpenExport | None:
    """By its codes, and the content of a picture or two: other exports may have had the same codes."""
    codes = {path.stem for path in (folder / IMAGES).glob("[!.]*.png")}
    for key in keys:
        hashes = {picture["code"]: picture["sha256"] for picture in key["pictures"]}
        looked_at = sorted(codes & set(hashes))[:NUM_LOOKED_AT]
        if any(file_sha256(folder / IMAGES / f"{code}.png") == hashes[code] for code in looked_at):
            return OpenExport(folder, key["export"], sample_of(key), hashes)
    return None


def _natural(name: str) -> tuple[str, int]:
    """sample-2 before sample-10."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)


def check_export(study_dir: Path, export: OpenExport) -> None:
    """Look, before anybody reads an hour for nothing, at what the result will need.

    Raises:
        StudyError: if the study has changed since the export, or pictures are missing.
    """
    (key,) = (key for key in read_keys(study_dir) if key["export"] == export.export)
    check_ledgers(study_dir, key)
    there = [code for code in export.codes if (export.folder / IMAGES / f"{code}.png").exists()]
    if len(there) < len(export.codes):
        raise StudyError(
            f"{export.folder}: expected {len(export.codes)} pictures, got {len(there)}; restore the folder, "
            "or draw a new sample"
        )


def read_picture(export: OpenExport, code: str) -> np.ndarray:
    """The (C, H, W) uint8 pixels of one picture.

    Raises:
        StudyError: if the file is gone or is not the one that was exported.
    """
    path = export.folder / IMAGES / f"{code}.png"
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != export.hashes[code]:
            raise StudyError(
                f"{path}: expected the picture as it was exported, got another; restore the folder"
            )
        return decode_image(data, path.name)
    except (OSError, ExtractError) as error:
        raise StudyError(
            f"{path}: expected the picture that was exported, got {error}; restore the folder"
        ) from error


# Sheets ------------------------------------------------------------------------------------------


def reader_sheets(export: OpenExport) -> list[ReaderSheet]:
    """Everybody's sheets; the one that was handed out only once somebody has written into it."""
    paths = sorted(export.folder.glob(f"{NAMED}*.csv"), key=lambda path: path.name.casefold())
    handed_out = export.folder / SHEET
    if handed_out.exists() and num_filled(handed_out):
        paths.insert(0, handed_out)
    return [_look_at(path, export) for path in paths]


def _look_at(path: Path, export: OpenExport) -> ReaderSheet:
    reader = path.stem.removeprefix(NAMED) if path.name != SHEET else ""
    try:
        answered = len(read_begun(path, export.sample))
    except StudyError as error:
        return ReaderSheet(path, reader, 0, len(export.codes), str(error))
    return ReaderSheet(path, reader, answered, len(export.codes))


def sheet_of(export: OpenExport, name: str) -> Path:
    """Where the answers of a reader of this name lie, or will.

    Names that differ by capitals alone are one reader.

    Raises:
        SettingsError: for a name without a letter or digit.
    """
    plain = unicodedata.normalize("NFC", name).strip()
    letters = "".join(mark if mark.isalnum() or mark in "-_" else " " for mark in plain)
    short = "-".join(letters.split())[:MAX_NAME].strip("-_")
    if not short:
        raise SettingsError(f"name: expected letters or digits, got {name!r}")
    wanted = f"{NAMED}{short}.csv"
    same = [path for path in export.folder.glob(f"{NAMED}*.csv") if path.name.casefold() == wanted.casefold()]
    return same[0] if same else export.folder / wanted


def answers_so_far(export: OpenExport, sheet: Path) -> dict[str, Answer]:
    """By code; nothing where the sheet has not been begun.

    Raises:
        StudyError: if the sheet cannot be understood.
    """
    return read_begun(sheet, export.sample) if sheet.exists() else {}


# What comes next ----------------------------------------------------------------------------------


def next_unanswered(codes: Sequence[str], answered: Collection[str]) -> str | None:
    """The first picture without an answer; None when all have one."""
    return next((code for code in codes if code not in answered), None)


def neighbor_code(codes: Sequence[str], code: str | None, step: int, answered: Collection[str]) -> str | None:
    """The answered picture before (-1) or after (1) another, in the order of the sheet; None where none is.

    Args:
        code: None stands for the end, behind all pictures.
    """
    place = len(codes) if code is None else codes.index(code)
    way = codes[place + 1 :] if step > 0 else codes[:place][::-1]
    return next((other for other in way if other in answered), None)


def seconds_left(seconds: Sequence[float], num_left: int) -> float | None:
    """How long the rest may take at the usual pace; None while too few answers tell it.

    Args:
        seconds: that each answer of this sitting took. A pause is one long answer, which the median forgives.
    """
    return None if len(seconds) < MIN_TIMED else median(seconds) * num_left
