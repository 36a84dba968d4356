"""What the answers of the CLAIM checklist are made of, and how they write it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from extract.language import Message, Percent
from semisup.checks import Check
from semisup.examples import DataSheet
from semisup.summary import Summary

NO_SETTINGS = (
    "device",
    "network",
    "snap",
    "tick_kimg",
    "save_every_sec",
    "grid",
)  # say nothing about results


@dataclass(frozen=True)
class ClaimFacts:
    """What the answers are made of."""

    summary: Summary
    data: DataSheet
    checks: tuple[Check, ...]
    plan_sha256: str  # of study.yaml; empty where there is none

    @property
    def study(self) -> Mapping[str, Any]:
        return self.summary.study

    def check(self, name: str) -> Check | None:
        """The line of the leakage sheet with this name."""
        return next((check for check in self.checks if check.name == name), None)


Answer = Callable[[ClaimFacts], Sequence[Message]]


def line_found(facts: ClaimFacts, name: str) -> Message | None:
    """What a line of the leakage sheet found; None where it is unknown."""
    check = facts.check(name)
    return check.found if check and check.outcome != "unknown" else None


def list_settings(section: Any) -> str:
    """The settings of a section of the plan, without those at "none"."""
    if not isinstance(section, dict):
        return str(section)
    shown = {name: value for name, value in section.items() if name not in NO_SETTINGS}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value not in (None, False, [], {}))


def list_values(values: Sequence[Any]) -> str:
    """With commas."""
    return ", ".join(map(str, values))


def percents(fractions: Sequence[float]) -> tuple[Percent, ...]:
    """For a text, which writes them as a list."""
    return tuple(map(Percent, fractions))
