"""The page Generate: images of a generator, what they are like, two of them mixed, a selection to keep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from extract.errors import SynthlabelError
from extract.language import Message
from gan.recipes import MAX_SEED
from scripts.app.generate_card import card_rows
from scripts.app.generate_mix import show_mix
from scripts.app.generate_one import show_one
from scripts.app.generate_selection import show_selection, warn_of_copies
from scripts.app.generate_state import (
    CLASS,
    FIRST,
    MIX,
    NOISE,
    ONE,
    OPENED,
    PSI,
    SEED,
    SEVERAL,
    VIEW,
    begin_drawing,
    choose_all,
    leaf,
    mix_opened,
    most_chosen,
    note_drawn,
    open_typed,
    set_defaults,
    shown_recipes,
    surprise,
)
from scripts.app.generate_tiles import STYLE, name_of, show_tiles
from scripts.app.networks import ComparisonJob, OpenNetwork, begin_comparison, begin_network
from scripts.app.parts import definition_list, plain
from scripts.app.settings import AppSettings
from scripts.app.words import percent, say

VIEWS = {SEVERAL: Message("Images"), ONE: Message("One image"), MIX: Message("Mix two")}
NOISES = {"const": Message("fixed"), "none": Message("left out")}
MOST_PSI, PSI_STEP = 1.5, 0.05
POLL_SEC = 0.5


def show(settings: AppSettings) -> None:
    """Draw the page."""
    if settings.network is None:
        st.info(
            say(
                "No network was named. End the command with Ctrl-C and start it with one: `synthlabel app "
                "--network RUN`, where RUN is the folder of a `synthlabel gan train` run, or a snapshot."
            )
        )
        return
    loading = begin_network(settings.network)
    if not loading.done():
        _wait_for_network(settings.network)
        return
    try:
        network = loading.result()
    except SynthlabelError as error:
        st.error(plain(f"{error}"))
        return
    st.html(STYLE)
    set_defaults(network)
    job = begin_comparison(settings)
    _show_images(network, job)
    if not job.rule.done() and not (job.result.done() and job.result.exception()):
        _wait_for_comparison(job, job.result.done())
    with st.expander(say("About this network"), icon=":material/info:"):
        st.html(definition_list(card_rows(network.card)))


@st.fragment
def _show_images(network: OpenNetwork, job: ComparisonJob) -> None:
    """Everything but the card; what is set or clicked here draws this part alone."""
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        view = st.segmented_control(
            say("What to look at"),
            tuple(VIEWS),
            format_func=_said(VIEWS).__getitem__,
            key=VIEW,
            required=True,
            persist_state="session",
            label_visibility="collapsed",
        )
        show_selection(network)
    view = view or SEVERAL
    begin_drawing()
    spot_of_warning = st.container()
    spots = {name: st.empty() for name in VIEWS}  # a place each: what was drawn before is gone at once
    with spots[view].container():
        _show_settings(network, view)
        try:
            if view == ONE:
                show_one(network, job)
            elif view == MIX:
                show_mix(network, job)
            else:
                recipes = shown_recipes()
                show_tiles(network, job, recipes, [name_of(recipe) for recipe in recipes], "page")
        except SynthlabelError as error:
            st.error(plain(f"{error}"))
    with spot_of_warning:  # last, because it may take longer
        warn_of_copies(network, job)


def _show_settings(network: OpenNetwork, view: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        if view == SEVERAL:
            st.number_input(
                say("First seed"), 0, MAX_SEED, step=1, key=FIRST, persist_state="session", width=150,
                help=say("The number that an image is made from: the same seed, the same image."),
            )  # fmt: skip
            with st.container(horizontal=True, gap="xxsmall", width="content"):
                st.button(
                    say("Back"), on_click=leaf, args=(-1,), icon=":material/chevron_left:", shortcut="Left"
                )
                st.button(
                    say("On"), on_click=leaf, args=(1,), icon=":material/chevron_right:", shortcut="Right"
                )
                st.button(say("Surprise me"), on_click=surprise, icon=":material/casino:")
        elif view == ONE:
            note_drawn(SEED)
            st.session_state[SEED] = st.session_state[OPENED].seed
            st.number_input(
                say("Seed"), 0, MAX_SEED, step=1, key=SEED, on_change=open_typed, width=150,
                help=say("The number that an image is made from: the same seed, the same image."),
            )  # fmt: skip
        st.slider(
            say("Variety (psi)"), 0.0, MOST_PSI, step=PSI_STEP, key=PSI, persist_state="session", width=200,
            help=say(
                "1: as varied as the images that the network learned from. Lower: more typical, more alike. "
                "0: the average image."
            ),
        )  # fmt: skip
        if network.card.classes:
            st.selectbox(say("Class"), network.card.classes, key=CLASS, persist_state="session", width=150)
        st.selectbox(
            say("Fine noise"), tuple(NOISES), format_func=_said(NOISES).__getitem__, key=NOISE,
            persist_state="session", width=130,
            help=say("The chance in the finest detail. It is fixed, so that every image can be made again."),
        )  # fmt: skip
        if view == SEVERAL:
            st.button(
                say("Choose all"), on_click=choose_all, args=(shown_recipes(), most_chosen(network)),
                icon=":material/done_all:",
            )  # fmt: skip
        elif view == ONE:
            st.button(say("Mix it"), on_click=mix_opened, icon=":material/blender:")


def _said(names: Mapping[str, Message]) -> dict[str, str]:
    """Names in the visitor's language."""
    return {name: say(text) for name, text in names.items()}


@st.fragment(run_every=POLL_SEC)
def _wait_for_network(network: Path) -> None:
    if begin_network(network).done():
        st.rerun()
    st.info(say("The network is being loaded ..."), icon=":material/hourglass_empty:")


@st.fragment(run_every=2 * POLL_SEC)
def _wait_for_comparison(job: ComparisonJob, has_result: bool) -> None:
    """Draw the page again as soon as there is more to say of its images."""
    if job.rule.done() or job.result.done() != has_result:
        st.rerun()
    what = (
        say("What counts as a copy is being worked out: {share}", share=percent(job.share))
        if has_result
        else say("The real images are being looked at, once: {share}", share=percent(job.share))
    )
    st.caption(what)
