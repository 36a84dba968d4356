"""The page Predict: what the model says of images that somebody drops on it, and what speaks for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from classifier.judging import Judged, judge_uploads
from classifier.predict import NOT_SURE, Judge
from classifier.sheet_text import SheetText
from classifier.uploads import Upload, UploadLimits
from extract.building import Unreadable
from extract.errors import SynthlabelError
from extract.language import Message
from scripts.app.model_card import card_rows
from scripts.app.models import begin_features, begin_loading
from scripts.app.parts import definition_list, plain, probability_bars, uploader_words
from scripts.app.settings import AppSettings
from scripts.app.words import language_name, percent, probability, say, spoken

if TYPE_CHECKING:
    from classifier.nearest import Neighbor

JUDGED, ROUND, OPACITY = "predict.judged", "predict.round", "predict.opacity"
EXPLAINED, NEIGHBORS = "predict.explained", "predict.neighbors"
MAX_REFUSED_SHOWN = 12
NUM_NEIGHBORS = 6
SAME_IMAGE = 1e-4  # of the usual distance between two training images
PLANE_NAMES = {
    "sagittal": Message("sagittal"),
    "coronal": Message("coronal"),
    "axial": Message("axial"),
}
OPACITY_PERCENT = 50


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
        known = (key, judge_uploads(classifier, model, uploads))
        st.session_state[JUDGED] = known
        for cache in (EXPLAINED, NEIGHBORS):
            st.session_state[cache] = {}
    return known[1]


def _show_refused(judged: Judged) -> None:
    refused = judged.refused
    if not refused:
        return
    listed = [f"- {plain(_fault(item))}" for item in refused[:MAX_REFUSED_SHOWN]]
    if len(refused) > MAX_REFUSED_SHOWN:
        listed.append("- " + say("and {num} more", num=len(refused) - MAX_REFUSED_SHOWN))
    head = (
        say("This file could not be used:")
        if len(refused) == 1
        else say("{num} files could not be used:", num=len(refused))
    )
    st.error("\n".join([head, "", *listed]), icon=":material/error:")


def _fault(item: Unreadable) -> str:
    """Why a file was refused; what the readers say of damaged files is English."""
    if isinstance(item.reason, Message) or language_name() == "en":
        return say(item.reason) if isinstance(item.reason, Message) else f"{item}"
    return say("{name}: this file cannot be read. In English: {reason}", name=item.file, reason=item.reason)


@st.fragment
def _show_result(settings: AppSettings, model: Path, classifier: Judge, judged: Judged) -> None:
    """Everything about one image; choosing another draws this part alone."""
    row = _choose_row(judged)
    pictures, words = st.columns([3, 2], gap="large")
    with pictures:
        _show_pictures(classifier, judged, row)
    with words:
        _show_decision(judged, row)
    if settings.archive is not None:
        _show_neighbors(model, settings.archive, classifier, judged, row)
    _offer_downloads(model, classifier, judged)


def _choose_row(judged: Judged) -> int:
    """Which image is looked at: by file, then within a volume by plane and slice."""
    table = judged.predictions.images
    starts = group_starts(table)
    ends = [*starts[1:], len(table)]
    if len(table) == 1:
        return 0
    kinds = list(dict.fromkeys(plane_of(table))) if "plane" in table else []
    widths = ([2] if len(starts) > 1 else []) + ([1, 2] if len(kinds) > 1 else [2] if kinds else [])
    columns = iter(st.columns(widths, gap="medium"))
    group = 0
    if len(starts) > 1:
        names = [
            f"{number + 1}/{len(starts)}  {table['file'].iloc[start]}" for number, start in enumerate(starts)
        ]
        group = next(columns).selectbox(say("File"), range(len(starts)), format_func=names.__getitem__)
    rows = np.arange(starts[group], ends[group])
    if len(rows) == 1:
        return int(rows[0])
    planes = plane_of(table.iloc[rows])
    kinds = list(dict.fromkeys(planes))
    kind = kinds[0]
    if len(kinds) > 1:
        key = f"predict.plane.{group}"
        kind = next(columns).selectbox(say("Plane"), kinds, format_func=_plane_name, key=key)
    rows = rows[[plane == kind for plane in planes]]
    if len(rows) == 1:
        return int(rows[0])
    key = f"predict.slice.{group}.{kind}"
    number = next(columns).slider(say("Slice"), 1, len(rows), (len(rows) + 1) // 2, key=key)
    return int(rows[number - 1])


def plane_of(table: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Plane, angle and tilt of each slice."""
    tilts = table["tilt_deg"] if "tilt_deg" in table else pd.Series(0.0, table.index)
    cells = zip(table["plane"], table["angle_deg"].fillna(0), tilts.fillna(0), strict=True)
    return [(str(plane), float(angle), float(tilt)) for plane, angle, tilt in cells]


