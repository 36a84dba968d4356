"""What a study found: the verdict, the arms with their intervals, and the curve; the report's own numbers."""

from __future__ import annotations

import base64
import threading
from collections.abc import Collection, Sequence
from html import escape
from typing import TYPE_CHECKING

import streamlit as st

from extract.errors import SynthlabelError
from scripts.app.parts import plain
from scripts.app.study_open import OpenStudy, ResultJob
from scripts.app.study_parts import (
    ALL,
    PART,
    choose,
    html_table,
    interval_picture,
    preset,
    report_words,
    share_text,
)
from scripts.app.words import language_name, say, spoken

if TYPE_CHECKING:
    from semisup.arm_table import ArmRow
    from semisup.findings import Findings
    from semisup.statistics import Estimate
    from semisup.summary import Comparison, Summary

_drawing = threading.Lock()  # matplotlib's settings are those of the process


def show_outcome(opened: OpenStudy) -> None:
    """Draw it, or how far the computation is."""
    job = ready_result(opened)
    if job is None:
        return
    findings = job.result.result().findings[language_name()]
    _show_verdict(findings)
    _show_numbers(opened, job, findings.summary)
    _show_comparisons(findings.summary)
    _show_leaks(findings.summary)


def ready_result(opened: OpenStudy) -> ResultJob | None:
    """The newest result of the study; None where the page says what it waits for."""
    runs = opened.runs()
    if not any(run.is_done for run in runs.runs.values()):
        st.info(say("No run has finished yet; the part Progress says how far the study is."))
        return None
    state = opened.state(runs)
    job = opened.result_job() or opened.begin_result(state)
    if not job.result.done():
        _wait(opened)
        return None
    is_new = job.state == state
    if opened.job_on_its_way():
        _wait(opened)
    elif not is_new:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(say("The study has changed since these numbers were worked out."), width="content")
            if st.button(say("Work them out anew"), icon=":material/refresh:"):
                opened.begin_result(state)
                st.rerun()
    try:
        job.result.result()
    except SynthlabelError as error:
        st.error(plain(f"{error}"))
        return None
    return job


@st.fragment(run_every=1.0)
def _wait(opened: OpenStudy) -> None:
    job = opened.job_on_its_way()
    if job is None:
        st.rerun()
        return
    st.progress(
        min(job.done / max(job.total, 1), 1.0),
        text=say(
            "The study's numbers are being worked out, once for every change; this takes some seconds ..."
        ),
    )


def _show_verdict(findings: Findings) -> None:
    verdict = findings.summary.verdict
    head, _, rest = verdict.headline.partition(":")
    details = "".join(f"<li>{escape(text)}</li>" for text in verdict.details)
    st.html(
        f'<section class="sl-verdict {escape(verdict.kind.replace(" ", "-"))}">'
        f'<p class="headline"><span class="word">{escape(head)}:</span>{escape(rest)}</p>'
        f"<ul>{details}</ul></section>"
    )
    language = report_words()
    warnings = [*findings.summary.warnings]
    warnings += [f"{language.text(check.what)}: {language.text(check.found)}" for check in findings.faults]
    if warnings:
        with st.expander(say("Warnings ({num})", num=len(warnings)), icon=":material/warning:"):
            st.markdown("\n".join(f"- {plain(text)}" for text in warnings))


def _show_numbers(opened: OpenStudy, job: ResultJob, summary: Summary) -> None:
    from semisup.arm_table import arm_rows, metrics_of
    from semisup.summary import CEILING

    fractions = sorted({result.fraction for result in summary.arms if result.arm != CEILING})
    all_arms = list(dict.fromkeys(result.arm for result in summary.arms))
    left, middle, right = st.columns([2, 1, 3])
    with left:
        metric = choose(say("Measure"), metrics_of(summary), "metric", metric_name)
    with middle:
        fraction = choose(say("Share of labels"), [ALL, *fractions], "fraction", share_text)
    with right:
        arms = st.multiselect(
            say("Arms"), all_arms, key="study.arms", placeholder=say("all; choose some to look at them alone")
        )
    rows = arm_rows(summary, metric, arms, None if fraction == ALL else fraction)
    st.html(_arm_table(rows, metric))
    st.caption(
        say(
            "In brackets and as lines: 95 % intervals. Differences are to labels alone, at the same share of "
            "labels and over the same people; where such an interval crosses the mark at 0, the study shows "
            "no difference."
        )
    )
    with_rounds = {result.arm for result in summary.rounds}
    _offer_parts(opened, [(row.result.arm, row.result.fraction) for row in rows], with_rounds)
    if any(row.value for row in arm_rows(summary, metric, arms)):
        with st.spinner(say("Drawing the curve ...")):
            picture = _curve(f"{opened.study_dir} {job.state}", summary, metric, tuple(arms), language_name())
        st.html(picture)


def _offer_parts(opened: OpenStudy, cells: Sequence[tuple[str, float]], with_rounds: Collection[str]) -> None:
    """The way from a row of the table to the images behind it."""
    if not cells:
        return
    primary = opened.study.get("primary") or {}
    wanted = (str(primary.get("arm")), float(primary.get("fraction") or 0))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        with st.container(width=360):
            cell = choose(say("Look at the images of"), list(cells), "images of", _cell_name, wanted)
        for part, label in (("rounds", say("Its rounds")), ("tests", say("Its test images"))):
            is_off = part == "rounds" and cell[0] not in with_rounds
            st.button(label, key=f"study.to.{part}", disabled=is_off, on_click=_go_to, args=(part, *cell))


def _cell_name(cell: tuple[str, float]) -> str:
    return f"{cell[0]}, {spoken().percent(cell[1])}"


def _go_to(part: str, arm: str, fraction: float) -> None:
    st.session_state[PART] = part
    preset(f"{part}.arm", arm)
    preset(f"{part}.fraction", fraction)


def metric_name(metric: str) -> str:
    from semisup.arm_table import AUROC
    from semisup.verdict import metric_phrase

    name = "AUROC" if metric == AUROC else metric_phrase(metric, report_words())
    return name[:1].upper() + name[1:]


def _arm_table(rows: Sequence[ArmRow], metric: str) -> str:
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
    if estimate is None:
        return "–"
    language = spoken()
    ends = language.interval(language.share(estimate.low), language.share(estimate.high))
    return f'{language.share(estimate.value)} <span class="soft">{ends}</span>'


def _points_cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    language = spoken()
    ends = language.interval(language.points(estimate.low), language.points(estimate.high))
    return f'{language.points(estimate.value)} <span class="soft">{ends}</span>'


def _picture(estimate: Estimate | None, start: float, end: float) -> str:
    return interval_picture(estimate.low, estimate.value, estimate.high, start, end) if estimate else ""


@st.cache_data(max_entries=32, show_spinner=False)
def _curve(key: str, _summary: Summary, metric: str, arms: tuple[str, ...], language: str) -> str:
    """The report's curve as an <img>, drawn of the chosen arms."""
    from semisup.arm_table import in_metric
    from semisup.figures import label_curve
    from semisup.report import report_language

    with _drawing:
        drawing = label_curve(in_metric(_summary, metric, arms), report_language(language))
        data = base64.b64encode(drawing.svg()).decode("ascii")
    return (
        f'<img class="sl-curve" alt="{escape(drawing.description)}" src="data:image/svg+xml;base64,{data}">'
    )


def _show_comparisons(summary: Summary) -> None:
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


def _show_leaks(summary: Summary) -> None:
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
