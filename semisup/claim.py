"""The CLAIM checklist of a study, filled in as far as its files tell; the rest is left to the author."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from extract.language import Message
from semisup.claim_data import DATA_ANSWERS
from semisup.claim_facts import ClaimFacts
from semisup.claim_items import SUBJECTS
from semisup.claim_methods import METHOD_ANSWERS
from semisup.claim_results import RESULT_ANSWERS

State = Literal["answered", "partly", "author"]
COMPLETE = frozenset({19, 20, 24, 26, 27, 28, 29, 37})  # nothing is left to add


@dataclass(frozen=True)
class ClaimAnswer:
    """One item of the checklist for one study."""

    number: int
    section: Message
    subject: Message
    state: State
    answers: tuple[Message, ...]  # what the software knows
    hint: Message | None  # for the author; None where nothing is left to say


def claim_sections(answers: Sequence[ClaimAnswer]) -> list[tuple[Message, list[ClaimAnswer]]]:
    """The items in groups of one section, in their order."""
    return [(section, list(items)) for section, items in groupby(answers, key=lambda item: item.section)]


def fill_in_claim(facts: ClaimFacts) -> tuple[ClaimAnswer, ...]:
    """All 44 items in their order."""
    answers_of = {**DATA_ANSWERS, **METHOD_ANSWERS, **RESULT_ANSWERS}
    found = []
    for item in SUBJECTS:
        make = answers_of.get(item.number)
        answers = tuple(make(facts)) if make else ()
        state: State = "author" if not answers else "answered" if item.number in COMPLETE else "partly"
        hint = None if state == "answered" else item.hint
        found.append(ClaimAnswer(item.number, item.section, item.subject, state, answers, hint))
    return tuple(found)
