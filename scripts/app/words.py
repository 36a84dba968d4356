"""The page's texts in the visitor's language; the English texts in the code are their own keys."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

import classifier
from classifier.sheet_text import probability_writer
from extract.language import Language, read_language
from scripts.app.settings import current_settings

LANGUAGE_KEY = "language"
OF_PAGES = Path(__file__).parent / "languages"  # what pages share, and in it a folder a page
CATALOGUES = (Path(classifier.__file__).parent / "languages", OF_PAGES, *sorted(OF_PAGES.glob("*/")))


def language_name() -> str:
    """Of this visitor."""
    return str(st.session_state.get(LANGUAGE_KEY) or current_settings().language)


def spoken() -> Language:
    """This visitor's language."""
    return app_language(language_name())


@cache
def app_language(name: str) -> Language:
    """A language with the texts of the page and of the sheets.

    Raises:
        SettingsError: if there is no such language.
    """
    return read_language(name, *CATALOGUES)


def say(english: str, /, **values: Any) -> str:
    """A text in the visitor's language, its values put in; see `Language.text`."""
    return spoken().text(english, **values)


def percent(share: float) -> str:
    """A share with one decimal."""
    return f"{spoken().number(100 * share, 1)}\u00a0%"


def probability(share: float) -> str:
    """A model's probability with one decimal; never 100 % or 0 %, which no model may claim."""
    return probability_writer(spoken())(share)
