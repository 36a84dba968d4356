"""Generated images as tiles: a click looks closer, a tick chooses."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from extract.png import encode_png
from gan.recipes import Recipe
from scripts.app.generate_state import follow_tick, is_chosen, most_chosen, note_drawn, open_one
from scripts.app.networks import ComparisonJob, OpenNetwork
from scripts.app.words import say, spoken

MADE_AT_ONCE = 4  # images that are drawn before the next ones are made
TILE = 176  # pixels a side on the screen
STYLE = """
<style>
[class*="st-key-generate-"] [data-testid=stImage] img { image-rendering: pixelated; border-radius: 4px;
  width: 100%; display: block; }
[class*="st-key-generate-"] [data-testid=stElementToolbar] { display: none; }
.st-key-generate-bar { min-height: 2.6rem; }
[data-testid=stLayoutWrapper]:has(> .st-key-generate-verdict) { flex: 1 1 340px; width: auto; }
.st-key-generate-verdict { width: 100% !important; }
[class*="st-key-generate-tile-"] { gap: .1rem; }
[class*="st-key-generate-tile-"], .st-key-generate-mixed { position: relative; }
[class*="st-key-generate-"] > [data-testid=stElementContainer]:has(> * .sl-mark) { position: absolute; top: 0;
  left: 0; z-index: 2; pointer-events: none; }
.sl-mark { background: #b34f00; color: #fff; font-size: .8rem; font-weight: 600; padding: .1rem .45rem;
  border-radius: 4px 0 4px 0; }
.sl-mark:empty { display: none; }
[class*="st-key-generate-open-"] { position: absolute; top: 0; left: 0; width: 100%; z-index: 1; }
[class*="st-key-generate-open-"] button { width: 100%; aspect-ratio: 1; background: transparent; border: 0;
  color: transparent; cursor: zoom-in; border-radius: 4px; }
[class*="st-key-generate-open-"] button:hover { background: transparent; color: transparent;
  box-shadow: inset 0 0 0 3px rgba(0, 114, 178, .75); }
[class*="st-key-generate-open-"] button:focus-visible {
  box-shadow: inset 0 0 0 3px #0072b2, inset 0 0 0 5px #fff; }
[class*="st-key-generate-tile-"]:has(input:checked) [data-testid=stImage] img { outline: 3px solid #0072b2; }
</style>
"""


def as_png(pixels: np.ndarray) -> bytes:
    """(C, H, W) uint8 as a file, exactly as it is."""
    from gan.images import channels_last

    return encode_png(channels_last(pixels))


def show_tiles(
    network: OpenNetwork, job: ComparisonJob, recipes: Sequence[Recipe], names: Sequence[str], place: str
) -> None:
    """Draw images beside each other, as many in a row as there is room for.

    Args:
        names: what stands beside each tick.
        place: where on the page, for the keys of the controls.
    """
    marks: list[DeltaGenerator] = []
    spot = st.empty()
    with st.container(horizontal=True, gap="small"):
        for number, (recipe, name) in enumerate(zip(recipes, names, strict=True)):
            if number % MADE_AT_ONCE == 0:  # a large network takes seconds for each
                with spot, st.spinner(say("Making images ...")):
                    images = network.images(recipes[number : number + MADE_AT_ONCE])
            pixels = images[number % MADE_AT_ONCE]
            with st.container(key=f"generate-tile-{place}-{number}", width=TILE):
                marks.append(st.empty())
                st.image(as_png(pixels), width="stretch", alt=name)
                st.button(
                    say("Look closer: {name}", name=name),
                    key=f"generate-open-{place}-{number}",
                    on_click=open_one,
                    args=(recipe,),
                )
                tick(network, recipe, name, f"{place}-{number}")
    mark_copies(network, job, recipes, marks)  # after the images: it takes longer


def mark_copies(
    network: OpenNetwork, job: ComparisonJob, recipes: Sequence[Recipe], marks: Sequence[DeltaGenerator]
) -> None:
    """Put a mark on the images that are suspiciously like real ones, once that can be told."""
    if not job.result.done() or job.result.exception() is not None:
        return
    for mark, likeness in zip(marks, job.look(network, recipes), strict=True):
        if likeness.is_flagged:
            mark.html(f'<span class="sl-mark">&#9888; {escape(say("like a real one"))}</span>')


def tick(network: OpenNetwork, recipe: Recipe, name: str, place: str) -> None:
    """A box that chooses an image."""
    key = f"generate-tick-{place}"
    st.session_state[key] = is_chosen(recipe)
    note_drawn(key)
    st.checkbox(name, key=key, on_change=follow_tick, args=(recipe, key, most_chosen(network)))


def full_name(recipe: Recipe) -> str:
    """A recipe in words."""
    psi = spoken().number(recipe.truncation_psi, 2)
    of_class = f", {recipe.class_name}" if recipe.class_name else ""
    return f"{name_of(recipe)}, psi {psi}{of_class}"


def name_of(recipe: Recipe) -> str:
    """A recipe in words, its psi and class left out."""
    if recipe.second_seed is None:
        return say("Seed {seed}", seed=f"{recipe.seed}")
    pair = {"first": f"{recipe.seed}", "second": f"{recipe.second_seed}"}
    if recipe.walk_share is not None:
        share = spoken().percent(recipe.walk_share)
        return say("{share} of the way from {first} to {second}", share=share, **pair)
    return say("{first} with styles {styles} of {second}", styles=style_numbers(recipe.second_styles), **pair)


def style_numbers(styles: Sequence[int]) -> str:
    """Style inputs as `gan mix --styles` takes them: 4-9 where they are in a row."""
    if styles == tuple(range(styles[0], styles[-1] + 1)):
        return f"{styles[0]}-{styles[-1]}"
    return ",".join(map(str, styles))
