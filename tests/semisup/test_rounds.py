"""Laws of the rounds, with models that are rows of a table instead of networks."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from semisup.rounds import mixing, run_rounds
from semisup.select import select_confident
from semisup.stopping import NEVER, StopRules, flip_rate

VAL_LABELS = np.array([0, 0, 1, 1])


@dataclass
class Fake:
    """A model known by its logits on the pool and on validation."""

    pool: np.ndarray
    val: np.ndarray
    trained_on: list = field(default_factory=list)


def logits_of(probs) -> np.ndarray:
    return np.log(np.asarray(probs, dtype=float))


def validation(num_right: int, confidence: float = 0.8) -> np.ndarray:
    """Logits that are right on so many of the four validation images (wrong on the last ones)."""
    predicted = VAL_LABELS.copy()
    predicted[num_right:] = 1 - predicted[num_right:]
    probs = np.full((4, 2), 1 - confidence)
    probs[np.arange(4), predicted] = confidence
    return logits_of(probs)


def measures(probs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    right = probs.argmax(axis=1) == labels
    nll = float(-np.log(probs[np.arange(len(labels)), labels]).mean())
    return {
        "balanced_accuracy": float(right.mean()),
        "nll": nll,
        "ece": float(abs(probs.max(axis=1) - right).mean()),
    }


def run(models, num_rounds=None, threshold=0.75, fit_temperature=None, order=None, stop=NEVER):
    """Run the loop over prepared models: the first teaches, the others are the students in turn."""
    teacher, *students = models
    order = np.arange(len(teacher.pool)) if order is None else order
    seen = []

    def train_student(selection, round_index):
        seen.append(sorted(zip(order[selection.indices].tolist(), selection.labels.tolist(), strict=True)))
        return students[round_index - 1]

    result = run_rounds(
        teacher,
        len(students) if num_rounds is None else num_rounds,
        val_logits=lambda model: model.val,
        val_labels=VAL_LABELS,
        pool_logits=lambda model: model.pool[order],
        select=lambda seen: select_confident(seen.probs, threshold),
        train_student=train_student,
        fit_temperature=fit_temperature,
        metrics=measures,
        stop=stop,
    )
    return result, seen


SURE, UNSURE = [0.9, 0.1], [0.6, 0.4]


def test_zero_rounds_keep_the_teacher_and_train_nothing():
    teacher = Fake(logits_of([SURE]), validation(2))
    result, seen = run([teacher], num_rounds=0)
    assert result.best.model is teacher
    assert seen == []


def test_a_worse_student_loses_against_round_0():
    models = [Fake(logits_of([SURE]), validation(3)), Fake(logits_of([SURE]), validation(2))]
    result, seen = run(models)
    assert len(seen) == 1
    assert result.best.round_index == 0


def test_a_better_student_wins():
    models = [Fake(logits_of([SURE]), validation(2)), Fake(logits_of([SURE]), validation(4))]
    assert run(models)[0].best.round_index == 1


def test_nll_breaks_a_tie_and_the_earlier_round_takes_a_full_tie():
    pool = logits_of([SURE])
    models = [Fake(pool, validation(4, 0.8)), Fake(pool, validation(4, 0.9)), Fake(pool, validation(4, 0.9))]
    assert run(models)[0].best.round_index == 1


def test_labels_may_leave_and_change_again():
    flipped = [0.1, 0.9]
    models = [
        Fake(logits_of([SURE, SURE, UNSURE]), validation(2)),
        Fake(logits_of([UNSURE, flipped, SURE]), validation(2)),
        Fake(logits_of([SURE, SURE, SURE]), validation(2)),
    ]
    _, seen = run(models)
    assert seen[0] == [(0, 0), (1, 0)]
    assert seen[1] == [(1, 1), (2, 0)]  # 0 left, 1 changed its label, 2 came


def test_permutation_of_the_pool_permutes_the_result():
    models = [
        Fake(logits_of([SURE, [0.2, 0.8], UNSURE, [0.05, 0.95]]), validation(2)),
        Fake(logits_of([UNSURE, SURE, [0.1, 0.9], SURE]), validation(3)),
        Fake(logits_of([SURE] * 4), validation(3)),
    ]
    result, seen = run(models)
    permuted, seen_permuted = run(models, order=np.array([2, 0, 3, 1]))
    assert seen == seen_permuted
    assert result.best.round_index == permuted.best.round_index


def test_a_round_that_selects_nothing_ends_the_loop_and_leaves_its_scores():
    models = [Fake(logits_of([UNSURE, UNSURE]), validation(2)), Fake(logits_of([SURE, SURE]), validation(4))]
    result, seen = run(models)
    assert seen == []
    assert len(result.rounds) == 1
    assert result.stopped == "nothing selected in round 1"
    assert result.unused is not None and len(result.unused.probs) == 2


def test_the_threshold_meets_calibrated_probabilities():
    models = [
        Fake(logits_of([SURE, [0.999, 0.001]]), validation(2)),
        Fake(logits_of([SURE, SURE]), validation(2)),
    ]
    result, seen = run(models, fit_temperature=lambda logits, labels: 3.0)
    assert seen == [[(1, 0)]]  # 0.9 at temperature 3 is 0.675
    scores = result.rounds[1].scores
    assert scores.raw_probs[0, 0] == pytest.approx(0.9)
    assert scores.probs[0, 0] == pytest.approx(0.9 ** (1 / 3) / (0.9 ** (1 / 3) + 0.1 ** (1 / 3)))


def test_calibration_sees_the_validation_part_of_each_round():
    calls = []

    def fit(logits, labels):
        calls.append((logits, labels))
        return 1.0

    models = [Fake(logits_of([SURE]), validation(2)), Fake(logits_of([SURE]), validation(3))]
    run(models, fit_temperature=fit)
    assert [logits is model.val for (logits, _), model in zip(calls, models, strict=True)] == [True, True]
    assert all(labels is VAL_LABELS for _, labels in calls)


def test_the_record_of_a_round_counts_what_was_selected_and_alarms():
    models = [Fake(logits_of([SURE] * 3), validation(2)), Fake(logits_of([SURE] * 3), validation(2))]
    first, second = run(models)[0].rounds
    assert (first.num_selected, first.pool_size, first.is_alarming) == (0, 0, False)
    assert (second.num_selected, second.pool_size, second.coverage, second.is_alarming) == (3, 3, 1.0, True)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize(("num_labeled", "num_pseudo"), [(10, 1), (10, 9), (10, 14), (10, 4000), (300, 200)])
def test_pseudo_labels_count_no_more_than_their_share(num_labeled, num_pseudo, share):
    repeats, weight = mixing(num_labeled, num_pseudo, share)
    assert repeats >= 1 and 0 < weight <= 1
    counted = weight * num_pseudo / (weight * num_pseudo + repeats * num_labeled)
    if share < 1:
        assert counted <= share + 1e-9
        if (
            num_pseudo * (1 - share) > num_labeled * share
        ):  # enough of them: the share is used up, but for rounding
            assert counted >= 0.75 * share
    else:
        assert (repeats, weight) == (1, 1.0)


def test_the_rounds_end_where_the_pseudo_labels_would_stay_as_they_are():
    pool = logits_of([SURE, SURE, UNSURE])
    models = [Fake(pool, validation(2)), Fake(pool, validation(3)), Fake(pool, validation(4))]
    result, seen = run(models, stop=StopRules(flip_rate=0.0))
    assert len(seen) == 1 and result.stopped == "0.0% of the pseudo-labels would change in round 2"
    assert result.unused is None and len(result.rounds) == 2
    assert len(run(models)[1]) == 2  # not unless asked for


def test_labels_that_change_keep_the_rounds_going_up_to_the_rate():
    models = [
        Fake(logits_of([SURE, SURE, SURE, UNSURE]), validation(2)),
        Fake(logits_of([SURE, SURE, [0.1, 0.9], SURE]), validation(2)),  # one changes, one comes: half
        Fake(logits_of([SURE] * 4), validation(2)),
    ]
    assert len(run(models, stop=StopRules(flip_rate=0.49))[1]) == 2
    assert len(run(models, stop=StopRules(flip_rate=0.5))[1]) == 1


def test_a_flip_is_a_label_that_left_came_or_changed():
    selected = {name: select_confident(np.array(probs), 0.75) for name, probs in {
        "two": [SURE, SURE, UNSURE], "other": [SURE, [0.1, 0.9], SURE], "none": [UNSURE] * 3,
    }.items()}  # fmt: skip
    assert flip_rate(selected["two"], selected["two"], 3) == 0
    assert flip_rate(selected["two"], selected["other"], 3) == pytest.approx(2 / 3)
    assert flip_rate(selected["two"], selected["none"], 3) == 1
    assert flip_rate(selected["none"], selected["none"], 3) == 0


def test_the_rounds_end_after_so_many_without_gain_on_real_validation():
    pool = logits_of([SURE])
    models = [Fake(pool, validation(num_right)) for num_right in (2, 3, 2, 2, 4)]
    result, seen = run(models, stop=StopRules(without_gain=2))
    assert len(seen) == 3 and result.best.round_index == 1
    assert result.stopped == "no gain on real validation in 2 rounds"
    assert run(models)[0].best.round_index == 4
