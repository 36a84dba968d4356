"""One generated image, large, beside the real images that it is most like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from extract.errors import SynthlabelError
from gan.recipes import MAX_SEED, Recipe
from scripts.app.generate_state import OPENED, as_set, is_chosen, most_chosen, step_seed, toggle
from scripts.app.generate_tiles import as_png, name_of
from scripts.app.networks import ComparisonJob, OpenNetwork
from scripts.app.parts import plain
from scripts.app.words import percent, say, spoken

if TYPE_CHECKING:
    from gan.likeness import Comparison, Likeness, NearReal

LARGE, SMALL = 360, 112  # pixels a side on the screen


def show_one(network: OpenNetwork, job: ComparisonJob) -> None:
    """Draw the image that was opened, with psi and class as they are set."""
    recipe = as_set(st.session_state[OPENED])
    pixels = network.images([recipe])[0]
    with st.container(horizontal=True, gap="small"):
        with st.container(key="generate-large", width=LARGE):
            st.image(as_png(pixels), width="stretch", alt=name_of(recipe), caption=plain(name_of(recipe)))
            _show_buttons(network, recipe)
        _show_reals(network, job, recipe)


def _show_buttons(network: OpenNetwork, recipe: Recipe) -> None:
    chosen = is_chosen(recipe)
    with st.container(horizontal=True, gap="xsmall"):
        st.button(
            say("Previous"), on_click=step_seed, args=(-1,), disabled=recipe.seed == 0, shortcut="Left",
        )  # fmt: skip
        st.button(
            say("Next"), on_click=step_seed, args=(1,), disabled=recipe.seed == MAX_SEED, shortcut="Right",
        )  # fmt: skip
        st.button(
            say("Chosen") if chosen else say("Choose"),
            key="generate-choose",
            on_click=toggle,
            args=(recipe, most_chosen(network)),
            type="primary" if chosen else "secondary",
            icon=":material/check_box:" if chosen else ":material/check_box_outline_blank:",
            shortcut="S",
        )


def _show_reals(network: OpenNetwork, job: ComparisonJob, recipe: Recipe) -> None:
    if not job.result.done():
        with st.container(width=LARGE):
            st.caption(say("The real images are being looked at, once: {share}", share=percent(job.share)))
        return
    try:
        comparison = job.result.result()
        likeness = job.look(network, [recipe])[0]
    except SynthlabelError as error:
        with st.container(width=LARGE):
            st.info(plain(f"{error}"))
        return
    best, *others = likeness.nearest
    with st.container(key="generate-nearest", width=LARGE):
        caption = say("the nearest real image: {what}", what=_described(best))
        st.image(
            as_png(job.pixels(best)),
            width="stretch",
            alt=say("the nearest real image"),
            caption=plain(caption),
        )
    with st.container(key="generate-verdict", width=LARGE):
        _show_verdict(job, likeness)
        with st.container(horizontal=True, gap="xsmall"):
            for number, near in enumerate(others):
                with st.container(key=f"generate-near-{number}", width=SMALL):
                    st.image(
                        as_png(job.pixels(near)), width="stretch", alt=say("another real image"),
                        caption=plain(_described(near)),
                    )  # fmt: skip
        st.caption(_meaning(comparison))


def _described(near: NearReal) -> str:
    parts = [near.label, near.subject, spoken().number(near.score, 2)]
    return ", ".join(part for part in parts if part) + (f", {say('mirrored')}" if near.is_mirrored else "")


def _show_verdict(job: ComparisonJob, likeness: Likeness) -> None:
    if not job.rule.done():
        st.info(say("What counts as a copy is being worked out."))
        return
    job.rule.result()  # a fault in working it out is no verdict
    if likeness.threshold is None:
        st.info(say("There are too few people to tell copies by: compare with your own eyes."))
    elif likeness.is_clear_copy:
        st.error(
            say("This looks like a copy of a real image. Do not pass it on as a synthetic one."),
            icon=":material/content_copy:",
        )
    elif likeness.is_flagged:
        st.warning(
            say(
                "Suspiciously close: real images are hardly ever as close as this to an image of another "
                "person. Look at both before you use it."
            ),
            icon=":material/warning:",
        )
    else:
        st.info(
            say(
                "No closer to a real image than real images of different people are to each other "
                "(suspicious: below {limit}).",
                limit=spoken().number(likeness.threshold, 2),
            ),
            icon=":material/check:",
        )


def _meaning(comparison: Comparison) -> str:
    num, people = len(comparison), comparison.num_subjects
    if comparison.reals.is_own:
        of = say("Of {num} images of {people} people that the network learned from", num=num, people=people)
    else:
        of = say(
            "Of {num} images of {people} people in the archive that was named, not that of the network",
            num=num,
            people=people,
        )
    if num < comparison.num_available:
        of += " " + say("(an even choice of {num})", num=comparison.num_available)
    parts = [
        f"{of}.",
        say(
            "Nearest is what is most alike when laid over it, shifted by a few pixels or mirrored, one image "
            "a person. The number: 0 is the same picture, 1 as near as the most similar image of somebody "
            "else. Near is no proof of copying, and a turned or partial copy would not be found."
        ),
    ]
    rule = comparison.calibration
    if rule is not None and comparison.has_unseen:
        parts.append(
            say(
                "What is suspicious was settled by {num} real images of {people} other people, who are not "
                "shown.",
                num=rule.num_images,
                people=rule.num_groups,
            )
        )
    elif rule is not None:
        parts.append(
            say(
                "Nobody was held out, so what is suspicious was settled by {num} of these images, held "
                "against those of the other people.",
                num=rule.num_images,
            )
        )
    return " ".join(parts)
