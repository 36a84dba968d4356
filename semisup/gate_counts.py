"""What the gates of a study turned away, in numbers and in words: over all runs of an arm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.language import ENGLISH, Language, Message, Percent
from semisup.gates import MEMORISED, NEAR_DUPLICATE, OFF_MANIFOLD, SAME_PICTURE

MOST_TURNED_AWAY = 0.5  # of the synthetic images: from there on the report says it first

NAMES = {
    SAME_PICTURE: Message("same picture"),
    MEMORISED: Message("memorised"),
    NEAR_DUPLICATE: Message("near duplicate"),
    OFF_MANIFOLD: Message("off manifold"),
}
MEANINGS = {
    SAME_PICTURE: Message("the very file of a training image"),
    MEMORISED: Message(
        "far more like one training image than pictures of two people ever are: the generator repeats it"
    ),
    NEAR_DUPLICATE: Message("lies on a training image, but for a small shift, brightness and contrast"),
    OFF_MANIFOLD: Message("unlike every real training image, as the supervised model sees them"),
}
_COPIES = frozenset({SAME_PICTURE, MEMORISED, NEAR_DUPLICATE})


@dataclass(frozen=True)
class GateCount:
    """One gate in one round of one arm; means over the runs."""

    reason: str  # as in the ledger's column `gate`
    num_asked: float  # synthetic images
    num_out: float  # of them turned away, by this gate first
    limit: float | None  # where it turns away; None = it could not be measured in any run
    real_share: float | None  # of real validation images that it would turn away
    num_not_measured: int  # runs in which it could not be

    @property
    def share_out(self) -> float:
        """Of the images that it was asked about."""
        return self.num_out / self.num_asked if self.num_asked else 0.0

    @property
    def name(self) -> str:
        """For people; the reason itself where a later version has added a gate."""
        return NAMES.get(self.reason, self.reason)

    @property
    def meaning(self) -> str:
        """What such an image is."""
        return MEANINGS.get(self.reason, "")


def count_gates(entries: Sequence[dict[str, Any]]) -> tuple[GateCount, ...]:
    """Means over the entries of one round in the `run.json` of several runs; none where no gate was asked."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        for gate in entry.get("gates") or []:
            found.setdefault(str(gate["gate"]), []).append(gate)
    return tuple(
        GateCount(
            reason,
            _mean([gate["num_asked"] for gate in gates]) or 0.0,
            _mean([gate["num_out"] for gate in gates]) or 0.0,
            _mean([gate["limit"] for gate in gates]),
            _mean([gate["real_share"] for gate in gates]),
            sum(gate["limit"] is None for gate in gates),
        )
        for reason, gates in found.items()
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None


def gate_warning(arm: str, gates: Sequence[GateCount], language: Language = ENGLISH) -> str | None:
    """A sentence where a gate turned away more than half of an arm's synthetic images."""
    worst = max(gates, key=lambda gate: gate.share_out, default=None)
    if worst is None or worst.share_out <= MOST_TURNED_AWAY:
        return None
    values = {"arm": arm, "gate": worst.name, "share": Percent(worst.share_out)}
    if worst.reason in _COPIES:
        return language.text(
            'The gate "{gate}" turned away {share} of the synthetic images of {arm}: the generator repeats '
            "its training images. See what the gates turned away before reading on.",
            **values,
        )
    return language.text(
        'The gate "{gate}" turned away {share} of the synthetic images of {arm}: most of what the generator '
        "draws is unlike the real training images. See what the gates turned away before reading on.",
        **values,
    )
