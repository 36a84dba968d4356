"""Values as JSON knows them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extract.errors import ExtractError


def json_value(value: Any) -> Any:
    """Plain nested dicts, lists and scalars: null for NaN and infinities, which valid JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if hasattr(value, "item"):  # numpy scalars
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def parse_json(text: str, file: str, entry: str = "") -> Any:
    """Read JSON that somebody else wrote.

    Args:
        file, entry: where it stands, for the error.

    Raises:
        ExtractError: if it is none, or is nested or numbered beyond all use.
    """
    expected = f"{file}: expected JSON{f' in {entry}' if entry else ''}"
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ExtractError(f"{expected}, got brackets nested too deeply to be read") from error
    except ValueError as error:  # no JSON; or a number of more digits than Python converts
        raise ExtractError(f"{expected}, got {error}") from error
