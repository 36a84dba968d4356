"""The file of a review, beside its archive: one line a decision, appended and never changed.

`NAME.foldK.review.jsonl` begins with a line that names the archive, the split and the fold by their hashes;
each further line is a `ReviewRow`. Writers take turns by a lock on the file. A line that a killed process has
begun and not ended does not count; the next writer replaces it. Whatever else does not fit is refused with
its line, and the file is left as it is.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from extract.atomic import create_file
from extract.errors import ExtractError
from extract.review_rows import (
    UNDO,
    Decision,
    ReviewRow,
    check_author,
    check_row,
    row_from_json,
    row_to_json,
    standing_rows,
)
from extract.review_scope import ReviewScope

try:
    import fcntl
except ImportError:  # no POSIX system: two writers at the same moment are not kept apart
    fcntl = None  # type: ignore[assignment]

FORMAT = "synthlabel-review-1"
HEADER_HASHES = (("archive_sha256", "archive"), ("split_sha256", "split"))
MAX_BYTES = 2**28  # a row is some hundred bytes


@dataclass(frozen=True)
class ReviewLog:
    """The file's content."""

    path: Path
    rows: tuple[ReviewRow, ...] = ()
    sha256: str = ""  # of the file's bytes; empty = there is none yet
    cut_line: int = 0  # the last line, where it was begun and not ended; 0 = all are whole


def log_path(archive: Path, fold: int) -> Path:
    """Where the review of a fold lies."""
    return archive.with_name(f"{archive.stem}.fold{fold}.review.jsonl")


def read_log(path: Path, scope: ReviewScope) -> ReviewLog:
    """All rows, checked against the archive and against each other; none where there is no file.

    Raises:
        ExtractError: if the file is of another archive, split or fold, or a line of it does not fit.
    """
    try:
        with open(path, "rb") as handle, _locked(handle, is_writer=False):
            return _parse(path, handle.read(MAX_BYTES), scope)[0]
    except FileNotFoundError:
        return ReviewLog(path)
    except OSError as error:
        raise ExtractError(
            f"{path.name}: expected a file of decisions that can be read, got: {error.strerror or error}"
        ) from error


def record_decision(
    path: Path, scope: ReviewScope, decision: Decision, author: str, now: datetime | None = None
) -> ReviewLog:
    """Append a decision; the file is made with the first one.

    Args:
        now: time to record; None = the clock's.

    Returns:
        The log with it, and with what others have written meanwhile.

    Raises:
        SettingsError: if the author is no name.
        ExtractError: if the image is not in the training part, the decision does not fit, the file has a
            fault, or it cannot be written; the file is as it was then.
    """
    author, image = check_author(author), scope.image(decision.image)

    def make(rows: tuple[ReviewRow, ...]) -> ReviewRow:
        return ReviewRow(
            number=len(rows) + 1,
            time=_said(now),
            author=author,
            action=decision.action,
            image=decision.image,
            image_sha256=image.sha256,
            old_label=image.label,
            new_label=decision.new_label,
            reason=decision.reason,
            model_sha256=decision.model_sha256,
        )

    return _append(path, scope, make)


def undo_decision(
    path: Path, scope: ReviewScope, number: int, author: str, now: datetime | None = None
) -> ReviewLog:
    """Append a row that takes a decision back; the one before it on the same image stands again.

    Raises:
        SettingsError, ExtractError: as `record_decision`; also if the decision was undone already.
    """
    author = check_author(author)

    def make(rows: tuple[ReviewRow, ...]) -> ReviewRow:
        found = [row for row in standing_rows(rows) if row.number == number]
        if not found:
            raise ExtractError(
                f"{path.name}: expected a decision that stands, got row {number}; it was undone before"
            )
        old = found[0]
        return ReviewRow(
            len(rows) + 1, _said(now), author, UNDO, old.image, old.image_sha256, old.old_label, undoes=number
        )

    return _append(path, scope, make)


