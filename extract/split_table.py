"""A split as a table that can be read without knowing the file: who is in which part, by class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from extract.archive import Archive
from extract.fold import Split


@dataclass(frozen=True)
class PartLine:
    """One part of a fold."""

    fold: int
    part: str  # in words, such as "labeled at 20 %"
    is_share: bool  # whether it lies within the part above
    num_subjects: int
    num_images: int
    per_class: tuple[int, ...]  # images


def tabulate_split(split: Split, archive: Archive) -> tuple[PartLine, ...]:
    """Subjects and images of each part of each fold, by class."""
    lines = []
    for number in range(len(split.folds)):
        test_name = "test"
        if split.held_out is not None:
            test_name = f"test ({split.held_out.column}={split.held_out.values[number]})"
        lines += [
            _line(split, archive, number, test_name, "test", 1.0),
            _line(split, archive, number, "training", "train", 1.0),
        ]
        smaller = [fraction for fraction in split.fractions if fraction < 1]
        lines += [
            _line(split, archive, number, f"labeled at {100 * f:g} %", "train", f, True) for f in smaller
        ]
        lines.append(_line(split, archive, number, "validation", "val", 1.0))
        lines += [_line(split, archive, number, f"used at {100 * f:g} %", "val", f, True) for f in smaller]
    return tuple(lines)


def table_text(lines: Sequence[PartLine], classes: Sequence[str]) -> str:
    """The table in columns of text, folds apart."""
    width = max(len("  " * line.is_share + line.part) for line in lines) + 2
    heads = ["subjects", "images", *classes]
    widths = [max(len(head), 8) for head in heads]
    text = []
    for number in sorted({line.fold for line in lines}):
        title = f"fold {number}"
        text.append(
            f"{title:<{width}}  " + "  ".join(f"{h:>{w}}" for h, w in zip(heads, widths, strict=True))
        )
        for line in lines:
            if line.fold == number:
                name = "  " + "  " * line.is_share + line.part
                values = [line.num_subjects, line.num_images, *line.per_class]
                row = "  ".join(f"{value:>{w},}" for value, w in zip(values, widths, strict=True))
                text.append(f"{name:<{width}}  {row}")
    return "\n".join(text)


def _line(
    split: Split, archive: Archive, fold: int, name: str, part: str, fraction: float, is_share: bool = False
) -> PartLine:
    rows = split.rows(archive, fold, part, fraction)
    labels = archive.labels[rows]
    counts = np.bincount(labels[labels >= 0], minlength=len(archive.classes))
    num_subjects = len(split.subjects(fold, part, fraction))
    return PartLine(fold, name, is_share, num_subjects, len(rows), tuple(map(int, counts)))
