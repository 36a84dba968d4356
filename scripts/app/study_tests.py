"""Where the kept models of one arm were right and wrong on the test part, and the images of it."""

from __future__ import annotations

from html import escape

import numpy as np
import streamlit as st

from extract.errors import SynthlabelError
from scripts.app.study_data import Behind
from scripts.app.study_images import number_button, show_behind
from scripts.app.study_open import OpenStudy
from scripts.app.study_rounds import choose_runs
from scripts.app.words import percent, say, spoken
from semisup.behind import TestedChoice, confusion_of_tests
from semisup.run_list import ListedRun

CHOSEN = "study.tests.chosen"


def show_tests(opened: OpenStudy) -> None:
    """Draw it."""
    runs = opened.runs()
    finished = {run.arm for run in runs.runs.values() if run.is_done and not run.is_leak}
    arms = [str(arm) for arm in opened.study.get("arms") or [] if arm in finished]
    if not arms:
        st.info(say("No run has finished yet; the part Progress says how far the study is."))
        return
    chosen = choose_runs(opened, runs, arms, "tests")
    if not chosen:
        st.info(say("No finished run is like that; choose another fold or seed."))
        return
    confusion = confusion_of_tests(opened.study_dir, chosen, len(opened.classes))
    for label, name in enumerate(opened.classes):
        if confusion[label].sum():
            _offer_class(opened, chosen, confusion, label, name)
    choice = st.session_state.get(CHOSEN)
    if isinstance(choice, TestedChoice):
        show_behind(Behind(opened, chosen, runs.state, choice, _heading(opened, choice)))
    else:
        st.caption(
            say(
                "Choose a number to see the images behind it. Numbers are means over seeds, folds added up, "
                "as in the report. Test images are for looking only: who changes a model because of them has "
                "no honest test any more."
            )
        )


def _offer_class(
    opened: OpenStudy, chosen: list[ListedRun], confusion: np.ndarray, label: int, name: str
) -> None:
    """One true class: how much of it was found, and what the rest was taken for."""
    count = spoken().count
    total = confusion[label].sum()
    missed = total - confusion[label, label]
    found = say("found: {share} of {num}", share=percent(confusion[label, label] / total), num=count(total))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.html(
            f'<p class="sl-round">{escape(name)} <span class="sl-soft">{escape(found)}'
            f"{escape(_interval(opened, chosen, name))}</span></p>",
            width="content",
        )
        offers = [
            (say("{num} right", num=count(confusion[label, label])), TestedChoice(label, label)),
            (say("{num} missed", num=count(missed)), TestedChoice(label, only_wrong=True)),
        ]
        offers += [
            (
                say("{num} taken for {name}", num=count(confusion[label, k]), name=other),
                TestedChoice(label, k),
            )
            for k, other in enumerate(opened.classes)
            if k != label and confusion[label, k]
        ]
        for text, choice in offers:
            key = f"{CHOSEN}.{choice.label}.{choice.said}.{choice.only_wrong}"
            number_button(text, key, CHOSEN, choice)


def _interval(opened: OpenStudy, chosen: list[ListedRun], name: str) -> str:
    """The report's interval of a class's sensitivity, where all runs of the arm are looked at."""
    job = opened.result_job()
    first = chosen[0]
    if (
        job is None
        or not job.result.done()
        or len(chosen) != len(opened.runs().done(first.arm, first.fraction))
    ):
        return ""
    try:
        summary = job.result.result().summary("en")
    except SynthlabelError:
        return ""
    for found in summary.per_class:
        if (found.arm, found.fraction, found.class_name) == (first.arm, first.fraction, name):
            language = spoken()
            ends = (language.share(found.sensitivity.low), language.share(found.sensitivity.high))
            return f" {language.interval(*ends)}"
    return ""


def _heading(opened: OpenStudy, choice: TestedChoice) -> str:
    names = opened.classes
    truth = names[choice.label] if choice.label is not None else ""
    if choice.only_wrong or choice.said is None:
        return say("{truth}, missed", truth=truth)
    if choice.said == choice.label:
        return say("{truth}, found", truth=truth)
    return say("{truth}, taken for {name}", truth=truth, name=names[choice.said])