def group_starts(table: pd.DataFrame) -> list[int]:
    """The first row of each picture or volume."""
    volumes = table["volume"].fillna("").tolist() if "volume" in table else [""] * len(table)
    keys = list(zip(table["input"], volumes, strict=True))
    return [row for row in range(len(keys)) if not row or not keys[row][1] or keys[row] != keys[row - 1]]


def _plane_name(kind: tuple[str, float, float]) -> str:
    plane, angle, tilt = kind
    tilted = f", {say('tilt')} {tilt:g}°" if tilt else ""
    return f"{say(PLANE_NAMES.get(plane, plane))} {angle:g}°{tilted}"


def _show_volume(judged: Judged, entry: pd.Series) -> None:
    """What the slices of a volume say together."""
    table = judged.predictions.volumes
    if not len(table) or not entry.get("volume"):
        return
    found = table[(table["input"] == entry["input"]) & (table["volume"] == entry["volume"])]
    if not len(found):
        return
    volume = found.iloc[0]
    counts = ", ".join(f"{name} {volume[f'num_{name}']}" for name in judged.predictions.classes)
    st.caption(
        say(
            "The whole volume, {num} slices: most probable on average is {name}, with {share}. Slices by "
            "class: {counts}.",
            num=int(volume["num_slices"]),
            name=plain(str(volume["class"])),
            share=probability(float(volume["confidence"])),
            counts=plain(counts),
        )
    )


def _show_decision(judged: Judged, row: int) -> None:
    entry = judged.predictions.images.iloc[row]
    limit = judged.predictions.settings["decision"].get("reject_confidence")
    best, share = str(entry["class"]), float(entry["confidence"])
    if entry["decision"] == NOT_SURE:
        title, kind = say("not sure"), "sl-decision unsure"
        why = say("Most probable is {name}, with {share}.", name=best, share=probability(share))
    else:
        title, kind = best, "sl-decision"
        why = say("Calibrated probability {share}.", share=probability(share))
    if limit is not None:
        why += " " + say("Below {limit} this model leaves an image to a person.", limit=percent(limit))
    st.html(f'<p class="{kind}">{escape(title)}</p><p class="sl-why">{escape(why)}</p>')
    st.html(probability_bars(judged.probabilities(row), limit, say("not sure below this line")))
    _show_volume(judged, entry)
    strange = entry.get("unlike_training")
    if isinstance(strange, str) and strange:
        st.warning(
            say(
                "This image does not look like the training images, so the prediction means little: {what}.",
                what=plain(strange),
            )
        )
    remark = judged.remarks.get(str(entry["input"]))
    if remark:
        st.info(say(remark))


def _show_pictures(classifier: Judge, judged: Judged, row: int) -> None:
    from classifier.explain import overlay, to_rgb
    from classifier.run import Classifier

    if row >= len(judged.pixels):
        st.info(say("Pictures are shown of the first {num} images only.", num=len(judged.pixels)))
        return
    pixels = judged.pixels[row]
    if not isinstance(classifier, Classifier):
        st.image(to_rgb(pixels), width=400, caption=say("as the model sees it"))
        st.caption(say("Grad-CAM takes the folder of the run: an exported network has no gradients."))
        return
    spot = st.container()
    left, right = st.columns(2)
    names = list(judged.predictions.classes)
    given = names.index(str(judged.predictions.images["class"].iloc[row]))
    with left:
        target = st.selectbox(say("What speaks for"), names, index=given, key=f"predict.target.{row}")
    with right:
        opacity = st.slider(
            say("Opacity of the heat map"), 0, 100, OPACITY_PERCENT, format="%d %%", key=OPACITY
        )
    picture, heat = _explain(classifier, pixels, row, names.index(target))
    with spot:
        one, two = st.columns(2)
    one.image(to_rgb(picture), width="stretch", caption=say("as the model sees it"))
    two.image(
        overlay(picture, heat, opacity / 100),
        width="stretch",
        caption=say("Grad-CAM: bright is what speaks for {name}", name=plain(target)),
    )
    if not heat.any():
        st.caption(say("The map is empty: nothing in this layer speaks for {name}.", name=plain(target)))


