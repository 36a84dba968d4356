"""The errors that a user can cause: one sentence with what was expected, what came, where, and the remedy."""


class SynthlabelError(Exception):
    """Base of every package's own error; commands print its text and end with exit code 1."""


class ExtractError(SynthlabelError):
    """A volume, image, archive or split that cannot be used as it is."""


class SettingsError(SynthlabelError, ValueError):
    """A setting or flag outside what is allowed, found before any work; commands end with exit code 2."""
