"""What can be wrong with a classifier's data or files."""

from extract.errors import SynthlabelError


class ClassifierError(SynthlabelError):
    """Images, labels or a classifier run that cannot be used as they are."""
