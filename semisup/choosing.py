"""What a round gives a label to: a rule among the images it may see, and labels beyond the rule's.

Images that a gate turned away, that the teacher is too unsure of, or that have kept a label from an earlier
round do not exist for the rule.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from semisup.gates import Gated
from semisup.label_forms import with_weights
from semisup.label_keeping import keep_labels, with_negatives
from semisup.select import Evidence, Rule, Selection, rule_among
from semisup.uncertainty import Doubt


@dataclass(frozen=True)
class PoolScores:
    """What a teacher said about every image of the pool."""

    raw_probs: np.ndarray  # (N, C)
    probs: np.ndarray  # (N, C), after calibration
    selection: Selection
    gated: Gated | None = None  # which of them the rule could see; None = all
    doubt: Doubt | None = None  # how unsure the teacher is of each, where it was asked

    @property
    def judged_probs(self) -> np.ndarray:
        """(N, C), what the rule looked at: aligned where it asked for that."""
        aligned = self.selection.aligned_probs
        return self.probs if aligned is None else aligned

    @property
    def num_passed(self) -> int:
        """Images that the rule could see."""
        return len(self.probs) if self.gated is None else int(self.gated.passes.sum())


@dataclass(frozen=True)
class Seen:
    """The pool and the validation images as a teacher sees them, before anything is chosen."""

    raw_probs: np.ndarray  # (N, C) of the pool
    probs: np.ndarray  # (N, C), after calibration
    val_probs: np.ndarray  # (V, C), after calibration
    doubt: Doubt | None = None  # of the pool
    val_is_certain: np.ndarray | None = None  # (V,) bool, who would not be held back if they were of the pool


@dataclass(frozen=True)
class Choosing:
    """How the images of a pool come to labels in each round of a run."""

    select: Rule
    gated: Gated | None = None  # whom no rule may see
    weigh: Callable[[np.ndarray], np.ndarray] | None = None  # (N,) uncertainty to weights in [0, 1]
    relabel: bool = True  # False: what was selected once keeps its label
    negative: float | None = None  # classes at or below this probability are negative labels

    def choose(
        self, round_index: int, seen: Seen, val_labels: np.ndarray, earlier: Selection | None
    ) -> tuple[PoolScores, int]:
        """What a round selects, and how much of it is new.

        Args:
            earlier: what the round before selected.
        """
        kept = None if self.relabel else earlier
        evidence = Evidence(round_index, seen.probs, seen.val_probs, val_labels, seen.val_is_certain)
        selection = self._select(evidence, seen.doubt, kept)
        if self.weigh is not None and seen.doubt is not None:
            selection = with_weights(selection, self.weigh(seen.doubt.uncertainty))
        num_new = len(selection)
        if kept is not None:
            selection = keep_labels(kept, selection)
        scores = PoolScores(seen.raw_probs, seen.probs, selection, self.gated, seen.doubt)
        if self.negative is None or not len(selection):  # nobody is trained then
            return scores, num_new
        passes = np.ones(len(seen.probs), dtype=bool) if self.gated is None else self.gated.passes
        found = with_negatives(selection, seen.probs, scores.judged_probs, self.negative, passes, seen.doubt)
        return replace(scores, selection=found), num_new

    def _select(self, evidence: Evidence, doubt: Doubt | None, kept: Selection | None) -> Selection:
        passes = np.ones(len(evidence.probs), dtype=bool) if self.gated is None else self.gated.passes
        certain = passes.copy() if doubt is None else passes & doubt.is_certain
        is_too_unsure = bool(passes.any() and not certain.any())
        if kept is not None:
            certain[kept.indices] = False
        if certain.all():
            return self.select(evidence)
        chosen = rule_among(certain, self.select)(evidence)
        if is_too_unsure:
            return replace(chosen, note="the teacher is too unsure of every image of the pool")
        return chosen
