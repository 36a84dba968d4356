"""Uploads judged by a model as `classifier predict` judges files, with what a page shows beside the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from classifier.inputs import InputImage, list_sources, read_source
from classifier.predict import Judge, Predictions
from classifier.predict_run import predict_run
from classifier.preparation import InputSettings, input_settings
from classifier.uploads import StoredUploads, Upload, UploadLimits, reason_of, stored_uploads, without_folder
from extract.building import Unreadable
from extract.errors import ExtractError, SynthlabelError
from extract.language import Message
from extract.picture_file import PICTURE_SUFFIXES, read_picture
from extract.progress import Progress, no_progress

MAX_PIXEL_BYTES = 2**28  # of images kept to be looked at; the table goes on beyond
COLORED_BY = 24  # levels between the channels of a pixel that is colored for the eye
COLORED_SHARE = 0.01  # of a picture's pixels, from which it counts as colored
COLOR_SIDE = 128  # pixels: it takes no more to see that a picture is colored
COLORED_NOTE = Message(
    "The picture is in color, and the model was trained on gray images: it was turned to gray first."
)


@dataclass(frozen=True)
class Judged:
    """What a model says of some uploads."""

    predictions: Predictions
    pixels: tuple[np.ndarray, ...]  # (C, H, W) uint8 of the table's first rows, as archives hold images
    refused: tuple[Unreadable, ...]  # files that say nothing, and why
    remarks: Mapping[str, Message]  # of single files, by name

    @property
    def num_images(self) -> int:
        """Rows of the table."""
        return len(self.predictions.images)

    def probabilities(self, row: int) -> dict[str, float]:
        """By class name, calibrated."""
        table = self.predictions.images
        return {name: float(table[f"p_{name}"].iloc[row]) for name in self.predictions.classes}


def judge_uploads(
    classifier: Judge,
    model: Path,
    uploads: Sequence[Upload],
    *,
    limits: UploadLimits | None = None,
    confidence: float | None = None,
    progress: Progress = no_progress,
) -> Judged:
    """Judge uploads by `predict_run`; nothing of them stays on the disk.

    Args:
        classifier: as `predict_run.load_judge` gives it.
        model: the folder or file that it was loaded from.
        limits: how much may be given at once.
        confidence: as of `predict_run`.

    Raises:
        ClassifierError, SettingsError: if the model itself cannot be used for files.
    """
    settings = input_settings(classifier)
    with stored_uploads(uploads, settings, limits) as stored:
        refused = list(stored.refused)
        kept: list[np.ndarray] = []
        room = MAX_PIXEL_BYTES

        def keep(images: Sequence[InputImage], probs: np.ndarray) -> None:
            nonlocal room
            for image in images:
                room -= image.pixels.nbytes
                if room >= 0:
                    kept.append(image.pixels)

        def judge(inputs: Sequence[Path]) -> Predictions:
            nonlocal room
            kept.clear()
            room = MAX_PIXEL_BYTES
            return predict_run(
                classifier, model, inputs, settings=settings, confidence=confidence, watch=keep,
                progress=progress,
            )  # fmt: skip

        try:
            predictions = judge(stored.inputs)
        except SynthlabelError:  # one file's fault, which ends a command but shall not end a page
            inputs, faults = _apart(stored, settings)
            refused += faults
            predictions = judge(inputs)
        refused += [
            Unreadable(_name_of(item.file, stored), without_folder(f"{item}", stored.folder))
            for item in predictions.unreadable
        ]
        remarks = {} if settings.rgb else _colored(stored)
        return Judged(_named(predictions, stored), tuple(kept), tuple(refused), remarks)


def _apart(stored: StoredUploads, settings: InputSettings) -> tuple[list[Path], list[Unreadable]]:
    """The inputs that can be read to their end, and why the others cannot."""
    good, faults = [], []
    for path, name in zip(stored.inputs, stored.names, strict=True):
        try:
            for source in list_sources([path], settings):
                for _ in read_source(source, settings):
                    pass
        except SynthlabelError as error:
            faults.append(Unreadable(name, reason_of(error, stored.folder)))
        else:
            good.append(path)
    return good, faults


def _named(predictions: Predictions, stored: StoredUploads) -> Predictions:
    """Tables that speak of files as their owner does."""
    by_path = {f"{path}": name for path, name in zip(stored.inputs, stored.names, strict=True)}

    def rename(table: pd.DataFrame) -> pd.DataFrame:
        if not len(table):
            return table
        single = [not Path(given).is_dir() for given in table["input"]]
        names = [by_path[given] for given in table["input"]]
        columns = {"input": names}
        for column in ("file", "volume"):
            if column in table:
                columns[column] = [
                    name if alone and own else own
                    for name, alone, own in zip(names, single, table[column], strict=True)
                ]
        return table.assign(**columns)

    return replace(
        predictions, images=rename(predictions.images), volumes=rename(predictions.volumes), unreadable=()
    )


def _name_of(file: str, stored: StoredUploads) -> str:
    """What the owner calls the file of that name below the temporary folder."""
    for path, name in zip(stored.inputs, stored.names, strict=True):
        if path.name == file:
            return name
    return file


def _colored(stored: StoredUploads) -> dict[str, Message]:
    """A remark on each picture that shows colors."""
    remarks = {}
    for path, name in zip(stored.inputs, stored.names, strict=True):
        if not path.name.lower().endswith(PICTURE_SUFFIXES):
            continue
        try:
            pixels = read_picture(path, rgb=True)
        except ExtractError:
            continue
        if is_colored(pixels):
            remarks[name] = COLORED_NOTE
    return remarks


def is_colored(pixels: np.ndarray) -> bool:
    """Whether (H, W, 3) uint8 shows colors to the eye."""
    height, width = pixels.shape[:2]
    side = (min(width, COLOR_SIDE), min(height, COLOR_SIDE))
    small = cv2.resize(pixels, side, interpolation=cv2.INTER_AREA).astype(np.int16)
    spread = small.max(axis=2) - small.min(axis=2)
    return bool((spread > COLORED_BY).mean() > COLORED_SHARE)
