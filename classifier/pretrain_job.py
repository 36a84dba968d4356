"""From an archive to an encoder: who may be seen, the pretraining, its state and its files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from classifier.autoencoder import code_numbers
from classifier.data import ImageTable
from classifier.encoder_file import ENCODER, RECORD, write_encoder
from classifier.errors import ClassifierError
from classifier.folder_lock import sole_user
from classifier.models import choose_device
from classifier.preprocess import Preprocessing, fit_preprocessing
from classifier.pretrain_config import PretrainConfig
from classifier.pretrain_plots import plot_pretraining, plot_reconstructions
from classifier.pretrain_state import STATE, restore_state, write_state
from classifier.pretraining import Pretraining, pretrain, start_pretraining
from classifier.subject_folds import deal_subjects
from extract.archive import Archive, open_archive
from extract.atomic import write_text
from extract.cache import open_images
from extract.errors import SettingsError
from extract.json_values import json_value
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from extract.split import Split, read_split
from extract.split_check import find_duplicates

HISTORY, OPTIONS = "history.csv", "options.json"
HISTORY_PICTURE, RECONSTRUCTIONS = "history.png", "reconstructions.png"
RECORDED_VERSIONS = ("torch", "numpy")


@dataclass(frozen=True)
class PretrainSummary:
    """What a pretraining made; the same numbers stand in encoder.json."""

    encoder: Path  # for `weights` of a classifier
    num_images: int
    num_subjects: int
    num_held_out_images: int
    num_held_out_subjects: int
    resumed_at: int  # step that this session began with
    seconds: float  # of all sessions
    measured: dict[str, float]  # the last row of history.csv


def pretrain_run(
    data: Path,
    outdir: Path,
    config: PretrainConfig,
    *,
    split_path: Path | None = None,
    fold: int = 0,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> PretrainSummary:
    """Pretrain an encoder on the unlabeled images of an archive, and write it to `outdir`.

    With a split, only the training part of the fold is looked at, all of it: labels are not used, so the
    part whose labels a study withholds counts, too. A share of its subjects is held out for the
    reconstruction error; nothing is chosen by it. A pretraining that was killed goes on with the same call.

    Raises:
        ClassifierError: if `outdir` holds a finished pretraining, or one begun otherwise, and `overwrite` is
            not set; if another process is at it; or if the images cannot be used.
        ExtractError, SettingsError: if archive, split, fold or a setting cannot be used.
    """
    device = choose_device(config.device)
    with open_archive(data) as archive:
        seen = _choose_images(archive, split_path, fold, config)
        channels = config.preprocessing.output_shape(archive.image_shape)[0]
        job = start_pretraining(config, channels, device)
        with sole_user(outdir):
            if overwrite:
                _clear(outdir)
            if (outdir / RECORD).exists():
                raise ClassifierError(
                    f"{outdir} already holds a finished pretraining: name another --outdir, or give "
                    "--overwrite"
                )
            if not restore_state(outdir, job, seen.made_with):
                options = {"data": data, "config": asdict(config), "made_with": seen.made_with}
                write_text(outdir / OPTIONS, json.dumps(json_value(options), indent=2) + "\n")
            resumed_at = job.step
            images = open_images(archive, progress)
            train, held_out = ImageTable(images, seen.train), ImageTable(images, seen.held_out)
            preprocessing = fit_preprocessing(train, config.preprocessing)
            pretrain(
                job, train, held_out, preprocessing, config, device,
                save=lambda job: write_state(outdir, job, seen.made_with), progress=progress,
            )  # fmt: skip
            history = pd.DataFrame(job.history)
            write_text(outdir / HISTORY, history.to_csv(index=False))
            plot_pretraining(history, config, outdir / HISTORY_PICTURE)
            plot_reconstructions(job, held_out, preprocessing, config, outdir / RECONSTRUCTIONS)
            write_encoder(outdir, job.model.encoder, _facts(job, seen, config, preprocessing))
            (outdir / STATE).unlink(missing_ok=True)  # the record is there: nothing is left to go on with
    return PretrainSummary(
        encoder=outdir / ENCODER,
        num_images=len(train),
        num_subjects=len(seen.subjects["train"]),
        num_held_out_images=len(held_out),
        num_held_out_subjects=len(seen.subjects["held_out"]),
        resumed_at=resumed_at,
        seconds=job.seconds,
        measured=job.history[-1],
    )


@dataclass(frozen=True)
class _SeenImages:
    """The images that a pretraining looks at, and what its result depends on."""

    archive: Archive
    train: np.ndarray  # (N,) rows to learn from
    held_out: np.ndarray  # (M,) rows that the error is measured on
    made_with: dict[str, Any]  # settings and hashes

    @property
    def subjects(self) -> dict[str, list[str]]:
        """Sorted names by what their images are for."""
        parts = {"train": self.train, "held_out": self.held_out}
        return {part: sorted(set(self.archive.subjects[rows].tolist())) for part, rows in parts.items()}


def _choose_images(
    archive: Archive, split_path: Path | None, fold: int, config: PretrainConfig
) -> _SeenImages:
    split = read_split(split_path, archive) if split_path is not None else None
    rows = _seen_rows(archive, split, fold)
    links: list[tuple[str, ...]] = list(split.linked_subjects) if split else []
    links += [tuple(archive.subjects[found].tolist()) for found in find_duplicates(archive, rows)]
    subjects = archive.subjects[rows]
    num_parts = max(2, min(round(1 / config.hold_out), len(set(subjects.tolist()))))  # one subject at least
    part_of = deal_subjects(subjects, num_parts, derive_seed(config.seed, "hold out"), links=links)
    made_with = config.decisive() | {
        "archive_sha256": archive.sha256,
        "split_sha256": split.sha256 if split else "",
        "fold": fold if split else None,
    }
    return _SeenImages(archive, rows[part_of != 0], rows[part_of == 0], made_with)


def _seen_rows(archive: Archive, split: Split | None, fold: int) -> np.ndarray:
    """The images that the pretraining may look at: real ones, of the training part where there is a split."""
    if split is not None:
        rows = split.rows(archive, fold, "train", 1.0)
        where = f"the training part of fold {fold}"
    else:
        rows, where = np.flatnonzero(archive.is_real), "this archive"
    if len(rows) == 0:
        raise ClassifierError(f"{archive.path}: expected real images to learn from in {where}, got none")
    num_nameless = int((archive.subjects[rows] == "").sum())
    if num_nameless:
        raise ClassifierError(
            f"{archive.path}: expected a subject for each image, got {num_nameless} of {len(rows)} without; "
            "nobody could say later whom the encoder has seen: make the archive anew with --subjects"
        )
    return rows


def _facts(
    job: Pretraining, seen: _SeenImages, config: PretrainConfig, preprocessing: Preprocessing
) -> dict[str, Any]:
    size = preprocessing.input_size
    facts = {
        "archive_sha256": seen.archive.sha256,
        "split_sha256": seen.made_with["split_sha256"],
        "fold": seen.made_with["fold"],
        "subjects": seen.subjects,
        "preprocessing": preprocessing.to_json(),
        "input": {"channels": preprocessing.input_channels, "height": size[0], "width": size[1]},
        "code_numbers": code_numbers(size, config.code_width),
        "measured": job.history[-1],
        "config": config.to_json(),
        "versions": {name: version(name) for name in RECORDED_VERSIONS},
    }
    return json_value(facts)


def _clear(outdir: Path) -> None:
    """Remove an earlier pretraining, its record first: half a run must not look like a whole one."""
    if (outdir / "model.json").exists():
        raise SettingsError(f"--overwrite replaces a pretraining; {outdir} holds a classifier run")
    for name in (RECORD, ENCODER, STATE, OPTIONS, HISTORY, HISTORY_PICTURE, RECONSTRUCTIONS):
        (outdir / name).unlink(missing_ok=True)
