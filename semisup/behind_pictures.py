"""What is known of single images behind a number: pixels, origin, what the model and an expert said."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd

from extract.errors import ExtractError
from semisup.behind import Choice as Choice
from semisup.behind import TestedChoice, read_rows
from semisup.examples import PictureSource, Shelf
from semisup.folders import PREDICTIONS
from semisup.ledger import LEDGER_FILE
from semisup.pool_copies import COPIES_FILE, read_copies
from semisup.records import StudyRecords
from semisup.run_list import ListedRun


@dataclass(frozen=True)
class ImageBehind:
    """One image behind a number; what a file does not tell is None or empty."""

    image: str  # name in its archive
    archive_sha256: str
    said: int  # class number: pseudo-label, or the most probable class
    confidence: float
    probs: tuple[float, ...]  # calibrated, by class
    times: int  # runs of the choice that it is counted in
    fold: int  # of the run that the rest is told of
    seed: int
    reason: str  # what became of it, in the ledger's word; empty for test images
    label: int | None  # what an expert said
    subject: str
    generator_seed: int | None  # of a synthetic image
    truncation_psi: float | None
    nearest: str  # the most alike training image: that a gate held it against, or as measured with the pool
    gate_value: float | None  # what that gate measured


class Pictures:
    """The pictures of a study, read one by one; the archives stay open until `close`."""

    def __init__(self, study_dir: Path, study: dict[str, Any]) -> None:
        self._study = study
        self._shelf = Shelf(StudyRecords(study_dir, study, (), (), (), ()))
        self._sources: dict[str, PictureSource | None] = {}
        self._alike: dict[str, dict[str, str]] = {}  # training images by pool image, by pool

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the archives."""
        self._shelf.__exit__(None, None, None)

    @property
    def data_sha256(self) -> str:
        """Of the archive of real images that the study was made of."""
        return str(self._study.get("archive_sha256", ""))

    @property
    def data_was_replaced(self) -> bool:
        """Whether another archive lies where that of the study was."""
        return self._shelf.data_was_replaced

    def has(self, archive_sha256: str) -> bool:
        """Whether an archive is still there."""
        return self._source(archive_sha256) is not None

    def read(self, archive_sha256: str, image: str) -> np.ndarray | None:
        """(C, H, W) uint8; None where the archive is gone, damaged or another."""
        source = self._source(archive_sha256)
        number = source.numbers.get(image) if source else None
        if source is None or number is None:
            return None
        try:
            return source.archive.read_image(number)
        except (ExtractError, OSError, ValueError):  # closed or replaced while it was looked at
            return None

    def expert(self, archive_sha256: str, image: str) -> tuple[int | None, str]:
        """What an expert said of an image, as a class number of the study, and whom it shows."""
        source = self._source(archive_sha256)
        number = source.numbers.get(image) if source else None
        if source is None or number is None:
            return None, ""
        archive, classes = source.archive, [str(name) for name in self._study.get("classes") or []]
        is_known = (
            archive.labels[number] >= 0 and list(archive.classes) == classes and archive.is_real[number]
        )
        return int(archive.labels[number]) if is_known else None, str(archive.subjects[number])

    def most_alike(self, archive_sha256: str, image: str) -> str:
        """The training image that is most like a synthetic one; empty where it was never measured."""
        if archive_sha256 not in self._alike:
            source = self._source(archive_sha256)
            copies = (
                read_copies(source.archive.path.with_name(COPIES_FILE), archive_sha256) if source else None
            )
            pairs = zip(copies.files.tolist(), copies.nearest.tolist(), strict=True) if copies else ()
            self._alike[archive_sha256] = dict(pairs)
        return self._alike[archive_sha256].get(image, "")

    def _source(self, archive_sha256: str) -> PictureSource | None:
        if archive_sha256 not in self._sources:
            archive = self._shelf.find(archive_sha256)
            self._sources[archive_sha256] = PictureSource.of(archive) if archive else None
        return self._sources[archive_sha256]


def images_of(
    study_dir: Path, runs: list[ListedRun], page: pd.DataFrame, choice: Choice, pictures: Pictures
) -> list[ImageBehind]:
    """Everything about some images, a page of them.

    Args:
        runs: as for `rows_behind`.
        page: some rows of `each_once`, in the order to show.

    Raises:
        StudyError: if a file of the runs is damaged or gone.
    """
    name = PREDICTIONS if isinstance(choice, TestedChoice) else LEDGER_FILE
    known: dict[tuple[int, int], dict[str, Any]] = {}
    for number, own in page.groupby("run"):
        places = own["row"].astype(int).tolist()
        found = read_rows(study_dir / "runs" / runs[int(str(number))].key / name, places)
        known |= {(int(str(number)), place): row for place, row in zip(places, found, strict=True)}
    return [
        _image_of(entry, known[int(entry["run"]), int(entry["row"])], pictures)
        for entry in page.to_dict("records")
    ]


def _image_of(entry: Mapping[Any, Any], row: Mapping[str, Any], pictures: Pictures) -> ImageBehind:
    sha256, image = str(entry["archive_sha256"]), str(entry["image"])
    label, subject = pictures.expert(sha256, image)
    num_classes = sum(name.startswith("p_") and name[2:].isdigit() for name in row)
    is_synthetic = bool(row.get("snapshot_sha256"))
    return ImageBehind(
        image,
        sha256,
        int(entry["said"]),
        float(entry["confidence"]),
        tuple(float(row[f"p_{k}"]) for k in range(num_classes)),
        int(entry["times"]),
        int(entry["fold"]),
        int(entry["seed"]),
        str(entry["reason"]),
        int(entry["label"]) if entry["label"] >= 0 else label,
        str(row.get("subject") or subject),
        int(row["seed"]) if is_synthetic else None,
        _number(row.get("truncation_psi")) if is_synthetic else None,
        str(row.get("gate_nearest") or "") or (pictures.most_alike(sha256, image) if is_synthetic else ""),
        _number(row.get("gate_value")),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, float) and np.isfinite(value) else None
