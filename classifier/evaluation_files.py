"""The files that evaluations leave in a run's folder, and reading and writing of those that grow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from classifier.decision import DECISION
from classifier.errors import ClassifierError
from extract.atomic import replace_file, write_text
from extract.json_values import json_value
from extract.split import PARTS

PREDICTIONS, METRICS = "predictions.parquet", "metrics.json"
PART_FILES = (
    "evaluation-{part}.html", "curves-{part}.csv", "subgroups-{part}.csv", "subjects-{part}.csv",
    "confusion-{part}.png", "reliability-{part}.png", "curves-{part}.svg", "rejection-{part}.svg",
)  # fmt: skip


def page_path(run_dir: Path, part: str) -> Path:
    """Where the page of a part is."""
    return Path(run_dir) / PART_FILES[0].format(part=part)


def remove_evaluations(run_dir: Path) -> None:
    """Remove what was measured on a model that is replaced, its decision rule included."""
    of_parts = [name.format(part=part) for name in PART_FILES for part in PARTS]
    for name in (PREDICTIONS, METRICS, DECISION, *of_parts):
        (Path(run_dir) / name).unlink(missing_ok=True)


def read_metrics(run_dir: Path) -> dict[str, Any]:
    """What metrics.json says, by part; empty where there is none.

    Raises:
        ClassifierError: if it is no JSON object.
    """
    path = Path(run_dir) / METRICS
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}")
    except ValueError as error:
        raise ClassifierError(
            f"{path}: expected a JSON object, got something else ({error}); remove it and evaluate again"
        ) from error
    return content


def write_metrics(run_dir: Path, content: Mapping[str, Any]) -> None:
    """Replace metrics.json."""
    write_text(Path(run_dir) / METRICS, json.dumps(json_value(content), indent=2) + "\n")


def put_explanation(run_dir: Path, part: str, explanation: Mapping[str, Any]) -> None:
    """Add what explanations measured (the share of Grad-CAM mass outside a mask, for instance) to a part.

    Args:
        explanation: `text`, a sentence or two for the page; `numbers`, by what each says, a value or
            [value, low, high]; anything else is kept beside them. `page.write_evaluation_page` shows it.

    Raises:
        ClassifierError: if the part has not been evaluated.
    """
    content = read_metrics(run_dir)
    if part not in content:
        raise ClassifierError(
            f"{Path(run_dir) / METRICS} has no part {part}: run `classifier evaluate --part {part}` first"
        )
    content[part]["explanation"] = dict(explanation)
    write_metrics(run_dir, content)


def read_predictions(run_dir: Path) -> pd.DataFrame | None:
    """All predictions of the run, or None where there are none.

    Raises:
        ClassifierError: if the file cannot be read.
    """
    path = Path(run_dir) / PREDICTIONS
    if not path.exists():
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ClassifierError(
            f"{path}: expected the predictions written before, got a file that cannot be read ({error}); "
            "remove it and evaluate again"
        ) from error


def write_predictions(
    run_dir: Path,
    before: pd.DataFrame | None,
    classes: tuple[str, ...],
    files: np.ndarray,
    subjects: np.ndarray,
    labels: np.ndarray,
    part: str,
    probs: np.ndarray,
) -> None:
    """Replace the rows of `part`, and keep those of other parts in `before`; labels are (N,) numbers."""
    columns = {"file": files, "subject": subjects, "label": np.array(classes)[labels], "part": part}
    probabilities = {f"p_{name}": probs[:, number] for number, name in enumerate(classes)}
    table = pd.DataFrame({**columns, **probabilities})
    if before is not None and (before["part"] != part).any():
        table = pd.concat([before[before["part"] != part], table], ignore_index=True)
    with replace_file(Path(run_dir) / PREDICTIONS) as temporary:
        table.to_parquet(temporary, index=False)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV file whole or not at all."""
    write_text(path, table.to_csv(index=False, lineterminator="\n", float_format="%.9g"))
