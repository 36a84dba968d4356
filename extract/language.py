"""The language of a page: its texts, and how it writes numbers.

The English texts stand where they are used and are their own keys; every other language has a catalogue, a
YAML file that gives each of them once. A text with values names them in braces, `"{arm} at {fraction}"`, so
that a language may put them in its own order; it is never put together from pieces. Nothing here is global:
whoever writes a page is handed a `Language`.

Python:     language.text("{arm} is worse than {other}", arm=arm, other=other)
            language.plural("{number} seed", "{number} seeds", num_seeds)
            Message("labels alone")              a text that is kept now and translated where it is shown
Templates:  {% trans name=arm %}Rounds of {{ name }}{% endtrans %}, _("true class"), {{ arm.text|translated }}
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extract.errors import SettingsError

LANGUAGES = ("en", "es")
Text = str | tuple[str, str]  # a text, or its forms for one and for many

_DASH = "–"  # in place of a number that there is none of
_THIN_SPACE = "\u202f"  # that lines do not break at


class Message(str):
    """An English text that remembers what it was made of, so that it can be said in another language later.

    It is for records that are made before anybody asks for a page, and for texts that are data.
    """

    english: str
    values: dict[str, Any]

    def __new__(cls, english: str, /, **values: Any) -> "Message":
        message = super().__new__(cls, ENGLISH.fill(english, values))
        message.english, message.values = english, values
        return message

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:  # type: ignore[override]
        return (self.english,), self.values  # for copies


class Percent(float):
    """A share in [0, 1] among the values of a text; it is written as a percentage."""


class Points(float):
    """A difference of shares among the values of a text; it is written in points, with its sign."""


class Number(float):
    """A number among the values of a text; it is written with so many decimals."""

    digits: int

    def __new__(cls, value: float, digits: int) -> "Number":
        number = super().__new__(cls, value)
        number.digits = digits
        return number

    def __getnewargs__(self) -> tuple[float, int]:  # type: ignore[override]
        return float(self), self.digits  # for copies


@dataclass(frozen=True)
class Language:
    """The texts of one language, and how it writes numbers."""

    name: str  # as in the `lang` attribute of a page
    decimal: str = "."
    thousands: str = ","
    separator: str = ","  # between the ends of an interval
    min_grouped: int = 1000  # the smallest number whose thousands are set apart
    texts: Mapping[Text, Text] = field(default_factory=dict, repr=False)

    def text(self, english: str, /, **values: Any) -> str:
        """A text in this language, with its values put in; in English where the catalogue lacks it.

        Args:
            english: the wording in the code, or a `Message`, which may bring values of its own.
            values: by the name that stands in braces. Whole numbers are written as counts, `Percent` as a
                percentage, `Points` in points, `Number` with its decimals, a `Message` in this language,
                a tuple as a list of such, all else as it is.
        """
        if isinstance(english, Message):
            return self.fill(self.wording(english.english), {**english.values, **values})
        return self.fill(self.wording(english), values)

    def plural(self, one: str, many: str, number: int, /, **values: Any) -> str:
        """A text that depends on a count, which may stand in it as {number}."""
        return self.fill(self.wording_for(number, one, many), {"number": number, **values})

    def wording(self, english: str) -> str:
        """A text with its values still in braces."""
        return str(self.texts.get(_key(english), english))

    def wording_for(self, number: float, one: str, many: str) -> str:
        """Which of the two forms of a text a count takes; English and Spanish agree in this."""
        forms = self.texts.get((_key(one), _key(many)), (one, many))
        return forms[0 if number == 1 else 1]

    def fill(self, text: str, values: Mapping[str, Any]) -> str:
        """Put values in place of the names in braces; a text without values is left as it is."""
        if not values:
            return text
        return text.format(**{name: self._write(value) for name, value in values.items()})

    def _write(self, value: Any) -> str:
        if isinstance(value, Message):
            return self.text(value)
        if isinstance(value, Percent):
            return self.percent(value)
        if isinstance(value, Points):
            return self.points(value)
        if isinstance(value, Number):
            return self.number(value, value.digits)
        if isinstance(value, int):
            return self.count(value)
        if isinstance(value, float):
            return self._set(f"{float(value)}")
        if isinstance(value, tuple):
            return f"{self.separator} ".join(map(self._write, value))
        return str(value)

    # Numbers ----------------------------------------------------------------------------------------

    def number(self, value: float | None, digits: int = 2) -> str:
        """With so many decimals; a dash where there is no number."""
        return _DASH if value is None or math.isnan(value) else self._set(f"{value:.{digits}f}")

    def count(self, value: float | None) -> str:
        """Counts that may be means: "1,204" or "38.3"."""
        if value is None or math.isnan(value):
            return _DASH
        grouping = "," if abs(value) >= self.min_grouped else ""
        decimals = 0 if value >= 100 or value == round(value) else 1
        return self._set(f"{value:{grouping}.{decimals}f}")

    def share(self, value: float | None) -> str:
        """0.7825 -> "78.2": percent without the sign."""
        return self.number(None if value is None else 100 * value, 1)

    def percent(self, fraction: float) -> str:
        """0.2 -> "20 %"."""
        return self._set(f"{100 * fraction:.3g} %")

    def points(self, share: float) -> str:
        """0.0312 -> "+3.1" (percentage points); what rounds to zero has no sign."""
        rounded = round(100 * share, 1)
        return self._set(f"{rounded:+.1f}" if rounded else "0.0")

    def interval(self, low: str, high: str) -> str:
        """Two numbers that are written already as "[low, high]"."""
        return f"[{low}{self.separator} {high}]"

    def p_value(self, value: float | None) -> str:
        """Three decimals, or "< 0.001"."""
        if value is None:
            return _DASH
        return self._set("< 0.001" if value < 0.001 else f"{value:.3f}")

    def duration(self, seconds: float) -> str:
        """In seconds, minutes or hours, whichever reads best."""
        if seconds < 90:
            return f"{seconds:.0f} s"
        return f"{seconds / 60:.0f} min" if seconds < 5400 else self._set(f"{seconds / 3600:.1f} h")

    def _set(self, number: str) -> str:
        """A number as Python writes it, with this language's signs."""
        return number.translate(str.maketrans(",.", self.thousands + self.decimal))


