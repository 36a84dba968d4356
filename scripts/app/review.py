"""The page Review: look at doubtful training images one by one, and keep, relabel or exclude them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING

import streamlit as st

from classifier.review_reasons import REASONS
from extract.errors import SynthlabelError
from extract.review_log import ReviewLog
from extract.review_rows import (
    EXCLUDE,
    KEEP,
    MAX_AUTHOR_CHARS,
    RELABEL,
    Decision,
    check_author,
    current_decisions,
)
from scripts.app.parts import plain
from scripts.app.review_desk import (
    AUTHOR,
    FAULT,
    author,
    decide,
    go_to,
    known_log,
    last_own,
    mark_shown,
    place_in,
    take_back,
)
from scripts.app.review_image import (
    REASON_NAMES,
    label_of,
    reason_texts,
    show_companions,
    show_opinion,
    show_picture,
)
from scripts.app.review_job import ReviewBasis, ReviewJob, begin_review, come, review_basis
from scripts.app.review_list import decision_text, show_decisions
from scripts.app.settings import AppSettings
from scripts.app.words import percent, say, spoken

if TYPE_CHECKING:
    from classifier.review_queue import Candidate, ModelFindings

ANY = ""
REASON, CLASS, NAME, RENAMING = "review.reason", "review.class", "review.name", "review.renaming"
BY_HEART = 0.99  # of the training labels; a model that gives more of them may have learned wrong ones, too
NUM_KEYS = 9  # classes that have a key of their own
STYLE = """
<style>
.stHtml figure { margin: 0; }
.sl-picture { max-width: 430px; }
.sl-picture img { width: 100%; border-radius: 8px; image-rendering: pixelated; background: #000; }
.sl-picture figcaption { text-align: center; color: #5a6775; font-size: .875rem; overflow-wrap: anywhere; }
.sl-alike { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: .9rem; }
.sl-alike img { width: 100%; border-radius: 6px; image-rendering: pixelated; background: #000; }
.sl-alike figcaption > * { display: block; font-size: .875rem; overflow-wrap: anywhere; line-height: 1.35; }
.sl-label { font-size: 1.5rem; font-weight: 650; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
.sl-field { font-size: .875rem; margin-bottom: .25rem; }
.sl-reasons { margin: .3rem 0 .2rem; padding-left: 1.1rem; color: #36424f; font-size: .95rem; }
.sl-decided { border-left: 4px solid #0072b2; background: #eef6fb; color: #12344d; padding: .3rem .7rem;
  border-radius: 0 6px 6px 0; font-size: .95rem; overflow-wrap: anywhere; }
</style>
"""


def show(settings: AppSettings) -> None:
    """Draw the page."""
    if settings.archive is None:
        st.info(
            say(
                "No data set was named. End the command with Ctrl-C and start it with one: `synthlabel app "
                "--archive ZIP --split SPLIT.json`, and with `--model RUN` for what a model doubts."
            )
        )
        return
    try:
        with st.spinner(say("Opening the data set ...")):
            basis = review_basis(settings)
            log = known_log(basis)
    except SynthlabelError as error:
        st.error(_told(error))
        return
    st.html(STYLE)
    # An exported network names nobody: nobody knows what it has learned from.
    model = settings.model if settings.model is not None and settings.model.is_dir() else None
    job = begin_review(basis, model)
    _show_basis(basis, log, job)
    if not job.is_done:
        _wait(job)
    if come(job.findings) or come(job.duplicates):
        _review(basis, job)
    _explain(basis, job)


def _show_basis(basis: ReviewBasis, log: ReviewLog, job: ReviewJob) -> None:
    """Faults of the file and of the search, before anything is decided."""
    if log.cut_line:
        st.warning(
            say(
                "Line {line} of {name} was cut off while it was written; it does not count, and the next "
                "decision takes its place.",
                line=log.cut_line,
                name=plain(log.path.name),
            )
        )
    for result in (job.findings, job.duplicates):
        error = result.exception() if result is not None and result.done() else None
        if isinstance(error, SynthlabelError):
            st.warning(_told(error))
        elif error is not None:
            raise error
    findings, duplicates = come(job.findings), come(job.duplicates)
    if findings is not None and findings.opinions.reproduced_share > BY_HEART:
        st.info(
            say(
                "This model gives {share} of the labels that it was trained with. Either they are right, or "
                "it has learned them by heart, and then it finds few wrong ones; one that was trained for "
                "less long finds more.",
                share=percent(findings.opinions.reproduced_share),
            )
        )
    if duplicates is not None and duplicates.locked:
        names = [basis.archive.names[row] for group in duplicates.locked for row in group]
        st.warning(
            say(
                "Training pictures that also stand in the validation or test part: {num} ({names}). That is "
                "a leak, and it is locked here: make a split that keeps such people together, with "
                "`synthlabel extract split --link-near`.",
                num=len(names),
                names=plain(", ".join(names[:3]) + (", ..." if len(names) > 3 else "")),
            )
        )


@st.fragment(run_every=1.0)
def _wait(job: ReviewJob) -> None:
    """Progress, until something new has come."""
    had = st.session_state.setdefault("review.had", {})
    has = job.findings is not None and job.findings.done()
    if job.is_done or has != had.get(id(job), False):
        had[id(job)] = has
        st.rerun()
    text = (
        say("Asking the model about the training images ...")
        if job.findings is not None and not has
        else say("Looking for pictures that are there twice ...")
    )
    st.progress(min(job.share, 1.0), text=text)


@st.fragment
def _review(basis: ReviewBasis, job: ReviewJob) -> None:
    """Everything about one image; a decision draws this part alone."""
    try:
        log = known_log(basis)
    except SynthlabelError as error:
        st.error(_told(error))
        return
    findings, duplicates = come(job.findings), come(job.duplicates)
    queue = _choose_queue(basis, job.queue)
    fault = st.session_state.pop(FAULT, "")
    if fault:
        st.error(_told(fault))
    if queue:
        decided = current_decisions(log.rows)
        item = queue[place_in(basis, queue, log)]
        left, right = st.columns([4, 5], gap="medium")
        with left:
            show_picture(basis, item)
            mark_shown(item)
        with right:
            _show_label(basis, item, findings, log)
            _show_buttons(basis, queue, item, findings, log)
            num_decided = sum(basis.archive.names[other.row] in decided for other in queue)
            st.progress(
                num_decided / len(queue),
                text=say("All {num} are decided", num=len(queue))
                if num_decided == len(queue)
                else say("{done} of {num} decided", done=num_decided, num=len(queue)),
            )
            show_opinion(basis, item, findings)
        show_companions(basis, item, findings, duplicates)
    else:
        st.info(say("There is nothing to look at here."))
    show_decisions(basis, log)


def _choose_queue(basis: ReviewBasis, everything: Sequence[Candidate]) -> list[Candidate]:
    """Ask who is deciding, and which of the images to look at."""
    who, why, which = st.columns([1, 1, 1], gap="small", vertical_alignment="bottom")
    with who:
        _ask_author()
    counts = {reason: sum(reason in item.reasons for item in everything) for reason in REASONS}
    names = {ANY: say("All ({num})", num=len(everything))} | {
        reason: f"{say(REASON_NAMES[reason])} ({counts[reason]})" for reason in REASONS
    }
    reason = why.selectbox(
        say("Why they are shown"),
        [ANY, *(reason for reason in REASONS if counts[reason])],
        format_func=names.__getitem__,
        key=REASON,
    )
    kind = which.selectbox(
        say("Label"), [ANY, *basis.archive.classes], format_func=lambda name: name or say("All"), key=CLASS
    )
    return [
        item
        for item in everything
        if reason in (ANY, *item.reasons) and kind in (ANY, label_of(basis, item.row))
    ]


def _ask_author() -> None:
    """Once a name is there the field goes: as long as it has the focus, keys are letters of the name."""
    if _author_is_known() and not st.session_state.get(RENAMING):
        with st.container(gap=None):
            st.html(f'<div class="sl-field">{escape(say("Your name"))}</div>')
            st.button(
                plain(author()), icon=":material/edit:", help=say("Give another name"), on_click=_rename
            )
        return
    st.text_input(
        say("Your name"),
        value=author(),
        key=NAME,
        placeholder=say("stands beside each decision"),
        max_chars=MAX_AUTHOR_CHARS,
        on_change=lambda: _take_name(str(st.session_state[NAME])),
    )


def _ask_for_name_first(log: ReviewLog) -> None:
    """Why nothing can be decided yet; whoever decided last is asked whether it is they again."""
    st.caption(say("Give your name above: then you can decide, by the buttons or their keys."))
    if log.rows:
        last = log.rows[-1].author
        st.button(say("I am {name}", name=plain(last)), on_click=_take_name, args=(last,))


def _rename() -> None:
    st.session_state[RENAMING] = True


def _take_name(given: str) -> None:
    try:
        st.session_state[AUTHOR], st.session_state[RENAMING] = check_author(given), False
    except SynthlabelError:
        st.session_state[FAULT] = say(
            "Please give a name that begins with a letter or digit; it stands beside each decision."
        )


def _author_is_known() -> bool:
    try:
        check_author(author())
    except SynthlabelError:
        return False
    return True


def _show_label(basis: ReviewBasis, item: Candidate, findings: ModelFindings | None, log: ReviewLog) -> None:
    reasons = "".join(f"<li>{escape(text)}</li>" for text in reason_texts(basis, item, findings))
    st.html(
        f'<p class="sl-label">{escape(say("Label: {name}", name=label_of(basis, item.row)))}</p>'
        f'<ul class="sl-reasons">{reasons}</ul>'
    )
    decided = current_decisions(log.rows).get(basis.archive.names[item.row])
    if decided is not None:
        st.html(f'<div class="sl-decided">{escape(decision_text(decided))}</div>')


def _show_buttons(
    basis: ReviewBasis,
    queue: Sequence[Candidate],
    item: Candidate,
    findings: ModelFindings | None,
    log: ReviewLog,
) -> None:
    """What can be done; the buttons keep their names from image to image, as their keys do."""
    is_known = _author_is_known()
    if not is_known:
        _ask_for_name_first(log)
    name, own = basis.archive.names[item.row], int(basis.archive.labels[item.row])
    model = "" if findings is None else findings.opinions.model_sha256

    def decision(action: str, new_label: str = "") -> partial[None]:
        made = Decision(name, action, new_label, ", ".join(item.reasons), model)
        return partial(decide, basis, queue, item, made)

    def button(text: str, shortcut: str | None, act: partial[None] | None, kind: str, icon: str = "") -> None:
        st.button(
            text,
            key=f"review.{kind}",
            shortcut=shortcut,
            on_click=act,
            disabled=act is None,
            icon=icon or None,
        )

    with st.container(horizontal=True, gap="xsmall"):
        button(say("Keep"), "K", decision(KEEP) if is_known else None, KEEP, ":material/check:")
        button(say("Exclude"), "X", decision(EXCLUDE) if is_known else None, EXCLUDE, ":material/block:")
        last = last_own(log) if is_known else None
        undo = None if last is None else partial(take_back, basis, last)
        button(say("Undo"), "U", undo, "undo", ":material/undo:")
        place = place_in(basis, queue, log)
        before = partial(go_to, queue[place - 1].row) if place else None
        after = partial(go_to, queue[place + 1].row) if place + 1 < len(queue) else None
        button(say("Previous"), "Left", before, "previous", ":material/chevron_left:")
        button(say("Next"), "Right", after, "next", ":material/chevron_right:")
    st.caption(say("Give it another label:"))
    with st.container(horizontal=True, gap="xsmall"):
        for number, kind in enumerate(basis.archive.classes):
            act = decision(KEEP) if number == own else decision(RELABEL, kind)
            key = str(number + 1) if number < NUM_KEYS else None
            button(plain(kind), key, act if is_known else None, f"class{number}")


def _explain(basis: ReviewBasis, job: ReviewJob) -> None:
    with st.expander(
        say("Only training images are shown; validation and test are locked. Where decisions go ..."),
        icon=":material/info:",
    ):
        split = basis.split
        st.markdown(
            say(
                "Images of the training part alone, fold {fold} of {split}: {num}. Validation and test "
                "images are locked and never shown here: whoever changes them in the light of a model "
                "measures nothing any more.",
                fold=basis.scope.fold,
                split=plain(split.path.name if split.path else ""),
                num=len(basis.scope.images),
            )
        )
        st.markdown(
            say(
                "Every decision is a row of {name}, beside the archive, with your name and the time. An undo "
                "is a row, too. The archive itself stays as it is; `synthlabel extract review` makes a new "
                "one from it and the decisions.",
                name=plain(basis.log.name),
            )
        )
        findings = come(job.findings)
        if findings is not None and findings.opinions.num_left_out:
            st.markdown(
                say(
                    "The model was asked about {num} of them, evenly chosen: more would not fit into memory.",
                    num=len(findings.opinions.rows),
                )
            )
        if job.findings is None:
            st.markdown(
                say(
                    "Without the folder of a run (`--model RUN`) only pictures that are there twice are "
                    "looked for."
                )
            )


def _told(error: object) -> str:
    """A fault; what the packages say of files is English."""
    if spoken().name == "en":
        return plain(f"{error}")
    return say("This was not possible. In English: {reason}", reason=plain(f"{error}"))
