"""What all pages have in common: navigation, language, the sentence about research, the looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from html import escape

import streamlit as st
from PIL import Image, ImageDraw

from scripts.app import audit, generate, predict, review, study
from scripts.app.settings import LANGUAGES, AppSettings, current_settings
from scripts.app.words import LANGUAGE_KEY, say

STYLE = """
<style>
.block-container { max-width: 1240px; padding: 4.4rem 2rem 3rem; }
[data-testid=stMain]:focus-visible::before { box-shadow: none; }
h1.sl-title { font-size: 1.9rem; padding: 0; margin: 0; line-height: 1.2; }
.sl-research { border-left: 4px solid #b34f00; background: #fff6ee; color: #5c2c00; padding: .45rem .9rem;
  border-radius: 0 6px 6px 0; font-size: .95rem; }
.sl-decision { font-size: 1.75rem; font-weight: 650; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
.sl-decision.unsure { color: #b34f00; }
.sl-why { color: #4c5967; font-size: .95rem; margin: .3rem 0 1rem; max-width: 60ch; }
.sl-bars { display: grid; grid-template-columns: minmax(4.5rem, max-content) 1fr 4.2rem; gap: .5rem .8rem;
  align-items: center; font-variant-numeric: tabular-nums; }
.sl-bars .name { overflow-wrap: anywhere; }
.sl-bars .best { font-weight: 650; }
.sl-bars .track { background: #e6ebf0; height: 1.05rem; border-radius: 4px; position: relative; }
.sl-bars .fill { background: #8fb8d4; height: 100%; border-radius: 4px; }
.sl-bars .fill.best { background: #0072b2; }
.sl-bars .mark { position: absolute; top: -4px; bottom: -4px; width: 2px; background: #b34f00; }
.sl-bars .share { text-align: right; }
.sl-card { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .35rem 1.2rem; }
.stHtml dl.sl-card { margin: 0; padding: 0; }
.sl-card dt { color: #5a6775; } .sl-card dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 900px) { .block-container { padding: 4.4rem 1.2rem 2rem; } }
</style>
"""


@dataclass(frozen=True)
class AppPage:
    """One page of the application."""

    address: str  # last part of its URL
    title: str  # English; translated where it is shown
    icon: str
    show: Callable[[AppSettings], None]


PAGES = (
    AppPage("predict", "Predict", ":material/image_search:", predict.show),
    AppPage("review", "Review", ":material/rate_review:", review.show),
    AppPage("audit", "Audit", ":material/fact_check:", audit.show),
    AppPage("generate", "Generate", ":material/auto_awesome:", generate.show),
    AppPage("study", "Study", ":material/monitoring:", study.show),
)  # fmt: skip


def show_app() -> None:
    """Draw the page that the visitor is on."""
    # A named icon would be fetched from the network by the browser: ours is drawn.
    st.set_page_config(page_title="synthlabel", page_icon=draw_icon(), layout="wide")
    st.html(STYLE)
    settings = current_settings()
    first = first_page(settings)
    chosen = st.navigation(
        [
            st.Page(
                _bound(page, settings),
                title=say(page.title),
                icon=page.icon,
                url_path=page.address,
                default=page.address == first,
            )
            for page in PAGES
        ],
        position="top",
    )
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.html(
            f'<h1 class="sl-title">{escape(say(_title_of(chosen.url_path or first)))}</h1>', width="content"
        )
        st.segmented_control(
            say("Language"),
            tuple(LANGUAGES),
            format_func=LANGUAGES.__getitem__,
            default=settings.language,
            key=LANGUAGE_KEY,
            label_visibility="collapsed",
            required=True,
        )
    st.html(
        f'<div class="sl-research" role="note"><b>{escape(say("For research only."))}</b> '
        + escape(say("This is no medical device, and nothing here is a diagnosis."))
        + " "
        + escape(_where_files_go(settings))
        + "</div>"
    )
    chosen.run()


def first_page(settings: AppSettings) -> str:
    """Address of the page that a visit begins with: one that has what it needs."""
    if settings.model is not None:
        return "predict"
    if settings.audit is not None:
        return "audit"
    if settings.study is not None:
        return "study"
    if settings.network is not None:
        return "generate"
    return "predict" if settings.archive is None else "review"


def _where_files_go(settings: AppSettings) -> str:
    if settings.is_local:
        return say("Everything stays on this computer.")
    return say("Files go to the computer that runs this page, unencrypted, and nowhere else.")


def _title_of(address: str) -> str:
    return next((page.title for page in PAGES if page.address == address), PAGES[0].title)


@cache
def draw_icon() -> Image.Image:
    """The browser tab's picture: two brain halves, one drawn, one dashed."""
    icon = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    draw = ImageDraw.Draw(icon)
    draw.rounded_rectangle((2, 2, 61, 61), 14, fill=(0, 114, 178, 255))
    draw.arc((14, 12, 50, 52), 90, 270, fill="white", width=6)
    for start in range(-90, 90, 36):
        draw.arc((14, 12, 50, 52), start, start + 20, fill="white", width=6)
    return icon


def _bound(page: AppPage, settings: AppSettings) -> Callable[[], None]:
    def show() -> None:
        page.show(settings)

    show.__name__ = page.address
    return show
