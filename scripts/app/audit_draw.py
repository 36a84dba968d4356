"""A new sample on the page Audit: how many images, of which pseudo-labels, and what they can show at best."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from extract.errors import SettingsError
from scripts.app.audit_state import Place, go_to, tell
from scripts.app.parts import plain
from scripts.app.words import percent, say, spoken
from semisup.audit_plan import AuditPlan, BestCase
from semisup.audit_reading import draw_in_study, open_export, sheet_of
from semisup.audit_sample import audited_arms, read_population
from semisup.audit_standing import audit_standing
from semisup.folders import RUN_JSON, STUDY_JSON, read_json
from semisup.status import study_status

ARMS, FRACTIONS = "audit.arms", "audit.fractions"
USUAL_NUM = 200  # as the command draws
USUAL_SECONDS = 5.0  # that a reader takes for an image
COMPARED = (20, 50, 100, 200, 400)


@dataclass(frozen=True)
class Source:
    """What to draw from, and what tells that it has changed."""

    study: str
    arms: tuple[str, ...]  # empty: all with pseudo-labels
    fractions: tuple[float, ...]
    changes: tuple[tuple[str, int], ...]  # time of each run's record


def show(study: Path, name: str) -> None:
    """Draw it; `name` is the reader's."""
    content = read_json(study / STUDY_JSON)
    source = _chosen_source(study, content)
    try:
        with st.spinner(say("Counting the pseudo-labels ...")):
            plan = _plan(source)
            compared = {
                num: _best_bound(source, num)
                for num in COMPARED
                if plan.min_num <= num <= plan.num_pseudo_labels
            }
    except SettingsError:
        st.info(
            say(
                "There are no pseudo-labels to read yet: none of the finished runs has any. Wait until the "
                "study has finished runs with pseudo-labels, or choose others below."
            )
        )
    else:
        if not _is_over(source):
            st.warning(
                say(
                    "The study is not finished. A sample drawn now is of the runs that are; the report "
                    "wants one of all runs."
                )
            )
        left, right = st.columns([3, 2], gap="large")
        with left:
            _ask_number(study, source, plan, name)
        with right:
            st.html(_comparison(compared))
    _ask_source(content)


def _ask_number(study: Path, source: Source, plan: AuditPlan, name: str) -> None:
    most = max(plan.num_pseudo_labels, plan.min_num)
    num = st.number_input(
        say("Number of images"), plan.min_num, most, min(max(USUAL_NUM, plan.min_num), most),
        step=10, width=200, key=f"audit.num.{plan.min_num}.{most}",
        help=say(
            "At least {least}, one of each kind. Drawn at random among {num} pseudo-labels; one image may "
            "have got several.", least=plan.min_num, num=plan.num_pseudo_labels,
        ),
    )  # fmt: skip
    st.markdown(_promise(_best_case(source, int(num)), int(num)))
    _tell_requirement(study, source)
    if st.button(say("Draw and begin"), type="primary", icon=":material/shuffle:", key="audit.draw"):
        _draw(study, source, int(num), plan.num_bands(int(num)), name)


def _promise(best: BestCase, num: int) -> str:
    text = say(
        "{num} images take about {time}. If you find **no** wrong pseudo-label among them, the result is: at "
        "most **{bound}** are wrong, with 95 % certainty. More images can promise more.",
        num=num,
        time=spoken().duration(num * USUAL_SECONDS),
        bound=percent(best.high),
    )
    if len(best.by_arm) > 1:
        text += " " + say(
            "That is for all arms together; of one arm alone the sample has fewer images, and promises at "
            "most {bound}.",
            bound=percent(max(best.by_arm.values())),
        )
    return text


