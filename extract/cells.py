"""Values as cells of a manifest: text, numbers, rows of numbers; empty = not known."""

import types
import unicodedata
from typing import Any, Union, get_args, get_origin

import numpy as np


def to_cell(value: object) -> str:
    """A value as it stands in `manifest.csv`; read with `from_cell` and written again, it stays as it is.

    Single numbers keep six digits; of several (an affine) each keeps nine, with spaces between. What a text
    file cannot hold (a line break or undecodable bytes in a file's name) becomes a backslash escape.
    """
    match value:
        case None:
            return ""
        case str():
            return value if not has_controls(value) else "".join(map(_escape, value))
        case bool() | np.bool_():
            return str(int(value))
        case tuple() | list() | np.ndarray():
            return " ".join(f"{float(number):.9g}" for number in np.ravel(np.asarray(value)))
        case int() | np.integer():
            return str(int(value))
    return f"{float(value):.6g}"  # type: ignore[arg-type]


def from_cell(text: str, kind: Any) -> Any:
    """The value that a cell stands for.

    Args:
        kind: str, int, float, bool, a tuple of numbers, or one of these with None.

    Raises:
        ValueError: if the text is no such value.
    """
    plain, is_optional = _without_none(kind)
    if plain is str:
        return text
    if not text:
        if is_optional:
            return None
        return () if get_origin(plain) is tuple else plain()
    if get_origin(plain) is tuple:
        number = get_args(plain)[0]
        return tuple(number(part) for part in text.split())
    return bool(int(text)) if plain is bool else plain(text)


def has_controls(text: str) -> bool:
    """Whether there are control characters or undecodable bytes in a text."""
    return not text.isprintable() and any(_is_control(character) for character in text)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii") if _is_control(character) else character


def _without_none(kind: Any) -> tuple[Any, bool]:
    if get_origin(kind) not in (Union, types.UnionType):
        return kind, False
    members = [member for member in get_args(kind) if member is not type(None)]
    return members[0], len(members) < len(get_args(kind))
