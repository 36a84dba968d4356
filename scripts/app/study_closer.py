"""One image behind a number from near, with everything that is recorded of it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import streamlit as st

from scripts.app.parts import definition_list, probability_bars
from scripts.app.study_data import Behind, pictures_of
from scripts.app.study_parts import reason_text
from scripts.app.words import probability, say, spoken
from semisup.behind import TestedChoice

if TYPE_CHECKING:
    from semisup.behind_pictures import ImageBehind

LARGE = 640  # pixels that are sent at most


def look_closely(behind: Behind, image: ImageBehind) -> None:
    """One image as large as a reader needs it, with everything that is recorded of it."""
    from semisup.examples import to_uri

    opened = behind.opened
    pictures = pictures_of(opened)
    pixels = pictures.read(image.archive_sha256, image.image)
    near = pictures.read(pictures.data_sha256, image.nearest) if image.nearest else None
    left, right = st.columns(2, gap="medium")
    with left:
        if pixels is not None:
            st.html(
                f'<figure class="sl-tile sl-large"><img alt="{escape(say("the image"))}" '
                f'src="{to_uri(pixels, LARGE)}"></figure>'
            )
        if near is not None:
            label, subject = pictures.expert(pictures.data_sha256, image.nearest)
            known = [opened.classes[label] if label is not None else "", subject]
            who = ", ".join(filter(None, known))
            st.html(
                f'<figure class="sl-tile sl-large"><img alt="{escape(say("Most alike training image"))}" '
                f'src="{to_uri(near, LARGE)}"><figcaption>{escape(say("Most alike training image"))}: '
                f"{escape(who)}</figcaption></figure>"
            )
    with right:
        st.html(probability_bars(dict(zip(opened.classes, image.probs, strict=False))))
        st.html(definition_list(_facts(behind, image)))


def _facts(behind: Behind, image: ImageBehind) -> list[tuple[str, str]]:
    names, number = behind.opened.classes, spoken().number
    is_test = isinstance(behind.choice, TestedChoice)
    said = f"{names[image.said]}, {probability(image.confidence)}"
    rows = [(say("The model said") if is_test or image.reason != "selected" else say("Pseudo-label"), said)]
    if image.label is not None and image.label < len(names):
        rows.append((say("The expert said"), names[image.label]))
    if image.reason:
        rows.append((say("What became of it"), reason_text(image.reason)))
    if image.gate_value is not None:
        rows.append((say("What the gate measured"), number(image.gate_value, 3)))
    if image.subject:
        rows.append((say("Person"), image.subject))
    if image.generator_seed is not None:
        rows.append((say("Drawn by the generator"), say("seed {seed}", seed=f"{image.generator_seed}")))
    if image.truncation_psi is not None:
        rows.append((say("Truncation psi"), number(image.truncation_psi, 2)))
    rows.append((say("Counted"), say("in {num} of {runs} runs", num=image.times, runs=len(behind.runs))))
    rows.append((say("Told of the run"), say("fold {fold}, seed {seed}", fold=image.fold, seed=image.seed)))
    rows.append((say("File"), image.image))
    return rows
