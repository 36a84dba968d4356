"""Control arms: the rounds of a reference arm once more, with one thing about its additions changed.

A control has no rounds of its own. It reads from its reference's ledger which images were selected in each
round and with which labels, changes that one thing, trains with the seed of the reference's student of that
round, and keeps the best round by real validation, the supervised round 0 included. So a control and its
reference train equally often, equally long, on equally many additions of equal classes and weight.

Source: the controls that a comparison of training data needs, Oliver et al. 2018, "Realistic Evaluation of
Deep Semi-Supervised Learning Algorithms", arXiv:1804.09170, Section 4; permuted labels as in Zhang et al.
2017, "Understanding deep learning requires rethinking generalization", arXiv:1611.03530.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import pandas as pd

from semisup.choosing import PoolScores
from semisup.gates import Gated
from semisup.random_control import NOT_DRAWN
from semisup.rounds import Model, Round, RoundsResult, best_round
from semisup.select import SELECTED, Selection


@dataclass(frozen=True)
class RecordedRound:
    """What a reference arm did in one round."""

    round_index: int
    rows: pd.DataFrame  # (N,) of its ledger, in pool order
    predicted: np.ndarray  # (N,) int64, most probable class by the reference's teacher
    confidence: np.ndarray  # (N,) float
    gates: np.ndarray  # (N,) str, the gate that held an image back; empty where none did
    selected: np.ndarray  # (K,) rows of the pool, most confident first
    given: np.ndarray  # (N,) int64, the pseudo-label of those that were selected; as predicted for the others

    @property
    def may_be_drawn(self) -> np.ndarray:
        """(N,) bool, held back by no gate."""
        return self.gates == ""

    @property
    def labels(self) -> np.ndarray:
        """(K,) int64, the pseudo-labels of the selected images."""
        return self.given[self.selected]

    @property
    def weights(self) -> np.ndarray:
        """(K,) what each counted in the student's loss."""
        return self.rows["weight"].to_numpy(np.float64)[self.selected]


def recorded_rounds(ledger: pd.DataFrame) -> list[RecordedRound]:
    """The rounds of a ledger in which something was selected, in their order."""
    found = []
    for round_index in np.unique(ledger["round_index"].to_numpy(np.int64)).tolist():
        rows = ledger[ledger["round_index"] == round_index]
        confidence = rows["confidence"].to_numpy(np.float64)
        order = np.argsort(-confidence, kind="stable")  # as the rules order what they select
        is_selected = rows["decision"].to_numpy(str) == SELECTED
        gates = rows["gate"].to_numpy(str) if "gate" in rows else np.full(len(rows), "")
        predicted = rows["predicted"].to_numpy(np.int64)
        given = predicted
        if "pseudo_label" in rows:  # where labels are kept, they need not be the predicted ones
            told = rows["pseudo_label"].to_numpy(np.int64)
            given = np.where(told >= 0, told, predicted)
        if is_selected.any():
            found.append(
                RecordedRound(
                    round_index,
                    rows.reset_index(drop=True),
                    predicted,
                    confidence,
                    gates,
                    order[is_selected[order]],
                    given,
                )
            )
    return found


def draw_at_random(recorded: RecordedRound, rng: np.random.Generator) -> Selection:
    """As many images of each predicted class as were selected, whatever their confidence.

    The labels are the predictions of the reference's own teacher. Its pool holds at least as many images of a
    predicted class as it selected, so the counts are equal in every round.
    """
    drawn = []
    for label, count in zip(*np.unique(recorded.labels, return_counts=True), strict=True):
        candidates = np.flatnonzero((recorded.predicted == label) & recorded.may_be_drawn)
        drawn.append(rng.choice(candidates, size=count, replace=False))
    return _in_order(recorded, np.concatenate(drawn))


def no_threshold(recorded: RecordedRound) -> np.ndarray:
    """(C,) zeros: a control asks for no confidence."""
    return np.zeros(sum(str(name).startswith("raw_p_") for name in recorded.rows))


def _in_order(recorded: RecordedRound, indices: np.ndarray) -> Selection:
    indices = indices[np.lexsort((indices, -recorded.confidence[indices]))]
    return Selection(
        indices, recorded.predicted[indices], recorded.confidence[indices], no_threshold(recorded)
    )


