"""The page Predict: what the model says of images that somebody drops on it, and what speaks for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from classifier.judging import Judged, judge_uploads
from classifier.predict import Judge
from classifier.sheet_text import SheetText
from classifier.uploads import Upload, UploadLimits
from extract.building import Unreadable
from extract.errors import SynthlabelError
from extract.language import Message
from scripts.app.model_card import card_rows
from scripts.app.models import at_work, begin_loading
from scripts.app.parts import definition_list, first_of, plain, uploader_words
from scripts.app.predict_choice import choose_row
from scripts.app.predict_image import (
    chosen_opacity,
    forget_images,
    show_decision,
    show_neighbors,
    show_pictures,
)
from scripts.app.settings import AppSettings
from scripts.app.words import language_name, say, spoken

JUDGED, ROUND = "predict.judged", "predict.round"
MAX_REFUSED_SHOWN = 12


def show(settings: AppSettings) -> None:
    """Draw the page."""
    if settings.model is None:
        st.info(
            say(
                "No model was named. End the command with Ctrl-C and start it with one: `synthlabel app "
                "--model RUN`, where RUN is the folder of a `synthlabel classifier train` run."
            )
        )
        return
    begin_loading(settings.model)
    files = _ask_for_files()
    if files:
        _show_judgement(settings, settings.model, files)
    else:
        st.caption(say("Drop images above to see what the model says of them, how sure it is, and why."))
    _show_card(settings.model, is_open=not files)


def _ask_for_files() -> Sequence[Any]:
    limits = UploadLimits()
    # Streamlit's own words are English, and "Upload" sounds as if files left the computer.
    st.html(uploader_words(say("Choose files"), say("or drop them here")))
    return st.file_uploader(
        say("Images (PNG, JPEG, TIFF, DICOM) or a volume (NRRD, NIfTI)"),
        accept_multiple_files=True,
        key=f"predict.files.{st.session_state.get(ROUND, 0)}",
        help=say(
            "At most {files} files at once, {each} MB each, {total} MB altogether. They stay in memory "
            "and are gone when you remove them or close the page.",
            files=limits.num_files,
            each=limits.file_megabytes,
            total=limits.total_megabytes,
        ),
    )


def _show_judgement(settings: AppSettings, model: Path, files: Sequence[Any]) -> None:
    try:
        with st.spinner(say("Judging the images ...")):
            classifier = begin_loading(model).result()
            judged = _judge(classifier, model, files)
    except SynthlabelError as error:
        st.error(f"{error}")
        return
    _show_refused(judged)
    if judged.num_images:
        _show_result(settings, model, classifier, judged)


def _judge(classifier: Judge, model: Path, files: Sequence[Any]) -> Judged:
    """What was judged before is not judged again."""
    key = (f"{model}", *(file.file_id for file in files))
    known = st.session_state.get(JUDGED)
    if known is None or known[0] != key:
        uploads = [Upload(file.name, file.getvalue()) for file in files]
        with at_work:
            known = (key, judge_uploads(classifier, model, uploads))
        st.session_state[JUDGED] = known
        forget_images()
    return known[1]


def _show_refused(judged: Judged) -> None:
    refused = judged.refused
    if not refused:
        return
    listed = first_of([f"- {plain(_fault(item))}" for item in refused], MAX_REFUSED_SHOWN)
    head = (
        say("This file could not be used:")
        if len(refused) == 1
        else say("{num} files could not be used:", num=len(refused))
    )
    st.error(f"{head}\n\n{listed}", icon=":material/error:")


def _fault(item: Unreadable) -> str:
    """Why a file was refused; what the readers say of damaged files is English."""
    if isinstance(item.reason, Message) or language_name() == "en":
        return say(item.reason) if isinstance(item.reason, Message) else f"{item}"
    return say("{name}: this file cannot be read. In English: {reason}", name=item.file, reason=item.reason)


@st.fragment
def _show_result(settings: AppSettings, model: Path, classifier: Judge, judged: Judged) -> None:
    """Everything about one image; choosing another draws this part alone."""
    row = choose_row(judged.predictions.images)
    pictures, words = st.columns([3, 2], gap="large")
    with pictures:
        show_pictures(classifier, judged, row)
    with words:
        show_decision(judged, row)
    if settings.archive is not None:
        show_neighbors(model, settings.archive, classifier, judged, row)
    _offer_downloads(model, classifier, judged)


def _offer_downloads(model: Path, classifier: Judge, judged: Judged) -> None:
    predictions = judged.predictions
    sheet = SheetText(
        datetime.now().strftime("%Y-%m-%d %H:%M"),
        card_rows(model),
        chosen_opacity(),
        spoken(),
    )
    with st.expander(say("All results as a table ({num})", num=judged.num_images)):
        st.dataframe(_short_table(predictions.images), hide_index=True, width="stretch")
    buttons = st.container(horizontal=True)
    tables = [(say("Table (CSV)"), predictions.images, "predictions.csv")]
    if len(predictions.volumes):
        tables.append((say("Volumes (CSV)"), predictions.volumes, "predictions-volumes.csv"))
    for title, table, name in tables:
        buttons.download_button(
            title,
            table.to_csv(index=False),
            name,
            "text/csv",
            on_click="ignore",
            icon=":material/table:",
        )
    buttons.download_button(
        say("Sheet with pictures (HTML)"),
        partial(_sheet, judged, classifier, sheet),  # drawn when it is asked for
        "predictions.html",
        "text/html",
        on_click="ignore",
        icon=":material/description:",
    )
    if buttons.button(say("Remove all files"), icon=":material/delete:"):
        st.session_state[ROUND] = st.session_state.get(ROUND, 0) + 1
        st.session_state.pop(JUDGED, None)
        forget_images()
        st.rerun(scope="app")


def _short_table(images: pd.DataFrame) -> pd.DataFrame:
    """The columns that tell something, the decision first."""
    first = ["file", "decision", "confidence"]
    places = [name for name in ("plane", "angle_deg", "slice_index", "position_mm") if name in images]
    shares = [name for name in images if str(name).startswith("p_")]
    return images[[*first, *places, *shares]]


def _sheet(judged: Judged, classifier: Judge, text: SheetText) -> bytes:
    from classifier.sheet import render_sheet

    with at_work:
        return render_sheet(judged, classifier, text).encode()


def _show_card(model: Path, is_open: bool) -> None:
    with st.expander(say("About this model"), expanded=is_open, icon=":material/info:"):
        try:
            rows = card_rows(model)
        except SynthlabelError as error:
            st.error(plain(f"{error}"))
            return
        st.html(definition_list(rows))
