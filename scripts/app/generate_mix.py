"""Two seeds mixed: some styles of the one, some of the other, and all that lies between them."""

from __future__ import annotations

import streamlit as st

from extract.language import Message
from gan.recipes import MAX_SEED, Recipe, mixed_with, mixing_steps, style_groups, walk_steps
from scripts.app.generate_state import (
    GROUPS,
    LAYERS,
    MIX_A,
    MIX_B,
    STRIP,
    WALK,
    as_set,
    is_chosen,
    most_chosen,
    surprise_pair,
    swap_pair,
    toggle,
)
from scripts.app.generate_tiles import TILE, as_png, mark_copies, name_of, show_tiles, style_numbers
from scripts.app.networks import ComparisonJob, OpenNetwork
from scripts.app.parts import plain
from scripts.app.words import say, spoken

GROUP_NAMES = {
    "coarse": Message("Coarse: position, outline"),
    "middle": Message("Middle: shapes"),
    "fine": Message("Fine: texture, brightness"),
}
STRIPS = {LAYERS: Message("From fine to coarse"), WALK: Message("Gradually")}
MIXED, CONTROLS = 320, 380  # pixels on the screen
NUM_WALK = 6  # images of a walk, both ends included


def show_mix(network: OpenNetwork, job: ComparisonJob) -> None:
    """Draw both, their mix, and the way from the one to the other."""
    state = st.session_state
    first, second = as_set(Recipe(int(state[MIX_A]))), as_set(Recipe(int(state[MIX_B])))
    groups = style_groups(network.studio.num_ws)
    group_names = {name: say(text) for name, text in GROUP_NAMES.items()}
    strip_names = {name: say(text) for name, text in STRIPS.items()}
    with st.container(horizontal=True, gap="small"):
        _show_end(network, first, say("Seed A"), MIX_A)
        with st.container(key="generate-mixed", width=MIXED):
            mark, spot = st.empty(), st.empty()
        _show_end(network, second, say("Seed B"), MIX_B)
        with st.container(width=CONTROLS):
            taken = st.pills(
                say("From B"),
                tuple(groups),
                format_func=group_names.__getitem__,
                selection_mode="multi",
                key=GROUPS,
                persist_state="session",
                help=say("What the mix takes from seed B; the rest is from seed A."),
            )
            styles = [style for name in taken for style in groups.get(name, ())]
            mixed = mixed_with(first, second.seed, styles)
            st.caption(plain(name_of(mixed)))
            with st.container(horizontal=True, gap="xsmall"):
                st.button(say("Swap A and B"), on_click=swap_pair, icon=":material/swap_horiz:")
                st.button(say("Surprise me"), on_click=surprise_pair, icon=":material/casino:")
                chosen = is_chosen(mixed)
                st.button(
                    say("Chosen") if chosen else say("Choose the mix"),
                    key="generate-choose-mix",
                    on_click=toggle,
                    args=(mixed, most_chosen(network)),
                    type="primary" if chosen else "secondary",
                    icon=":material/check_box:" if chosen else ":material/check_box_outline_blank:",
                    shortcut="S",
                )
            kind = st.segmented_control(
                say("From A to B"),
                tuple(STRIPS),
                format_func=strip_names.__getitem__,
                key=STRIP,
                required=True,
                persist_state="session",
                help=say(
                    "From fine to coarse: more and more of B, the texture first. Gradually: everything at "
                    "once, in even steps."
                ),
            )
    spot.image(as_png(network.images([mixed])[0]), width="stretch", alt=name_of(mixed))
    _show_way(network, job, first, second, kind)
    mark_copies(network, job, [mixed], [mark])


def _show_end(network: OpenNetwork, recipe: Recipe, label: str, key: str) -> None:
    with st.container(key=f"{key}-end", width=TILE):
        st.image(as_png(network.images([recipe])[0]), width="stretch", alt=f"{label}: {recipe.seed}")
        st.number_input(label, 0, MAX_SEED, step=1, key=key, persist_state="session")


def _show_way(
    network: OpenNetwork, job: ComparisonJob, first: Recipe, second: Recipe, kind: str | None
) -> None:
    if kind == WALK:
        steps = walk_steps(first, second.seed, NUM_WALK)
    else:
        steps = mixing_steps(first, second.seed, network.studio.num_ws)
    show_tiles(network, job, steps, [_short_name(step, second.seed) for step in steps], f"way-{kind}")


def _short_name(recipe: Recipe, second: int) -> str:
    """Within the way from A to B."""
    if recipe.is_plain:
        return "B" if recipe.seed == second else "A"
    if recipe.walk_share is not None:
        return spoken().percent(recipe.walk_share)
    return say("B: styles {styles}", styles=style_numbers(recipe.second_styles))
