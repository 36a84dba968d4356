"""The page Audit: a person reads a blinded sample of pseudo-labels, and learns how many are wrong."""

from __future__ import annotations

import streamlit as st

from extract.errors import SynthlabelError
from scripts.app import audit_reading, audit_result, audit_start
from scripts.app.audit_state import READING, RESULT, STYLE, opened, tell
from scripts.app.parts import no_study
from scripts.app.settings import AppSettings


def show(settings: AppSettings) -> None:
    """Draw the page."""
    if settings.study is None:
        st.info(no_study())
        return
    st.html(STYLE)
    try:
        place = opened(settings)
        if place is None:
            audit_start.show(settings, settings.study)
        elif place.screen == READING:
            audit_reading.show(place)
        else:
            assert place.screen == RESULT
            audit_result.show(settings.study, place)
    except (SynthlabelError, OSError) as error:
        tell(error)
