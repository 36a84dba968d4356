"""A blinded sample of pseudo-labeled images for an expert: a folder to hand out, and a key that stays here.

Nothing in the folder tells what a picture was taken for: names are random codes, the order is theirs, the
PNGs are written anew from the pixels, all times are the same, and the key lies in the study.
"""

import hashlib
import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from extract.archive import Archive
from extract.atomic import replace_folder
from extract.errors import SettingsError
from extract.png import encode_png
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from semisup.audit_key import KEY_FOLDER, KEY_FORMAT, describe_strata, write_key
from semisup.audit_readme import classes_text, readme_text
from semisup.audit_sample import NUM_BANDS, Draw, Population, draw_sample, make_codes, read_population
from semisup.audit_sheet import num_filled, sheet_text, write_sheet
from semisup.errors import StudyError
from semisup.examples import Shelf
from semisup.folders import STUDY_JSON, read_json
from semisup.records import StudyRecords

SHEET, CLASSES_TXT, README = "labels.csv", "classes.txt", "README.txt"
IMAGES, ENLARGED = "images", "enlarged"
SAME_TIME = 946_684_800  # of every file: 2000-01-01; a real one would tell the order of the work


@dataclass(frozen=True)
class ExportSummary:
    """What `audit export` wrote."""

    dest: Path
    key: Path
    num_pictures: int
    num_pseudo_labels: int  # drawn; one picture may have got several
    num_population: int
    num_strata: int