ENGLISH = Language("en")


def read_language(name: str, *folders: Path) -> Language:
    """A language with the catalogues `NAME.yaml` of these folders.

    Raises:
        SettingsError: if there is no such language.
    """
    if name not in LANGUAGES:
        raise SettingsError(f"--lang: expected one of {', '.join(LANGUAGES)}, got {name!r}")
    if name == "en":
        return ENGLISH
    texts: dict[Text, Text] = {}
    for folder in folders:
        texts |= read_catalogue(folder / f"{name}.yaml")
    return Language(name, ",", _THIN_SPACE, ";", 10_000, texts)


def read_catalogue(path: Path) -> dict[Text, Text]:
    """Translations by their English texts, both with single blanks in place of line ends.

    The file is a list of pairs such as `{en: ..., es: ...}`; texts that depend on a count are pairs of
    texts, for one and for many.

    Raises:
        ValueError: if an English text stands twice in it.
    """
    import yaml  # where a page is written, and not for --help

    pairs = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    texts: dict[Text, Text] = {}
    for pair in pairs:
        english, other = (_entry(pair[name]) for name in ("en", path.stem))
        if english in texts:
            raise ValueError(f"{path}: {english!r} stands twice")
        texts[english] = other
    return texts


def _entry(text: str | list[str]) -> Text:
    return _key(text) if isinstance(text, str) else (_key(text[0]), _key(text[1]))


def _key(text: str) -> str:
    """A text may be broken into lines wherever that reads well; its key is not."""
    return " ".join(text.split())
