"""What a trained classifier says of new files: probabilities, a class, and where it had better not say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from classifier.calibration import scale_logits
from classifier.data import ImageTable
from classifier.errors import ClassifierError
from classifier.inputs import InputImage, Source, list_sources, read_source
from classifier.preparation import InputSettings, Prepared, input_settings
from classifier.usual import UsualInputs
from extract.atomic import replace_file, write_text
from extract.building import Unreadable
from extract.errors import SettingsError
from extract.json_values import json_value
from extract.progress import Progress, no_progress

PREDICT_BATCH = 64  # images in memory at a time
NOT_SURE = "not sure"
REJECTED = -1
PLACES = ("volume", "plane", "angle_deg", "tilt_deg", "slice_index", "position_mm", "subject", "label")

Decide = Callable[
    [np.ndarray], np.ndarray
]  # (N, C) calibrated probabilities to (N,) class numbers, -1 rejected
Watcher = Callable[[Sequence[InputImage], np.ndarray], None]  # a batch of images and its (n, C) probabilities


class Judge(Prepared, Protocol):
    """What can be asked about images: a `Classifier`, or an `onnx_model.OnnxModel`."""

    classes: tuple[str, ...]
    temperature: float
    usual: UsualInputs | None
    train_subjects: tuple[str, ...]
    val_subjects: tuple[str, ...]

    def predict_logits(self, images: ImageTable, batch_size: int | None = None) -> np.ndarray: ...


@dataclass(frozen=True)
class Predictions:
    """What came out, ready for a table or a page."""

    classes: tuple[str, ...]
    images: (
        pd.DataFrame
    )  # one row an image: input, file, places, p_<class>..., class, confidence, decision, ...
    volumes: pd.DataFrame  # one row a volume: slices averaged; empty where there are none
    unreadable: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)  # how it was decided, for the JSON


def reject_below(confidence: float) -> Decide:
    """The most probable class, or none where its probability is below `confidence`.

    Raises:
        SettingsError: unless 0 <= confidence <= 1.
    """
    if not 0 <= confidence <= 1:
        raise SettingsError(f"--reject-below must be in [0, 1], got {confidence:g}")

    def decide(probs: np.ndarray) -> np.ndarray:
        return np.where(probs.max(axis=1) < confidence, REJECTED, probs.argmax(axis=1))

    return decide


def predict_files(
    classifier: Judge,
    inputs: Sequence[Path],
    *,
    settings: InputSettings | None = None,
    decide: Decide | None = None,
    watch: Watcher | None = None,
    progress: Progress = no_progress,
) -> Predictions:
    """Judge pictures, volumes, folders and archives by the way that the training images went.

    What cannot be read is listed in the result and left out.

    Args:
        inputs: files and folders.
        settings: how files become images; None = as recorded in the run.
        decide: probabilities to class numbers, -1 for "not sure"; None = the most probable class, always.
        watch: is given every batch of images with its probabilities, for pictures of it for instance.
        progress: told of each source.

    Raises:
        ExtractError: if an input is not there, or a folder holds nothing to judge.
        ClassifierError: if an archive holds images of another shape.
        SettingsError: if the run does not say how such files become images.
    """
    settings = settings or input_settings(classifier)
    sources = list_sources(inputs, settings)
    decide = decide or reject_below(0.0)
    unreadable: list[Unreadable] = []
    images: list[InputImage] = []  # without their pixels
    probabilities: list[np.ndarray] = []
    unlike: list[str] = []
    stream = _readable(sources, settings, unreadable, progress)
    while batch := list(islice(stream, PREDICT_BATCH)):
        table = ImageTable(np.stack([image.pixels for image in batch]))
        probs = scale_logits(classifier.predict_logits(table), classifier.temperature)
        unlike += _strange(classifier, table)
        if watch is not None:
            watch(batch, probs)
        probabilities.append(probs)
        images += [_without_pixels(image) for image in batch]
    probs = np.concatenate(probabilities) if probabilities else np.zeros((0, len(classifier.classes)))
    table_of_images = _image_table(classifier, images, probs, decide(probs), unlike)
    return Predictions(
        classes=classifier.classes,
        images=table_of_images,
        volumes=_volume_table(classifier.classes, images, probs),
        unreadable=tuple(unreadable),
        notes=tuple(_notes(classifier, table_of_images)),
    )


def write_predictions(predictions: Predictions, path: Path) -> list[Path]:
    """Write rows as CSV (those of volumes to NAME-volumes.csv) or everything as JSON, by the name's end.

    Returns:
        The files written.

    Raises:
        SettingsError: if the name ends otherwise.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        content = {
            "classes": predictions.classes,
            **predictions.settings,
            "images": predictions.images.to_dict("records"),
            "volumes": predictions.volumes.to_dict("records"),
            "unreadable": [{"file": item.file, "reason": item.reason} for item in predictions.unreadable],
            "notes": predictions.notes,
        }
        write_text(path, json.dumps(json_value(content), indent=1) + "\n")
        return [path]
    check_out(path)
    written = [(path, predictions.images)]
    if len(predictions.volumes):
        written.append((volumes_beside(path), predictions.volumes))
    for place, table in written:
        with replace_file(place) as temporary:
            table.to_csv(temporary, index=False)
    return [place for place, _ in written]


