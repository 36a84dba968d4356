"""The page Study: how far a study is, what it found, and the images behind its numbers."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import streamlit as st

from extract.errors import SynthlabelError
from scripts.app.parts import no_study, plain
from scripts.app.settings import AppSettings
from scripts.app.study_open import OpenStudy, open_study
from scripts.app.study_outcome import show_outcome
from scripts.app.study_parts import PART, STYLE
from scripts.app.study_progress import is_over, show_progress
from scripts.app.study_report import show_report
from scripts.app.study_rounds import show_rounds
from scripts.app.study_tests import show_tests
from scripts.app.words import say

PARTS: dict[str, Callable[[OpenStudy], None]] = {
    "progress": show_progress,
    "result": show_outcome,
    "rounds": show_rounds,
    "tests": show_tests,
    "report": show_report,
}


def show(settings: AppSettings) -> None:
    """Draw the page."""
    if settings.study is None:
        st.info(no_study())
        return
    st.html(STYLE)
    opened = open_study(settings.study)
    try:
        name = str(opened.study.get("name") or settings.study.name)
        if PART not in st.session_state:
            st.session_state[PART] = "result" if is_over(opened) else "progress"
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.html(f'<h2 class="sl-study">{escape(name)}</h2>', width="content")
            part = st.segmented_control(
                say("Part of the page"),
                tuple(PARTS),
                format_func=_part_name,
                key=PART,
                label_visibility="collapsed",
                required=True,
            )
        PARTS[str(part)](opened)
    except SynthlabelError as error:
        st.error(plain(f"{error}"))


def _part_name(part: str) -> str:
    return {
        "progress": say("Progress"),
        "result": say("Result"),
        "rounds": say("Rounds"),
        "tests": say("Test images"),
        "report": say("Report"),
    }[part]
