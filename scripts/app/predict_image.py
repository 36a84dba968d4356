"""One judged image: what the model says of it, where it looks, and which training images are like it."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from classifier.judging import Judged
from classifier.predict import NOT_SURE, Judge
from extract.errors import SynthlabelError
from scripts.app.models import at_work, begin_features
from scripts.app.parts import plain, probability_bars
from scripts.app.predict_choice import batch_key, begin_batch
from scripts.app.words import percent, probability, say

if TYPE_CHECKING:
    from classifier.nearest import Neighbor

OPACITY, OPACITY_PERCENT = "predict.opacity", 50
EXPLAINED, NEIGHBORS = "predict.explained", "predict.neighbors"
NUM_NEIGHBORS = 6
SAME_IMAGE = 1e-4  # of the usual distance between two training images


def forget_images() -> None:
    """Drop what was worked out for the images before these, and what was chosen for them."""
    st.session_state[EXPLAINED], st.session_state[NEIGHBORS] = {}, {}
    begin_batch()


def chosen_opacity() -> float:
    """Of the heat map, in [0, 1]."""
    return float(st.session_state.get(OPACITY, OPACITY_PERCENT)) / 100


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


def show_decision(judged: Judged, row: int) -> None:
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


def show_pictures(classifier: Judge, judged: Judged, row: int) -> None:
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
        target = st.selectbox(say("What speaks for"), names, index=given, key=batch_key("target", row))
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

        with at_work:
            heat = explain_images(classifier, ImageTable(pixels[None]), targets=np.array([target]))[0]
        known[row, target] = classifier.preprocessing.prepare(pixels[None])[0], heat
    return known[row, target]


def show_neighbors(model: Path, archive: Path, classifier: Judge, judged: Judged, row: int) -> None:
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
    with at_work:
        return nearest_training(classifier, pixels, training, archive, num=NUM_NEIGHBORS)
