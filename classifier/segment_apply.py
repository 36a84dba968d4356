"""Masks for a whole archive or folder: what is outside the lungs goes, and what was found is told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import cv2
import numpy as np
import pandas as pd

from classifier.errors import ClassifierError
from classifier.lung_pixels import ApplyConfig, crop_pixels, keep_lungs, widen_mask
from classifier.mask_cleaning import CleanedMask
from classifier.overlays import FOUND, Overlay, overlay_sheet, shrink_overlay, write_sheet
from classifier.segmenter import Segmenter
from extract.archive import Archive, ArchiveWriter, read_record
from extract.atomic import replace_file, replace_folder, write_text
from extract.building import Unreadable, list_files, refuse_unreadable
from extract.errors import ExtractError, name_some
from extract.json_values import json_value
from extract.picture_file import DICOM_SUFFIXES, PICTURE_SUFFIXES, read_picture
from extract.png import encode_png
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from extract.split import Split, carry_split, write_split

BATCH = 32  # pictures in memory at a time
BATCH_PIXELS = 2**25  # fewer pictures where they are large
SHOWN_EACH = 6  # of each class on the sheet
SHOWN_IMPLAUSIBLE = 12
TILE = 200
Key = TypeVar("Key")


@dataclass(frozen=True)
class ApplySummary:
    """What was masked, and what could not be."""

    dest: Path
    num_images: int  # that were read
    num_written: int
    implausible: tuple[str, ...]  # names of those without plausible lungs: kept unmasked, or left out
    num_by_class: dict[str, tuple[int, int]]  # images, and implausible ones among them
    num_lungs: dict[int, int]  # images by number of lungs found
    mean_share: float  # of a plausible picture's pixels that are lung
    num_seen: int = 0  # pictures of subjects that the segmenter was trained on
    unreadable: tuple[Unreadable, ...] = ()
    files: tuple[Path, ...] = field(default=())  # written beside `dest`


def apply_to_archive(
    segmenter: Segmenter,
    archive: Archive,
    dest: Path,
    config: ApplyConfig,
    *,
    masks: Path | None = None,
    overlays: Path | None = None,
    split: Split | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> ApplySummary:
    """Write an archive with the same images, masked, and all that the manifest says of them.

    Beside it: a table of what was found in each image, an overlay sheet, and the split carried over, where
    one is given. `preparation.json` names the segmenter by the hash of its weights.

    Args:
        masks: new or empty folder for the masks, under the names that the images have in `archive` and of
            their size, whether they are cropped or not; images without plausible lungs have none.
        overlays: the sheet's file; None = DEST-overlays.png.
        split: of `archive`; written as DEST.split.json for the masked one.

    Raises:
        ExtractError: if a file may not be written, or an image is damaged.
        ClassifierError: if no image has plausible lungs.
    """
    dest = Path(dest)
    base = dest.with_suffix("")
    table_path = base.with_name(f"{base.name}-lungs.csv")
    sheet_path = overlays or base.with_name(f"{base.name}-overlays.png")
    split_path = base.with_name(f"{base.name}.split.json")
    _refuse_same(archive.path, dest)
    _refuse_existing([table_path, sheet_path, *([split_path] if split else [])], overwrite)
    survey = _Survey(config, _sample(archive.manifest["label"].tolist()), segmenter)
    writer = ArchiveWriter(
        dest,
        overwrite=overwrite,
        classes=archive.classes,
        preparation={**archive.preparation, "segment": _settings(segmenter, config, archive.sha256)},
    )
    with ExitStack() as stack:
        mask_dir = None if masks is None else stack.enter_context(_new_folder(masks))
        stack.enter_context(writer)
        images = ((row, _read_checked(archive, row)) for row in range(len(archive)))
        for batch in _batches(images):
            found = segmenter.segment([_gray(pixels) for _, pixels in batch])
            for (row, pixels), cleaned in zip(batch, found, strict=True):
                about = archive.row(row)
                is_plausible = survey.add(
                    about["file"], about["label"], about["subject"], _gray(pixels), cleaned
                )
                if is_plausible and mask_dir is not None:
                    _write_mask(mask_dir / about["file"], cleaned.mask)
                if not is_plausible and config.implausible == "drop":
                    continue
                made = _make(pixels, cleaned.mask, config, square=True) if is_plausible else pixels
                name = writer.add(_as_picture(made), read_record(about, str(archive.path)))
                survey.written_as(name)
            progress(batch[-1][0] + 1, len(archive), survey.message)
        survey.refuse_hopeless(archive.path)
        writer.describe(implausible=survey.implausible)
    files = [table_path, sheet_path]
    survey.write(table_path, sheet_path, archive.path.name)
    if split is not None:
        from extract.archive import open_archive

        with open_archive(dest) as made_archive:
            write_split(carry_split(split, made_archive), split_path)
        files.append(split_path)
    return survey.summary(dest, files=files)


def apply_to_folder(
    segmenter: Segmenter,
    source: Path,
    dest: Path,
    config: ApplyConfig,
    *,
    masks: Path | None = None,
    overlays: Path | None = None,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> ApplySummary:
    """Write every picture below a folder, masked, as a gray PNG of the same path and size (see `crop`).

    Args:
        dest: new or empty folder; `segmentation.json` in it says how it was made.
        masks: new or empty folder for the masks, under the same paths.

    Raises:
        ExtractError: if pictures cannot be read and `skip_unreadable` is not set, or two have one name.
        ClassifierError: if no picture has plausible lungs.
    """
    source, dest = Path(source), Path(dest)
    table_path = dest.with_name(f"{dest.name}-lungs.csv")
    sheet_path = overlays or dest.with_name(f"{dest.name}-overlays.png")
    _refuse_existing([table_path, sheet_path], overwrite)
    names, _ = list_files(source, (*PICTURE_SUFFIXES, *DICOM_SUFFIXES), "pictures")
    targets = _targets(source, names)
    survey = _Survey(config, _sample([_folder_of(name) for name in names]), segmenter)
    unreadable: list[Unreadable] = []
    with ExitStack() as stack:
        folder = stack.enter_context(_new_folder(dest))
        mask_dir = None if masks is None else stack.enter_context(_new_folder(masks))
        for batch in _batches(_read_all(source, names, unreadable)):
            found = segmenter.segment([picture for _, picture in batch])
            for (name, picture), cleaned in zip(batch, found, strict=True):
                is_plausible = survey.add(name, _folder_of(name), "", picture, cleaned)
                if is_plausible and mask_dir is not None:
                    _write_mask(mask_dir / targets[name], cleaned.mask)
                if not is_plausible and config.implausible == "drop":
                    continue
                made = picture[None]
                if is_plausible:
                    made = _make(made, cleaned.mask, config, square=False)
                _write_png(folder / targets[name], made[0])
                survey.written_as(targets[name])
            progress(len(survey.rows) + len(unreadable), len(names), survey.message)
        refuse_unreadable(unreadable, len(names), "pictures", skip_unreadable)
        survey.refuse_hopeless(source)
        about = {**_settings(segmenter, config, ""), "implausible": survey.implausible}
        write_text(folder / "segmentation.json", json.dumps(json_value(about), indent=1) + "\n")
    survey.write(table_path, sheet_path, source.name)
    return survey.summary(dest, files=[table_path, sheet_path], unreadable=unreadable)


class _Survey:
    """Counts what was found, and keeps a few small pictures of it."""

    def __init__(self, config: ApplyConfig, shown: Mapping[int, str], segmenter: Segmenter) -> None:
        self.config, self.shown = config, shown
        self.trained_on = set(segmenter.provenance.subjects.get("train", ()))
        self.rows: list[dict[str, Any]] = []
        self.samples: dict[str, list[Overlay]] = {}
        self.bad: list[Overlay] = []
        self.implausible: list[str] = []
        self._rng = np.random.default_rng(derive_seed("segment sheet"))

    @property
    def message(self) -> str:
        return f"{len(self.implausible)} without plausible lungs" if self.implausible else ""

    def add(self, name: str, label: str, subject: str, gray: np.ndarray, cleaned: CleanedMask) -> bool:
        """Whether the picture has plausible lungs."""
        is_plausible = cleaned.num_lungs >= self.config.min_lungs
        self.rows.append({
            "file": name,
            "written_as": "",
            "label": label,
            "subject": subject,
            "num_lungs": cleaned.num_lungs,
            "lung_share": round(float(cleaned.mask.mean()), 5),
            "was_joined": cleaned.was_joined,
            "is_plausible": is_plausible,
        })  # fmt: skip
        number = len(self.rows) - 1
        if number in self.shown:
            self.samples.setdefault(self.shown[number], []).append(self._overlay(name, gray, cleaned))
        if not is_plausible:
            self.implausible.append(name)
            # Each of those that come has the same chance to be shown, without keeping them all.
            place = len(self.implausible) - 1
            if place >= SHOWN_IMPLAUSIBLE:
                place = int(self._rng.integers(len(self.implausible)))
            if place < SHOWN_IMPLAUSIBLE:
                self.bad[place : place + 1] = [self._overlay(f"{label} {name}", gray, cleaned)]
        return is_plausible

    def written_as(self, name: str) -> None:
        self.rows[-1]["written_as"] = name

    def refuse_hopeless(self, where: Path) -> None:
        if self.rows and len(self.implausible) == len(self.rows):
            raise ClassifierError(
                f"{where}: expected lungs in some of {len(self.rows)} pictures, found none that are "
                "plausible, so nothing was written; are these chest X-rays like those the segmenter learned "
                "on? Look at its overlays.png, or lower --min-lungs"
            )

    def write(self, table_path: Path, sheet_path: Path, name: str) -> None:
        with replace_file(table_path) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False)
        rows = [(label or "pictures", overlays) for label, overlays in sorted(self.samples.items())]
        half = SHOWN_IMPLAUSIBLE // 2
        heading = f"without plausible lungs: {len(self.implausible)} of {len(self.rows)}"
        rows += [(heading, self.bad[:half]), ("", self.bad[half:])]
        write_sheet(overlay_sheet(rows, name, legend=(("lungs found", FOUND),), tile=TILE), sheet_path)

    def summary(
        self, dest: Path, *, files: Sequence[Path], unreadable: Sequence[Unreadable] = ()
    ) -> ApplySummary:
        by_class: dict[str, tuple[int, int]] = {}
        for row in self.rows:
            count, bad = by_class.get(row["label"], (0, 0))
            by_class[row["label"]] = (count + 1, bad + (not row["is_plausible"]))
        shares = [row["lung_share"] for row in self.rows if row["is_plausible"]]
        return ApplySummary(
            dest,
            num_images=len(self.rows),
            num_written=sum(bool(row["written_as"]) for row in self.rows),
            implausible=tuple(self.implausible),
            num_by_class=dict(sorted(by_class.items())),
            num_lungs=dict(sorted(Counter(row["num_lungs"] for row in self.rows).items())),
            mean_share=float(np.mean(shares)) if shares else float("nan"),
            num_seen=sum(row["subject"] in self.trained_on for row in self.rows if row["subject"]),
            unreadable=tuple(unreadable),
            files=tuple(files),
        )

    def _overlay(self, name: str, gray: np.ndarray, cleaned: CleanedMask) -> Overlay:
        caption = f"{name}\n{cleaned.finding}, {cleaned.mask.mean():.0%} of the picture"
        return shrink_overlay(Overlay(gray, [(cleaned.mask, FOUND)], caption), TILE)


def _make(pixels: np.ndarray, mask: np.ndarray, config: ApplyConfig, *, square: bool) -> np.ndarray:
    widened = widen_mask(mask, config.margin)
    made = keep_lungs(pixels, widened, config)
    return crop_pixels(made, widened, square=square) if config.crop else made


def _settings(segmenter: Segmenter, config: ApplyConfig, archive_sha256: str) -> dict[str, Any]:
    return {
        **asdict(config),
        "cleaning": asdict(segmenter.cleaning),
        "threshold": segmenter.config.threshold,
        "segmenter_sha256": segmenter.weights_sha256,
        "archive_sha256": archive_sha256,
    }


def _sample(groups: Sequence[str]) -> dict[int, str]:
    """Rows to show, evenly spread over each group, with the group's name."""
    chosen: dict[int, str] = {}
    for group in sorted(set(groups)):
        rows = [row for row, name in enumerate(groups) if name == group]
        for place in range(min(SHOWN_EACH, len(rows))):
            chosen[rows[place * len(rows) // SHOWN_EACH if len(rows) > SHOWN_EACH else place]] = group
    return chosen


def _read_checked(archive: Archive, row: int) -> np.ndarray:
    data = archive.read_png(row)
    expected = archive.stored_hashes
    if expected is not None:
        archive.check_hash(data, row, expected[row])
    return archive.decode(data, row)


def _read_all(
    source: Path, names: Sequence[str], unreadable: list[Unreadable]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and gray pixels of each picture; what cannot be read is added to the list."""
    for name in names:
        try:
            yield name, read_picture(source / name, rgb=False)
        except ExtractError as error:
            unreadable.append(Unreadable(name, str(error)))


def _batches(pictures: Iterable[tuple[Key, np.ndarray]]) -> Iterator[list[tuple[Key, np.ndarray]]]:
    """As many pictures at a time as memory allows."""
    batch: list[tuple[Key, np.ndarray]] = []
    num_pixels = 0
    for item in pictures:
        batch.append(item)
        num_pixels += item[1].size
        if len(batch) == BATCH or num_pixels >= BATCH_PIXELS:
            yield batch
            batch, num_pixels = [], 0
    if batch:
        yield batch


def _gray(pixels: np.ndarray) -> np.ndarray:
    """(C, H, W) to (H, W)."""
    if len(pixels) == 1:
        return pixels[0]
    return cv2.cvtColor(np.ascontiguousarray(pixels.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)


def _as_picture(pixels: np.ndarray) -> np.ndarray:
    """(C, H, W) to (H, W) or (H, W, 3), as writers take them."""
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _write_mask(path: Path, mask: np.ndarray) -> None:
    _write_png(path.with_suffix(".png"), mask.astype(np.uint8) * 255)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.ascontiguousarray(pixels)))


def _folder_of(name: str) -> str:
    """The folder that a picture lies in, which often is its class; empty at the top."""
    parent = str(PurePosixPath(name).parent)
    return "" if parent == "." else parent


def _targets(source: Path, names: Sequence[str]) -> dict[str, str]:
    targets = {name: str(PurePosixPath(name).with_suffix(".png")) for name in names}
    counted = Counter(targets.values())
    twice = [name for name in names if counted[targets[name]] > 1]
    if twice:
        raise ExtractError(
            f"{source}: expected one picture of each name, got {name_some(twice)}, which would all become "
            "one PNG; rename them"
        )
    return targets


def _new_folder(path: Path) -> AbstractContextManager[Path]:
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "one with files in it" if path.is_dir() else "a file"
        raise ExtractError(f"{path}: expected a new or empty folder, got {what}; name another")
    return replace_folder(path)


def _refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not overwrite:
            raise ExtractError(
                f"{path}: already exists and is left alone; choose another name or pass --overwrite"
            )


def _refuse_same(source: Path, dest: Path) -> None:
    if dest.exists() and source.resolve() == dest.resolve():
        raise ExtractError(f"{dest}: expected another file than the archive that is read, got the same")