def _explain(classifier: Any, pixels: np.ndarray, row: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    known = st.session_state.setdefault(EXPLAINED, {})
    if (row, target) not in known:
        from classifier.data import ImageTable
        from classifier.explain import explain_images

        heat = explain_images(classifier, ImageTable(pixels[None]), targets=np.array([target]))[0]
        known[row, target] = classifier.preprocessing.prepare(pixels[None])[0], heat
    return known[row, target]


def _show_neighbors(model: Path, archive: Path, classifier: Judge, judged: Judged, row: int) -> None:
    from classifier.run import Classifier

    if row >= len(judged.pixels) or not isinstance(classifier, Classifier):
        return
    st.markdown("#### " + say("Nearest training images"))
    if not begin_features(model, archive).result.done():
        _wait_for_features(model, archive)
        return
    known = st.session_state.setdefault(NEIGHBORS, {})
    try:
        if row not in known:
            known[row] = _neighbors(model, archive, classifier, judged.pixels[row])
    except SynthlabelError as error:
        st.info(plain(f"{error}"))
        return
    from classifier.explain import to_rgb

    for column, neighbor in zip(st.columns(NUM_NEIGHBORS), known[row], strict=False):
        column.image(to_rgb(neighbor.pixels), width="stretch")
        column.markdown(f"**{plain(neighbor.label)}**  \n{plain(neighbor.subject)}")
    if any(neighbor.distance < SAME_IMAGE for neighbor in known[row]):
        st.warning(
            say(
                "This very image was among the training images: the model does better on it than it would "
                "on a new one."
            )
        )
    st.caption(
        say(
            "From the model's training part alone, one image a person; the most alike, by its last layer, "
            "first."
        )
    )


@st.fragment(run_every=1.0)
def _wait_for_features(model: Path, archive: Path) -> None:
    job = begin_features(model, archive)
    if job.result.done():
        st.rerun()
    share = job.done / job.total if job.total else 0.0
    st.progress(share, text=say("The training images are being looked at, once ..."))


def _neighbors(model: Path, archive: Path, classifier: Any, pixels: np.ndarray) -> list[Neighbor]:
    from classifier.nearest import nearest_training

    training = begin_features(model, archive).result.result()
    return nearest_training(classifier, pixels, training, archive, num=NUM_NEIGHBORS)


def _offer_downloads(model: Path, classifier: Judge, judged: Judged) -> None:
    predictions = judged.predictions
    sheet = SheetText(
        datetime.now().strftime("%Y-%m-%d %H:%M"),
        card_rows(model),
        st.session_state.get(OPACITY, OPACITY_PERCENT) / 100,
        spoken(),
    )
    with st.expander(say("All results as a table ({num})", num=judged.num_images)):
        st.dataframe(_short_table(predictions.images), hide_index=True, width="stretch")
    buttons = st.container(horizontal=True)
    buttons.download_button(
        say("Table (CSV)"),
        predictions.images.to_csv(index=False),
        "predictions.csv",
        "text/csv",
        on_click="ignore",
        icon=":material/table:",
    )
    if len(predictions.volumes):
        buttons.download_button(
            say("Volumes (CSV)"),
            predictions.volumes.to_csv(index=False),
            "predictions-volumes.csv",
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
        for key in (JUDGED, EXPLAINED, NEIGHBORS):
            st.session_state.pop(key, None)
        st.rerun(scope="app")


def _short_table(images: pd.DataFrame) -> pd.DataFrame:
    """The columns that tell something, the decision first."""
    first = ["file", "decision", "confidence"]
    places = [name for name in ("plane", "angle_deg", "slice_index", "position_mm") if name in images]
    shares = [name for name in images if str(name).startswith("p_")]
    return images[[*first, *places, *shares]]


def _sheet(judged: Judged, classifier: Judge, text: SheetText) -> bytes:
    from classifier.sheet import render_sheet

    return render_sheet(judged, classifier, text).encode()


def _show_card(model: Path, is_open: bool) -> None:
    with st.expander(say("About this model"), expanded=is_open, icon=":material/info:"):
        try:
            rows = card_rows(model)
        except SynthlabelError as error:
            st.error(plain(f"{error}"))
            return
        st.html(definition_list(rows))
