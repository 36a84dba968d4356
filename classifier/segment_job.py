"""From folders of pictures and masks to a finished segmenter: read, split, train, measure, draw."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from classifier.errors import ClassifierError
from classifier.mask_cleaning import CleaningConfig, clean_mask
from classifier.overlays import FOUND, TRUTH, Overlay, overlay_sheet, write_sheet
from classifier.segment_config import SegmentConfig
from classifier.segment_measures import MEASURES, MeanMeasure, mean_measures, measure_mask
from classifier.segment_pairs import MaskPair, PairSet, read_pair, read_pairs, split_pairs
from classifier.segment_plots import plot_segment_history
from classifier.segment_state import STATE
from classifier.segment_training import train_segmenter
from classifier.segmenter import DESCRIPTION, PairProvenance, Segmenter
from extract.atomic import replace_file, write_text
from extract.json_values import json_value
from extract.progress import Progress, no_progress

PREDICT_BATCH = 8
SHOWN_EACH = 3  # best, median and worst cases on the overlay sheet
METRICS, MEASURED, PAIRS = "metrics.json", "measures.csv", "pairs.csv"
STAGES = ("raw", "cleaned")


@dataclass(frozen=True)
class PartMeasures:
    """How well the masks of one part agree with the experts', before and after cleaning."""

    part: str
    table: pd.DataFrame  # one row an image: name, subject, and each measure raw_... and cleaned_...
    means: dict[str, dict[str, MeanMeasure]]  # by stage, by measure

    @property
    def num_subjects(self) -> int:
        return int(self.table["subject"].nunique())

    def to_json(self) -> dict[str, Any]:
        lungs = self.table["num_lungs"].value_counts().to_dict()
        return {
            "num_images": len(self.table),
            "num_subjects": self.num_subjects,
            "num_lungs": {str(count): int(number) for count, number in sorted(lungs.items())},
            **{
                stage: {name: mean.to_json() for name, mean in means.items()}
                for stage, means in self.means.items()
            },
        }


