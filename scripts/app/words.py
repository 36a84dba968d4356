"""The page's texts in the visitor's language; English is the key."""

from __future__ import annotations

import streamlit as st

from scripts.app.settings import current_settings

LANGUAGE_KEY = "language"


def language() -> str:
    """Of this visitor."""
    return str(st.session_state.get(LANGUAGE_KEY) or current_settings().language)


def say(text: str, **values: object) -> str:
    """A text with its values filled in."""
    return text.format(**values) if values else text
