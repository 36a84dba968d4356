"""What a sheet of predictions says beside them; apart, because drawing one takes PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from extract.language import ENGLISH, Language


@dataclass(frozen=True)
class SheetText:
    """What whoever asks for a sheet knows, and the predictions do not."""

    made_at: str  # date and time
    card: Sequence[tuple[str, str]]  # the model in words: names and values, in the reader's language
    opacity: float = 0.5  # of the heat maps, in [0, 1]
    language: Language = ENGLISH


def probability_writer(language: Language) -> Callable[[float], str]:
    """How a language writes a model's probability: never 100 % or 0 %, which no model may claim."""

    def write(probability: float) -> str:
        if probability >= 0.9995:
            return f"> {language.number(99.9, 1)}\u00a0%"
        if probability < 0.0005:
            return f"< {language.number(0.1, 1)}\u00a0%"
        return f"{language.number(100 * probability, 1)}\u00a0%"

    return write
