"""Quality from files: a snapshot against real images, or one archive against another."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from extract.archive import open_archive
from extract.atomic import write_text
from extract.cache import open_images
from extract.errors import SettingsError, name_some
from extract.folder_archive import archive_of
from extract.json_values import json_value
from extract.progress import Progress, no_progress
from extract.split import read_split
from gan.data import TrainingImages, open_training_images
from gan.errors import GanError
from gan.features import FeatureExtractor, TaughtOnSubjects
from gan.log import to_json_line
from gan.metric_names import DEFAULT_NUM, Metric
from gan.networks import choose_device
from gan.quality import MetricResult, measure_generator, measure_images
from gan.reference import Reference, find_reference, is_own_part, part_rows, refuse_taught, seen_rows
from gan.runfolder import OPTIONS_NAME
from gan.snapshot import Snapshot, load_generator, read_snapshot, refuse_overlap

EVALUATION_FORMAT = "synthlabel-evaluation-1"


@dataclass(frozen=True)
class Evaluation:
    """Measures of one generator or archive, and what they were measured against."""

    results: list[MetricResult]
    judged: Path  # snapshot or archive
    reference: str  # in words
    notes: list[str]  # what a reader has to know beside the figures
    lines: list[dict[str, Any]]  # one JSON object a result
    written: list[Path]  # files of the run folder that a line was added to


def evaluate_network(
    network: Path,
    metrics: Sequence[Metric],
    extractors: Mapping[str, FeatureExtractor],
    *,
    data: Path | None = None,
    mirror: bool | None = None,
    split: Path | None = None,
    fold: int | None = None,
    part: str | None = None,
    num: int = DEFAULT_NUM,
    truncation_psi: float = 1.0,
    seed: int = 0,
    batch_size: int = 32,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Evaluation:
    """Measure the averaged generator of a snapshot, or of the newest one of a run folder.

    What is not given (archive, split, fold, mirroring) is looked up in the run folder and held against the
    hashes in the snapshot. Results against the training part at truncation 1, which is what training itself
    would measure, are added to `metric-<name>.jsonl` in the run folder; others are only returned.

    Args:
        part: of the split, compared with: "train" (the default), "val" or "test", which the generator and the
            task extractor must not have seen.

    Raises:
        SettingsError, GanError, ExtractError: if the parts do not fit together.
    """
    _check_num(num, batch_size)
    snapshot = read_snapshot(network)
    reference = find_reference(snapshot, data, mirror, split, fold, part)
    reals = open_reference(reference, snapshot, progress)
    notes = _check_reference(reference, reals, snapshot, extractors)
    chosen = choose_device(device)
    generator, snapshot = load_generator(snapshot.path, chosen)
    results = measure_generator(
        generator,
        reals,
        metrics,
        extractors,
        num=num,
        seed=seed,
        batch_size=batch_size,
        truncation_psi=truncation_psi,
        device=chosen,
        progress=progress,
    )
    ours = {
        "reference": reference.part,
        "archive_sha256": reals.archive_sha256,
        "split_sha256": reals.split_sha256,
        "fold": reference.fold if reference.split else None,
        "truncation_psi": truncation_psi,
        "seed": seed,
        "snapshot_sha256": snapshot.sha256,
    }
    lines = [result.line(snapshot.path.name) | ours for result in results]
    # What training itself would have measured; anything else under the same name would mislead.
    is_standard = truncation_psi == 1 and _is_own_part(reference, reals, snapshot)
    run_dir = snapshot.path.parent
    written = []
    if is_standard and (run_dir / OPTIONS_NAME).is_file():
        written = [append_metric_line(run_dir, line) for line in lines]
    what = f"{reference.data.name}, " + (
        f"{reference.part} part of fold {reference.fold}" if reference.split else "all real images"
    )
    return Evaluation(results, snapshot.path, what, notes, lines, written)


def evaluate_archives(
    reals: Path,
    fakes: Path,
    metrics: Sequence[Metric],
    extractors: Mapping[str, FeatureExtractor],
    *,
    split: Path | None = None,
    fold: int = 0,
    part: str = "train",
    num: int = DEFAULT_NUM,
    seed: int = 0,
    batch_size: int = 32,
    progress: Progress = no_progress,
) -> Evaluation:
    """Measure the images of one archive against those of another, or of one part of it.

    Raises:
        SettingsError, GanError, ExtractError: if the parts do not fit together.
    """
    _check_num(num, batch_size)
    with open_archive(reals) as archive, open_archive(fakes) as judged:
        if archive.image_shape != judged.image_shape:
            raise GanError(
                f"{fakes}: expected images of shape {archive.image_shape} (C, H, W) as in {reals}, got "
                f"{judged.image_shape}; extract or generate both with the same size and channels"
            )
        folds = None if split is None else read_split(split, archive)
        rows = np.arange(len(archive)) if folds is None else part_rows(folds, archive, fold, part)
        notes = []
        if folds is not None and part != "train":
            refuse_taught(extractors, folds.subjects(fold, part), archive.sha256, f"the {part} part")
        results = measure_images(
            StoredImages(open_images(archive, progress), rows),
            StoredImages(open_images(judged, progress), np.arange(len(judged))),
            metrics,
            extractors,
            num=num,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )
        if archive.sha256 == judged.sha256 and folds is None:
            notes.append("both archives are the same file: the figures show what no difference looks like")
        ours = {
            "reference": part if folds else "all",
            "archive_sha256": archive.sha256,
            "split_sha256": folds.sha256 if folds else None,
            "fold": fold if folds else None,
            "fakes_sha256": judged.sha256,
            "seed": seed,
        }
    lines = [result.line(None) | ours for result in results]
    what = f"{reals.name}, " + (f"{part} part of fold {fold}" if folds else "all images")
    return Evaluation(results, fakes, what, notes, lines, [])


@dataclass(frozen=True)
class StoredImages:
    """Rows of an archive's images, never mirrored and without labels."""

    images: np.ndarray  # (M, C, H, W) uint8
    rows: np.ndarray  # (N,) int64
    mirror: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, items: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self.images[self.rows[items]])

    def one_hot(self, items: np.ndarray) -> np.ndarray:
        return np.zeros((len(items), 0), dtype=np.float32)