def train_segment_run(
    images: Path,
    masks: Sequence[Path],
    run_dir: Path,
    config: SegmentConfig,
    *,
    cleaning: CleaningConfig | None = None,
    subject_pattern: str | None = None,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> tuple[Segmenter, dict[str, PartMeasures], PairSet]:
    """Train a segmenter on pictures and masks, measure it on subjects kept out, and write the run.

    A training that was killed goes on when this is called again with the same settings and data.

    Returns:
        The segmenter, its measures on validation and test, and the pairs with what was left out.

    Raises:
        ClassifierError: if `run_dir` holds a finished run and `overwrite` is not set, or a begun one of other
            settings; or if the subjects cannot be split.
        ExtractError: if pairs cannot be used.
    """
    run_dir = Path(run_dir)
    _refuse(run_dir, overwrite)
    pairs = read_pairs(
        images,
        masks,
        config.size,
        subject_pattern=subject_pattern,
        skip_unreadable=skip_unreadable,
        progress=progress,
    )
    parts = split_pairs(pairs, config.val_share, config.test_share, config.seed)
    run_dir.mkdir(parents=True, exist_ok=True)
    arrays = {part: (pairs.images[rows], pairs.masks[rows]) for part, rows in parts.items()}
    segmenter, rows = train_segmenter(
        arrays["train"],
        arrays["val"],
        config,
        state_dir=run_dir,
        replace_state=overwrite,
        data_sha256=pairs.sha256,
        progress=progress,
    )
    segmenter.cleaning = cleaning or CleaningConfig()
    segmenter.provenance = PairProvenance(
        pairs.sha256,
        {part: len(chosen) for part, chosen in parts.items()},
        {part: sorted(set(pairs.subjects[chosen].tolist())) for part, chosen in parts.items()},
    )
    history = pd.DataFrame(rows)
    write_text(run_dir / "history.csv", history.to_csv(index=False))
    plot_segment_history(history, run_dir / "history.png", f"U-Net, {config.size} px, {config.steps} steps")
    _write_pairs(pairs, parts, run_dir / PAIRS)
    measured = {
        part: measure_part(segmenter, part, [pairs.pairs[row] for row in parts[part]], progress)
        for part in ("val", "test")
    }
    write_measures(measured, run_dir)
    chosen = {pairs.pairs[row].name: pairs.pairs[row] for row in parts["test"]}
    write_sheet(draw_cases(segmenter, measured["test"], chosen), run_dir / "overlays.png")
    segmenter.save(run_dir)
    (run_dir / STATE).unlink(missing_ok=True)  # last: until here the run could be finished from it
    return segmenter, measured, pairs


def measure_part(
    segmenter: Segmenter, part: str, pairs: Sequence[MaskPair], progress: Progress = no_progress
) -> PartMeasures:
    """Measure a segmenter against the experts' masks at the pictures' own sizes, batch by batch."""
    rows: list[dict[str, Any]] = []
    for start in range(0, len(pairs), PREDICT_BATCH):
        batch = pairs[start : start + PREDICT_BATCH]
        loaded = [read_pair(pair) for pair in batch]
        probabilities = segmenter.predict([picture for picture, _ in loaded])
        for pair, (_, truth), probability in zip(batch, loaded, probabilities, strict=True):
            raw = probability >= segmenter.config.threshold
            cleaned = clean_mask(raw, segmenter.cleaning)
            row: dict[str, Any] = {"name": pair.name, "subject": pair.subject, "part": part}
            for stage, mask in zip(STAGES, (raw, cleaned.mask), strict=True):
                row |= {f"{stage}_{name}": value for name, value in measure_mask(mask, truth).items()}
            rows.append(row | {"num_lungs": cleaned.num_lungs, "was_joined": cleaned.was_joined})
        progress(len(rows), len(pairs), f"measuring {part}")
    table = pd.DataFrame(rows)
    subjects = table["subject"].tolist()
    means = {
        stage: mean_measures(
            [{name: float(row[f"{stage}_{name}"]) for name in MEASURES} for row in rows], subjects
        )
        for stage in STAGES
    }
    return PartMeasures(part, table, means)


def write_measures(measured: dict[str, PartMeasures], run_dir: Path) -> None:
    """Write metrics.json and measures.csv."""
    table = pd.concat([part.table for part in measured.values()], ignore_index=True)
    write_text(run_dir / MEASURED, table.to_csv(index=False))
    content = {name: part.to_json() for name, part in measured.items()}
    write_text(run_dir / METRICS, json.dumps(json_value(content), indent=2) + "\n")


def draw_cases(segmenter: Segmenter, measured: PartMeasures, pairs: dict[str, MaskPair]) -> Image.Image:
    """The sheet of best, median and worst cases by Dice after cleaning, with the experts' outlines."""
    order = measured.table.sort_values(["cleaned_dice", "name"], ascending=[False, True])
    names = order["name"].tolist()
    count = min(SHOWN_EACH, -(-len(names) // 3))
    middle = max(0, (len(names) - count) // 2)
    picked = {
        "best": names[:count],
        "median": names[middle : middle + count],
        "worst": names[-count:],
    }
    dice = dict(zip(order["name"], order["cleaned_dice"], strict=True))
    far = dict(zip(order["name"], order["cleaned_hd95_px"], strict=True))
    rows = []
    for heading, chosen in picked.items():
        overlays = []
        for name in chosen:
            picture, truth = read_pair(pairs[name])
            found = segmenter.segment([picture])[0]
            overlays.append(Overlay(
                picture,
                [(truth, TRUTH), (found.mask, FOUND)],
                f"{name}\nDice {dice[name]:.3f}, HD95 {far[name]:.1f} px, {found.finding}",
            ))  # fmt: skip
        rows.append((heading, overlays))
    title = f"{measured.part}: {len(names)} images of {measured.num_subjects} subjects"
    return overlay_sheet(rows, title, legend=(("expert", TRUTH), ("segmenter", FOUND)))


def _write_pairs(pairs: PairSet, parts: dict[str, np.ndarray], path: Path) -> None:
    part_of = {int(row): part for part, rows in parts.items() for row in rows}
    table = pd.DataFrame({
        "name": [pair.name for pair in pairs.pairs],
        "subject": pairs.subjects,
        "part": [part_of[row] for row in range(len(pairs))],
        "image_sha256": [image for image, _ in pairs.hashes],
        "mask_sha256": [mask for _, mask in pairs.hashes],
    })  # fmt: skip
    with replace_file(path) as temporary:
        table.to_csv(temporary, index=False)


def _refuse(run_dir: Path, overwrite: bool) -> None:
    """Find out before the training that its result may not or cannot be written."""
    if (run_dir / DESCRIPTION).exists() and not overwrite:
        raise ClassifierError(
            f"{run_dir} already holds a segmenter: name another --outdir, or give --overwrite"
        )
    place = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        what = "a folder that may not be written" if place.is_dir() else "a file"
        raise ClassifierError(f"{run_dir}: expected a folder to save the run in, got {what} at {place}")
