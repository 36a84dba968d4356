"""Left and right: classes that name a side do not bear being mirrored."""

import re
from collections.abc import Sequence

from extract.errors import SettingsError, name_some

SIDES = frozenset((
    "left", "right", "l", "r", "lh", "rh", "links", "rechts", "dexter", "sinister", "od", "os", "izquierda",
    "izquierdo", "izq", "derecha", "derecho", "der",
))  # fmt: skip


def names_a_side(class_name: str) -> bool:
    """Whether a class is told from another by left and right: `left-lung`, `knee_R`, `OD`."""
    return not SIDES.isdisjoint(re.split(r"[^a-z]+", class_name.lower()))


def refuse_mirroring(setting: str, classes: Sequence[str]) -> None:
    """Refuse to mirror labeled images whose classes name a side: they would keep the wrong label.

    Args:
        setting: that asks for it, for the error.

    Raises:
        SettingsError: naming the classes.
    """
    sided = [name for name in classes if names_a_side(name)]
    if sided:
        raise SettingsError(
            f"{setting} mirrors images left-right, but classes name a side ({name_some(sided)}), and a "
            "mirrored left looks like a right; leave it off, or rename the classes where they mean no side"
        )
