"""AUROC, NLL, Brier and ECE with intervals over whole subjects."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from classifier.evaluate import expected_calibration_error
from semisup.statistics import SubjectBootstrap, class_strata
from semisup.statistics.calibration import calibration
from semisup.statistics.delong import delong
from semisup.statistics.probabilities import (
    MEASURES,
    arm_influence,
    brier,
    estimate_measure,
    macro_auroc,
    measure_difference,
    nll,
)
from semisup.statistics.simulated import SimulatedRun, SimulatedStudy, simulate

STUDY = SimulatedStudy(num_subjects=40, mixed=True, class_shares=(0.5, 0.3, 0.2))


def one_study(seed=0, **changes):
    return simulate(np.random.default_rng(seed), replace(STUDY, **changes))


def strata_of(runs):
    return class_strata([run.counts for run in runs])


def test_measures_agree_with_scikit_learn():
    run = one_study()[0][0]
    assert macro_auroc(run.probs, run.labels)[0] == pytest.approx(
        roc_auc_score(run.labels, run.probs, multi_class="ovr")
    )
    assert nll(run.probs, run.labels)[0] == pytest.approx(log_loss(run.labels, run.probs))
    assert brier(run.probs, run.labels)[0] == pytest.approx(
        brier_score_loss(run.labels, run.probs, scale_by_half=False)
    )


@pytest.mark.parametrize("name", MEASURES)
def test_influence_is_what_a_little_more_weight_moves(name):
    """Against weights in numbers: every image of one subject twice, all others 100 times."""
    run = one_study(num_subjects=12)[0][0]
    value, influence = MEASURES[name](run.probs, run.labels)
    rows = run.subjects == run.subjects[0]
    repeats = np.where(rows, 105, 100)
    moved, _ = MEASURES[name](np.repeat(run.probs, repeats, axis=0), np.repeat(run.labels, repeats))
    assert influence.sum() == pytest.approx(0, abs=1e-9)
    assert (moved - value) / 0.05 == pytest.approx(influence[rows].sum(), rel=0.1, abs=1e-5)


def test_the_error_over_subjects_agrees_with_drawing_subjects():
    runs = one_study(seeds=1, num_subjects=80)[0]
    strata = strata_of(runs)
    found = estimate_measure(arm_influence(runs, "auroc", strata), "auroc", strata)
    rng = np.random.default_rng(1)
    names, run = np.unique(runs[0].subjects), runs[0]
    rows_of = {name: np.flatnonzero(run.subjects == name) for name in names}
    drawn = []
    for _ in range(300):
        rows = np.concatenate([rows_of[name] for name in rng.choice(names, len(names))])
        drawn.append(macro_auroc(run.probs[rows], run.labels[rows])[0])
    assert found.subject_draws.std() == pytest.approx(np.std(drawn), rel=0.15)


def test_one_image_a_subject_and_two_classes_give_delongs_error():
    first, second = one_study(seeds=1, images=(1, 1), class_shares=(0.6, 0.4), mixed=False, num_subjects=90)
    strata = strata_of(first)
    pair = [arm_influence(runs, "auroc", strata) for runs in (second, first)]
    run, other = first[0], second[0]
    expected = delong(run.subjects, run.labels == 1, run.probs[:, 1], other.probs[:, 1])
    found = measure_difference(*pair, "auroc", strata)
    assert found.value == pytest.approx(expected.difference)
    # the normal grid's own spread is a little below 1
    assert found.subject_draws.std() == pytest.approx(expected.variance**0.5, rel=0.01)


def test_an_arm_differs_from_itself_by_exactly_zero():
    runs = one_study()[0]
    strata = strata_of(runs)
    one = arm_influence(runs, "auroc", strata)
    found = measure_difference(one, one, "auroc", strata)
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert (found.num_subjects, found.num_images) == (40, len(runs[0].labels))


def test_perfect_rankings_leave_room_for_what_few_subjects_cannot_show():
    labels = np.repeat([0, 1], [20, 6])
    ranked = [np.linspace(0, 0.4, 20), np.linspace(0.6, 1, 6)]
    score = np.concatenate(ranked)
    names = np.arange(26).astype(str)
    one = SimulatedRun(0, 0, names, labels, np.stack([1 - score, score], axis=1))
    other = SimulatedRun(0, 0, names, labels, np.stack([1 - score**2, score**2], axis=1))
    strata = strata_of([one])
    first, second = (arm_influence([run], "auroc", strata) for run in (one, other))
    share = 1 - 0.025 ** (1 / 6)
    found = estimate_measure(first, "auroc", strata)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1 - share, 1))
    difference = measure_difference(second, first, "auroc", strata)
    assert (difference.value, difference.low, difference.high) == pytest.approx((0, -share, share), abs=0.01)
    assert measure_difference(first, first, "auroc", strata).high == 0


def test_a_measure_that_is_undefined_in_a_run_has_no_estimate():
    run = one_study(seeds=1)[0][0]
    alike = SimulatedRun(0, 0, run.subjects, np.zeros_like(run.labels), run.probs)
    strata = strata_of([alike])
    assert estimate_measure(arm_influence([alike], "auroc", strata), "auroc", strata) is None
    assert estimate_measure(arm_influence([alike], "nll", strata), "nll", strata) is not None


def test_intervals_stay_within_what_a_measure_can_be():
    runs = one_study(margin=6.0, num_subjects=20)[0]
    strata = strata_of(runs)
    for name, (low, high) in {"auroc": (0, 1), "nll": (0, np.inf), "brier": (0, 2)}.items():
        found = estimate_measure(arm_influence(runs, name, strata), name, strata)
        assert low <= found.low < found.value < found.high <= high


# Calibration ----------------------------------------------------------------------------------------


def test_ece_is_the_classifiers_and_lies_in_its_interval():
    runs = one_study(sharpness=2.0)[0]
    found = calibration(runs, SubjectBootstrap(strata_of(runs), num_draws=400))
    expected = np.mean([expected_calibration_error(run.probs, run.labels) for run in runs])
    assert found.value == pytest.approx(expected)
    assert 0 < found.low < found.value < found.high


def test_a_calibrated_model_cannot_be_told_from_perfect_and_an_overconfident_one_can():
    rng = np.random.default_rng(3)
    probs = rng.dirichlet(np.ones(3), 1200)
    labels = (rng.random((1200, 1)) > probs.cumsum(axis=1)).sum(axis=1)  # as often as promised
    subjects = np.repeat(np.char.mod("s%02d", np.arange(60)), 20)
    honest = SimulatedRun(0, 0, subjects, labels, probs)
    sharp = probs**4 / (probs**4).sum(axis=1, keepdims=True)
    boot = SubjectBootstrap(strata_of([honest]), num_draws=400)
    perfect = calibration([honest], boot)
    assert perfect.value > 0.02  # although nothing is wrong
    assert perfect.low == 0
    assert perfect.noise_floor == pytest.approx(perfect.value, rel=0.5)
    assert calibration([replace(honest, probs=sharp)], boot).low > perfect.high
