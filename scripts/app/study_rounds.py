"""The rounds of one arm: how many images became pseudo-labels, how the model did, and which they were."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import streamlit as st

from scripts.app.study_curve import most_kept, round_curve
from scripts.app.study_data import Behind
from scripts.app.study_images import number_button, show_behind
from scripts.app.study_open import OpenStudy
from scripts.app.study_parts import ALL, choose, html_table, number_or_all, report_words, share_text
from scripts.app.words import percent, say, spoken
from semisup.behind import PoolChoice, has_ledger, read_recorded
from semisup.run_facts import RunFacts, RunList

if TYPE_CHECKING:
    from semisup.summary import RoundResult

CHOSEN = "study.rounds.chosen"
MAX_CLASSES = 12  # with a button of their own


def show_rounds(opened: OpenStudy) -> None:
    """Draw it."""
    from semisup.summary import round_results

    runs = opened.runs()
    arms = _arms_with_rounds(opened, runs)
    if not arms:
        st.info(say("No run with pseudo-labels has finished yet."))
        return
    chosen = choose_runs(opened, runs, arms, "rounds")
    if not chosen:
        st.info(say("No finished run is like that; choose another fold or seed."))
        return
    results = round_results(read_recorded(opened.study_dir, chosen), len(opened.classes))
    has_images = has_ledger(opened.study_dir, chosen)
    if has_images:
        _offer_images(opened, runs, chosen, results)
    else:
        st.caption(say("This arm has no pool of its own, so there are no images behind these numbers."))
    st.html(_round_table(results, len(chosen)))
    if any(r.num_flattered for r in results):
        st.caption(
            say(
                "In some runs the calibration error after is of the very images that the calibration was "
                "fitted on, and looks smaller than it is."
            )
        )
    st.html(round_curve(results))


def _arms_with_rounds(opened: OpenStudy, runs: RunList) -> list[str]:
    """In the order of the plan; told from one finished run each."""
    first: dict[str, RunFacts] = {}
    for run in runs.runs.values():
        if run.is_done:
            first.setdefault(run.arm, run)
    planned = [str(arm) for arm in opened.study.get("arms") or []]
    ordered = [first[arm] for arm in planned if arm in first]
    return [run.arm for run in read_recorded(opened.study_dir, ordered) if len(run.rounds) > 1]


def choose_runs(opened: OpenStudy, runs: RunList, arms: Sequence[str], part: str) -> list[RunFacts]:
    """Ask for arm, share of labels, fold and seed; the finished runs that are meant."""
    primary = opened.study.get("primary") or {}
    one, two, three, four = st.columns([3, 2, 1, 1])
    done = [run for run in runs.runs.values() if run.is_done]
    leaks = {run.arm for run in done if run.is_leak}

    def name(arm: str) -> str:
        return f"{arm} ({say('deliberate fault')})" if arm in leaks else arm

    with one:
        arm = choose(say("Arm"), list(arms), f"{part}.arm", name, str(primary.get("arm", "")))
    of_arm = [run for run in done if run.arm == arm]
    with two:
        fractions = sorted({run.fraction for run in of_arm})
        fraction = choose(
            say("Share of labels"), fractions, f"{part}.fraction", share_text, primary.get("fraction")
        )
    same = runs.done(arm, fraction)
    with three:
        folds = [ALL, *sorted({run.fold for run in same})]
        fold = choose(say("Fold"), folds, f"{part}.fold", number_or_all)
    with four:
        seeds = [ALL, *sorted({run.seed for run in same})]
        seed = choose(say("Seed"), seeds, f"{part}.seed", number_or_all)
    return [run for run in same if fold in (ALL, run.fold) and seed in (ALL, run.seed)]


def _round_table(results: Sequence[RoundResult], num_runs: int) -> str:
    language = spoken()
    has_oracle = any(r.oracle_accuracy is not None for r in results)
    best = most_kept(results)
    rows = []
    for r in results:
        coverage = sum(r.coverages) / len(r.coverages)
        alarm = f' <span class="sl-tag bad">{escape(say("nearly all: no selection"))}</span>'
        picked = (
            f'<span class="sl-share" aria-hidden="true"><i style="width:{100 * coverage:.1f}%"></i></span>'
            f"{percent(coverage)}{alarm if r.num_alarms else ''}"
            if r.round_index
            else f'<span class="soft">{escape(say("labels alone"))}</span>'
        )
        kept = escape(say("{kept} of {num}", kept=r.num_kept, num=num_runs))
        if r.round_index == best:
            kept += f' <span class="sl-tag">{escape(say("most often"))}</span>'
        size = language.count(r.pool_size) if r.round_index else "–"
        rows.append(
            f"<tr{' class=first' if r.round_index == best else ''}>"
            f'<td>{r.round_index}</td><td class="n">{size}</td>'
            f'<td class="nowrap">{picked}</td>'
            + (f'<td class="n">{language.share(r.oracle_accuracy)}</td>' if has_oracle else "")
            + f'<td class="n">{language.share(r.val_balanced_accuracy)}</td>'
            f'<td class="n">{language.share(r.ece_before)} → {language.share(r.ece_after)}</td>'
            f'<td class="n">{kept}</td></tr>'
        )
    heads = [
        (say("Round"), False),
        (say("Images to choose among"), True),
        (say("Share selected"), False),
        *([(say("Agree with withheld labels, %"), True)] if has_oracle else []),
        (say("Validation, %"), True),
        (say("Calibration error, %"), True),
        (say("Kept in runs"), True),
    ]
    return html_table(heads, rows)


def _offer_images(
    opened: OpenStudy, runs: RunList, chosen: list[RunFacts], results: Sequence[RoundResult]
) -> None:
    """A button for each number that has images behind it."""
    language = spoken()
    for r in results:
        if not r.round_index:
            continue
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.html(
                f'<p class="sl-round">{escape(say("Round {number}", number=r.round_index))}</p>',
                width="content",
            )
            offers = [(say("{num} selected", num=language.count(r.num_selected)), PoolChoice(r.round_index))]
            for k, name in enumerate(opened.classes[:MAX_CLASSES]):
                count = language.count(r.per_class_selected[k])
                offers.append((f"{count} {name}", PoolChoice(r.round_index, said=k)))
            rest = language.count(r.pool_size - r.num_selected)
            offers.append((say("{num} not selected", num=rest), PoolChoice(r.round_index, "passed over")))
            offers += [
                (
                    say(
                        "{num} turned away: {gate}",
                        num=language.count(gate.num_out),
                        gate=_gate_name(gate.name),
                    ),
                    PoolChoice(r.round_index, "turned away", reason=gate.reason),
                )
                for gate in r.gates
                if gate.num_out
            ]
            for label, choice in offers:
                key = f"{CHOSEN}.{choice.round_index}.{choice.outcome}.{choice.said}.{choice.reason}"
                number_button(label, key, CHOSEN, choice)
    asked = st.session_state.get(CHOSEN)
    if isinstance(asked, PoolChoice) and asked.round_index in {r.round_index for r in results}:
        show_behind(Behind(opened, chosen, runs.state, asked, _heading(opened, asked)))
    else:
        st.caption(say("Choose a number to see the images behind it. Numbers are means over the runs."))


def _gate_name(name: str) -> str:
    return report_words().text(name)


def _heading(opened: OpenStudy, choice: PoolChoice) -> str:
    number = choice.round_index
    if choice.outcome == "turned away":
        from semisup.gate_counts import NAMES

        return say(
            "Round {number}: turned away before the choice ({gate})",
            number=number,
            gate=_gate_name(NAMES.get(choice.reason, choice.reason)),
        )
    if choice.outcome == "passed over":
        return say("Round {number}: not selected", number=number)
    if choice.said is None:
        return say("Round {number}: selected", number=number)
    return say("Round {number}: selected as {name}", number=number, name=opened.classes[choice.said])