def check_out(path: Path) -> None:
    """Raise SettingsError unless the name says which of the two kinds is to be written."""
    if path.suffix.lower() not in (".csv", ".json"):
        raise SettingsError(f"--out must end in .csv or .json, got {path}")


def volumes_beside(path: Path) -> Path:
    """Where the rows of volumes go beside those of images."""
    return path.with_name(f"{path.stem}-volumes.csv")


def _readable(
    sources: Sequence[Source], settings: InputSettings, unreadable: list[Unreadable], progress: Progress
) -> Iterator[InputImage]:
    for number, source in enumerate(sources):
        for item in read_source(source, settings):
            if isinstance(item, Unreadable):
                unreadable.append(item)
            else:
                yield item
        progress(number + 1, len(sources), source.file)


def _without_pixels(image: InputImage) -> InputImage:
    return InputImage(**{**image.__dict__, "pixels": np.empty(0, np.uint8)})


def _image_table(
    classifier: Judge,
    images: Sequence[InputImage],
    probs: np.ndarray,
    decided: np.ndarray,
    unlike: Sequence[str],
) -> pd.DataFrame:
    names = np.array([*classifier.classes, NOT_SURE])  # the last one is number -1
    columns: dict[str, Any] = {"input": [image.given for image in images], "file": [i.file for i in images]}
    for place in PLACES:
        values = [getattr(image, place) for image in images]
        if any(value not in ("", None) for value in values):
            columns[place] = pd.array(values, dtype="Int64") if place == "slice_index" else values
    seen = _seen(classifier, [image.subject for image in images])
    if any(seen):
        columns["seen"] = seen
    columns |= {f"p_{name}": probs[:, number] for number, name in enumerate(classifier.classes)}
    columns["class"] = names[probs.argmax(axis=1)] if len(probs) else []
    columns["confidence"] = probs.max(axis=1) if len(probs) else []
    columns["decision"] = names[decided] if len(probs) else []
    if any(unlike):
        columns["unlike_training"] = list(unlike)
    return pd.DataFrame(columns)


def _seen(classifier: Judge, subjects: Sequence[str]) -> list[str]:
    """Where the classifier met a subject before: "train", "val" or nowhere."""
    part = dict.fromkeys(classifier.val_subjects, "val") | dict.fromkeys(classifier.train_subjects, "train")
    return [part.get(subject, "") if subject else "" for subject in subjects]


def _volume_table(classes: tuple[str, ...], images: Sequence[InputImage], probs: np.ndarray) -> pd.DataFrame:
    """One row a volume: the mean of its slices' probabilities, and how many slices show each class."""
    keys = [(image.given, image.volume) for image in images]
    rows = []
    for key in dict.fromkeys(key for key in keys if key[1]):
        own = probs[[other == key for other in keys]]
        mean, counts = own.mean(axis=0), np.bincount(own.argmax(axis=1), minlength=len(classes))
        rows.append({
            "input": key[0],
            "volume": key[1],
            "num_slices": len(own),
            **{f"p_{name}": float(mean[number]) for number, name in enumerate(classes)},
            **{f"num_{name}": int(counts[number]) for number, name in enumerate(classes)},
            "class": classes[int(mean.argmax())],
            "confidence": float(mean.max()),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _strange(classifier: Judge, images: ImageTable) -> list[str]:
    if classifier.usual is None:
        return [""] * len(images)
    return classifier.usual.describe_strange(images.gather(np.arange(len(images))))


def _notes(classifier: Judge, table: pd.DataFrame) -> list[str]:
    notes = []
    if "seen" in table:
        num = int((table["seen"] != "").sum())
        notes.append(
            f"{num} of {len(table)} images are of subjects that the classifier has seen in training or "
            "validation: it does better on them than it would on new ones"
        )
    if "unlike_training" in table:
        num = int((table["unlike_training"] != "").sum())
        notes.append(
            f"{num} of {len(table)} images do not look like the training images (column unlike_training): "
            "what the classifier says of them means little"
        )
    return notes


def refuse_unreadable_inputs(predictions: Predictions, skip: bool) -> None:
    """Raise ClassifierError where files could not be read, unless they may be left out.

    Raises:
        ClassifierError: with one line a file.
    """
    bad = predictions.unreadable
    if not bad or (skip and len(predictions.images)):
        return
    listed = "".join(f"\n  {item}" for item in bad)
    remedy = "" if skip else "; repair or remove them, or pass --skip-unreadable"
    raise ClassifierError(f"{len(bad)} files could not be read, the others were judged{remedy}:{listed}")
