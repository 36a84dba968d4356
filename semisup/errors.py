"""The error of this package."""

from extract.errors import SynthlabelError


class StudyError(SynthlabelError):
    """A study folder, pool or run that cannot be used as it is."""
