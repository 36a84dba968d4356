"""The first part of the page Audit: who reads, and which sample is begun, goes on or is finished."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from extract.errors import SettingsError
from scripts.app import audit_draw
from scripts.app.audit_state import READING, RESULT, SAID, Place, go_to, name_of, without_folders
from scripts.app.parts import plain
from scripts.app.settings import AppSettings
from scripts.app.words import say
from semisup.audit import has_been_judged
from semisup.audit_reading import (
    SAMPLE,
    OpenExport,
    ReaderSheet,
    answers_so_far,
    check_export,
    list_exports,
    reader_sheets,
    sheet_of,
    unknown_folders,
)

NAME = "audit.name"


def show(settings: AppSettings, study: Path) -> None:
    """Draw it."""
    said = st.session_state.pop(SAID, "")
    if said:
        st.success(said)
    st.markdown(
        say(
            "An audit tells how many pseudo-labels are wrong. You are shown images one by one, without what "
            "the computer took them for, and say what you see. Every answer is saved at once: stop and go "
            "on whenever you like."
        )
    )
    exports = list_exports(study, settings.audit)
    name = st.text_input(
        say("Your name or initials"),
        key=NAME,
        max_chars=40,
        placeholder=say("for example A. Ruiz"),
        help=say("It names the file of your answers. A second reader takes another name."),
        width=320,
    )
    for folder in unknown_folders(study):
        st.warning(
            say(
                "{name}: this sample cannot be read, for its key is gone or its images are others.",
                name=plain(folder.name),
            )
        )
    for export in exports:
        _show_export(study, export, name)
    with st.expander(say("Draw a new sample"), expanded=not exports, icon=":material/shuffle:"):
        audit_draw.show(study, name)


# Samples that are there -----------------------------------------------------------------------------


def _show_export(study: Path, export: OpenExport, name: str) -> None:
    sheets = reader_sheets(export)
    with st.container(border=True):
        st.markdown(
            f"**{plain(_title(export))}** · "
            + say("{num} images", num=len(export.codes))
            + " · "
            + plain(", ".join(export.sample.classes))
        )
        for sheet in sheets:
            _show_sheet(study, export, sheet)
        label = say("Read it as a second reader") if sheets else say("Read it")
        if st.button(
            label,
            key=f"audit.read.{export.export}.{export.folder.name}",
            type="secondary" if sheets else "primary",
            icon=":material/play_arrow:",
        ):
            _begin(study, export, name)


def _title(export: OpenExport) -> str:
    """What a sample is called: by its number, or by the folder that was handed out."""
    number = export.folder.name.removeprefix(SAMPLE)
    return say("Sample {number}", number=number) if number.isdigit() else export.folder.name


def _show_sheet(study: Path, export: OpenExport, sheet: ReaderSheet) -> None:
    key = f"{export.export}.{export.folder.name}.{sheet.path.name}"
    reader = plain(name_of(sheet.path))
    row = st.container(horizontal=True, vertical_alignment="center")
    if sheet.problem:
        row.error(say("{reader}: this sheet cannot be read.", reader=reader))
        with row.popover(say("Why")):
            st.text(without_folders(sheet.problem))
        return
    row.progress(
        sheet.num_answered / sheet.num_pictures,
        text=say("{reader}: {done} of {num}", reader=reader, done=sheet.num_answered, num=sheet.num_pictures),
        width=280,
    )
    if sheet.is_complete:
        if row.button(say("Result of {reader}", reader=reader), key=f"audit.result.{key}"):
            go_to(Place(export, sheet.path, RESULT))
            st.rerun()
    elif row.button(
        say("Go on as {reader}", reader=reader), key=f"audit.go.{key}", type="primary",
        icon=":material/play_arrow:",
    ):  # fmt: skip
        check_export(study, export)
        go_to(Place(export, sheet.path))
        st.rerun()
    if sheet.num_answered and not sheet.is_complete:
        _offer_end(row, export, sheet, key)


def _offer_end(row: DeltaGenerator, export: OpenExport, sheet: ReaderSheet, key: str) -> None:
    """A result of what has been read so far, for who will not read on."""
    with row.popover(say("End early")):
        st.markdown(
            say(
                "The order is random, so what has been read is a fair sample, only a smaller one. The "
                "result shows what the images were taken for: who has seen it cannot go on blinded."
            )
        )
        if st.button(say("Show the result of {num} images", num=sheet.num_answered), key=f"audit.end.{key}"):
            go_to(Place(export, sheet.path, RESULT))
            st.rerun()


def _begin(study: Path, export: OpenExport, name: str) -> None:
    try:
        sheet = sheet_of(export, name)
    except SettingsError:
        st.error(say("Please write your name or initials above first."))
        return
    check_export(study, export)
    answers = answers_so_far(export, sheet)
    # Who has seen the result of a finished sheet is no longer blinded, and corrects nothing here.
    is_over = len(answers) == len(export.codes) and has_been_judged(
        study, export.export, export.sample, answers
    )
    go_to(Place(export, sheet, RESULT if is_over else READING))
    st.rerun()
