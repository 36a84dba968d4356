"""Names of classes and subjects as names of files and folders, on any system, and back again.

Letters, digits and a few marks stay; everything else is written as percent signs and two digits a byte, as in
web addresses. A tilde and a hash follow where a name is too long, or where two differ in nothing that all
systems tell apart (`Tumor` and `tumor`, or an accent that is stored in two ways).
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from urllib.parse import unquote

KEPT_MARKS = " -_.+()=,@"
MAX_BYTES = 100
HASH_DIGITS = 10
# Devices of Windows, with any suffix.
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{digit}" for port in ("COM", "LPT") for digit in range(10))}


def file_names(names: Sequence[str], max_bytes: int = MAX_BYTES) -> dict[str, str]:
    """A file name for each of these names that no system takes for another's, whatever their order.

    Args:
        names: different from each other, not empty.
        max_bytes: length of a file name at most, beside its hash.
    """
    encoded = {name: encode_name(name) for name in names}
    seen_by_all = Counter(_unify(text) for text in encoded.values())
    chosen = {}
    for name, text in encoded.items():
        if len(text.encode()) > max_bytes or seen_by_all[_unify(text)] > 1:
            text = f"{_cut(text, max_bytes)}~{hashlib.sha256(name.encode()).hexdigest()[:HASH_DIGITS]}"
        chosen[name] = text
    return chosen


def encode_name(name: str) -> str:
    """A name as one harmless path component; `decode_name` takes it back."""
    text = "".join(
        character if character.isalnum() or character in KEPT_MARKS else _percent(character)
        for character in name
    )
    if text[:1] in (".", " ") or text.split(".")[0].strip().upper() in RESERVED:
        text = _percent(text[0]) + text[1:]
    if text[-1:] in (".", " "):
        text = text[:-1] + _percent(text[-1])
    return text


def decode_name(text: str) -> str | None:
    """The name that `encode_name` has written so; None where it would not write it so."""
    try:
        name = unquote(unicodedata.normalize("NFC", text), errors="strict")
        return name if name and unicodedata.normalize("NFC", encode_name(name)) == _normal(text) else None
    except UnicodeError:
        return None


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _unify(text: str) -> str:
    return _normal(_normal(text).casefold())


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _cut(text: str, max_bytes: int) -> str:
    return text.encode()[:max_bytes].decode(errors="ignore")
