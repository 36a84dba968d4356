"""`predict_files` with a model's own rule of decision, as the command and the web page use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from classifier.onnx_model import OnnxModel
from classifier.predict import Decide, Judge, Predictions, Watcher, predict_files, reject_below
from classifier.preparation import InputSettings
from extract.progress import Progress, no_progress


def load_judge(model: Path, device: str = "auto") -> Judge:
    """A run's folder as a classifier, or a file of `classifier export` (which needs no PyTorch).

    Raises:
        ClassifierError: if it is neither, or damaged.
    """
    if model.is_file():
        return OnnxModel.load(model)
    from classifier.run import load_classifier

    return load_classifier(model, device)


def predict_run(
    classifier: Judge,
    model: Path,
    inputs: Sequence[Path],
    *,
    settings: InputSettings | None = None,
    confidence: float | None = None,
    watch: Watcher | None = None,
    progress: Progress = no_progress,
) -> Predictions:
    """Judge files by a run or an exported network, and say which rule decided.

    Args:
        classifier: as `load_judge` gives it.
        model: the folder or file that it was loaded from.
        confidence: "not sure" below this probability; None = as the model's own rule says (`decision.json`),
            or, where it has none, the most probable class always.

    Raises:
        ClassifierError, ExtractError, SettingsError: as `predict_files`; or where decision.json is damaged.
    """
    decide, described = _rule(classifier, model, confidence)
    predictions = predict_files(
        classifier, inputs, settings=settings, decide=decide, watch=watch, progress=progress
    )
    return replace(
        predictions,
        settings={"model": f"{model}", "temperature": classifier.temperature, "decision": described},
    )


def _rule(classifier: Judge, model: Path, confidence: float | None) -> tuple[Decide, dict[str, Any]]:
    if confidence is not None:
        return reject_below(confidence), {
            "by": f"the most probable class, not sure below {confidence:g} (--reject-below)",
            "reject_confidence": confidence,
        }
    if isinstance(classifier, OnnxModel):
        return _exported_rule(classifier)
    from classifier.decision import read_decision

    rule = read_decision(model)
    if rule is None:
        return reject_below(0.0), {"by": "the most probable class (the run has no rule for rejecting)"}
    described: dict[str, Any] = {"reject_confidence": rule.reject_confidence}
    if rule.reject_confidence is None:
        described["by"] = "the most probable class (by the run's decision.json no image is rejected)"
    else:
        described["by"] = (
            f"the most probable class, not sure below {rule.reject_confidence:.3f} (decision.json: on "
            f"validation that decided {rule.coverage:.0%} of the images with {rule.risk:.1%} errors)"
        )
    return rule.decide, described


def _exported_rule(classifier: OnnxModel) -> tuple[Decide, dict[str, Any]]:
    confidence = (classifier.description.get("decision") or {}).get("reject_confidence")
    if confidence is None:
        return reject_below(0.0), {"by": "the most probable class (the file has no rule for rejecting)"}
    return reject_below(float(confidence)), {
        "by": f"the most probable class, not sure below {confidence:.3f} (the rule at the export)",
        "reject_confidence": confidence,
    }
