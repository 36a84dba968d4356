"""The rows of a review: who decided what on which image, when, and what of it still stands."""

import csv
import io
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from extract.errors import SettingsError
from extract.review_scope import ReviewScope

KEEP, RELABEL, EXCLUDE, UNDO = "keep", "relabel", "exclude", "undo"
ACTIONS = (KEEP, RELABEL, EXCLUDE, UNDO)
MAX_AUTHOR_CHARS = 80


@dataclass(frozen=True)
class Decision:
    """What somebody wants to decide on an image."""

    image: str  # its name in the archive
    action: str  # keep, relabel or exclude
    new_label: str = ""  # of a relabeling
    reason: str = ""  # why the image was shown
    model_sha256: str = ""  # of the weights whose opinion was beside it; empty = none


@dataclass(frozen=True)
class ReviewRow:
    """One line of the file; it is never changed, only undone by a later one."""

    number: int  # from 1
    time: str  # ISO 8601, UTC
    author: str
    action: str
    image: str
    image_sha256: str
    old_label: str  # the archive's; empty = unlabeled
    new_label: str = ""
    undoes: int = 0  # number of the row that an undo takes back
    reason: str = ""
    model_sha256: str = ""


def check_author(author: str) -> str:
    """The name without spaces around it.

    Raises:
        SettingsError: if it is empty, too long, or does not begin with a letter or digit (a spreadsheet
            would take it for a formula).
    """
    author = author.strip()
    strange = [mark for mark in author if unicodedata.category(mark).startswith("C")]
    if not author[:1].isalnum() or strange or len(author) > MAX_AUTHOR_CHARS:
        raise SettingsError(
            f"author must be a name of 1 to {MAX_AUTHOR_CHARS} characters that begins with a letter or "
            f"digit, got {author!r:.100}"
        )
    return author


def standing_rows(rows: Sequence[ReviewRow]) -> tuple[ReviewRow, ...]:
    """The decisions that were not undone, oldest first; several may be of one image."""
    undone = {row.undoes for row in rows if row.action == UNDO}
    return tuple(row for row in rows if row.action != UNDO and row.number not in undone)


def current_decisions(rows: Sequence[ReviewRow]) -> dict[str, ReviewRow]:
    """What holds for each image that was decided on: the latest decision that was not undone."""
    return {row.image: row for row in standing_rows(rows)}


def check_row(row: ReviewRow, number: int, standing: Mapping[int, ReviewRow], scope: ReviewScope) -> None:
    """Check a row against the archive and the rows before it.

    Args:
        number: that it must have.
        standing: decisions before it that were not undone, by their number.

    Raises:
        ExtractError: if its image is not in the training part.
        ValueError: for whatever else does not fit.
    """
    if row.number != number:
        raise ValueError(f"expected row number {number}, got {row.number}")
    if datetime.fromisoformat(row.time).utcoffset() is None:
        raise ValueError(f"expected a time with its zone, got {row.time}")
    if check_author(row.author) != row.author:
        raise ValueError(f"expected an author without spaces around, got {row.author!r}")
    image = scope.image(row.image)
    if row.image_sha256 != image.sha256:
        raise ValueError(f"{row.image} is another picture in the archive")
    if row.old_label != image.label:
        raise ValueError(f"expected the archive's label {image.label!r}, got {row.old_label!r}")
    if row.action not in ACTIONS:
        raise ValueError(f"expected an action among {', '.join(ACTIONS)}, got {row.action!r}")
    if row.action == RELABEL:
        if row.new_label not in scope.classes or row.new_label == image.label:
            raise ValueError(
                f"expected a new label among {', '.join(scope.classes)} other than {image.label!r}, got "
                f"{row.new_label!r}"
            )
    elif row.new_label:
        raise ValueError(f"expected no new label beside {row.action}, got {row.new_label!r}")
    if row.action == UNDO:
        taken_back = standing.get(row.undoes)
        if taken_back is None or taken_back.image != row.image:
            raise ValueError(f"expected a decision on {row.image} that stands, got row {row.undoes} to undo")
    elif row.undoes:
        raise ValueError(f"expected nothing to undo beside {row.action}, got row {row.undoes}")


def row_to_json(row: ReviewRow) -> dict[str, Any]:
    """All fields but the empty ones."""
    return {name: value for name, value in asdict(row).items() if value or name == "old_label"}


def row_from_json(content: Any) -> ReviewRow:
    """A row as the file has it.

    Raises:
        ValueError: if a field is missing, unknown or of another type.
    """
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got {type(content).__name__}")
    known = {field.name: field.type for field in fields(ReviewRow)}
    for name, value in content.items():
        if name not in known:
            raise ValueError(f"unknown field {name!r:.60}")
        if type(value) is not known[name]:
            raise ValueError(f"{name} is {value!r:.60}")
    try:
        return ReviewRow(**content)
    except TypeError as error:
        raise ValueError(f"a field is missing ({error})") from error


def rows_as_csv(rows: Sequence[ReviewRow]) -> str:
    """All rows as a table; the last column says whether a decision still stands."""
    standing = {row.number for row in standing_rows(rows)}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([*(field.name for field in fields(ReviewRow)), "stands"])
    for row in rows:
        stands = "" if row.action == UNDO else "yes" if row.number in standing else "no"
        writer.writerow([*asdict(row).values(), stands])
    return table.getvalue()