def append_metric_line(run_dir: Path, line: Mapping[str, Any]) -> Path:
    """Add one result to `metric-<name>.jsonl` of a run folder, whole or not at all."""
    path = run_dir / f"metric-{line['metric']}.jsonl"
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    write_text(path, before + to_json_line(line))
    return path


def write_evaluation(evaluation: Evaluation, path: Path, *, overwrite: bool = False) -> None:
    """Write the results as one JSON file.

    Raises:
        GanError: if it exists and may not be overwritten.
    """
    if path.exists() and not overwrite:
        raise GanError(f"{path}: exists already and is left alone; choose another name or pass --overwrite")
    content = {
        "format": EVALUATION_FORMAT,
        "judged": str(evaluation.judged),
        "reference": evaluation.reference,
        "notes": evaluation.notes,
        "results": evaluation.lines,
    }
    write_text(path, json.dumps(json_value(content), indent=1, allow_nan=False) + "\n")


def _check_num(num: int, batch_size: int) -> None:
    if num < 2:
        raise SettingsError(f"--num must be at least 2, got {num}")
    if batch_size < 1:
        raise SettingsError(f"--batch must be at least 1, got {batch_size}")


def open_reference(reference: Reference, snapshot: Snapshot, progress: Progress) -> TrainingImages:
    """The real images that a generator is measured against; of its own training part, those that it saw.

    Raises:
        GanError: if the images are of another size, or the classes others, than the generator's.
    """
    reals = open_training_images(
        reference.data,
        reference.split,
        reference.fold,
        cond=bool(snapshot.classes),
        mirror=reference.mirror,
        progress=progress,
    )
    if reals.image_shape != tuple(snapshot.image_shape):
        raise GanError(
            f"{reference.data}: expected images of shape {tuple(snapshot.image_shape)} (C, H, W) as "
            f"{snapshot.path.name} makes them, got {reals.image_shape}; take the archive it was trained on"
        )
    if reals.classes != snapshot.classes:
        raise GanError(
            f"{reference.data}: expected the classes of its network ({', '.join(snapshot.classes)}), "
            f"got {', '.join(reals.classes)}; take the archive it was trained on"
        )
    if reference.part in ("train", "all"):
        is_own = reference.split is not None and _is_own_part(reference, reals, snapshot)
        if not is_own or set(reals.subjects) <= set(snapshot.subjects):
            return reals
    with open_archive(archive_of(reference.data)) as archive:
        if reference.part == "train":
            rows = seen_rows(snapshot, reals.rows, archive.subjects)
        else:
            assert reference.split is not None
            rows = part_rows(read_split(reference.split, archive), archive, reference.fold, reference.part)
        subjects = tuple(sorted({str(name) for name in archive.subjects[rows]}))
    return replace(reals, rows=rows.astype(np.int64), subjects=subjects, num_available=len(rows))


def _check_reference(
    reference: Reference,
    reals: TrainingImages,
    snapshot: Snapshot,
    extractors: Mapping[str, FeatureExtractor],
) -> list[str]:
    """Refuse what would be dishonest; say what is unusual."""
    notes: list[str] = []
    if reference.part in ("val", "test"):
        what = f"the {reference.part} part of fold {reference.fold}"
        refuse_overlap(snapshot, reals.subjects, reals.archive_sha256, what)
        refuse_taught(extractors, reals.subjects, reals.archive_sha256, what)
        return notes
    if reals.archive_sha256 != snapshot.archive_sha256:
        notes.append(
            f"{reference.data.name} is not the archive that the generator was trained on; the figures tell "
            "how near it comes to other data"
        )
    elif _is_own_part(reference, reals, snapshot):
        num_training = len(_training_subjects(reference)) if reference.split else 0
        if len(reals.subjects) < num_training:
            notes.append(
                f"the generator learned from {len(reals.subjects)} of the {num_training} subjects of the "
                "training part; their images are the reference"
            )
    else:
        notes.append(
            "the reference is not the part that the generator was trained on (another split or fold); the "
            "figures cannot be compared with those taken in training"
        )
    for name, extractor in extractors.items():
        if not isinstance(extractor, TaughtOnSubjects) or reference.part != "train":
            continue
        strangers = sorted(set(extractor.train_subjects) - _training_subjects(reference))
        if strangers:
            notes.append(
                f"the network of '{name}' learned from {len(strangers)} subjects outside the training part "
                f"({name_some(strangers)}); one trained on this fold's training part alone is cleaner"
            )
    return notes


def _training_subjects(reference: Reference) -> set[str]:
    """Of the whole training part, whether the generator saw all of it or a labeled fraction."""
    assert reference.split is not None
    with open_archive(archive_of(reference.data)) as archive:
        return set(read_split(reference.split, archive).subjects(reference.fold, "train"))


def _is_own_part(reference: Reference, reals: TrainingImages, snapshot: Snapshot) -> bool:
    """Whether the reference is what the generator was trained on."""
    return is_own_part(snapshot, reference.part, reals.archive_sha256, reals.split_sha256, reference.fold)
