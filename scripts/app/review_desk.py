"""What a visitor is doing on the page Review: who they are, which image is before them, what they decide."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from extract.errors import SynthlabelError
from extract.review_log import ReviewLog, read_log, record_decision, undo_decision
from extract.review_rows import Decision, ReviewRow, current_decisions, standing_rows

if TYPE_CHECKING:
    from classifier.review_queue import Candidate
    from scripts.app.review_job import ReviewBasis

AUTHOR, CURRENT, FAULT, LOG = "review.author", "review.current", "review.fault", "review.log"
SHOWN, UNDONE = "review.shown", "review.undone"
MIN_LOOK_SEC = 0.25  # nobody judges a picture sooner: a key hit twice was meant for the one before


def author() -> str:
    """The visitor's name; empty until it was given."""
    return str(st.session_state.get(AUTHOR, "")).strip()


def known_log(basis: ReviewBasis) -> ReviewLog:
    """All decisions, read again where somebody has written.

    Raises:
        ExtractError: if the file has a fault.
    """
    try:
        found = basis.log.stat()
        key = (basis.key, found.st_mtime_ns, found.st_size)
    except FileNotFoundError:
        key = (basis.key, 0, 0)
    known = st.session_state.get(LOG)
    if known is None or known[0] != key:
        known = st.session_state[LOG] = (key, read_log(basis.log, basis.scope))
    return known[1]


def place_in(basis: ReviewBasis, queue: Sequence[Candidate], log: ReviewLog) -> int:
    """Where the visitor is; at the first image without a decision if theirs is not in this queue."""
    row = st.session_state.get(CURRENT)
    here = next((place for place, item in enumerate(queue) if item.row == row), None)
    if here is None:
        decided = current_decisions(log.rows)
        names = basis.archive.names
        here = next((place for place, item in enumerate(queue) if names[item.row] not in decided), 0)
        go_to(queue[here].row)
    return here


def go_to(row: int) -> None:
    """Put an image before the visitor."""
    st.session_state[CURRENT] = row


def mark_shown(item: Candidate) -> None:
    """Remember since when the image is before the visitor."""
    known = st.session_state.get(SHOWN)
    if known is None or known[0] != item.row:
        st.session_state[SHOWN] = (item.row, time.monotonic())


def _was_seen(item: Candidate) -> bool:
    row, since = st.session_state.get(SHOWN, (None, 0.0))
    return row == item.row and time.monotonic() - since >= MIN_LOOK_SEC


def decide(basis: ReviewBasis, queue: Sequence[Candidate], item: Candidate, decision: Decision) -> None:
    """Record a decision and go on to the next image that nobody has decided on; a fault is told instead."""
    if not _was_seen(item):
        return
    try:
        log = known_log(basis)
        if not _says_already(log, decision):
            log = record_decision(basis.log, basis.scope, decision, author())
        go_to(next_open(basis, queue, item, log).row)
    except SynthlabelError as error:
        st.session_state[FAULT] = f"{error}"


def take_back(basis: ReviewBasis, row: ReviewRow) -> None:
    """Undo a decision and show its image."""
    if time.monotonic() - st.session_state.get(UNDONE, -MIN_LOOK_SEC) < MIN_LOOK_SEC:
        return
    st.session_state[UNDONE] = time.monotonic()
    try:
        undo_decision(basis.log, basis.scope, row.number, author())
        go_to(basis.scope.images[row.image].row)
    except SynthlabelError as error:
        st.session_state[FAULT] = f"{error}"


def last_own(log: ReviewLog) -> ReviewRow | None:
    """The visitor's latest decision that stands; what others decide is not undone by a key."""
    own = [row for row in standing_rows(log.rows) if row.author == author()]
    return own[-1] if own else None


def next_open(basis: ReviewBasis, queue: Sequence[Candidate], item: Candidate, log: ReviewLog) -> Candidate:
    """The next image without a decision, after the last the first again; the same one if there is none."""
    decided = current_decisions(log.rows)
    here = next((place for place, other in enumerate(queue) if other.row == item.row), 0)
    around = (*queue[here + 1 :], *queue[:here])
    return next((other for other in around if basis.archive.names[other.row] not in decided), item)


def _says_already(log: ReviewLog, decision: Decision) -> bool:
    found = current_decisions(log.rows).get(decision.image)
    return (
        found is not None
        and found.author == author()
        and (found.action, found.new_label) == (decision.action, decision.new_label)
    )