def export_audit(
    study_dir: Path,
    dest: Path,
    *,
    num: int = 200,
    arms: Collection[str] = (),
    fractions: Collection[float] = (),
    rounds: Collection[int] = (),
    num_bands: int = NUM_BANDS,
    seed: int = 0,
    enlarge: int = 1,
    semicolons: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> ExportSummary:
    """Draw pseudo-labels of a study and write their pictures into a folder for an expert.

    Args:
        dest: folder to write; outside the study, where the key lies, or in its folder `audits/`, where the
            web page shows the pictures.
        num: pseudo-labels to draw. What was pseudo-labeled several times is shown once.
        arms, fractions, rounds: what to draw from; empty: all arms with pseudo-labels, the fraction of the
            primary comparison, all rounds.
        num_bands: bands of confidence to draw from; fewer make do with fewer pictures.
        enlarge: pictures that many times larger go into a second folder; 1 = none.
        semicolons: separate the sheet's cells by semicolons, as spreadsheets in Spanish expect.
        overwrite: replace an earlier export there, if nothing has been filled in.

    Raises:
        SettingsError: for settings that the study cannot meet.
        StudyError: if the archives of the pictures are gone, or the folder must not be replaced.
    """
    study_dir, dest = Path(study_dir), Path(dest)
    if num < 1 or enlarge < 1:
        raise SettingsError(f"--num and --enlarge must be at least 1, got {num} and {enlarge}")
    study = read_json(study_dir / STUDY_JSON)
    _check_dest(dest, study_dir, overwrite)
    primary = (study.get("primary") or {}).get("fraction")
    if not fractions and primary is not None:
        fractions = [float(primary)]
    population = read_population(study_dir, study, arms=arms, fractions=fractions, rounds=rounds)
    draw = draw_sample(population.rows, num, seed, num_bands)
    drawn = population.rows.iloc[draw.rows]
    pictures = list(dict.fromkeys(zip(drawn["archive_sha256"], drawn["image"], strict=True)))
    contents = hashlib.sha256("".join(f"{a} {b}\n" for a, b in sorted(pictures)).encode()).hexdigest()
    codes = make_codes(len(pictures), seed, contents)
    order = np.random.default_rng(derive_seed("audit order", seed)).permutation(len(pictures))
    code_of = {pictures[i]: code for i, code in zip(order, codes, strict=True)}
    with replace_folder_of(dest, overwrite) as folder:
        hashes = _write_pictures(folder, code_of, study_dir, study, enlarge, progress)
        key = _key_content(study, population, draw, code_of, hashes, seed, arms, fractions, rounds)
        classes = key["classes"]
        empty = dict.fromkeys(codes, ("", "", ""))
        write_sheet(folder / SHEET, sheet_text(empty, ";" if semicolons else ","))
        (folder / CLASSES_TXT).write_text(classes_text(classes), encoding="utf-8")
        text = readme_text(classes, len(codes), key["export"], has_enlarged=enlarge > 1)
        (folder / README).write_text(text, encoding="utf-8")
        _same_times(folder)
        key_path = write_key(study_dir, key)
    os.utime(dest, (SAME_TIME, SAME_TIME))
    return ExportSummary(dest, key_path, len(codes), len(draw.rows), len(population.rows), len(draw.strata))


class replace_folder_of:
    """`extract.atomic.replace_folder` for a place where an unused export may stand."""

    def __init__(self, dest: Path, overwrite: bool) -> None:
        self._dest, self._overwrite = dest, overwrite
        self._replacing = replace_folder(dest)

    def __enter__(self) -> Path:
        return self._replacing.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        if error[0] is None and self._overwrite and self._dest.exists():
            shutil.rmtree(self._dest)
        return self._replacing.__exit__(*error)


def _check_dest(dest: Path, study_dir: Path, overwrite: bool) -> None:
    place, study_place = dest.resolve(), study_dir.resolve()
    if place.is_relative_to(study_place) and place.parent != study_place / KEY_FOLDER:
        raise SettingsError(
            f"--dest {dest}: expected a folder outside the study, for the key lies there; choose another"
        )
    if not dest.exists() or (dest.is_dir() and not any(dest.iterdir())):
        return
    sheet = dest / SHEET
    if not (dest.is_dir() and sheet.exists() and (dest / IMAGES).is_dir()):
        raise StudyError(
            f"{dest}: expected a new folder, got one with other things in it; choose another --dest"
        )
    filled = num_filled(sheet)
    if filled:
        raise StudyError(
            f"{sheet}: has been filled in ({filled} rows) and is left alone; choose another --dest, or "
            "move it away"
        )
    if not overwrite:
        raise StudyError(
            f"{dest}: already exists and is left alone; choose another --dest or pass --overwrite"
        )


def _write_pictures(
    folder: Path,
    code_of: dict[tuple[str, str], str],
    study_dir: Path,
    study: dict[str, Any],
    enlarge: int,
    progress: Progress,
) -> dict[str, str]:
    """Write each picture under its code, in the order of the codes; returns the hashes of the files."""
    for name in (IMAGES, ENLARGED)[: 2 if enlarge > 1 else 1]:
        (folder / name).mkdir()
    hashes = {}
    with Shelf(StudyRecords(study_dir, study, (), (), (), ())) as shelf:
        rows: dict[str, dict[str, int]] = {}
        ordered = sorted(code_of.items(), key=lambda item: item[1])
        for done, ((sha256, image), code) in enumerate(ordered):
            archive = _archive(shelf, sha256)
            if sha256 not in rows:
                rows[sha256] = {name: row for row, name in enumerate(archive.manifest["file"])}
            pixels = archive.read_image(rows[sha256][image]).transpose(1, 2, 0)  # (H, W, C)
            pixels = np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
            data = encode_png(pixels)
            (folder / IMAGES / f"{code}.png").write_bytes(data)
            hashes[code] = hashlib.sha256(data).hexdigest()
            if enlarge > 1:
                size = (pixels.shape[1] * enlarge, pixels.shape[0] * enlarge)
                large = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
                (folder / ENLARGED / f"{code}.png").write_bytes(encode_png(large))
            progress(done + 1, len(ordered), "writing pictures")
    return hashes


def _archive(shelf: Shelf, sha256: str) -> Archive:
    archive = shelf.find(sha256)
    if archive is None:
        raise StudyError(
            f"expected the archive {sha256[:12]}... that the ledger names, at the study's data or in "
            f"pools/, got none; {shelf.data_problem or 'put it back'}"
        )
    return archive


def _key_content(
    study: dict[str, Any],
    population: Population,
    draw: Draw,
    code_of: dict[tuple[str, str], str],
    hashes: dict[str, str],
    seed: int,
    arms: Collection[str],
    fractions: Collection[float],
    rounds: Collection[int],
) -> dict[str, Any]:
    content = "".join(f"{code} {sha256}\n" for code, sha256 in sorted(hashes.items()))
    export_sha256 = hashlib.sha256(content.encode()).hexdigest()
    drawn = population.rows.iloc[draw.rows].to_dict("records")
    strata: Sequence[dict[str, Any]] = describe_strata(draw.strata)
    return {
        "format": KEY_FORMAT,
        "export": export_sha256[:12],
        "export_sha256": export_sha256,  # of the codes and their pictures
        "classes": [str(name) for name in study["classes"]],
        "seed": seed,
        "arms": list(arms),
        "fractions": list(fractions),
        "rounds": list(rounds),
        "num_population": len(population.rows),
        "band_edges": list(draw.band_edges),
        "strata": [{**s} for s in strata],
        "runs": list(population.runs),
        "ledgers": population.ledgers,
        "pictures": [
            {"code": code, "sha256": hashes[code], "archive_sha256": sha256, "image": image}
            for (sha256, image), code in sorted(code_of.items(), key=lambda item: item[1])
        ],
        "rows": [
            {
                "code": code_of[row["archive_sha256"], row["image"]],
                "run": row["run"],
                "ledger_row": int(row["ledger_row"]),
                "round_index": int(row["round_index"]),
                "stratum": int(h),
                "predicted": int(row["predicted"]),
                "confidence": float(row["confidence"]),
                "probability": draw.strata[h].num_drawn / draw.strata[h].size,
            }
            for row, h in zip(drawn, draw.stratum, strict=True)
        ],
    }


def _same_times(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (SAME_TIME, SAME_TIME))
