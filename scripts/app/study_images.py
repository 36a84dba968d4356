"""The images behind a number, a page at a time, and one of them from near."""

from __future__ import annotations

import math
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Literal

import streamlit as st

from scripts.app.parts import plain
from scripts.app.study_closer import look_closely
from scripts.app.study_data import Behind, pictures_of, rows_of
from scripts.app.study_open import OpenStudy
from scripts.app.study_parts import choose, reason_text
from scripts.app.words import probability, say, spoken
from semisup.audit_open import unfinished_audits
from semisup.behind import ORDERS, Choice, Order, PoolChoice, count_reasons, each_once

if TYPE_CHECKING:
    import pandas as pd

    from semisup.behind_pictures import ImageBehind, Pictures

PAGE, OF, SEEN_ALL_THE_SAME = "study.page", "study.page.of", "study.audit.accepted"
PER_PAGE = 12
NARROW = 230  # pixels of a choice
TILE = 320  # pixels that are sent at most


def number_button(label: str, key: str, place: str, choice: Choice) -> None:
    """A number with images behind it; the chosen one is marked."""
    kind: Literal["primary", "secondary"] = "secondary"
    if st.session_state.get(place) == choice:
        kind = "primary"
    st.button(label, key=key, type=kind, on_click=_keep, args=(place, choice))


def _keep(place: str, choice: Choice) -> None:
    st.session_state[place] = choice


def show_behind(behind: Behind) -> None:
    """Draw the images behind a number."""
    if isinstance(behind.choice, PoolChoice) and _blinds_a_reader(behind.opened):
        return
    with st.spinner(say("Reading ...")):
        rows = rows_of(behind)
    if rows.empty:
        st.caption(f"{plain(behind.heading)}: {say('There are none.')}")
        return
    _show_pages(behind, rows)


def _blinds_a_reader(opened: OpenStudy) -> bool:
    """Whether the images are held back because somebody may be reading them without the labels."""
    if not unfinished_audits(opened.study_dir) or st.session_state.get(SEEN_ALL_THE_SAME):
        return False
    st.warning(
        say(
            "An audit of this study is not finished. Whoever reads its pictures must not have seen what the "
            "model said of them: the pseudo-labels stand below each image here."
        ),
        icon=":material/visibility_off:",
    )
    if st.button(say("I do not read that audit: show them"), key="study.audit.accept"):
        st.session_state[SEEN_ALL_THE_SAME] = True
        st.rerun()
    return True


@st.fragment
def _show_pages(behind: Behind, rows: pd.DataFrame) -> None:
    """Paging and sorting draw this part alone."""
    reasons = count_reasons(rows)
    line = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center")
    line.html(f'<h3 class="sl-behind">{escape(behind.heading)}</h3>', width="content")
    with line.container(width=NARROW):
        order: Order = choose(say("Order"), list(ORDERS), "order", _order_name, is_labeled=False)
    if isinstance(behind.choice, PoolChoice) and len(reasons) > 1:
        with line.container(width=NARROW):
            words = ["", *reasons]
            name = partial(_reason_name, reasons=reasons)
            reason = choose(say("Why"), words, "reason", name, is_labeled=False)
        rows = rows[rows["reason"] == reason] if reason else rows
    images = each_once(rows, order)
    if st.session_state.get(OF) != f"{behind.key} {order} {len(rows)}":
        st.session_state[OF], st.session_state[PAGE] = f"{behind.key} {order} {len(rows)}", 0
    num_pages = math.ceil(len(images) / PER_PAGE)
    page = min(int(st.session_state.get(PAGE, 0)), num_pages - 1)
    with line.container(horizontal=True, vertical_alignment="center", width="content", wrap=False):
        st.button(
            say("Back"),
            key="study.page.back",
            icon=":material/chevron_left:",
            disabled=page == 0,
            shortcut="P",
            on_click=_turn,
            args=(page - 1,),
        )
        st.html(escape(say("Page {page} of {num}", page=page + 1, num=num_pages)), width="content")
        st.button(
            say("Next"),
            key="study.page.next",
            icon=":material/chevron_right:",
            disabled=page + 1 >= num_pages,
            shortcut="N",
            on_click=_turn,
            args=(page + 1,),
        )
    _show_tiles(behind, images.iloc[page * PER_PAGE : (page + 1) * PER_PAGE], page * PER_PAGE)
    st.caption(_how_many(len(rows), len(images), len(behind.runs)))


