"""What the page Study keeps for all its visitors: rows behind numbers, and the opened archives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from scripts.app.study_open import OpenStudy
from semisup.run_list import ListedRun

if TYPE_CHECKING:
    import pandas as pd

    from semisup.behind import Choice
    from semisup.behind_pictures import Pictures

MAX_CHOICES = 16  # numbers whose rows are kept


@dataclass(frozen=True)
class Behind:
    """A number that was asked about."""

    opened: OpenStudy
    runs: list[ListedRun]
    state: str  # of the study's runs
    choice: Choice
    heading: str

    @property
    def key(self) -> str:
        """Another one for another number."""
        return f"{','.join(run.key for run in self.runs)} {self.choice!r}"


def rows_of(behind: Behind) -> pd.DataFrame:
    """The rows behind a number, read once; nobody may change them."""
    return _rows(f"{behind.opened.study_dir} {behind.state} {behind.key}", behind)


@st.cache_resource(max_entries=MAX_CHOICES, show_spinner=False)
def _rows(key: str, _behind: Behind) -> pd.DataFrame:
    from semisup.behind import rows_behind

    opened = _behind.opened
    return rows_behind(opened.study_dir, opened.study, _behind.runs, _behind.choice)


def pictures_of(opened: OpenStudy) -> Pictures:
    """The archives of a study, opened once and again when one was replaced."""
    return _pictures(f"{opened.study_dir} {opened.data_stamp()}", opened)


@st.cache_resource(max_entries=2, show_spinner=False, on_release=lambda pictures: pictures.close())
def _pictures(key: str, _opened: OpenStudy) -> Pictures:
    from semisup.behind_pictures import Pictures

    return Pictures(_opened.study_dir, _opened.study)
