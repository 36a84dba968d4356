"""How far a study is: what is done, what runs now, what failed and why, and how to go on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from html import escape

import streamlit as st

from scripts.app.parts import first_of, plain
from scripts.app.study_open import OpenStudy
from scripts.app.study_parts import html_table, report_words
from scripts.app.words import language_name, say, spoken
from semisup.at_work import is_at_work
from semisup.records import run_title
from semisup.status import GroupStatus, StudyStatus

REFRESH_SEC = 3.0
MAX_FAILURES = 50  # that are listed


def is_over(opened: OpenStudy) -> bool:
    """Whether every job is done or has failed."""
    return opened.look().status.is_over


def show_progress(opened: OpenStudy) -> None:
    """Draw it, again every few seconds while the study goes on."""
    if is_over(opened) and not is_at_work(opened.study_dir):
        _draw(opened)
    else:
        _draw_live(opened)


@st.fragment(run_every=REFRESH_SEC)
def _draw_live(opened: OpenStudy) -> None:
    _draw(opened)


def _draw(opened: OpenStudy) -> None:
    status = opened.look().status
    is_alive = is_at_work(opened.study_dir)
    num_jobs = sum(sum(group.counts.values()) for group in status.groups)
    num_done = sum(group.counts["done"] for group in status.groups)
    _say_state(opened, status, num_done, num_jobs, is_alive)
    st.progress(num_done / max(num_jobs, 1))
    titles = _titles(opened)
    for job in status.at_work:
        said = f" · {plain(job.message)}" if language_name() == "en" else ""
        steps = say("step {done} of {total}", done=job.done, total=job.total)
        st.progress(job.share, text=f"{plain(titles(job.title))}: {steps}{said}")
    st.html(_groups_table(status))
    _list_failures(status, titles)


def _titles(opened: OpenStudy) -> Callable[[str], str]:
    """How a job's title, which is English, is said in the visitor's language."""
    runs = {str(run.get("title")): run for run in opened.study.get("runs") or []}

    def said(title: str) -> str:
        if language_name() == "en":
            return title
        if title in runs:
            return report_words().text(run_title(runs[title]))
        found = re.fullmatch(r"(generator|synthetic images) of fold (\d+)", title)
        if found and found[1] == "generator":
            return say("generator of fold {fold}", fold=found[2])
        if found:
            return say("synthetic images of fold {fold}", fold=found[2])
        return title

    return said


def _say_state(opened: OpenStudy, status: StudyStatus, num_done: int, num_jobs: int, is_alive: bool) -> None:
    num_failed = len(status.failures)
    if num_done == num_jobs:
        st.success(say("Finished: all {num} jobs are done.", num=num_jobs), icon=":material/check_circle:")
        return
    if is_alive:
        words = say("At work: {done} of {num} jobs are done.", done=num_done, num=num_jobs)
        if status.seconds_left:
            words += " " + say("About {time} left.", time=spoken().duration(status.seconds_left))
        st.info(words, icon=":material/hourglass_top:")
        return
    if status.is_over:
        words = say(
            "Ended: {done} of {num} jobs are done, {failed} failed. The same command tries these again:",
            done=num_done,
            num=num_jobs,
            failed=num_failed,
        )
    else:
        words = say(
            "Stopped: {done} of {num} jobs are done, and no command is at work in this folder. What is done "
            "is kept; the same command goes on:",
            done=num_done,
            num=num_jobs,
        )
    st.warning(words, icon=":material/pause_circle:")
    st.code(_command(opened), language=None, wrap_lines=True)


def _command(opened: OpenStudy) -> str:
    """What the study was begun with; where that was not recorded, what it would be."""
    command = opened.study.get("command")
    if isinstance(command, str) and command:
        return command
    if command:
        return shlex.join(str(part) for part in command)
    return f"synthlabel semisup run --study study.yaml --outdir {shlex.quote(str(opened.study_dir))}"


def _groups_table(status: StudyStatus) -> str:
    rows = []
    for group in status.groups:
        left = spoken().duration(group.seconds_left) if group.seconds_left else ""
        rows.append(
            f"<tr><td>{escape(_group_name(group.name))}</td><td>{_share_bar(group)}</td>"
            f'<td>{escape(_states(group))}</td><td class="n">{escape(left)}</td></tr>'
        )
    heads = [
        (say("What"), False),
        (say("Share done"), False),
        (say("Jobs"), False),
        (say("Left, for one process"), True),
    ]
    return html_table(heads, rows)


def _group_name(name: str) -> str:
    known = {"generators": say("generators"), "synthetic images": say("synthetic images")}
    return known.get(name, name)


def _states(group: GroupStatus) -> str:
    words = {
        "done": say("done"),
        "running": say("at work"),
        "open": say("waiting"),
        "failed": say("failed"),
    }
    return ", ".join(
        f"{spoken().count(group.counts[state])} {word}"
        for state, word in words.items()
        if group.counts[state]
    )


def _share_bar(group: GroupStatus) -> str:
    total = max(sum(group.counts.values()), 1)
    parts = "".join(
        f'<i class="{state}" style="width:{100 * group.counts[state] / total:.1f}%"></i>'
        for state in ("done", "running", "failed")
        if group.counts[state]
    )
    return f'<span class="sl-share" aria-hidden="true">{parts}</span>'


def _list_failures(status: StudyStatus, titles: Callable[[str], str]) -> None:
    if not status.failures:
        return
    st.markdown("#### " + say("What failed"))
    listed = [f"- **{plain(titles(title))}**: {plain(cause)}" for title, cause in status.failures]
    st.markdown(first_of(listed, MAX_FAILURES))
