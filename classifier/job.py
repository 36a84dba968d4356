"""From files to files: train a run on one part of an archive, evaluate a run on another."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from classifier.calibration import scale_logits
from classifier.config import ClassifierConfig
from classifier.data import real_part
from classifier.errors import ClassifierError
from classifier.evaluate import (
    class_report,
    classification_metrics,
    confusion_matrix,
    missing_classes,
    refuse_seen_subjects,
    subject_intervals,
)
from classifier.plots import plot_confusion, plot_history, plot_reliability
from classifier.preparation import kept_settings
from classifier.run import DESCRIPTION, Classifier, Provenance, load_classifier
from classifier.training import train_classifier
from extract.archive import Archive, open_archive
from extract.atomic import replace_file, write_text
from extract.cache import open_images
from extract.errors import SettingsError
from extract.json_values import json_value
from extract.progress import Progress, no_progress
from extract.split import PARTS, Split, read_split

PREDICTIONS, METRICS = "predictions.parquet", "metrics.json"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured; the same numbers stand in metrics.json."""

    part: str
    num_images: int
    num_subjects: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]  # 95 %, by subject
    missing_classes: list[str]
    openings: int  # how often this run was evaluated on this part, this time included


def train_run(
    data: Path,
    split_path: Path,
    fold: int,
    fraction: float,
    config: ClassifierConfig,
    run_dir: Path,
    *,
    epochs: float | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> tuple[Classifier, Evaluation]:
    """Train on the labeled part of a fold, save the run, and evaluate it on its validation part.

    Args:
        epochs: passes over the training images instead of `config.steps`, with a look after each whole one.

    Raises:
        ClassifierError: if `run_dir` holds a run and `overwrite` is not set, or the data cannot be used.
        ExtractError, SettingsError: if archive, split, fold or fraction cannot be used.
    """
    if (run_dir / DESCRIPTION).exists() and not overwrite:
        raise ClassifierError(f"{run_dir} already holds a run: name another --outdir, or give --overwrite")
    _refuse_unwritable(run_dir)
    with open_archive(data) as archive:
        split = read_split(split_path, archive)
        split.subjects(fold, "train", fraction)  # refuses a wrong fold or fraction before anything is decoded
        images = open_images(archive, progress)
        train = real_part(archive, images, split, fold, "train", fraction)
        if epochs is not None:
            config = steps_of_epochs(config, epochs, len(train))
        classifier = train_classifier(
            train,
            real_part(archive, images, split, fold, "val", fraction),
            archive.classes,
            config,
            provenance=Provenance(
                archive.sha256, split.sha256, fold, fraction, kept_settings(archive.preparation)
            ),
            progress=progress,
        )
        classifier.save(run_dir)
        _remove_evaluations(run_dir)  # of the run that is overwritten
        plot_history(classifier.history, run_dir / "history.png", f"{config.arch}, {config.steps} steps")
        evaluation = _evaluate(classifier, run_dir, archive, images, split, fold, "val", fraction)
    return classifier, evaluation


def steps_of_epochs(config: ClassifierConfig, epochs: float, num_images: int) -> ClassifierConfig:
    """The settings with the steps that so many passes over the images take, and a look after each pass.

    Raises:
        SettingsError: unless `epochs` is above 0.
    """
    if not epochs > 0:
        raise SettingsError(f"epochs must be above 0, got {epochs:g}")
    steps = max(1, round(epochs * num_images / config.batch_size))
    return replace(config, steps=steps, validate_every=max(1, round(num_images / config.batch_size)))


def _refuse_unwritable(run_dir: Path) -> None:
    """Find out before the training, and without leaving anything, that its result could not be saved."""
    place = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        what = "a folder that may not be written" if place.is_dir() else "a file"
        raise ClassifierError(f"{run_dir}: expected a folder to save the run in, got {what} at {place}")


def _remove_evaluations(run_dir: Path) -> None:
    pictures = [run_dir / f"{kind}-{part}.png" for kind in ("confusion", "reliability") for part in PARTS]
    for stale in (run_dir / PREDICTIONS, run_dir / METRICS, *pictures):
        stale.unlink(missing_ok=True)


def evaluate_run(
    run_dir: Path,
    data: Path,
    split_path: Path,
    part: str,
    *,
    fold: int | None = None,
    fraction: float | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Evaluate a saved run on a part, and add predictions, metrics and plots to its folder.

    Fold and fraction are those of the training where they are not given.

    Raises:
        ClassifierError: if the run cannot be read, knows other classes, or has seen a subject of the part
            (for validation: has trained on one).
    """
    classifier = load_classifier(run_dir)
    fold = classifier.provenance.fold if fold is None else fold
    fraction = classifier.provenance.fraction if fraction is None else fraction
    if fold is None:
        raise SettingsError(f"{run_dir} was not trained on a split: say which fold to evaluate with --fold")
    with open_archive(data) as archive:
        split = read_split(split_path, archive)
        split.subjects(fold, part, fraction if fraction is not None else 1.0)
        images = open_images(archive, progress)
        return _evaluate(
            classifier, run_dir, archive, images, split, fold, part, 1.0 if fraction is None else fraction
        )


def _evaluate(
    classifier: Classifier,
    run_dir: Path,
    archive: Archive,
    images: np.ndarray,
    split: Split,
    fold: int,
    part: str,
    fraction: float,
) -> Evaluation:
    if archive.classes != classifier.classes:
        raise ClassifierError(
            f"{archive.path} has the classes {', '.join(archive.classes)}, the classifier in {run_dir} knows "
            f"{', '.join(classifier.classes)}: evaluate on an archive with the same classes"
        )
    data = real_part(archive, images, split, fold, part, fraction)
    seen = classifier.train_subjects + (() if part == "val" else classifier.val_subjects)
    refuse_seen_subjects(data.subjects, seen, f"the classifier in {run_dir}")
    logits = classifier.predict_logits(data.images)
    probs = scale_logits(logits, classifier.temperature)
    num_classes = len(classifier.classes)
    labels = data.labels
    written = _read_metrics(run_dir / METRICS)
    evaluation = Evaluation(
        part=part,
        num_images=len(data),
        num_subjects=len(set(data.subjects.tolist())),
        metrics=classification_metrics(probs, labels, num_classes),
        intervals=subject_intervals(probs, labels, data.subjects, num_classes),
        missing_classes=missing_classes(labels, classifier.classes),
        openings=written.get(part, {}).get("openings", 0) + 1,
    )
    matrix = confusion_matrix(probs.argmax(axis=1), labels, num_classes)
    uncalibrated = classification_metrics(scale_logits(logits, 1.0), labels, num_classes)
    written[part] = {
        "archive_sha256": archive.sha256,
        "split_sha256": split.sha256,
        "fold": fold,
        "fraction": fraction,
        "openings": evaluation.openings,
        "num_images": evaluation.num_images,
        "num_subjects": evaluation.num_subjects,
        "metrics": evaluation.metrics,
        "intervals_95": {name: list(interval) for name, interval in evaluation.intervals.items()},
        "uncalibrated": {name: uncalibrated[name] for name in ("ece", "brier", "nll")},
        "classes": class_report(probs, labels, classifier.classes),
        "confusion_matrix": matrix.tolist(),
        "notes": _notes(evaluation.missing_classes),
    }
    files = archive.manifest["file"].to_numpy(dtype=str)[split.rows(archive, fold, part, fraction)]
    names = np.array(classifier.classes)[labels]
    _write_predictions(run_dir / PREDICTIONS, classifier.classes, files, data.subjects, names, part, probs)
    where = f"{part}, fold {fold}"
    plot_confusion(matrix, classifier.classes, run_dir / f"confusion-{part}.png", f"Confusion ({where})")
    plot_reliability(probs, labels, run_dir / f"reliability-{part}.png", f"Reliability ({where})")
    write_text(run_dir / METRICS, json.dumps(json_value(written), indent=2) + "\n")
    return evaluation


def _write_predictions(
    path: Path,
    classes: tuple[str, ...],
    files: np.ndarray,
    subjects: np.ndarray,
    labels: np.ndarray,
    part: str,
    probs: np.ndarray,
) -> None:
    """Replace the rows of `part`, and keep those of other parts."""
    columns = {"file": files, "subject": subjects, "label": labels, "part": part}
    probabilities = {f"p_{name}": probs[:, number] for number, name in enumerate(classes)}
    table = pd.DataFrame({**columns, **probabilities})
    if path.exists():
        try:
            before = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise ClassifierError(
                f"{path}: expected the predictions written before, got a file that cannot be read ({error}); "
                "remove it and evaluate again"
            ) from error
        if (before["part"] != part).any():
            table = pd.concat([before[before["part"] != part], table], ignore_index=True)
    with replace_file(path) as temporary:
        table.to_parquet(temporary, index=False)


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}")
    except ValueError as error:
        raise ClassifierError(
            f"{path}: expected a JSON object, got something else ({error}); remove it and evaluate again"
        ) from error
    return content


def _notes(missing: list[str]) -> list[str]:
    if not missing:
        return []
    return [
        f"no image of class {', '.join(missing)} in this part: its sensitivity and areas are undefined, "
        "and the means over classes leave it out"
    ]
