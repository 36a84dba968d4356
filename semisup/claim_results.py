"""Answers of the CLAIM checklist about results and limits."""

from collections.abc import Mapping

from extract.language import Message, Number, Points
from semisup.claim_facts import Answer, ClaimFacts
from semisup.statistics import Estimate
from semisup.summary import CEILING


def _performance(facts: ClaimFacts) -> list[Message]:
    names = [(facts.study.get("primary") or {}).get(role) for role in ("baseline", "arm")]
    fraction = float((facts.study.get("primary") or {}).get("fraction", 1.0))
    found: list[tuple[str, Estimate]] = []
    for name in [*names, CEILING]:
        result = facts.summary.find(str(name), 1.0 if name == CEILING else fraction)
        if result and result.arm not in [arm for arm, _ in found]:
            found.append((result.arm, result.estimates[facts.summary.metric]))
    return [
        Message(
            "{arm}: {value} %, 95 % interval [{low}, {high}]",
            arm=arm,
            value=Number(100 * e.value, 1),
            low=Number(100 * e.low, 1),
            high=Number(100 * e.high, 1),
        )
        for arm, e in found
    ]


def _precision(facts: ClaimFacts) -> list[Message]:
    primary = facts.summary.primary
    if primary is None:
        return []
    e = primary.difference
    return [
        Message(
            "primary difference {value} points, 95 % interval [{low}, {high}], p = {p}",
            value=Points(e.value),
            low=Points(e.low),
            high=Points(e.high),
            p=Number(e.p_value, 3),
        )
    ]


def _errors(facts: ClaimFacts) -> list[Message]:
    return [Message("confusion matrices, and sensitivity and specificity of each class")]


def _limits(facts: ClaimFacts) -> list[Message]:
    answers = [
        Message(
            "not in the intervals: other hospitals, scanners and classifiers, and a generator trained anew"
        )
    ]
    unknown = [check.what for check in facts.checks if check.outcome == "unknown"]
    failed = [check.what for check in facts.checks if check.outcome == "failed"]
    answers += [Message("not known: {what}", what=what) for what in unknown]
    answers += [Message("not so: {what}", what=what) for what in failed]
    return answers


RESULT_ANSWERS: Mapping[int, Answer] = {37: _performance, 38: _precision, 39: _errors, 40: _limits}
