"""The first part of the page Audit: who reads, which sample goes on, and how large a new one shall be."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from extract.errors import SettingsError
from extract.language import Percent
from scripts.app.audit_state import RESULT, SAID, Place, go_to, name_of, tell, without_folders
from scripts.app.parts import plain
from scripts.app.settings import AppSettings
from scripts.app.words import percent, say, spoken
from semisup.audit_plan import AuditPlan
from semisup.audit_reading import (
    OpenExport,
    ReaderSheet,
    check_export,
    draw_in_study,
    list_exports,
    reader_sheets,
    sheet_of,
    unknown_folders,
)
from semisup.audit_sample import audited_arms, read_population
from semisup.audit_standing import audit_standing
from semisup.folders import RUN_JSON, STUDY_JSON, read_json
from semisup.status import study_status

NAME = "audit.name"
USUAL_NUM = 200  # as the command draws
USUAL_SECONDS = 5.0  # that a reader takes for an image
COMPARED = (20, 50, 100, 200, 400)


def show(settings: AppSettings, study: Path) -> None:
    """Draw it."""
    said = st.session_state.pop(SAID, "")
    if said:
        st.success(said)
    st.markdown(
        say(
            "An audit tells how many pseudo-labels are wrong. You are shown images one by one, without what "
            "the computer took them for, and say what you see. Every answer is saved at once: stop and go "
            "on whenever you like."
        )
    )
    exports = list_exports(study, settings.audit)
    name = st.text_input(
        say("Your name or initials"),
        key=NAME,
        max_chars=40,
        placeholder=say("for example A. Ruiz"),
        help=say("It names the file of your answers. A second reader takes another name."),
        width=320,
    )
    for folder in unknown_folders(study):
        st.warning(
            say(
                "{name}: this sample cannot be read, for its key is gone or its images are others.",
                name=plain(folder.name),
            )
        )
    for export in exports:
        _show_export(study, export, name)
    with st.expander(say("Draw a new sample"), expanded=not exports, icon=":material/shuffle:"):
        _show_drawing(study, name)


# Samples that are there -----------------------------------------------------------------------------


def _show_export(study: Path, export: OpenExport, name: str) -> None:
    sheets = reader_sheets(export)
    with st.container(border=True):
        st.markdown(
            f"**{plain(export.folder.name)}** · "
            + say("{num} images", num=len(export.codes))
            + " · "
            + plain(", ".join(export.sample.classes))
        )
        for sheet in sheets:
            _show_sheet(study, export, sheet)
        label = say("Read it as a second reader") if sheets else say("Read it")
        if st.button(
            label,
            key=f"audit.read.{export.export}.{export.folder.name}",
            type="secondary" if sheets else "primary",
            icon=":material/play_arrow:",
        ):
            _begin(study, export, name)


def _show_sheet(study: Path, export: OpenExport, sheet: ReaderSheet) -> None:
    key = f"{export.export}.{export.folder.name}.{sheet.path.name}"
    reader = plain(name_of(sheet.path))
    row = st.container(horizontal=True, vertical_alignment="center")
    if sheet.problem:
        row.error(say("{reader}: this sheet cannot be read.", reader=reader))
        with row.popover(say("Why")):
            st.text(without_folders(sheet.problem))
        return
    row.progress(
        sheet.num_answered / sheet.num_pictures,
        text=say("{reader}: {done} of {num}", reader=reader, done=sheet.num_answered, num=sheet.num_pictures),
        width=280,
    )
    if sheet.is_complete:
        if row.button(say("Result of {reader}", reader=reader), key=f"audit.result.{key}"):
            go_to(Place(export, sheet.path, RESULT))
            st.rerun()
    elif row.button(
        say("Go on as {reader}", reader=reader), key=f"audit.go.{key}", type="primary",
        icon=":material/play_arrow:",
    ):  # fmt: skip
        check_export(study, export)
        go_to(Place(export, sheet.path))
        st.rerun()
    if sheet.num_answered and not sheet.is_complete:
        _offer_end(row, export, sheet, key)


def _offer_end(row: DeltaGenerator, export: OpenExport, sheet: ReaderSheet, key: str) -> None:
    """A result of what has been read so far, for who will not read on."""
    with row.popover(say("End early")):
        st.markdown(
            say(
                "The order is random, so what has been read is a fair sample, only a smaller one. The "
                "result shows what the images were taken for: who has seen it cannot go on blinded."
            )
        )
        if st.button(say("Show the result of {num} images", num=sheet.num_answered), key=f"audit.end.{key}"):
            go_to(Place(export, sheet.path, RESULT))
            st.rerun()


def _begin(study: Path, export: OpenExport, name: str) -> None:
    try:
        sheet = sheet_of(export, name)
    except SettingsError:
        st.error(say("Please write your name or initials above first."))
        return
    check_export(study, export)
    go_to(Place(export, sheet))
    st.rerun()


# A new one ------------------------------------------------------------------------------------------


def _show_drawing(study: Path, name: str) -> None:
    content = read_json(study / STUDY_JSON)
    arms, fractions = _chosen_cells(content)
    try:
        with st.spinner(say("Counting the pseudo-labels ...")):
            changes = _changes(study)
            plan = _plan(f"{study}", arms, fractions, changes)
    except SettingsError:
        st.info(
            say(
                "There are no pseudo-labels to read yet: none of the finished runs has any. Wait until the "
                "study has finished runs with pseudo-labels, or choose others below."
            )
        )
        _choose_cells(content)
        return
    if not _is_over(f"{study}", changes):
        st.warning(
            say(
                "The study is not finished. A sample drawn now is of the runs that are; the report wants one "
                "of all runs."
            )
        )
    left, right = st.columns([3, 2], gap="large")
    with left:
        usual = min(max(USUAL_NUM, plan.min_num), plan.num_pseudo_labels)
        num = st.number_input(
            say("Number of images"), plan.min_num, max(plan.num_pseudo_labels, plan.min_num), usual,
            step=10, width=200, key=f"audit.num.{plan.min_num}.{plan.num_pseudo_labels}",
            help=say(
                "At least {least}, one of each kind. Drawn at random among {num} pseudo-labels; one image "
                "may have got several.", least=plan.min_num, num=plan.num_pseudo_labels,
            ),
        )  # fmt: skip
        st.markdown(_promise(plan, int(num)))
        _tell_requirement(study, plan)
        is_asked = st.button(say("Draw and begin"), type="primary", icon=":material/shuffle:")
        if is_asked:
            _draw(study, int(num), arms, fractions, plan, name)
    with right:
        st.html(_comparison(plan))
    _choose_cells(content)


def _promise(plan: AuditPlan, num: int) -> str:
    best = plan.best_case(num)
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


def _comparison(plan: AuditPlan) -> str:
    rows = "".join(
        f"<tr><td>{spoken().count(num)}</td><td>{escape(percent(plan.best_case(num).high))}</td>"
        f"<td>{escape(spoken().duration(num * USUAL_SECONDS))}</td></tr>"
        for num in COMPARED
        if plan.min_num <= num <= plan.num_pseudo_labels
    )
    if not rows:
        return "<span></span>"
    heads = (say("images"), say("best limit"), say("time"))
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return f'<table class="sl-audit-table"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _tell_requirement(study: Path, plan: AuditPlan) -> None:
    wanted = audit_standing(study)
    if not wanted.is_required:
        return
    if wanted.max_error is None:
        st.info(say("The plan of this study asks for an audit before its report has a headline."))
        return
    least = plan.num_for(wanted.arm, wanted.fraction, wanted.max_error)
    if least is None:
        st.info(
            say(
                "The plan of this study asks that at most {allowed} of the pseudo-labels of {arm} are wrong. "
                "No sample of these can show that.",
                allowed=percent(wanted.max_error),
                arm=plain(wanted.arm),
            )
        )
        return
    st.info(
        say(
            "The plan of this study asks that at most {allowed} of the pseudo-labels of {arm} are wrong. "
            "Without a single error that takes {least} images.",
            allowed=percent(wanted.max_error),
            arm=plain(wanted.arm),
            least=least,
        )
    )


def _draw(
    study: Path, num: int, arms: tuple[str, ...], fractions: tuple[float, ...], plan: AuditPlan, name: str
) -> None:
    if not any(letter.isalnum() for letter in name):
        st.error(say("Please write your name or initials above first."))
        return
    bar = st.progress(0.0, text=say("Drawing the sample ..."))

    def report(done: int, total: int, _: str) -> None:
        bar.progress(done / total, text=say("Drawing the sample ..."))

    try:
        summary = draw_in_study(
            study, num, arms=arms, fractions=fractions, num_bands=plan.num_bands(num),
            progress=report,
        )  # fmt: skip
    except OSError as error:
        bar.empty()
        tell(error)
        return
    export = next(one for one in list_exports(study) if one.folder == summary.dest)
    go_to(Place(export, sheet_of(export, name)))
    st.rerun()


# Which pseudo-labels --------------------------------------------------------------------------------

ARMS_KEY, FRACTIONS_KEY = "audit.arms", "audit.fractions"


def _chosen_cells(study: dict[str, Any]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """What was chosen below, in an earlier drawing; else what the command takes."""
    primary = (study.get("primary") or {}).get("fraction")
    fractions = tuple(st.session_state.get(FRACTIONS_KEY) or ([] if primary is None else [float(primary)]))
    return tuple(st.session_state.get(ARMS_KEY) or ()), fractions


def _choose_cells(study: dict[str, Any]) -> None:
    with st.expander(say("Which pseudo-labels"), icon=":material/filter_alt:"):
        st.multiselect(
            say("Arms (ways to train; none chosen: all that have pseudo-labels)"),
            audited_arms(study),
            key=ARMS_KEY,
        )
        st.multiselect(
            say("Share of the labels (none chosen: that of the main comparison)"),
            [float(share) for share in study.get("fractions") or []],
            format_func=lambda share: spoken().text("{share}", share=Percent(share)),
            key=FRACTIONS_KEY,
        )


def _changes(study: Path) -> tuple[tuple[str, int], ...]:
    """What tells that the population may be another: the record of each run."""
    return tuple(
        (path.parent.name, path.stat().st_mtime_ns) for path in sorted(study.glob(f"runs/[!.]*/{RUN_JSON}"))
    )


@st.cache_data(show_spinner=False, max_entries=4)
def _is_over(study: str, changes: tuple[tuple[str, int], ...]) -> bool:
    return study_status(Path(study)).is_over


@st.cache_resource(show_spinner=False, max_entries=4)
def _plan(
    study: str, arms: tuple[str, ...], fractions: tuple[float, ...], changes: tuple[tuple[str, int], ...]
) -> AuditPlan:
    folder = Path(study)
    content = read_json(folder / STUDY_JSON)
    return AuditPlan(read_population(folder, content, arms=arms, fractions=fractions).rows)
