"""The errors that a user can cause: one sentence with what was expected, what came, where, and the remedy."""

from collections.abc import Sequence

MAX_NUM_NAMED = 5  # names listed in an error before "and N more"


class SynthlabelError(Exception):
    """Base of every package's own error; commands print its text and end with exit code 1."""


class ExtractError(SynthlabelError):
    """A volume, image, archive or split that cannot be used as it is."""


class SettingsError(SynthlabelError, ValueError):
    """A setting or flag outside what is allowed, found before any work; commands end with exit code 2."""


def name_some(names: Sequence[str]) -> str:
    """The first few of many names, for an error or a warning."""
    shown = ", ".join(names[:MAX_NUM_NAMED])
    return shown if len(names) <= MAX_NUM_NAMED else f"{shown} and {len(names) - MAX_NUM_NAMED} more"
