"""The JSON file that completes a run and says what its weights are."""

import json
from pathlib import Path
from typing import Any

from classifier.errors import ClassifierError

FORMAT = 1  # of a classifier run's description
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


def read_run_description(path: Path, what: str, command: str, format_number: int) -> dict[str, Any]:
    """Read it and check its format; every other check is its reader's.

    Args:
        what: "classifier" or the like, and `command`: which makes such a run; for the errors.

    Raises:
        ClassifierError: if the file is missing, damaged, or of another format.
    """
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ClassifierError(
            f"{path} does not exist: give the folder of a finished `{command}` run"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ClassifierError(
            f"{path}: expected JSON, got something else ({error}); restore or train again"
        ) from error
    if not isinstance(description, dict) or description.get("format") != format_number:
        found = description.get("format") if isinstance(description, dict) else type(description).__name__
        raise ClassifierError(
            f"{path}: expected a {what} of format {format_number}, got {found}; update synthlabel"
        )
    return description
