"""What the parts of the page Study share: looks, choices that are kept, small pictures of intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, Literal, TypeVar

import streamlit as st

from extract.language import Language
from scripts.app.words import language_name, say, spoken

STYLE = """
<style>
h2.sl-study { font-size: 1.25rem; padding: 0; margin: 0; line-height: 1.3; overflow-wrap: anywhere; }
.sl-verdict { border-left: 6px solid #5a6775; background: #f3f6f9; padding: .9rem 1.2rem .7rem;
  border-radius: 0 8px 8px 0; }
.sl-verdict .headline { font-size: 1.25rem; line-height: 1.4; font-weight: 600; margin: 0 0 .4rem; }
.sl-verdict ul { margin: .3rem 0 .2rem; padding-left: 1.2rem; }
.sl-verdict li { margin: .2rem 0; }
.sl-verdict.gain { border-color: #00795a; } .sl-verdict.gain .word { color: #00795a; }
.sl-verdict.harm { border-color: #b34f00; } .sl-verdict.harm .word { color: #b34f00; }
.sl-verdict.no-headline { border-color: #e0a100; } .sl-verdict.no-headline .word { color: #8a6100; }
.sl-verdict.no-gain { border-color: #0072b2; } .sl-verdict.no-gain .word { color: #0072b2; }
.sl-wide { overflow-x: auto; }
.sl-table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .93rem; }
.sl-table th { text-align: left; font-weight: 600; color: #4c5967; vertical-align: bottom; }
.sl-table th, .sl-table td { padding: .3rem .55rem; border: 0; border-bottom: 1px solid #dfe4ea; }
.sl-table th:first-child, .sl-table td:first-child { padding-left: 0; }
.sl-table .n { text-align: right; white-space: nowrap; }
.sl-table tr.first td { background: #eef6fb; font-weight: 600; }
.sl-table .soft, .sl-soft { color: #5a6775; font-weight: 400; }
.sl-table td small { display: block; color: #5a6775; font-weight: 400; line-height: 1.3; }
.sl-tag { font-size: .78rem; font-weight: 600; color: #0a4a73; background: #dcecf7; border-radius: 4px;
  padding: 0 .4rem; white-space: nowrap; }
.sl-tag.bad { color: #7a3500; background: #fde8d8; }
.sl-interval { display: inline-block; position: relative; width: 9rem; height: 1rem; vertical-align: middle;
  background: linear-gradient(#dfe4ea, #dfe4ea) center / 100% 1px no-repeat; }
.sl-interval .span { position: absolute; top: .4rem; height: .2rem; background: #0072b2; border-radius: 2px; }
.sl-interval .point { position: absolute; top: .2rem; width: .6rem; height: .6rem; margin-left: -.3rem;
  border-radius: 50%; background: #0072b2; }
.sl-interval .zero { position: absolute; top: 0; bottom: 0; width: 1px; background: #1d2733; }
.sl-share { display: inline-block; width: 5rem; height: .6rem; background: #e6ebf0; border-radius: 3px;
  margin-right: .5rem; overflow: hidden; white-space: nowrap; font-size: 0; line-height: 0; }
.sl-share i { display: inline-block; height: 100%; background: #0072b2; }
.sl-share i.running { background: #56b4e9; } .sl-share i.failed { background: #d55e00; }
.sl-curve { width: 100%; max-width: 60rem; height: auto; display: block; }
h3.sl-behind { font-size: 1.1rem; padding: 0; margin: 0; line-height: 1.3; }
.sl-rounds { max-width: 46rem; }
.sl-round { font-weight: 650; margin: 0; }
.sl-tile { margin: 0; } .sl-tile img { width: 100%; aspect-ratio: 1; object-fit: contain; display: block;
  background: #000; border-radius: 4px; image-rendering: pixelated; }
.sl-tile figcaption { font-size: .85rem; line-height: 1.35; margin-top: .25rem; overflow-wrap: anywhere; }
.sl-tile.apart img { outline: 3px solid #d55e00; outline-offset: -3px; }
.sl-tile .apart { color: #b34f00; font-weight: 600; }
.sl-table td.nowrap { white-space: nowrap; }
@media (max-width: 900px) {
  .sl-table { font-size: .86rem; } .sl-table th, .sl-table td { padding: .3rem .35rem; }
  .sl-table th.n { white-space: normal; }
  .sl-table td .soft { display: block; } .sl-interval { width: 5.2rem; } .sl-share { width: 3rem; }
}
.sl-large img { width: 100%; min-width: 320px; max-width: 480px; }
</style>
"""

Option = TypeVar("Option")
ALL = -1  # folds or seeds
PART = "study.part"  # of the page, that is looked at


def report_words() -> Language:
    """The language that reports are written in, of this visitor: arms, verdicts, gates."""
    from semisup.report import report_language

    return report_language(language_name())


def choose(
    label: str,
    options: Sequence[Option],
    name: str,
    format_func: Callable[[Option], str] = str,
    default: Option | None = None,
    is_labeled: bool = True,
) -> Option:
    """A choice that is remembered while other parts of the page are looked at."""
    kept = f"study.kept.{name}"
    known: Any = st.session_state.get(kept, default)
    index = options.index(known) if known in options else 0
    key = f"study.choice.{name}"
    if key in st.session_state and st.session_state[key] not in options:
        del st.session_state[key]
    shown: Literal["visible", "collapsed"] = "visible" if is_labeled else "collapsed"
    chosen = st.selectbox(
        label, options, index=index, format_func=format_func, key=key, label_visibility=shown
    )
    st.session_state[kept] = chosen
    return chosen


def preset(name: str, value: object) -> None:
    """What `choose` begins with when it is drawn next."""
    st.session_state[f"study.kept.{name}"] = value
    st.session_state.pop(f"study.choice.{name}", None)


def reason_text(word: str) -> str:
    """What became of an image, in the visitor's words; the ledger's own where a later version has more."""
    from semisup.gate_counts import NAMES

    known = {
        "selected": say("selected"),
        "below threshold": say("below the threshold"),
        "over cap": say("over the limit for its class"),
        "negative": say("taught what it is not"),
        "too uncertain": say("model too uncertain"),
    }
    return report_words().text(NAMES[word]) if word in NAMES else known.get(word, word)


def share_text(fraction: float) -> str:
    """A share of the labels."""
    return say("all shares") if fraction == ALL else spoken().percent(fraction)


def number_or_all(number: int) -> str:
    """A fold or seed."""
    return say("all") if number == ALL else f"{number}"


def interval_picture(low: float, value: float, high: float, start: float, end: float) -> str:
    """A point with its interval on a line from `start` to `end`; a mark at 0 where that lies between."""
    reach = max(end - start, 1e-9)

    def place(position: float) -> float:
        return 100 * min(max((position - start) / reach, 0.0), 1.0)

    zero = f'<span class="zero" style="left:{place(0):.2f}%"></span>' if start < 0 < end else ""
    width = max(place(high) - place(low), 0.5)
    return (
        f'<span class="sl-interval" aria-hidden="true">{zero}'
        f'<span class="span" style="left:{place(low):.2f}%;width:{width:.2f}%"></span>'
        f'<span class="point" style="left:{place(value):.2f}%"></span></span>'
    )


def html_table(heads: Sequence[tuple[str, bool]], rows: Sequence[str]) -> str:
    """A table of ready rows; heads are texts and whether numbers stand below."""
    cells = "".join(
        f'<th scope="col"{" class=n" if is_number else ""}>{escape(text)}</th>' for text, is_number in heads
    )
    return (
        f'<div class="sl-wide"><table class="sl-table"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
