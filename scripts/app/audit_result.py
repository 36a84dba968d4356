"""The last part of the page Audit: how many pseudo-labels are wrong, and what that means for the report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import streamlit as st

from extract.language import Percent
from scripts.app.audit_state import Place, arm_text, leave, name_of, reader_of, tell
from scripts.app.parts import plain
from scripts.app.words import percent, say, spoken
from semisup.audit import JudgedSheets, import_audit, is_recorded, judge_sheets, lost_readers, read_audit
from semisup.audit_reading import reader_sheets
from semisup.audit_standing import AuditStanding, audit_standing
from semisup.audit_statistics import ErrorEstimate, ReaderResult


def show(study: Path, place: Place) -> None:
    """Draw it, and record it in the study where nothing of an earlier audit is lost by that."""
    sheets = _sheets(place)
    own = sheets.index(place.sheet)
    judged = judge_sheets(study, sheets, export=place.export.export)
    reader = judged.result.readers[own]
    st.markdown(f"#### {plain(say('Reading of {reader}', reader=reader_of(place)))}")
    if len(reader.by_arm) > 1:
        st.markdown(_of_all(reader.error_if_unsure_wrong))
    for arm, sentence in _sentences(reader):
        st.markdown(sentence)
        if arm_text(arm):
            st.caption(f"{plain(arm)}: {plain(arm_text(arm))}")
    st.markdown(_note(reader))
    _record(study, sheets, judged)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown("##### " + say("What the computer said, and what you said"))
        st.html(_confusion(reader, judged.sample.classes))
        st.caption(say("Pseudo-labels in the sample; images that you could not tell are left out."))
    with right:
        _show_agreement(judged, own, sheets)
        st.markdown("##### " + say("What it means for the report"))
        st.markdown(_meaning(audit_standing(study)))
        st.markdown(say("Make the report anew:"))
        st.code(f"synthlabel semisup report --outdir {study}", language=None)
    if st.button(say("Back to the samples"), icon=":material/arrow_back:", key="audit.leave"):
        leave()
        st.rerun()


def _sheets(place: Place) -> list[Path]:
    """This sheet and all others that are finished, in the order of their names."""
    done = [sheet.path for sheet in reader_sheets(place.export) if sheet.is_complete and not sheet.problem]
    return sorted({place.sheet, *done}, key=lambda path: path.name)


def _record(study: Path, sheets: Sequence[Path], judged: JudgedSheets) -> None:
    """Write `audit.json`, unless readers of an earlier result would be forgotten."""
    lost = lost_readers(study, judged.key["export"], list(judged.answers.values()))
    if lost and not st.session_state.get("audit.replace"):
        earlier = read_audit(study) or {}
        is_other = earlier.get("export") != judged.key["export"]
        st.warning(
            say("The study holds the result of another sample. This one is shown, but not recorded yet.")
            if is_other
            else say(
                "The study holds the answers of readers whose sheets are not here. This result is shown, but "
                "not recorded yet."
            )
        )
        st.button(
            say("Replace the earlier result"),
            key="audit.replace-now",
            on_click=lambda: st.session_state.update({"audit.replace": True}),
        )
        return
    is_asked = bool(st.session_state.pop("audit.replace", False))
    try:
        if is_asked or not is_recorded(study, judged):
            import_audit(study, sheets, export=judged.key["export"], overwrite=is_asked)
    except OSError as error:
        tell(error)
        return
    st.caption(say("Recorded in the study (audit.json)."))


# Words --------------------------------------------------------------------------------------------


def _of_all(estimate: ErrorEstimate) -> str:
    """The bound that the page told when the sample was drawn."""
    return say(
        "Of **all** pseudo-labels that the sample stands for, **{value}** are wrong by this reading; with "
        "95 % certainty at most **{high}** ({wrong} wrong of {num} read).",
        value=percent(estimate.value),
        high=percent(estimate.high),
        wrong=estimate.num_errors,
        num=estimate.num_read,
    )


def _sentences(reader: ReaderResult) -> list[tuple[str, str]]:
    """Arms, and what was found about them."""
    said = []
    for (arm, fraction), estimate in reader.by_arm.items():
        if not estimate.num_read:
            continue
        text = say(
            "Of the pseudo-labels of **{arm}** at {fraction} of the labels, **{value}** are wrong by "
            "this reading; with 95 % certainty at most **{high}** ({wrong} wrong of {num} read).",
            arm=plain(arm),
            fraction=Percent(fraction),
            value=percent(estimate.value),
            high=percent(estimate.high),
            wrong=estimate.num_errors,
            num=estimate.num_read,
        )
        said.append((arm, text))
    return said


def _note(reader: ReaderResult) -> str:
    note = say("An image that you were not sure of counts as wrong.")
    if reader.num_answered < reader.num_pictures:
        note += " " + say(
            "{done} of {num} images were read: right as far as it goes, for their order is random.",
            done=reader.num_answered,
            num=reader.num_pictures,
        )
    return note


def _confusion(reader: ReaderResult, classes: Sequence[str]) -> str:
    heads = [*classes, say("none")]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    rows = []
    for number, name in enumerate(classes):
        cells = "".join(_cell(int(count), k == number) for k, count in enumerate(reader.confusion[number]))
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    corner = f'<th scope="col">{escape(say("computer"))} \\ {escape(say("you"))}</th>'
    return (
        f'<div class="sl-audit-wide"><table class="sl-audit-table"><thead><tr>{corner}{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(count: int, is_right: bool) -> str:
    kind = "right" if is_right else "wrong" if count else "empty"
    return f'<td class="{kind}">{spoken().count(count)}</td>'


def _show_agreement(judged: JudgedSheets, own: int, sheets: Sequence[Path]) -> None:
    names = dict(zip(judged.answers, map(name_of, sheets), strict=True))
    mine = list(judged.answers)[own]
    for pair in judged.result.agreements:
        if mine not in pair.readers:
            continue
        other = names[next(name for name in pair.readers if name != mine)]
        if not pair.num_pictures:
            continue
        st.markdown("##### " + say("Agreement with {reader}", reader=plain(other)))
        text = say(
            "You name the same class on {share} of {num} images.",
            share=percent(pair.agreement),
            num=pair.num_pictures,
        )
        if not np.isnan(pair.kappa):
            text += " " + say(
                "Kappa {kappa}: 0 is what chance would give, 1 is perfect.",
                kappa=spoken().number(pair.kappa, 2),
            )
        st.markdown(text)
        st.caption(say("For the report the stricter reader counts."))


def _meaning(found: AuditStanding) -> str:
    allowed = percent(found.max_error) if found.max_error is not None else ""
    bound = percent(found.bound) if found.bound is not None else ""
    arm = plain(found.arm)
    match found.standing:
        case "not required" if found.bound is None:
            return say("The audit is not about the main comparison; the report does not wait for one.")
        case "not required":
            return say(
                "The report says so in a sentence: at most {bound} of the pseudo-labels of {arm} are wrong. "
                "The plan of this study does not ask for more.",
                bound=bound,
                arm=arm,
            )
        case "missing":
            return say(
                "The plan asks for an audit of {arm}, and this sample has none of its pseudo-labels: the "
                "report has no headline yet. Draw a sample of that arm.",
                arm=arm,
            )
        case "incomplete":
            return say(
                "The plan asks for an audit of all runs of {arm}, and {num} are not in this sample: the "
                "report has no headline yet. Draw a new sample when the study is finished.",
                arm=arm,
                num=found.num_unread,
            )
        case "too wrong":
            return say(
                "The plan allows {allowed} wrong pseudo-labels in {arm}, and this audit can only promise "
                "{bound}: the report has no headline. A larger sample may promise less; if many are wrong, "
                "none will.",
                allowed=allowed,
                arm=arm,
                bound=bound,
            )
    if found.max_error is None:
        return say(
            "The plan asks for an audit of {arm}, and this is it: the report has its headline.", arm=arm
        )
    return say(
        "The plan allows {allowed} wrong pseudo-labels in {arm}; this audit promises at most {bound}. The "
        "report has its headline.",
        allowed=allowed,
        arm=arm,
        bound=bound,
    )
