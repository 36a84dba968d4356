"""What a model says of itself, in words: the card that stands beside its predictions.

Everything is read from the run's own files (`model.json`, `decision.json`, `metrics.json`) or from an
exported file; nothing is measured, and no PyTorch is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifier.decision import DecisionRule, read_decision
from classifier.description import DESCRIPTION, FORMAT, read_run_description
from classifier.evaluation_files import read_metrics
from classifier.onnx_model import OnnxModel
from extract.errors import SynthlabelError
from extract.language import Message
from extract.preprocessing import PreprocessConfig

PARTS = ("test", "val")
MEASURES = (
    ("balanced_accuracy", Message("balanced accuracy")),
    ("auroc", Message("AUROC")),
    ("ece", Message("calibration error (ECE)")),
)
MADE_FROM = {"volumes": Message("slices of volumes"), "images": Message("pictures")}


@dataclass(frozen=True)
class Measured:
    """One figure of the card."""

    name: Message
    value: float
    interval: tuple[float, float] | None  # 95 %


@dataclass(frozen=True)
class MeasuredPart:
    """How good the model was on one part of its data."""

    part: str  # "test" or "val"
    num_images: int
    num_subjects: int
    figures: tuple[Measured, ...]


@dataclass(frozen=True)
class ModelCard:
    """What a model is, what it learned from, how good it was."""

    name: str
    arch: str
    classes: tuple[str, ...]
    made_from: Message | None  # None = not recorded
    input_size: tuple[int, int, int]  # channels, height, width, as archives hold images
    steps: str  # of the preprocessing, in words
    temperature: float
    num_train_subjects: int | None  # None = not recorded
    num_val_subjects: int | None
    archive_sha256: str
    split_sha256: str
    fold: int | None
    fraction: float | None
    rule: DecisionRule | None
    parts: tuple[MeasuredPart, ...]
    is_exported: bool  # an ONNX file: no gradients, no subjects

    @property
    def has_test(self) -> bool:
        """Whether the test part was ever opened: validation alone flatters."""
        return any(part.part == "test" for part in self.parts)


def model_card(model: Path) -> ModelCard:
    """The card of a run's folder, or of an exported network.

    Raises:
        ClassifierError: if it is neither, or damaged.
    """
    model = Path(model)
    if model.is_file():
        exported = OnnxModel.load(model)
        return _card(model.stem, exported.description, None, (), is_exported=True)
    description = read_run_description(model / DESCRIPTION, "classifier", "classifier train", FORMAT)
    return _card(model.absolute().name, description, read_decision(model), _measured(model))


def _card(
    name: str,
    description: Mapping[str, Any],
    rule: DecisionRule | None,
    parts: tuple[MeasuredPart, ...],
    *,
    is_exported: bool = False,
) -> ModelCard:
    steps = description["preprocessing"]
    subjects = description.get("subjects") or {}
    preparation = description.get("preparation") or {}
    fraction = description.get("fraction")
    return ModelCard(
        name=name,
        arch=str(description.get("arch", "")),
        classes=tuple(map(str, description["classes"])),
        made_from=MADE_FROM.get(str(preparation.get("kind"))),
        input_size=(int(steps["channels"]), int(steps["height"]), int(steps["width"])),
        steps=_steps_in_words(steps.get("steps") or {}),
        temperature=float(description["temperature"]),
        num_train_subjects=len(subjects["train"]) if "train" in subjects else None,
        num_val_subjects=len(subjects["val"]) if "val" in subjects else None,
        archive_sha256=str(description.get("archive_sha256") or ""),
        split_sha256=str(description.get("split_sha256") or ""),
        fold=description.get("fold"),
        fraction=None if fraction is None else float(fraction),
        rule=rule,
        parts=parts,
        is_exported=is_exported,
    )


def _steps_in_words(steps: Mapping[str, Any]) -> str:
    known = {name: value for name, value in steps.items() if name != "version"}
    try:
        return PreprocessConfig(**known).describe()
    except (TypeError, SynthlabelError):
        return json.dumps(known)


def _measured(run_dir: Path) -> tuple[MeasuredPart, ...]:
    try:
        report = read_metrics(run_dir)
    except SynthlabelError:
        return ()  # a card is shown all the same
    return tuple(_part(name, report[name]) for name in PARTS if "metrics" in report.get(name, {}))


def _part(name: str, report: Mapping[str, Any]) -> MeasuredPart:
    intervals = report.get("intervals_95") or {}
    figures = []
    for key, title in MEASURES:
        value = report["metrics"].get(key)
        if value is None:
            continue
        interval = intervals.get(key)
        figures.append(
            Measured(title, float(value), None if not interval else (float(interval[0]), float(interval[1])))
        )
    return MeasuredPart(
        name, int(report.get("num_images", 0)), int(report.get("num_subjects", 0)), tuple(figures)
    )
