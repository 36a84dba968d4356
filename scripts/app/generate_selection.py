"""The images that a visitor has chosen: how many, which, and all of them as an archive."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import streamlit as st

from gan.recipes import Recipe
from scripts.app.generate_state import IS_FULL, chosen_recipes, clear_chosen, most_chosen, toggle
from scripts.app.generate_tiles import as_png, full_name
from scripts.app.models import at_work
from scripts.app.networks import ComparisonJob, OpenNetwork
from scripts.app.parts import plain
from scripts.app.words import say

SMALL = 84  # pixels a side on the screen
MOST_SHOWN = 60
FILE_NAME = "selection.zip"


def show_selection(network: OpenNetwork) -> None:
    """Draw the bar of what is chosen."""
    chosen = chosen_recipes()
    most = most_chosen(network)
    with st.container(key="generate-bar", horizontal=True, vertical_alignment="center", gap="xsmall"):
        if not chosen:
            st.caption(say("Tick images to save them as an archive."))
            return
        title = say("Chosen: {num}", num=len(chosen))
        with st.popover(title, on_change="rerun", key="generate-popover") as popover:
            if popover.open:
                _show_chosen(network, chosen, most)
        st.download_button(
            say("Save as archive"),
            partial(selection_archive, network, chosen),  # made when it is asked for
            FILE_NAME,
            "application/zip",
            on_click="ignore",
            type="primary",
            icon=":material/download:",
            help=say(
                "A ZIP file like those of `gan generate`: the images, and for each its seeds, psi, class and "
                "the network's hash."
            ),
        )
        st.button(say("Clear"), on_click=clear_chosen, icon=":material/delete:")
    if st.session_state.get(IS_FULL):
        st.warning(say("At most {num} images fit into one selection: save it, then clear it.", num=most))


def warn_of_copies(network: OpenNetwork, job: ComparisonJob) -> None:
    """Say how many of the chosen images are suspiciously like real ones."""
    chosen = chosen_recipes()
    if not chosen or not job.rule.done() or job.rule.exception() is not None:
        return
    num = sum(likeness.is_flagged for likeness in job.look(network, chosen))
    if num:
        st.warning(
            say(
                "{num} of the chosen images are suspiciously like real ones: look at them before you pass "
                "them on.",
                num=num,
            ),
            icon=":material/warning:",
        )


def _show_chosen(network: OpenNetwork, chosen: Sequence[Recipe], most: int) -> None:
    shown = chosen[-MOST_SHOWN:]
    if len(chosen) > len(shown):
        st.caption(say("the last {num}", num=len(shown)))
    images = network.images(shown)
    with st.container(horizontal=True, gap="xsmall"):
        for number, (recipe, pixels) in enumerate(zip(shown, images, strict=True)):
            name = full_name(recipe)
            with st.container(key=f"generate-chosen-{number}", width=SMALL, gap="xxsmall"):
                st.image(as_png(pixels), width="stretch", alt=name)
                st.button(
                    say("Remove"),
                    key=f"generate-remove-{number}",
                    on_click=toggle,
                    args=(recipe, most),
                    type="tertiary",
                    help=plain(name),
                )


def selection_archive(network: OpenNetwork, chosen: Sequence[Recipe]) -> bytes:
    """The archive of the chosen images; what is written for it is removed at once."""
    from gan.selection import write_selection

    with tempfile.TemporaryDirectory(prefix="synthlabel-app-") as folder, at_work:
        path = Path(folder) / FILE_NAME
        write_selection(network.studio, chosen, path)
        return path.read_bytes()
