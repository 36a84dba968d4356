"""`decision.json`: how a run's probabilities become decisions, chosen on validation and then left alone.

A run's folder holds it beside `model.json`. It names the thresholds from which an image counts as a class,
and the confidence below which an image is rejected, that is left to a person. Whoever uses the run
(evaluation of the test part, `predict`, the app) reads these numbers here and chooses none of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classifier.description import WEIGHTS
from classifier.errors import ClassifierError
from extract.atomic import write_text
from extract.file_hash import remembered_sha256
from extract.json_values import json_value

DECISION = "decision.json"
FORMAT = 1
KINDS = ("youden", "precision_recall")  # what a threshold was chosen for, see classifier/thresholds.py
REJECTED = -1


@dataclass(frozen=True)
class DecisionRule:
    """Thresholds and rejection of one run; every probability here is calibrated (temperature applied).

    With two classes there is one threshold of each kind, for the class `positive`. With more, each class has
    one of its own against all others; a class without a validation image has none.
    """

    classes: tuple[str, ...]
    thresholds: Mapping[str, Mapping[str, float]]  # kind -> class name -> probability from which it counts
    positive: str | None  # of two classes, the one that is looked for; None with more
    reject_confidence: float | None  # reject images whose largest probability is below; None = reject none
    wanted: str  # what the rejection was chosen for: "risk" or "coverage"
    target: float  # the risk or coverage that was wanted, in [0, 1]
    risk: float  # on validation: share of errors among the images that are not rejected
    coverage: float  # on validation: share of images that are not rejected
    num_images: int  # of the validation part that all of this was chosen on
    num_subjects: int
    temperature: float = 1.0  # of the run; other temperatures give other probabilities
    model_sha256: str = ""  # of model.safetensors
    note: str = ""  # a sentence where what was wanted could not be had
    operating_points: tuple[tuple[float, float | None], ...] = ()  # coverage on validation, its confidence

    def accepts(self, probs: np.ndarray) -> np.ndarray:
        """(N,) bool: which rows of the (N, C) calibrated probabilities are sure enough to be decided."""
        if self.reject_confidence is None:
            return np.ones(len(probs), dtype=bool)
        return np.asarray(probs).max(axis=1) >= self.reject_confidence

    def reaches(self, probs: np.ndarray, kind: str) -> dict[str, np.ndarray]:
        """(N,) bool by class name: where the class's probability reaches its threshold of this kind."""
        return {
            name: np.asarray(probs)[:, self.classes.index(name)] >= threshold
            for name, threshold in self.thresholds.get(kind, {}).items()
        }

    def decide(self, probs: np.ndarray, kind: str | None = None) -> np.ndarray:
        """(N,) int: the number of the class decided for, or `REJECTED` (-1).

        Args:
            probs: (N, C) calibrated probabilities.
            kind: None = the most probable class. With two classes also a kind of threshold: the positive
                class where its probability reaches it, otherwise the other one.

        Raises:
            ValueError: for a kind that the rule does not have, or with more than two classes.
        """
        probs = np.asarray(probs)
        decided = probs.argmax(axis=1)
        if kind is not None:
            if self.positive is None or self.positive not in self.thresholds.get(kind, {}):
                raise ValueError(
                    f"kind must be a threshold of a run with two classes, got {kind!r} of {len(self.classes)}"
                )
            number = self.classes.index(self.positive)
            decided = np.where(self.reaches(probs, kind)[self.positive], number, 1 - number)
        return np.where(self.accepts(probs), decided, REJECTED)


def read_decision(run_dir: Path) -> DecisionRule | None:
    """The decision rule of a run; None where none was chosen yet.

    Raises:
        ClassifierError: if the file is damaged, or was chosen for other weights than those beside it.
    """
    path = Path(run_dir) / DECISION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rule = _from_json(content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClassifierError(
            f"{path}: expected the decision rule of a run, got a fault at {error}; remove it and run "
            "`classifier evaluate --part val`"
        ) from error
    weights = Path(run_dir) / WEIGHTS
    if weights.exists() and rule.model_sha256 != remembered_sha256(weights):
        raise ClassifierError(
            f"{path}: expected thresholds of the model beside it, got those of other weights; remove it and "
            "run `classifier evaluate --part val`"
        )
    return rule


def write_decision(rule: DecisionRule, run_dir: Path) -> None:
    """Write the rule beside `model.json`, atomically."""
    content = {"format": FORMAT, **asdict(rule)}
    write_text(Path(run_dir) / DECISION, json.dumps(json_value(content), indent=2) + "\n")


def _from_json(content: dict[str, Any]) -> DecisionRule:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r}, expected {FORMAT}: update synthlabel")
    classes = tuple(map(str, content["classes"]))
    thresholds = {
        str(kind): {str(name): float(value) for name, value in by_class.items()}
        for kind, by_class in content["thresholds"].items()
    }
    strange = {name for by_class in thresholds.values() for name in by_class} - set(classes)
    positive, confidence = content["positive"], content["reject_confidence"]
    if strange or (positive is not None and positive not in classes):
        raise ValueError(f"a threshold for {strange or positive}, which is no class")
    return DecisionRule(
        classes=classes,
        thresholds=thresholds,
        positive=positive,
        reject_confidence=None if confidence is None else float(confidence),
        wanted=str(content["wanted"]),
        target=float(content["target"]),
        risk=_number(content["risk"]),
        coverage=_number(content["coverage"]),
        num_images=int(content["num_images"]),
        num_subjects=int(content["num_subjects"]),
        temperature=float(content["temperature"]),
        model_sha256=str(content["model_sha256"]),
        note=str(content["note"]),
        operating_points=tuple(
            (float(coverage), None if value is None else float(value))
            for coverage, value in content["operating_points"]
        ),
    )


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