def _comparison(compared: dict[int, float]) -> str:
    """Sizes of samples side by side, so that the reader chooses knowingly."""
    if not compared:
        return "<span></span>"
    rows = "".join(
        f"<tr><td>{spoken().count(num)}</td><td>{escape(percent(bound))}</td>"
        f"<td>{escape(spoken().duration(num * USUAL_SECONDS))}</td></tr>"
        for num, bound in compared.items()
    )
    heads = (say("images"), say("best limit"), say("time"))
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return f'<table class="sl-audit-table"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _tell_requirement(study: Path, source: Source) -> None:
    """What the study's plan asks of an audit, and the number of images that takes."""
    wanted = audit_standing(study)
    if not wanted.is_required:
        return
    if wanted.max_error is None:
        st.info(say("The plan of this study asks for an audit before its report has a headline."))
        return
    text = say(
        "The plan of this study asks that at most {allowed} of the pseudo-labels of {arm} are wrong.",
        allowed=percent(wanted.max_error),
        arm=plain(wanted.arm),
    )
    least = _num_for(source, wanted.arm, wanted.fraction, wanted.max_error)
    if least is None:
        st.info(f"{text} {say('No sample of these can show that.')}")
    else:
        st.info(f"{text} {say('Without a single error that takes {least} images.', least=least)}")


def _draw(study: Path, source: Source, num: int, num_bands: int, name: str) -> None:
    if not any(letter.isalnum() for letter in name):
        st.error(say("Please write your name or initials above first."))
        return
    bar = st.progress(0.0, text=say("Drawing the sample ..."))

    def report(done: int, total: int, _: str) -> None:
        bar.progress(done / total, text=say("Drawing the sample ..."))

    try:
        summary = draw_in_study(
            study, num, arms=source.arms, fractions=source.fractions, num_bands=num_bands, progress=report
        )
    except OSError as error:
        bar.empty()
        tell(error)
        return
    export = open_export(study, summary.dest)
    go_to(Place(export, sheet_of(export, name)))
    st.rerun()


# Which pseudo-labels --------------------------------------------------------------------------------


def _chosen_source(study: Path, content: dict[str, Any]) -> Source:
    """What was chosen below the number; else what the command takes."""
    primary = (content.get("primary") or {}).get("fraction")
    fractions = st.session_state.get(FRACTIONS) or ([] if primary is None else [float(primary)])
    changes = tuple(
        (path.parent.name, path.stat().st_mtime_ns) for path in sorted(study.glob(f"runs/[!.]*/{RUN_JSON}"))
    )
    return Source(f"{study}", tuple(st.session_state.get(ARMS) or ()), tuple(fractions), changes)


def _ask_source(content: dict[str, Any]) -> None:
    with st.expander(say("Which pseudo-labels"), icon=":material/filter_alt:"):
        st.multiselect(
            say("Arms (ways to train; none chosen: all that have pseudo-labels)"),
            audited_arms(content),
            key=ARMS,
        )
        st.multiselect(
            say("Share of the labels (none chosen: that of the main comparison)"),
            [float(share) for share in content.get("fractions") or []],
            format_func=lambda share: spoken().percent(share),
            key=FRACTIONS,
        )


# What takes a moment is reckoned once ---------------------------------------------------------------


@st.cache_data(show_spinner=False, max_entries=4)
def _is_over(source: Source) -> bool:
    return study_status(Path(source.study)).is_over


@st.cache_resource(show_spinner=False, max_entries=4)
def _plan(source: Source) -> AuditPlan:
    study = Path(source.study)
    content = read_json(study / STUDY_JSON)
    rows = read_population(study, content, arms=source.arms, fractions=source.fractions).rows
    return AuditPlan(rows)


@st.cache_data(show_spinner=False, max_entries=64)
def _best_case(source: Source, num: int) -> BestCase:
    return _plan(source).best_case(num)


@st.cache_data(show_spinner=False, max_entries=64)
def _best_bound(source: Source, num: int) -> float:
    return _plan(source).best_bound(num)


@st.cache_data(show_spinner=False, max_entries=4)
def _num_for(source: Source, arm: str, fraction: float, max_error: float) -> int | None:
    return _plan(source).num_for(arm, fraction, max_error)
