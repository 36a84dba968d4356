"""`predict_files` with a run's own rule of decision, as the command and the web page use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from classifier.decision import read_decision
from classifier.predict import Decide, Predictions, Watcher, predict_files, reject_below
from classifier.preparation import InputSettings
from classifier.run import Classifier
from extract.progress import Progress, no_progress


def predict_run(
    classifier: Classifier,
    run_dir: Path,
    inputs: Sequence[Path],
    *,
    settings: InputSettings | None = None,
    reject_below: float | None = None,
    watch: Watcher | None = None,
    progress: Progress = no_progress,
) -> Predictions:
    """Judge files by a run, and say which rule decided.

    Args:
        reject_below: "not sure" below this probability; None = the run's `decision.json`, or, where there is
            none, the most probable class always.

    Raises:
        ClassifierError, ExtractError, SettingsError: as `predict_files`; or where decision.json is damaged.
    """
    decide, described = _rule(run_dir, reject_below)
    predictions = predict_files(
        classifier, inputs, settings=settings, decide=decide, watch=watch, progress=progress
    )
    return replace(
        predictions,
        settings={
            "model": f"{run_dir}",
            "arch": classifier.config.arch,
            "temperature": classifier.temperature,
            "decision": described,
        },
    )


def _rule(run_dir: Path, confidence: float | None) -> tuple[Decide, dict[str, Any]]:
    if confidence is not None:
        return reject_below(confidence), {
            "by": f"the most probable class, not sure below {confidence:g} (--reject-below)",
            "reject_confidence": confidence,
        }
    rule = read_decision(run_dir)
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
