"""The whole report: read here, taken away, or made anew where it is missing or older than the runs."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from pathlib import Path

import streamlit as st

from extract.errors import SynthlabelError
from scripts.app.closing import in_background
from scripts.app.parts import plain
from scripts.app.study_open import OpenStudy
from scripts.app.words import language_name, say

ASKED, SHOWN = "study.report.asked", "study.report.shown"
# What stands in the page is shown, and does nothing: a study folder may come from anybody.
QUIET = (
    '<!DOCTYPE html><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'\">"
)
LINK = re.compile(r"(<a\b[^>]*?)\shref=(?:\"[^\"]*\"|'[^']*')", re.IGNORECASE)
HEIGHT = 900  # pixels
_lock = threading.Lock()
_writing: dict[Path, Future[None]] = {}


def show_report(opened: OpenStudy) -> None:
    """Draw it."""
    from semisup.study_result import report_state

    runs = opened.runs()
    if not any(run.is_done for run in runs.runs.values()):
        st.info(say("No run has finished yet; the part Progress says how far the study is."))
        return
    writing = _writing.get(opened.study_dir)
    if writing is not None and not writing.done():
        _wait(opened.study_dir)
        return
    _tell_failure(writing)
    state = report_state(opened.study_dir, language_name(), runs.newest_ns)
    if state.made_at is None:
        st.info(say("There is no report in this language yet."))
    else:
        made = datetime.fromtimestamp(state.made_at).strftime("%Y-%m-%d %H:%M")
        st.markdown(say("The report was made on {time}.", time=made))
        if state.is_older:
            st.warning(say("Runs or an audit have come since: it does not know them."))
    _offer_making(
        opened, is_there=state.made_at is not None, is_wanted=state.made_at is None or state.is_older
    )
    if state.made_at is not None:
        _offer_downloads(opened, state.path)
        if st.toggle(say("Read it here"), key=SHOWN):
            st.caption(say("Its links work in the file that is taken away, and not here."))
            st.iframe(quiet_page(state.path.read_text(encoding="utf-8", errors="replace")), height=HEIGHT)


def quiet_page(page: str) -> str:
    """A report that can be framed: without scripts, and without links, which would leave the frame."""
    return QUIET + LINK.sub(r"\1", page)


def _offer_making(opened: OpenStudy, is_there: bool, is_wanted: bool) -> None:
    """Writing into somebody's folder is asked about first."""
    label = say("Make the report anew") if is_there else say("Make the report")
    if not st.session_state.get(ASKED):
        if st.button(label, type="primary" if is_wanted else "secondary", icon=":material/description:"):
            st.session_state[ASKED] = True
            st.rerun()
        return
    with st.container(border=True):
        st.markdown(
            say(
                "This writes the report, its tables and figures into the study's folder, in place of those "
                "that an earlier report made. Files that somebody has edited are left alone."
            )
        )
        with st.container(horizontal=True):
            if st.button(say("Write it"), type="primary"):
                st.session_state[ASKED] = False
                _begin(opened.study_dir, language_name())
                st.rerun()
            if st.button(say("Leave it")):
                st.session_state[ASKED] = False
                st.rerun()


def _begin(study_dir: Path, lang: str) -> None:
    """Write it in the background: one at a time, and to its end whatever the visitor clicks meanwhile."""
    with _lock:
        known = _writing.get(study_dir)
        if known is not None and not known.done():
            return

        def write() -> None:
            from semisup.report import write_report

            write_report(study_dir, lang)

        _writing[study_dir] = in_background(write)  # what went wrong is shown by whoever looks next


@st.fragment(run_every=1.0)
def _wait(study_dir: Path) -> None:
    if _writing[study_dir].done():
        st.rerun()
    st.info(say("The report is being written; this takes some seconds ..."), icon=":material/hourglass_top:")


def _tell_failure(writing: Future[None] | None) -> None:
    error = writing.exception() if writing is not None else None
    if isinstance(error, SynthlabelError):
        st.error(plain(f"{error}"))
    elif error is not None:
        st.error(say("The report could not be written ({kind}).", kind=type(error).__name__))


def _offer_downloads(opened: OpenStudy, page: Path) -> None:
    from semisup.study_result import pack_tables

    folder = opened.study_dir
    plain_text = page.with_suffix(".md")
    with st.container(horizontal=True):
        _download(say("Report (HTML)"), page.name, "text/html", partial(_read, page))
        if plain_text.exists():
            _download(say("Report (Markdown)"), plain_text.name, "text/markdown", partial(_read, plain_text))
        for name, kind, label in (
            ("results.csv", "text/csv", say("Numbers (CSV)")),
            ("results.json", "application/json", say("Numbers (JSON)")),
        ):
            if (folder / name).exists():
                _download(label, name, kind, partial(_read, folder / name))
        _download(say("All tables (ZIP)"), "tables.zip", "application/zip", partial(pack_tables, folder))


def _download(label: str, name: str, kind: str, data: Callable[[], bytes]) -> None:
    st.download_button(
        label, data, name, kind, on_click="ignore", icon=":material/download:", key=f"study.get.{name}"
    )


def _read(path: Path) -> bytes:
    return path.read_bytes()
