"""The tables of a study's result as HTML: arms, paired differences, deliberate faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING

import streamlit as st

from scripts.app.study_parts import html_table, interval_picture, report_words
from scripts.app.words import say, spoken

if TYPE_CHECKING:
    from semisup.arm_table import ArmRow
    from semisup.statistics import Estimate
    from semisup.summary import Comparison, Summary


def metric_name(metric: str) -> str:
    """A measure in the visitor's words."""
    from semisup.arm_table import AUROC
    from semisup.verdict import metric_phrase

    name = "AUROC" if metric == AUROC else metric_phrase(metric, report_words())
    return name[:1].upper() + name[1:]


def arm_table(rows: Sequence[ArmRow], metric: str) -> str:
    """Arms with their intervals and paired differences; the main question is marked."""
    values = [row.value for row in rows if row.value]
    differences = [row.difference for row in rows if row.difference]
    start, end = _reach(values)
    most = max([0.01, *(max(abs(e.low), abs(e.high)) for e in differences)])
    words = report_words()
    lines, last = [], ""
    for row in rows:
        result = row.result
        text = words.text(_arm_text(result.arm)) if result.arm != last else ""
        last = result.arm
        tag = f' <span class="sl-tag">{escape(say("main question"))}</span>' if row.is_primary else ""
        lines.append(
            f"<tr{' class=first' if row.is_primary else ''}><td>{escape(result.arm)}{tag}"
            f"<small>{escape(text)}</small></td>"
            f'<td class="n">{escape(spoken().percent(result.fraction))}</td>'
            f'<td class="n">{_share_cell(row.value)}</td><td>{_picture(row.value, start, end)}</td>'
            f'<td class="n">{_points_cell(row.difference)}</td>'
            f"<td>{_picture(row.difference, -most, most)}</td>"
            f'<td class="n">{result.num_runs}</td></tr>'
        )
    heads = [
        (say("Arm"), False),
        (say("Labels"), True),
        (f"{metric_name(metric)}, %", True),
        ("", False),
        (say("Difference to labels alone, points"), True),
        ("", False),
        (say("Runs"), True),
    ]
    return html_table(heads, lines)


def _arm_text(arm: str) -> str:
    from semisup.arms import ARMS

    return ARMS[arm].text if arm in ARMS else ""


def _reach(values: Sequence[Estimate]) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    return min(value.low for value in values) - 0.01, max(value.high for value in values) + 0.01


def _share_cell(estimate: Estimate | None) -> str:
    return _cell(estimate, spoken().share)


def _points_cell(estimate: Estimate | None) -> str:
    return _cell(estimate, spoken().points)


def _cell(estimate: Estimate | None, write: Callable[[float], str]) -> str:
    if estimate is None:
        return "–"
    ends = spoken().interval(write(estimate.low), write(estimate.high))
    return f'{write(estimate.value)} <span class="soft">{ends}</span>'


def _picture(estimate: Estimate | None, start: float, end: float) -> str:
    return interval_picture(estimate.low, estimate.value, estimate.high, start, end) if estimate else ""


def show_comparisons(summary: Summary) -> None:
    """Every paired difference of the report."""
    if not summary.comparisons:
        return
    with st.expander(say("Every paired difference ({num})", num=len(summary.comparisons))):
        most = max([0.01, *(max(abs(c.difference.low), abs(c.difference.high)) for c in summary.comparisons)])
        rows = [_comparison_row(comparison, most) for comparison in summary.comparisons]
        heads = [
            (say("Comparison"), False),
            (say("Labels"), True),
            (say("{measure}, points", measure=metric_name(summary.metric)), True),
            ("", False),
            (say("p, corrected"), True),
        ]
        st.html(html_table(heads, rows))


def _comparison_row(comparison: Comparison, most: float) -> str:
    p_value = say("main question") if comparison.is_primary else spoken().p_value(comparison.p_holm)
    return (
        f"<tr{' class=first' if comparison.is_primary else ''}>"
        f"<td>{escape(comparison.arm)} – {escape(comparison.baseline)}</td>"
        f'<td class="n">{escape(spoken().percent(comparison.fraction))}</td>'
        f'<td class="n">{_points_cell(comparison.difference)}</td>'
        f"<td>{_picture(comparison.difference, -most, most)}</td>"
        f'<td class="n">{escape(p_value)}</td></tr>'
    )


def show_leaks(summary: Summary) -> None:
    """What deliberate faults would have claimed, apart from all results."""
    if not summary.leaks:
        return
    with st.expander(say("What deliberate faults would have claimed: no results"), icon=":material/block:"):
        language = spoken()
        rows = [
            f'<tr><td>{escape(leak.arm)} <span class="sl-tag bad">{escape(say("deliberate fault"))}</span>'
            f"<small>{escape(report_words().text(leak.fault))}</small></td>"
            f'<td class="n">{escape(language.percent(leak.fraction))}</td>'
            f'<td class="n">{language.share(leak.claimed)}</td><td class="n">{_share_cell(leak.honest)}</td>'
            f'<td class="n">{language.points(leak.inflation)} <span class="soft">'
            f"{language.interval(*map(language.points, leak.interval))}</span></td></tr>"
            for leak in summary.leaks
        ]
        heads = [
            (say("Arm"), False),
            (say("Labels"), True),
            (say("Claimed, %"), True),
            (say("Honest, %"), True),
            (say("Too high by, points"), True),
        ]
        st.html(html_table(heads, rows))
