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
from scripts.app.study_parts import ALL, PART, choose, preset, report_words, share_text
from scripts.app.study_tables import arm_table, metric_name, show_comparisons, show_leaks
from scripts.app.words import language_name, say, spoken

if TYPE_CHECKING:
    from semisup.findings import Findings
    from semisup.summary import Summary

_drawing = threading.Lock()  # matplotlib's settings are those of the process


def show_outcome(opened: OpenStudy) -> None:
    """Draw it, or how far the computation is."""
    job = ready_result(opened)
    if job is None:
        return
    findings = job.result.result().findings[language_name()]
    _show_verdict(findings)
    _show_numbers(opened, job, findings.summary)
    show_comparisons(findings.summary)
    show_leaks(findings.summary)


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
    st.html(arm_table(rows, metric))
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
