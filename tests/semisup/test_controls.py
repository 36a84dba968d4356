"""Laws of the control arms, on a ledger of ten images that can be checked by eye."""

import numpy as np
import pandas as pd
import pytest

from semisup.controls import (
    NOT_DRAWN,
    control_rows,
    draw_at_random,
    recorded_rounds,
    repeat_labeled,
    repeat_rounds,
    shuffle_labels,
)
from semisup.rounds import RealValidation
from semisup.select import SELECTED
from tests.semisup.test_rounds import VAL_LABELS, Fake, logits_of, measures, validation

PREDICTED = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
CONFIDENCE = [0.95, 0.6, 0.9, 0.55, 0.52, 0.8, 0.99, 0.6, 0.85, 0.51]
CHOSEN = [0, 2, 5, 6, 8]  # 0.75 and more
MOST_CONFIDENT_FIRST = [6, 0, 2, 8, 5]


def ledger(**columns) -> pd.DataFrame:
    predicted, confidence = np.array(PREDICTED), np.array(CONFIDENCE)
    probs = np.where(predicted == 0, confidence, 1 - confidence)
    decision = np.full(10, "below threshold", dtype=object)
    decision[CHOSEN] = SELECTED
    return pd.DataFrame(
        {
            "round_index": 1,
            "image": [f"{n}.png" for n in range(10)],
            "raw_p_0": probs,
            "raw_p_1": 1 - probs,
            "p_0": probs,
            "p_1": 1 - probs,
            "confidence": confidence,
            "predicted": predicted,
            "rule": "confident",
            "threshold": 0.75,
            "decision": decision,
            "weight": np.where(decision == SELECTED, 0.5, 0.0),
            **columns,
        }
    )


def the_round():
    (recorded,) = recorded_rounds(ledger())
    return recorded


def counts(labels) -> list[int]:
    return np.bincount(labels, minlength=2).tolist()


def test_a_recorded_round_is_what_the_rule_selected_in_its_order():
    recorded = the_round()
    assert recorded.selected.tolist() == MOST_CONFIDENT_FIRST
    assert recorded.labels.tolist() == [1, 0, 0, 1, 0]


def test_a_round_that_selected_nothing_is_no_round_to_repeat():
    nothing = ledger(round_index=2, decision="below threshold")
    found = recorded_rounds(pd.concat([nothing, ledger()]))
    assert [recorded.round_index for recorded in found] == [1]


def test_random_images_have_the_counts_of_the_selected_ones_and_the_teachers_labels():
    drawn = [draw_at_random(the_round(), np.random.default_rng(seed)) for seed in range(40)]
    for selection in drawn:
        assert counts(selection.labels) == [3, 2]
        assert len(set(selection.indices.tolist())) == 5
        assert selection.labels.tolist() == [PREDICTED[i] for i in selection.indices]
        assert selection.confidence.tolist() == [CONFIDENCE[i] for i in selection.indices]
    assert {i for selection in drawn for i in selection.indices.tolist()} == set(range(10))


def test_an_image_that_a_gate_held_back_is_not_drawn_at_random_either():
    gate = ["", "duplicate", "", "duplicate", "", "", "", "", "", ""]
    (recorded,) = recorded_rounds(ledger(gate=gate))
    for seed in range(20):
        assert {1, 3}.isdisjoint(draw_at_random(recorded, np.random.default_rng(seed)).indices.tolist())


def test_shuffled_labels_are_the_same_images_and_counts_with_labels_that_mean_nothing():
    labels = []
    for seed in range(300):
        selection = shuffle_labels(the_round(), np.random.default_rng(seed))
        assert selection.indices.tolist() == MOST_CONFIDENT_FIRST
        assert counts(selection.labels) == [3, 2]
        labels.append(selection.labels)
    assert np.mean(labels, axis=0) == pytest.approx([0.4] * 5, abs=0.1)


def test_labeled_images_are_repeated_as_often_as_images_of_their_class_were_selected():
    labels = np.array([1, 0, 0, 1, 1, 1])
    selection = repeat_labeled(the_round(), labels, np.random.default_rng(0))
    assert selection.labels.tolist() == labels[selection.indices].tolist()
    assert counts(selection.labels) == [3, 2]
    times = np.bincount(selection.indices, minlength=6)
    assert sorted(times[labels == 0]) == [1, 2] and times[labels == 1].max() == 1


def test_the_ledger_of_a_control_says_which_label_was_given():
    recorded = the_round()
    selection = shuffle_labels(recorded, np.random.default_rng(1))
    rows = control_rows(recorded, selection, "shuffled_labels", 0.25)
    given = rows[rows["decision"] == SELECTED]
    assert given.index.tolist() == CHOSEN
    assert given.loc[selection.indices, "pseudo_label"].tolist() == selection.labels.tolist()
    assert (given["weight"] == 0.25).all()
    others = rows[rows["decision"] == NOT_DRAWN]
    assert len(others) == 5 and (others["pseudo_label"] == -1).all() and (others["weight"] == 0).all()
    assert rows["predicted"].tolist() == PREDICTED


@pytest.mark.parametrize(("student_right", "kept"), [(4, 1), (2, 0)])
def test_a_control_keeps_its_best_round_by_real_validation_round_0_included(student_right, kept):
    pool = logits_of([[0.5, 0.5]])
    teacher, student = Fake(pool, validation(3)), Fake(pool, validation(student_right))
    judge = RealValidation(lambda model: model.val, VAL_LABELS, None, measures).judge
    trained = []
    result = repeat_rounds(
        teacher,
        recorded_rounds(ledger()),
        lambda recorded: shuffle_labels(recorded, np.random.default_rng(0)),
        lambda selection, round_index: trained.append((len(selection), round_index)) or student,
        judge,
        num_classes=2,
    )
    assert trained == [(5, 1)]
    assert result.best.round_index == kept
    assert (result.rounds[1].num_selected, result.rounds[1].pool_size) == (5, 10)
