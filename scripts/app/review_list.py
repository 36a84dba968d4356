"""All decisions of a review: what stands, undo of any, and the table to take away."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from extract.review_log import ReviewLog
from extract.review_rows import EXCLUDE, RELABEL, ReviewRow, rows_as_csv, standing_rows
from scripts.app.review_desk import author, go_to, take_back
from scripts.app.words import say

if TYPE_CHECKING:
    from scripts.app.review_job import ReviewBasis

CHOSEN = "review.chosen"
MAX_SHOWN = 500  # of the latest decisions; the table to take away has all


def decision_text(row: ReviewRow) -> str:
    """A decision in words."""
    if row.action == RELABEL:
        what = say("Relabeled: {old} becomes {new}", old=row.old_label or say("no label"), new=row.new_label)
    else:
        what = say("Excluded") if row.action == EXCLUDE else say("Kept as it is")
    return say("{what}, by {author}, {time} (UTC)", what=what, author=row.author, time=_moment(row))


def show_decisions(basis: ReviewBasis, log: ReviewLog) -> None:
    """The list, newest first, closed until it is opened."""
    standing = standing_rows(log.rows)[::-1]
    with st.expander(say("Decisions ({num})", num=len(standing)), icon=":material/history:"):
        if not standing:
            st.caption(say("Nothing was decided yet."))
        else:
            _show_table(standing[:MAX_SHOWN])
            _offer_undo(basis, standing[:MAX_SHOWN])
        if log.rows:
            st.download_button(
                say("All rows (CSV)"),
                partial(rows_as_csv, log.rows),
                f"{basis.log.stem}.csv",
                "text/csv",
                on_click="ignore",
                icon=":material/table:",
            )


def _show_table(rows: tuple[ReviewRow, ...]) -> None:
    columns = {
        say("Row"): [row.number for row in rows],
        say("Image"): [row.image for row in rows],
        say("Decision"): [_what(row) for row in rows],
        say("Name"): [row.author for row in rows],
        say("Time (UTC)"): [_moment(row) for row in rows],
    }
    st.dataframe(columns, hide_index=True, width="stretch", height=min(38 + 36 * len(rows), 300))


def _offer_undo(basis: ReviewBasis, rows: tuple[ReviewRow, ...]) -> None:
    by_number = {row.number: row for row in rows}
    if st.session_state.get(CHOSEN) not in by_number:
        st.session_state[CHOSEN] = rows[0].number
    with st.container(horizontal=True, vertical_alignment="bottom"):
        number = st.selectbox(
            say("One of them"),
            list(by_number),
            format_func=lambda number: f"{number}  {by_number[number].image}  {_what(by_number[number])}",
            key=CHOSEN,
        )
        row = by_number[number]
        st.button(say("Show it"), on_click=go_to, args=(basis.scope.images[row.image].row,))
        st.button(
            say("Undo this one"), on_click=take_back, args=(basis, row), disabled=not author(),
            icon=":material/undo:",
        )  # fmt: skip


def _what(row: ReviewRow) -> str:
    if row.action == RELABEL:
        return f"{row.old_label or say('no label')} \u2192 {row.new_label}"
    return say("Excluded") if row.action == EXCLUDE else say("Kept as it is")


def _moment(row: ReviewRow) -> str:
    return row.time[:19].replace("T", " ")
