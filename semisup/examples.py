"""Pictures for the report: what was pseudo-labeled, what was not, and GAN samples beside real images.

All are drawn at random with a fixed seed, not picked: a page of the most confident images would flatter.
"""

import base64
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import pandas as pd

from extract.archive import Archive, open_archive
from extract.errors import ExtractError
from extract.language import Message
from extract.png import encode_png
from extract.seeds import derive_seed
from extract.split import PARTS, Split, read_split
from semisup.records import FinishedRun, StudyRecords, run_title
from semisup.select import SELECTED

MAX_SIDE = 96  # pixels; larger images are shrunk, so that the page stays small
NUM_PER_CLASS, NUM_REJECTED, NUM_SAMPLES = 8, 8, 24


@dataclass(frozen=True)
class Picture:
    """One image in the page itself."""

    uri: str
    caption: str
    is_wrong: bool = False  # a pseudo-label that a withheld label contradicts


@dataclass(frozen=True)
class ClassRow:
    """Some of the images that got one pseudo-label."""

    name: str
    num_selected: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class ExampleRound:
    """One round of one run: examples by predicted class, and of what was passed over."""

    round_index: int
    rows: tuple[ClassRow, ...]
    num_rejected: int
    rejected: tuple[Picture, ...]


@dataclass(frozen=True)
class Examples:
    """The examples of one arm, or the sentence that says why there are none."""

    arm: str
    title: str
    rounds: tuple[ExampleRound, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Samples:
    """As many random real images as random synthetic ones, or why there are none."""

    real: tuple[Picture, ...] = ()
    synthetic: tuple[Picture, ...] = ()
    caption: str = ""
    problem: str = ""


@dataclass(frozen=True)
class PartSheet:
    """One part of one fold: how many subjects and images, and images by class."""

    fold: int
    part: str
    num_subjects: int
    num_images: int
    per_class: tuple[int, ...]


@dataclass(frozen=True)
class DataSheet:
    """What the study was made of, or why it cannot be told."""

    parts: tuple[PartSheet, ...] = ()
    num_images: int = 0
    num_subjects: int = 0
    image_shape: tuple[int, ...] = ()
    num_folds: int = 0  # of the split, whichever the study uses
    held_out: str = ""  # column that decides the test parts; empty = drawn
    linked: tuple[str, ...] = ()  # groups of subjects kept together because they share a picture
    problem: str = ""


class Shelf:
    """The archives of a study by their hash; one that is missing or replaced is reported, never guessed."""

    def __init__(self, records: StudyRecords) -> None:
        self._records = records
        self._stack = ExitStack()
        self._opened: dict[str, Archive] = {}
        self._problems: dict[str, str] = {}
        self._replaced: set[str] = set()
        study = records.study
        self._open(
            "data", records.study_dir / str(study.get("data", "")), str(study.get("archive_sha256", ""))
        )
        for path in sorted(records.study_dir.glob("pools/*/synthetic.zip")):
            self._open(path.parent.name, path, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def data(self) -> Archive | None:
        """The archive of real images."""
        return self._opened.get(str(self._records.study.get("archive_sha256", "")))

    @property
    def data_problem(self) -> str:
        """Why there is no archive of real images."""
        return self._problems.get("data", "")

    @property
    def data_was_replaced(self) -> bool:
        """Whether another archive lies where that of the study was."""
        return "data" in self._replaced

    def find(self, sha256: str) -> Archive | None:
        """An archive by the hash that the ledger names."""
        return self._opened.get(sha256)

    def split(self) -> tuple[Split | None, str]:
        """The study's split, or why it is not there."""
        if self.data is None:
            return None, self.data_problem
        path = self._records.study_dir / str(self._records.study.get("split", ""))
        try:
            return read_split(path, self.data), ""
        except (ExtractError, OSError) as error:
            return None, str(error)

    def _open(self, name: str, path: Path, wanted: str | None) -> None:
        try:
            archive = self._stack.enter_context(open_archive(path))
        except (ExtractError, OSError) as error:
            self._problems[name] = str(error)
            return
        if wanted and archive.sha256 != wanted:
            self._replaced.add(name)
            self._problems[name] = Message(
                "{path}: expected the archive that the study used ({wanted}...), got another ({found}...)",
                path=str(path),
                wanted=wanted[:12],
                found=archive.sha256[:12],
            )
            return
        self._opened[archive.sha256] = archive


@dataclass(frozen=True)
class PictureSource:
    """An archive, and where in it each image lies; a pool may be of two."""

    archive: Archive
    numbers: dict[str, int]

    @staticmethod
    def of(archive: Archive) -> "PictureSource":
        """Any archive."""
        return PictureSource(archive, {name: row for row, name in enumerate(archive.manifest["file"])})


def find_examples(records: StudyRecords, runs: Sequence[FinishedRun], shelf: Shelf) -> Examples | None:
    """Examples of the first of an arm's runs that has a ledger; None for an arm without a pool."""
    for run in runs:
        ledger = run.read_ledger()
        if ledger is None or ledger.empty:
            continue
        title = run_title({**run.info, "fraction": run.fraction})
        found = {str(sha256): shelf.find(str(sha256)) for sha256 in ledger["archive_sha256"].unique()}
        sources = {sha256: PictureSource.of(archive) for sha256, archive in found.items() if archive}
        if len(sources) < len(found):
            is_of_data = shelf.data is None and run.arm in ("pseudo_real", "pseudo_both")
            problem = (
                shelf.data_problem if is_of_data else Message("the archive of its pool is not in pools/")
            )
            return Examples(
                run.arm, title, problem=problem or Message("the archive of its pool was not found")
            )
        rounds = tuple(
            _example_round(index, ledger[ledger["round_index"] == index], sources, records.classes, run)
            for index in sorted({int(value) for value in ledger["round_index"]})
        )
        return Examples(run.arm, title, rounds)
    return None


def _example_round(
    index: int,
    ledger: pd.DataFrame,
    sources: dict[str, PictureSource],
    classes: Sequence[str],
    run: FinishedRun,
) -> ExampleRound:
    is_selected = (ledger["decision"] == SELECTED).to_numpy()
    if "pseudo_label" in ledger:  # where labels are kept, they need not be the predicted ones
        ledger = ledger.assign(predicted=ledger["predicted"].where(~is_selected, ledger["pseudo_label"]))
    predicted = ledger["predicted"].to_numpy()

    def pictures(chosen: np.ndarray, count: int, *key: object) -> tuple[Picture, ...]:
        taken = _draw(np.flatnonzero(chosen), count, run.arm, run.fold, run.seed, index, *key)
        rows = ledger.iloc[taken].sort_values("confidence", ascending=False, kind="stable")
        return tuple(
            _ledger_picture(row, sources[row["archive_sha256"]], classes, not key)
            for row in rows.to_dict("records")
        )

    rows = tuple(
        ClassRow(
            name,
            int((is_selected & (predicted == k)).sum()),
            pictures(is_selected & (predicted == k), NUM_PER_CLASS, k),
        )
        for k, name in enumerate(classes)
    )
    is_rejected = ~is_selected & (ledger["gate"].fillna("") == "").to_numpy()  # the gates have their own page
    return ExampleRound(index, rows, int(is_rejected.sum()), pictures(is_rejected, NUM_REJECTED))


def _ledger_picture(
    row: dict[Any, Any], source: PictureSource, classes: Sequence[str], names_class: bool
) -> Picture:
    archive, number = source.archive, source.numbers[row["image"]]
    confidence = f"{100 * row['confidence']:.0f} %"
    caption = f"{classes[row['predicted']]} {confidence}" if names_class else confidence
    label = int(archive.labels[number])
    is_wrong = 0 <= label < len(classes) and archive.classes == tuple(classes) and label != row["predicted"]
    if is_wrong:
        caption = Message("{caption} (is {truth})", caption=caption, truth=classes[label])
    return Picture(to_uri(archive.read_image(number)), caption, is_wrong)


def find_samples(records: StudyRecords, shelf: Shelf) -> Samples | None:
    """Random real training images of the first fold with a pool beside as many random images of that pool."""
    for run in records.runs:
        if "gan" not in run.arm:
            continue
        ledger = run.read_ledger()
        if ledger is None or ledger.empty:
            continue
        pool = shelf.find(str(ledger["archive_sha256"].iat[0]))
        if pool is None:
            return Samples(problem=Message("The archive of synthetic images is not in pools/ any more."))
        if shelf.data is None:
            return Samples(problem=shelf.data_problem)
        split, _ = shelf.split()
        rows = np.arange(len(shelf.data)) if split is None else split.rows(shelf.data, run.fold, "train")
        count = min(NUM_SAMPLES, len(rows), len(pool))
        real = _draw(rows, count, "real samples", run.fold)
        synthetic = _draw(np.arange(len(pool)), count, "synthetic samples", run.fold)
        psi = pool.manifest["truncation_psi"].iat[0]
        return Samples(
            tuple(Picture(to_uri(shelf.data.read_image(i)), "") for i in real),
            tuple(Picture(to_uri(pool.read_image(i)), "") for i in synthetic),
            Message(
                "{count} of {num_real} real training images and {count} of {num_synthetic} synthetic images "
                "(truncation psi {psi}), fold {fold}, drawn at random without regard to class.",
                count=count,
                num_real=len(rows),
                num_synthetic=len(pool),
                psi=float(str(psi)),  # 0.8 in the 32 bits of a manifest
                fold=str(run.fold),
            ),
        )
    return None


def describe_data(records: StudyRecords, shelf: Shelf) -> DataSheet:
    """Subjects and images of every part, by class."""
    if shelf.data is None:
        return DataSheet(problem=shelf.data_problem)
    archive = shelf.data
    sheet = DataSheet(
        num_images=len(archive),
        num_subjects=len(np.unique(archive.subjects)),
        image_shape=archive.image_shape,
    )
    split, problem = shelf.split()
    if split is None:
        return replace(sheet, problem=problem)
    folds = records.study.get("folds", range(len(split.folds)))
    return replace(
        sheet,
        parts=tuple(_part_sheet(archive, split, fold, part) for fold in folds for part in PARTS),
        num_folds=len(split.folds),
        held_out=split.held_out.column if split.held_out else "",
        linked=tuple(", ".join(group) for group in split.linked_subjects),
    )


def _part_sheet(archive: Archive, split: Split, fold: int, part: str) -> PartSheet:
    rows = split.rows(archive, fold, part)
    labels = archive.labels[rows]
    per_class = np.bincount(labels[labels >= 0], minlength=len(archive.classes))
    return PartSheet(
        fold, part, len(np.unique(archive.subjects[rows])), len(rows), tuple(int(n) for n in per_class)
    )


def _draw(rows: np.ndarray, count: int, *key: object) -> np.ndarray:
    rng = np.random.default_rng(derive_seed("report examples", *key))
    return np.sort(rng.choice(rows, size=min(count, len(rows)), replace=False)) if len(rows) else rows


def to_uri(image: np.ndarray, max_side: int = MAX_SIDE) -> str:
    """A (C, H, W) uint8 image as a data URI, shrunk to at most `max_side` pixels."""
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))  # (H, W, C)
    side = max(pixels.shape[:2])
    if side > max_side:
        size = tuple(max(1, round(length * max_side / side)) for length in (pixels.shape[1], pixels.shape[0]))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    data = encode_png(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")
