"""Pieces of pages as HTML: bars, cards, lists. Whatever comes from files or people is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from scripts.app.words import probability, say


def probability_bars(
    probabilities: Mapping[str, float], mark: float | None = None, mark_text: str = ""
) -> str:
    """One bar a class, the most probable first; `mark` is a probability to draw a line at."""
    order = sorted(probabilities.items(), key=lambda item: -item[1])
    rows = []
    for number, (name, share) in enumerate(order):
        best = " best" if number == 0 else ""
        line = "" if mark is None else (
            f'<span class="mark" style="left:{100 * mark:.2f}%" title="{escape(mark_text)}"></span>'
        )  # fmt: skip
        rows.append(
            f'<span class="name{best}">{escape(name)}</span>'
            f'<span class="track" role="meter" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{100 * share:.1f}" aria-label="{escape(name)}">'
            f'<span class="fill{best}" style="width:{100 * share:.2f}%;display:block"></span>{line}</span>'
            f'<span class="share{best}">{probability(share)}</span>'
        )
    return f'<div class="sl-bars">{"".join(rows)}</div>'


def definition_list(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, side by side."""
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f'<dl class="sl-card">{listed}</dl>'


def uploader_words(button: str, hint: str) -> str:
    """A style that puts other words on Streamlit's field for files; they must have no quotes."""
    field = '[data-testid="stFileUploaderDropzone"]'
    told = f"{field} [data-testid=stFileUploaderDropzoneInstructions] span"
    rules = (
        f"{field} button p, {told} {{ font-size: 0; }}",
        f'{field} button p::after {{ content: "{button}"; font-size: 1rem; }}',
        f'{told}::after {{ content: "{hint}"; font-size: .95rem; }}',
    )
    return f"<style>{' '.join(rules)}</style>"


def plain(text: str) -> str:
    """Text in which Markdown finds nothing to do."""
    return "".join(f"\\{character}" if character in "\\`*_[]<>#$:~|" else character for character in text)


def first_of(lines: Sequence[str], most: int) -> str:
    """A Markdown list of ready lines, of which there may be many."""
    more = ["- " + say("and {num} more", num=len(lines) - most)] if len(lines) > most else []
    return "\n".join([*lines[:most], *more])


def no_study() -> str:
    """What a page about a study says where none was named."""
    return say(
        "No study was named. End the command with Ctrl-C and start it with one: `synthlabel app "
        "--study DIR`, where DIR is the folder of a `synthlabel semisup run`."
    )
