"""From files to files: train a run on one part of an archive, evaluate a run on another."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from classifier.config import ClassifierConfig
from classifier.data import real_part
from classifier.encoder_file import check_weights_for_fold
from classifier.errors import ClassifierError
from classifier.evaluation import Evaluation, evaluate_part, evaluate_run
from classifier.evaluation_files import METRICS, PREDICTIONS, remove_evaluations
from classifier.plots import plot_history
from classifier.preparation import kept_settings
from classifier.resuming import STATE, KeptState
from classifier.run import DESCRIPTION, Classifier, Provenance
from classifier.training import train_classifier
from extract.archive import Archive, open_archive
from extract.cache import open_images
from extract.errors import SettingsError
from extract.json_values import json_value
from extract.progress import Progress, no_progress
from extract.split import Split, read_split

__all__ = ["METRICS", "PREDICTIONS", "Evaluation", "evaluate_run", "steps_of_epochs", "train_run"]


def train_run(
    data: Path,
    split_path: Path,
    fold: int,
    fraction: float,
    config: ClassifierConfig,
    run_dir: Path,
    *,
    epochs: float | None = None,
    allow_other_archive: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> tuple[Classifier, Evaluation]:
    """Train on the labeled part of a fold, save the run, and evaluate it on its validation part.

    Args:
        epochs: passes over the training images instead of `config.steps`, with a look after each whole one.
        allow_other_archive: take weights that were trained here on another archive, on the user's word that
            its people are not judges of this fold.

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
        check_weights_for_fold(config.weights, archive, split, fold, allow_other_archive=allow_other_archive)
        images = open_images(archive, progress)
        train = real_part(archive, images, split, fold, "train", fraction)
        if epochs is not None:
            config = steps_of_epochs(config, epochs, len(train))
        kept = KeptState(run_dir / STATE, _made_with(config, archive, split, fold, fraction))
        if overwrite:  # the state of the same training gives the same bits sooner; any other is replaced
            kept.remove_another()
        classifier = train_classifier(
            train,
            real_part(archive, images, split, fold, "val", fraction),
            archive.classes,
            config,
            provenance=Provenance(
                archive.sha256, split.sha256, fold, fraction, kept_settings(archive.preparation)
            ),
            progress=progress,
            kept=kept,
        )
        classifier.save(run_dir)
        kept.path.unlink(missing_ok=True)
        remove_evaluations(run_dir)  # of the run that is overwritten
        title = f"{config.arch}, {config.steps} steps"
        plot_history(classifier.history, run_dir / "history.png", title, monitor=config.monitor)
        evaluation = evaluate_part(classifier, run_dir, archive, images, split, fold, "val", fraction)
    return classifier, evaluation


def _made_with(
    config: ClassifierConfig, archive: Archive, split: Split, fold: int, fraction: float
) -> dict[str, Any]:
    """What a training must share with the one whose state it goes on from."""
    settings = json_value(asdict(config))
    for name in ("device", "threads"):  # where it is computed may change
        settings.pop(name)
    data = {"archive": archive.sha256, "split": split.sha256, "fold": fold, "fraction": fraction}
    return {**settings, **data, "torch": version("torch")}


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