def _turn(page: int) -> None:
    st.session_state[PAGE] = page


def _how_many(num_rows: int, num_images: int, num_runs: int) -> str:
    count = spoken().count
    if num_runs == 1:
        return say("{num} images, in one run.", num=count(num_images))
    return say(
        "{num} different images, each shown once. Over the {runs} runs they count {rows} times: {mean} a "
        "run.",
        num=count(num_images),
        runs=num_runs,
        rows=count(num_rows),
        mean=count(num_rows / num_runs),
    )


def _order_name(order: Order) -> str:
    return {
        "mixed": say("mixed, at random"),
        "surest first": say("surest first"),
        "least sure first": say("least sure first"),
    }[order]


def _reason_name(word: str, reasons: dict[str, int]) -> str:
    if not word:
        return say("any reason")
    return f"{reason_text(word)} ({spoken().count(reasons[word])})"


def _show_tiles(behind: Behind, page: pd.DataFrame, first: int) -> None:
    from semisup.behind_pictures import images_of

    opened = behind.opened
    pictures = pictures_of(opened)
    images = images_of(opened.study_dir, behind.runs, page, behind.choice, pictures)
    gone = [image for image in images if not pictures.has(image.archive_sha256)]
    if gone:
        st.info(_why_gone(pictures, gone[0]), icon=":material/hide_image:")
    with st.container(horizontal=True, gap="small"):
        for number, image in enumerate(images):
            with st.container(width=180, gap=None):
                st.html(_tile(opened, behind, image, pictures, first + number))
                if st.button(
                    say("Look at {number}", number=first + number + 1),
                    key=f"study.look.{number}",
                    type="tertiary",
                    icon=":material/zoom_in:",
                ):
                    look = st.dialog(say("Image {number}", number=first + number + 1), width="large")(
                        look_closely
                    )
                    look(behind, image)


def _why_gone(pictures: Pictures, image: ImageBehind) -> str:
    if image.archive_sha256 != pictures.data_sha256:
        return say("The archive of these synthetic images is not in the study's folder `pools` any more.")
    if pictures.data_was_replaced:
        return say(
            "Another archive lies where that of the study was, so there are no pictures of its images."
        )
    return say("The archive of the study's images is not where it was, so there are no pictures of them.")


def _tile(opened: OpenStudy, behind: Behind, image: ImageBehind, pictures: Pictures, number: int) -> str:
    from semisup.examples import to_uri

    pixels = pictures.read(image.archive_sha256, image.image)
    names = opened.classes
    alt = say("Image {number}", number=number + 1)
    shown = f'<img alt="{escape(alt)}" src="{to_uri(pixels, TILE)}">' if pixels is not None else ""
    is_apart = image.label is not None and image.label != image.said
    lines = [
        f"<b>{escape(names[image.said])}</b> {escape(probability(image.confidence))}",
        _expert_line(names, image, is_apart),
    ]
    if isinstance(behind.choice, PoolChoice) and behind.choice.outcome == "passed over":
        lines.append(escape(reason_text(image.reason)))
    if len(behind.runs) > 1:
        lines.append(escape(say("in {num} of {runs} runs", num=image.times, runs=len(behind.runs))))
    text = "<br>".join(line for line in lines if line)
    kind = "sl-tile apart" if is_apart else "sl-tile"
    return f'<figure class="{kind}">{shown}<figcaption>{text}</figcaption></figure>'


def _expert_line(names: list[str], image: ImageBehind, is_apart: bool) -> str:
    if image.label is None or not image.label < len(names):
        return ""
    text = escape(say("expert: {name}", name=names[image.label]))
    return f'<span class="apart">{text}</span>' if is_apart else text
