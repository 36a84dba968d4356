"""What a sheet of predictions says beside them; apart, because drawing one takes PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from extract.language import ENGLISH, Language


@dataclass(frozen=True)
class SheetText:
    """What whoever asks for a sheet knows, and the predictions do not."""

    made_at: str  # date and time
    card: Sequence[tuple[str, str]]  # the model in words: names and values, in the reader's language
    opacity: float = 0.5  # of the heat maps, in [0, 1]
    language: Language = ENGLISH
