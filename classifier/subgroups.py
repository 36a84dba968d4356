"""The metrics of the images of one site, plane, sex or age, and how each group differs from the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from classifier.bootstrap import SubjectDraws, confusion_draws, metric_draws
from classifier.evaluate import classification_metrics, confusion_matrix, missing_classes
from classifier.measures import class_measures, mean_of_defined
from extract.archive import Archive
from extract.errors import SettingsError
from extract.held_out import column_values, site_of

MEASURES = ("accuracy", "balanced_accuracy", "auroc")
MAX_DEFAULT_VALUES = 12  # of a column that is taken without being asked for
MAX_VALUES = 30  # of a column that is asked for
NUM_QUANTILES = 4  # into which a column of many numbers is cut
MIN_SUBJECTS = 20  # below, a group is called small
NO_VALUE = "(none)"
COLUMNS = (
    "column", "value", "num_images", "num_subjects", "missing_classes",
    *(f"{name}{end}" for name in (*MEASURES, "difference") for end in ("", "_low", "_high")), "warning",
)  # fmt: skip
# What names an image or its class, or belongs to synthetic images alone.
NOT_GROUPS = {
    "file", "label", "subject", "sha256", "origin", "seed", "truncation_psi", "class", "snapshot_sha256",
    "affine", "position_mm", "slice_index", "second_seed", "second_styles", "walk_share", "noise_mode",
}  # fmt: skip


def group_columns(
    archive: Archive, rows: np.ndarray, by: Sequence[str] | None, table: Path | None = None
) -> dict[str, np.ndarray]:
    """(len(rows),) text by column: the group of each image.

    Args:
        by: columns of the manifest, or of `table`; None = those of the manifest with 2 to 12 different
            values here that do not merely restate subject or class. A column of more than 12 different
            numbers is cut at its quartiles; of `source` the place counts (`extract.held_out.site_of`).
        table: CSV with one row a subject that has columns which the manifest does not have.

    Raises:
        SettingsError: for a column with more than 30 values that are not numbers.
        ExtractError: if neither manifest nor table has a column.
    """
    if by is None:
        chosen = [str(column) for column in archive.manifest.columns if column not in NOT_GROUPS]
        columns = {column: _shown(_read(archive, rows, column, None)) for column in chosen}
        labels, subjects = archive.labels[rows], archive.subjects[rows]
        return {column: values for column, values in columns.items() if _is_telling(values, labels, subjects)}
    return {column: _grouped(_read(archive, rows, column, table), column) for column in dict.fromkeys(by)}


def _read(archive: Archive, rows: np.ndarray, column: str, table: Path | None) -> np.ndarray:
    is_own = table is None or column in archive.manifest.columns
    values = column_values(archive, rows, column, None if is_own else table)
    if column != "source" or not is_own:
        return values
    labels = archive.manifest["label"].to_numpy(dtype=str)[rows]
    return np.array([site_of(text, label) for text, label in zip(values, labels, strict=True)], dtype=str)


def _is_telling(values: np.ndarray, labels: np.ndarray, subjects: np.ndarray) -> bool:
    """2 to 12 values, some value with several subjects, and some class with several values."""
    _, group = np.unique(values, return_inverse=True)
    num_groups = int(group.max()) + 1
    if not 2 <= num_groups <= MAX_DEFAULT_VALUES:
        return False

    def has_several(inside: np.ndarray, other: np.ndarray) -> bool:
        pairs = np.unique(np.stack([inside, other]), axis=1)  # (2, different pairs)
        return bool((np.bincount(pairs[0]) > 1).any())

    subject = np.unique(subjects, return_inverse=True)[1]
    return has_several(group, subject) and has_several(np.maximum(labels, 0), group)


def _shown(values: np.ndarray) -> np.ndarray:
    return np.where(values == "", NO_VALUE, values).astype(str)


def _grouped(values: np.ndarray, column: str) -> np.ndarray:
    numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=np.float64)
    num_values = len(set(values.tolist()))
    are_numbers = bool((np.isfinite(numbers) == (values != "")).all())
    if num_values > MAX_DEFAULT_VALUES and are_numbers:
        return _quantile_groups(numbers)
    if num_values > MAX_VALUES:
        raise SettingsError(
            f"--by {column} has {num_values} different values here, and subgroups are made of at most "
            f"{MAX_VALUES}: name a column that groups subjects"
        )
    return _shown(values)


def _quantile_groups(numbers: np.ndarray) -> np.ndarray:
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, NUM_QUANTILES + 1)))
    place = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return np.where(np.isfinite(numbers), np.array(names)[place], NO_VALUE).astype(str)


def subgroup_table(
    probs: np.ndarray,
    labels: np.ndarray,
    subjects: np.ndarray,
    classes: Sequence[str],
    columns: Mapping[str, np.ndarray],
    draws: SubjectDraws | None,
) -> pd.DataFrame:
    """One row a group: images, subjects, metrics and difference to all other images, with 95 % intervals.

    Returns:
        `column, value, num_images, num_subjects, missing_classes`, each of `MEASURES` with `_low` and
        `_high`, `difference` (of balanced accuracy, over the classes that the group and the rest both have)
        with `_low` and `_high`, and `warning`. What is undefined is NaN. The intervals of a group and its
        difference come from the same draws of subjects.
    """
    rows = []
    for column, values in columns.items():
        for value in sorted(set(values.tolist()), key=_natural_order):
            rows.append({
                "column": column, "value": value,
                **_measure_group(probs, labels, subjects, classes, values == value, draws),
            })  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _natural_order(value: str) -> tuple[bool, float, str]:
    first = value.split(" to ")[0]
    try:
        return False, float(first), value
    except ValueError:
        return True, 0.0, value


def _measure_group(
    probs: np.ndarray,
    labels: np.ndarray,
    subjects: np.ndarray,
    classes: Sequence[str],
    is_in: np.ndarray,
    draws: SubjectDraws | None,
) -> dict[str, object]:
    num_classes = len(classes)
    measured = classification_metrics(probs[is_in], labels[is_in], num_classes)
    missing = [name for name in missing_classes(labels[is_in], classes)
               if name not in missing_classes(labels, classes)]  # fmt: skip
    number = _num_subjects(subjects, is_in)
    inside = None if draws is None else draws.of(is_in)
    drawn = {} if inside is None else metric_draws(probs[is_in], labels[is_in], num_classes, inside)
    line: dict[str, object] = {
        "num_images": int(is_in.sum()),
        "num_subjects": number,
        "missing_classes": ", ".join(missing),
    }
    for name in MEASURES:
        line[name] = measured[name]
        line[f"{name}_low"], line[f"{name}_high"] = (
            (float("nan"), float("nan")) if inside is None else inside.interval(drawn[name])
        )
    line["difference"], line["difference_low"], line["difference_high"] = _difference(
        probs.argmax(axis=1), labels, num_classes, is_in, draws
    )
    line["warning"] = _warning(line)
    return line


def _num_subjects(subjects: np.ndarray, is_in: np.ndarray) -> int:
    return len({str(name) or row for row, name in enumerate(subjects) if is_in[row]})


def _difference(
    predicted: np.ndarray, labels: np.ndarray, num_classes: int, is_in: np.ndarray, draws: SubjectDraws | None
) -> tuple[float, float, float]:
    """Balanced accuracy of the group minus that of the rest, over the classes that both have."""

    def recall(matrix: np.ndarray) -> np.ndarray:
        return np.moveaxis(class_measures(matrix)["sensitivity"], -1, 0)  # (C, ...)

    both = [confusion_matrix(predicted[side], labels[side], num_classes) for side in (is_in, ~is_in)]
    value = float(mean_of_defined(recall(both[0]) - recall(both[1])))
    if draws is None or not np.isfinite(value):
        return value, float("nan"), float("nan")
    sides = [draws.of(is_in), draws.of(~is_in)]
    drawn = [
        confusion_draws(predicted[side], labels[side], num_classes, own)
        for side, own in zip((is_in, ~is_in), sides, strict=True)
    ]
    smaller = min(sides, key=lambda own: own.num_subjects)
    return value, *smaller.interval(mean_of_defined(recall(drawn[0]) - recall(drawn[1])))


def _warning(line: Mapping[str, object]) -> str:
    parts = []
    number = int(str(line["num_subjects"]))
    if number < MIN_SUBJECTS:
        parts.append("few subjects")
    if line["missing_classes"]:
        parts.append(f"no image of {line['missing_classes']}")
    if not np.isfinite(float(str(line["difference"]))):
        parts.append("shares no class with the rest")
    return "; ".join(parts)
