"""The sheet that an expert fills in: `code, label, unsure, comment`, in whichever form it comes back."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from extract.atomic import replace_file
from extract.csv_table import read_csv_table
from extract.errors import ExtractError, SettingsError, name_some
from semisup.audit_statistics import NONE_OF_THESE, Answer, AuditSample
from semisup.errors import StudyError

try:
    import fcntl
except ImportError:  # no POSIX system: two windows on one sheet are not kept apart
    fcntl = None  # type: ignore[assignment]

COLUMNS = ("code", "label", "unsure", "comment")
YES = frozenset({"x", "y", "yes", "1", "true", "unsure", "s", "si", "sí", "verdadero"})
NO = frozenset({"", "n", "no", "0", "false", "falso"})
NONE_WORDS = ("none", "ninguna")


def label_words(classes: Sequence[str]) -> dict[str, int]:
    """What may stand in the column `label`, in small letters: classes, their numbers from 1, and "none"."""
    words = dict.fromkeys((*NONE_WORDS, none_word(classes)), NONE_OF_THESE)
    if has_numbers(classes):
        words |= {str(number + 1): number for number in range(len(classes))}
    return words | {name.casefold(): number for number, name in enumerate(classes)}  # a name comes first


def has_numbers(classes: Sequence[str]) -> bool:
    """Whether classes may be named by their number: not where numbers are their names."""
    return not any(name.strip().lstrip("-").isdigit() for name in classes)


def none_word(classes: Sequence[str]) -> str:
    """The word for "no class fits": one that is no class itself."""
    taken = {name.casefold() for name in classes}
    return next(word for word in (*NONE_WORDS, "-") if word not in taken)


def sheet_text(answers: dict[str, tuple[str, str, str]], separator: str = ",") -> str:
    """A sheet as text, in the order of the codes."""
    table = io.StringIO()
    writer = csv.writer(table, delimiter=separator, lineterminator="\r\n")  # as spreadsheets write it
    writer.writerow(COLUMNS)
    writer.writerows([code, *cells] for code, cells in sorted(answers.items()))
    return table.getvalue()


def read_answers(path: Path, sample: AuditSample) -> dict[str, Answer]:
    """Read a sheet that was filled in, wholly or in part; rows without an answer are left out.

    Raises:
        StudyError: naming each row that cannot be understood; also if there is no answer at all.
    """
    answers = read_begun(path, sample)
    if not answers:
        raise StudyError(f"{path}: expected at least one row with a label or a mark under unsure, got none")
    return answers


def read_begun(path: Path, sample: AuditSample) -> dict[str, Answer]:
    """The same of a sheet in which nothing needs to have been answered yet.

    Raises:
        StudyError: naming each row that cannot be understood.
    """
    rows = _read_rows(path)
    known = set(sample.pictures)
    words = label_words(sample.classes)
    answers: dict[str, Answer] = {}
    seen: set[str] = set()
    problems = []
    for line, code, label, unsure, comment in rows:
        if not any((code, label, unsure, comment)):
            continue
        if code not in known:
            problems.append(f"line {line}: unknown code {code!r}" if code else f"line {line}: no code")
        elif code in seen:
            problems.append(f"line {line}: {code} a second time")
        elif label and label.casefold() not in words:
            problems.append(f"line {line}: {label!r} is no class")
        elif unsure.casefold() not in YES | NO:
            problems.append(f"line {line}: {unsure!r} under unsure is neither yes nor empty")
        elif label or unsure.casefold() in YES:
            number = words[label.casefold()] if label else None
            answers[code] = Answer(number, unsure.casefold() in YES, comment)
        seen.add(code)
    if problems:
        raise StudyError(
            f"{path}: expected codes of the export and classes ({', '.join(sample.classes)}, "
            f"{none_word(sample.classes)}), got {name_some(problems)}; correct these rows"
        )
    return answers


def sheet_codes(path: Path) -> list[str]:
    """The codes of a sheet, whoever they belong to."""
    return [code for _, code, *_ in _read_rows(path) if code]


def num_filled(path: Path) -> int:
    """How many rows of a sheet somebody has written into; a sheet that cannot be read counts as filled."""
    try:
        return sum(any(cells) for _, _, *cells in _read_rows(path))
    except StudyError:
        return 1


def record_answer(
    path: Path, sample: AuditSample, code: str, label: str, *, unsure: bool = False, comment: str = ""
) -> None:
    """Write one answer into a sheet, whole or not at all; an earlier one of the same code is replaced.

    Several may write at once, each answer is kept.

    Args:
        label: a class name, "none", or empty (with `unsure`, or to take an answer back).

    Raises:
        SettingsError: for a code or class that the export does not have.
    """
    words = label_words(sample.classes)
    if code not in set(sample.pictures):
        raise SettingsError(f"code: expected one of the export's, got {code!r}")
    if label and label.casefold() not in words:
        raise SettingsError(f"label: expected one of {', '.join(sample.classes)}, none, got {label!r}")
    number = words[label.casefold()] if label else None
    word = "" if number is None else none_word(sample.classes) if number < 0 else sample.classes[number]
    with _alone_in(path.parent):
        answers = dict.fromkeys(sample.pictures, ("", "", ""))
        separator = ","
        if path.exists():
            answers |= {code: cells for _, code, *cells in _read_rows(path)}  # type: ignore[misc]
            separator = _separator_of(path)
        answers[code] = (word, "x" if unsure else "", " ".join(comment.split()))
        write_sheet(path, sheet_text(answers, separator))


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep others from writing into a sheet of this folder between reading and writing it."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _separator_of(path: Path) -> str:
    """Semicolons stay, for the spreadsheet that the sheet was made for."""
    header = path.read_bytes()[:200].partition(b"\n")[0]
    return ";" if b";" in header else ","


def write_sheet(path: Path, text: str) -> None:
    """Write a sheet with the mark by which spreadsheets know UTF-8."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8-sig", newline="")


def _read_rows(path: Path) -> list[tuple[int, str, str, str, str]]:
    """(line, code, label, unsure, comment) of every row, as they stand there."""
    try:
        frame = read_csv_table(path).frame
    except ExtractError as error:
        raise StudyError(str(error)) from error
    columns = {str(name).casefold(): name for name in frame.columns}
    missing = [name for name in ("code", "label") if name not in columns]
    if missing:
        raise StudyError(
            f"{path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(map(str, frame.columns))}; "
            "send the sheet with its first line as it was"
        )
    cells = [frame[columns[name]].tolist() if name in columns else [""] * len(frame) for name in COLUMNS]
    return [
        (int(line), code.upper(), label, unsure, comment)
        for line, code, label, unsure, comment in zip(frame.index, *cells, strict=True)
    ]
