"""Pseudo-label rounds and studies; `from semisup import PseudoLabelClassifier` for Python users.

Importing this package costs nothing; what it exports is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semisup.fit_data import GroupsWarning as GroupsWarning
    from semisup.pseudo_label_classifier import PseudoLabelClassifier as PseudoLabelClassifier

__all__ = ["GroupsWarning", "PseudoLabelClassifier"]


def __getattr__(name: str) -> Any:
    if name == "PseudoLabelClassifier":
        from semisup.pseudo_label_classifier import PseudoLabelClassifier

        return PseudoLabelClassifier
    if name == "GroupsWarning":
        from semisup.fit_data import GroupsWarning

        return GroupsWarning
    raise AttributeError(f"module 'semisup' has no attribute {name!r}")
