"""What a visitor has set on the page Generate: seeds, psi, class, and the images that they have chosen."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import streamlit as st

from gan.recipes import MAX_SEED, Recipe, style_groups
from scripts.app.networks import NUM_SHOWN, OpenNetwork, first_recipe

FIRST, PSI, CLASS, NOISE = "generate-first", "generate-psi", "generate-class", "generate-noise"
VIEW, OPENED, SEED = "generate-view", "generate-opened", "generate-seed"
MIX_A, MIX_B, GROUPS, STRIP = "generate-a", "generate-b", "generate-groups", "generate-strip"
CHOSEN, IS_FULL, DRAWN = "generate-chosen", "generate-full", "generate-drawn"
SEVERAL, ONE, MIX = "several", "one", "mix"
LAYERS, WALK = "layers", "walk"
SURPRISES = 1_000_000  # seeds that "surprise me" draws from: short enough to note down
MOST_CHOSEN, MOST_CHOSEN_BYTES = 500, 96 * 2**20


def set_defaults(network: OpenNetwork) -> None:
    """What a visitor finds set who comes for the first time."""
    begin = first_recipe(network)
    groups = list(style_groups(network.studio.num_ws))
    for key, value in (
        (VIEW, SEVERAL), (FIRST, begin.seed), (PSI, begin.truncation_psi), (NOISE, begin.noise_mode),
        (MIX_A, 0), (MIX_B, 1), (GROUPS, groups[1:] or groups), (STRIP, LAYERS), (OPENED, begin),
        (CHOSEN, {}),
    ):  # fmt: skip
        st.session_state.setdefault(key, value)
    if network.card.classes:
        st.session_state.setdefault(CLASS, begin.class_name)


def as_set(recipe: Recipe) -> Recipe:
    """The same seeds with the psi, class and noise that are set now."""
    state = st.session_state
    return replace(
        recipe,
        truncation_psi=round(float(state[PSI]), 4),
        class_name=str(state.get(CLASS) or ""),
        noise_mode=state[NOISE],
    )


def shown_recipes() -> list[Recipe]:
    """The images of the page that is leafed to."""
    first = int(st.session_state[FIRST])
    return [as_set(Recipe(seed)) for seed in range(first, min(first + NUM_SHOWN, MAX_SEED + 1))]


def leaf(pages: int) -> None:
    """Go on by so many pages, or back."""
    first = int(st.session_state[FIRST]) + pages * NUM_SHOWN
    st.session_state[FIRST] = min(max(first, 0), MAX_SEED + 1 - NUM_SHOWN)


def surprise() -> None:
    """Go to seeds that nobody has thought of."""
    st.session_state[FIRST] = random.randrange(SURPRISES // NUM_SHOWN) * NUM_SHOWN


def surprise_pair() -> None:
    """Mix two other seeds."""
    st.session_state[MIX_A], st.session_state[MIX_B] = random.sample(range(SURPRISES), 2)


def swap_pair() -> None:
    """Let the two seeds of a mix change places."""
    state = st.session_state
    state[MIX_A], state[MIX_B] = state[MIX_B], state[MIX_A]


def open_one(recipe: Recipe) -> None:
    """Look at one image."""
    st.session_state[OPENED], st.session_state[VIEW] = recipe, ONE


def step_seed(step: int) -> None:
    """Look at the image of the next seed, or of the one before."""
    seed = min(max(st.session_state[OPENED].seed + step, 0), MAX_SEED)
    st.session_state[OPENED] = Recipe(seed)


def open_typed() -> None:
    """Look at the image of the seed that was typed."""
    if was_drawn(SEED):
        st.session_state[OPENED] = Recipe(int(st.session_state[SEED]))


def mix_opened() -> None:
    """Take the seed that is looked at into the mix, in the place of A."""
    state = st.session_state
    seed = state[OPENED].seed
    state[MIX_A], state[VIEW] = seed, MIX
    if state[MIX_B] == seed:
        state[MIX_B] = seed + 1 if seed < MAX_SEED else seed - 1


def chosen_recipes() -> tuple[Recipe, ...]:
    """The chosen images in the order of choosing."""
    return tuple(st.session_state[CHOSEN])


def is_chosen(recipe: Recipe) -> bool:
    return recipe in st.session_state[CHOSEN]


def most_chosen(network: OpenNetwork) -> int:
    """How many images fit into one selection."""
    return min(MOST_CHOSEN, MOST_CHOSEN_BYTES // math.prod(network.card.image_shape))


def begin_drawing() -> None:
    """Forget which controls were there."""
    st.session_state[DRAWN] = set()


def note_drawn(key: str) -> None:
    """A control is there."""
    st.session_state[DRAWN].add(key)


def was_drawn(key: str) -> bool:
    """Whether a control was there when the visitor clicked.

    A browser may send the values of controls that are gone, which then look like changes of them.
    """
    return key in st.session_state.get(DRAWN, ())


def follow_tick(recipe: Recipe, key: str, most: int) -> None:
    """Choose an image or let it go, as its box says."""
    if was_drawn(key) and bool(st.session_state[key]) != is_chosen(recipe):
        toggle(recipe, most)


def toggle(recipe: Recipe, most: int) -> None:
    """Choose an image, or let it go."""
    chosen = dict(st.session_state[CHOSEN])
    st.session_state[IS_FULL] = False
    if recipe in chosen:
        del chosen[recipe]
    elif len(chosen) < most:
        chosen[recipe] = None
    else:
        st.session_state[IS_FULL] = True
    st.session_state[CHOSEN] = chosen


def choose_all(recipes: list[Recipe], most: int) -> None:
    """Choose these, as many as there is room for."""
    for recipe in recipes:
        if not is_chosen(recipe):
            toggle(recipe, most)


def clear_chosen() -> None:
    """Let all chosen images go."""
    st.session_state[CHOSEN], st.session_state[IS_FULL] = {}, False
