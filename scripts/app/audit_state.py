"""What a visitor has open on the page Audit, and how its faults are told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import streamlit as st

import semisup
from extract.language import Language, read_language
from scripts.app.parts import plain
from scripts.app.settings import AppSettings
from scripts.app.words import language_name, say
from semisup.arms import ARMS
from semisup.audit_reading import OpenExport

STYLE = """
<style>
.sl-audit-picture { background: #000; border-radius: 6px; display: flex; justify-content: center;
  align-items: center; padding: .4rem; min-height: 320px; }
.sl-audit-picture img { width: 100%; aspect-ratio: 1; max-height: max(320px, calc(100vh - 20rem));
  object-fit: contain; display: block; }
.sl-audit-picture img.pixels { image-rendering: pixelated; }
.sl-audit-table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.sl-audit-table th, .sl-audit-table td { padding: .3rem .9rem; border-bottom: 1px solid #dfe5ec;
  text-align: right; }
.sl-audit-table thead th { color: #5a6775; font-weight: 500; border-bottom: 2px solid #c3ccd6; }
.sl-audit-table tbody th { font-weight: 500; }
.sl-audit-table th:first-child { text-align: left; }
.sl-audit-table td.right { font-weight: 650; }
.sl-audit-table td.wrong { color: #9a3f00; text-decoration: underline dotted; }
.sl-audit-table td.empty { color: #8b96a3; }
.sl-audit-wide { overflow-x: auto; }
@media (max-width: 900px) { .sl-audit-table { font-size: .85rem; }
  .sl-audit-table th, .sl-audit-table td { padding: .3rem .35rem; } }
</style>
"""
PLACE = "audit.place"
SAID = "audit.said"  # a sentence for the next drawing
READING, RESULT = "reading", "result"


@dataclass(frozen=True)
class Place:
    """An export and one reader's sheet of it."""

    export: OpenExport
    sheet: Path
    screen: str = READING


def opened(settings: AppSettings) -> Place | None:
    """What this visitor has open; None at the start."""
    place: Place | None = st.session_state.get(PLACE)
    if place is not None and not place.export.folder.is_dir():
        leave()
        return None
    return place


def go_to(place: Place) -> None:
    """Open a sheet, from the next drawing on."""
    st.session_state[PLACE] = place


def leave(said: str = "") -> None:
    """Back to the start; what was answered lies on the disk already."""
    st.session_state.pop(PLACE, None)
    st.session_state[SAID] = said


def reader_of(place: Place) -> str:
    """Who reads this sheet, as the page calls them."""
    return name_of(place.sheet)


def name_of(sheet: Path) -> str:
    """The reader's name in a sheet's name; a handed-out sheet has none."""
    from semisup.audit_reading import NAMED

    if sheet.stem.startswith(NAMED):
        return sheet.stem.removeprefix(NAMED).replace("-", " ")
    return say("the sheet that was handed out")


def arm_text(arm: str) -> str:
    """What an arm is, in a line of the visitor's language; nothing for one that is no longer known."""
    known = ARMS.get(arm)
    return "" if known is None else _study_language(language_name()).text(known.text)


@cache
def _study_language(name: str) -> Language:
    return read_language(name, Path(semisup.__file__).parent / "languages")


def tell(error: Exception) -> None:
    """A sentence for what went wrong; folders of this machine are left out."""
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
        st.error(
            say(
                "A file of this study cannot be read or written ({reason}). Your earlier answers are kept; "
                "see to the folder, then reload this page.",
                reason=plain(reason),
            )
        )
        return
    words = plain(without_folders(f"{error}"))
    if language_name() == "en":
        st.error(words)
    else:
        st.error(say("The study cannot be audited as it is. In English: {reason}", reason=words))


def without_folders(text: str) -> str:
    """The same sentence with the last names of absolute paths alone."""
    return re.sub(r"(?<![\w./])/(?:[^/\s:;,'\"]+/)+", "", text)
