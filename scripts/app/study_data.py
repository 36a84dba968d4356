"""What the page Study keeps for all its visitors: rows behind numbers, and the opened archives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from scripts.app.study_open import OpenStudy
from semisup.run_facts import RunFacts

if TYPE_CHECKING:
    import pandas as pd

    from semisup.behind import Choice
    from semisup.behind_pictures import Pictures

MAX_CHOICES = 16  # numbers whose rows are kept


def rows_of(opened: OpenStudy, runs: list[RunFacts], state: str, choice: Choice) -> pd.DataFrame:
    """The rows behind a number, read once; nobody may change them."""
    keys = ",".join(run.key for run in runs)
    return _rows(f"{opened.study_dir} {state} {keys} {choice!r}", opened, runs, choice)


@st.cache_resource(max_entries=MAX_CHOICES, show_spinner=False)
def _rows(key: str, _opened: OpenStudy, _runs: list[RunFacts], _choice: Choice) -> pd.DataFrame:
    from semisup.behind import rows_behind

    return rows_behind(_opened.study_dir, _opened.study, _runs, _choice)


def pictures_of(opened: OpenStudy) -> Pictures:
    """The archives of a study, opened once and again when one was replaced."""
    return _pictures(f"{opened.study_dir} {opened.data_stamp()}", opened)


@st.cache_resource(max_entries=2, show_spinner=False, on_release=lambda pictures: pictures.close())
def _pictures(key: str, _opened: OpenStudy) -> Pictures:
    from semisup.behind_pictures import Pictures

    return Pictures(_opened.study_dir, _opened.study)