def shuffle_labels(recorded: RecordedRound, rng: np.random.Generator) -> Selection:
    """The very images that were selected, their labels permuted among them: class counts stay."""
    return Selection(
        recorded.selected,
        rng.permutation(recorded.labels),
        recorded.confidence[recorded.selected],
        no_threshold(recorded),
    )


def repeat_labeled(recorded: RecordedRound, labels: np.ndarray, rng: np.random.Generator) -> Selection:
    """As many labeled images of each class as were selected, each as often as the next, give or take one.

    Args:
        labels: (L,) of the labeled images, every class among them.

    Returns:
        Rows of the labeled images with their expert labels.
    """
    drawn = []
    for label, count in zip(*np.unique(recorded.labels, return_counts=True), strict=True):
        own = np.flatnonzero(labels == label)
        passes = [rng.permutation(own) for _ in range(-(-count // len(own)))]
        drawn.append(np.concatenate(passes)[:count])
    indices = np.concatenate(drawn)
    return Selection(indices, labels[indices], np.ones(len(indices)), no_threshold(recorded))


def carry_weights(recorded: RecordedRound, selection: Selection, weights: np.ndarray | None) -> Selection:
    """Let additions weigh what the reference's did: the very images as they did, others class by class.

    Args:
        selection: as many of each class as the reference selected.
        weights: (K,) relative, of the reference's selected images; None = all alike.
    """
    if weights is None:
        return selection
    if np.array_equal(selection.indices, recorded.selected):
        return replace(selection, weights=weights)
    carried = np.empty(len(selection))
    for label in np.unique(recorded.labels):  # in either the most confident first
        carried[selection.labels == label] = weights[recorded.labels == label]
    return replace(selection, weights=carried)


Change = Callable[[RecordedRound, np.random.Generator], Selection]  # to rows of the reference's pool
POOL_CONTROLS: Mapping[str, Change] = MappingProxyType(
    {"random_selection": draw_at_random, "shuffled_labels": shuffle_labels}
)


def control_rows(recorded: RecordedRound, selection: Selection, rule: str, weight: float) -> pd.DataFrame:
    """The (N,) ledger rows of a control's round: the reference's scores, the control's decisions.

    The column `pseudo_label` says which label an image was given, for it need not be the predicted one.
    """
    decision = np.full(len(recorded.rows), NOT_DRAWN, dtype=object)
    decision[~recorded.may_be_drawn] = recorded.gates[~recorded.may_be_drawn]
    decision[selection.indices] = SELECTED
    weights = np.zeros(len(recorded.rows), dtype=np.float32)
    weights[selection.indices] = weight if selection.weights is None else weight * selection.weights
    given = np.full(len(recorded.rows), -1, dtype=np.int32)
    given[selection.indices] = selection.labels
    return recorded.rows.assign(
        rule=rule, threshold=np.nan, decision=decision, weight=weights, pseudo_label=given
    )


def repeat_rounds(
    teacher: Model,
    recorded: Sequence[RecordedRound],
    change: Callable[[RecordedRound], Selection],
    train_student: Callable[[Selection, int], Model],
    judge: Callable[[int, Model, PoolScores | None], Round[Model]],
    num_classes: int,
    *,
    is_of_pool: bool = True,
) -> RoundsResult[Model]:
    """Train a student a round of the reference on the changed additions; keep the best, round 0 included.

    Args:
        teacher: round 0, the supervised model that was the reference's as well.
        judge: measures a model on the real validation part.
        is_of_pool: the additions come from the reference's pool; else no coverage of a pool is recorded.
    """
    rounds = [judge(0, teacher, None)]
    for done in recorded:
        selection = change(done)
        raw, probs = _scores(done, num_classes)
        num_scored = len(probs) if is_of_pool else 0
        gated = Gated((), done.gates[:num_scored])
        scores = PoolScores(raw[:num_scored], probs[:num_scored], selection, gated)
        rounds.append(judge(done.round_index, train_student(selection, done.round_index), scores))
    return RoundsResult(tuple(rounds), best_round(rounds), "all rounds of the reference arm repeated")


def _scores(recorded: RecordedRound, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, C) and (N, C), what the reference's teacher said before and after calibration."""
    return (
        recorded.rows[[f"raw_p_{k}" for k in range(num_classes)]].to_numpy(np.float64),
        recorded.rows[[f"p_{k}" for k in range(num_classes)]].to_numpy(np.float64),
    )