def _said(now: datetime | None) -> str:
    return (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")


def _append(path: Path, scope: ReviewScope, make: Callable[[tuple[ReviewRow, ...]], ReviewRow]) -> ReviewLog:
    try:
        create_file(path, _line(_header(scope)))
        with open(path, "r+b", buffering=0) as handle, _locked(handle, is_writer=True):
            data = handle.read()
            log, end = _parse(path, data, scope)
            row = make(log.rows)
            standing = {other.number: other for other in standing_rows(log.rows)}
            try:
                check_row(row, len(log.rows) + 1, standing, scope)
            except ValueError as error:
                raise ExtractError(f"{path.name}: this cannot be decided: {error}") from error
            whole = data[:end] + (b"" if data[:end].endswith(b"\n") else b"\n")
            added = whole[end:] + _line(row_to_json(row)).encode()
            _write_at(handle, end, added)
    except OSError as error:
        raise ExtractError(
            f"{path.name}: the decision could not be written beside the archive: {error.strerror or error}; "
            "make the folder writable, or copy the archive and its split to one that is"
        ) from error
    return ReviewLog(path, (*log.rows, row), hashlib.sha256(data[:end] + added).hexdigest())


def _write_at(handle: IO[bytes], end: int, added: bytes) -> None:
    """Put a line behind the whole ones; all of it, or none where that fails."""
    os.ftruncate(handle.fileno(), end)  # what a killed process has begun
    handle.seek(end)
    try:
        if handle.write(added) != len(added):
            raise OSError(0, "the disk is full")
        os.fsync(handle.fileno())
    except BaseException:
        os.ftruncate(handle.fileno(), end)
        raise


def _header(scope: ReviewScope) -> dict[str, object]:
    return {
        "format": FORMAT,
        "archive": scope.archive_name,
        "archive_sha256": scope.archive_sha256,
        "split_sha256": scope.split_sha256,
        "fold": scope.fold,
    }


def _line(content: dict[str, object]) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"


def _parse(path: Path, data: bytes, scope: ReviewScope) -> tuple[ReviewLog, int]:
    """The log, and how many of the bytes are whole lines."""
    lines = data.splitlines(keepends=True)
    if not lines:
        raise ExtractError(
            f"{path.name}: expected a file of decisions, got an empty one; move it away to begin anew"
        )
    _check_header(path, lines[0], scope)
    rows: list[ReviewRow] = []
    standing: dict[int, ReviewRow] = {}
    end = len(lines[0])
    for number, line in enumerate(lines[1:], start=2):
        if number == len(lines) and _is_cut(line):
            return ReviewLog(path, tuple(rows), hashlib.sha256(data[:end]).hexdigest(), number), end
        try:
            row = row_from_json(json.loads(line))
            check_row(row, len(rows) + 1, standing, scope)
        except (ExtractError, ValueError, RecursionError) as error:
            raise ExtractError(
                f"{path.name}: line {number} is not as it was written: {error}; restore it, or move the file "
                "away to begin anew (it is left as it is)"
            ) from error
        rows.append(row)
        if row.action == UNDO:
            del standing[row.undoes]
        else:
            standing[row.number] = row
        end += len(line)
    return ReviewLog(path, tuple(rows), hashlib.sha256(data).hexdigest()), end


def _is_cut(line: bytes) -> bool:
    """Whether a line is the beginning of a row that was not ended; a row has no braces inside its own."""
    return not line.endswith(b"\n") and not line.rstrip().endswith(b"}")


def _check_header(path: Path, line: bytes, scope: ReviewScope) -> None:
    try:
        content = json.loads(line)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r:.60}")
        found = {name: str(content[name]) for name, _ in HEADER_HASHES}
        fold = int(content["fold"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ExtractError(
            f"{path.name}: expected decisions of a review ({FORMAT}) in line 1, got something else "
            f"({error}); move the file away to begin anew (it is left as it is)"
        ) from error
    for name, what in HEADER_HASHES:
        if found[name] != getattr(scope, name):
            raise ExtractError(
                f"{path.name}: expected decisions on this {what} (SHA-256 {getattr(scope, name)[:12]}...), "
                f"got those on another one ({found[name][:12]}...); move the file away to begin "
                "anew (it is left as it is)"
            )
    if fold != scope.fold:
        raise ExtractError(
            f"{path.name}: expected decisions on fold {scope.fold}, got those on fold {fold}; what is "
            "trained with in one fold is tested with in another"
        )


@contextmanager
def _locked(handle: IO[bytes], *, is_writer: bool) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    fcntl.flock(handle, fcntl.LOCK_EX if is_writer else fcntl.LOCK_SH)
    yield  # closing the file lets go
