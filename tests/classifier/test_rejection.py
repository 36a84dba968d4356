from itertools import permutations

import numpy as np
import pytest

from classifier.bootstrap import draw_subjects
from classifier.rejection import (
    aurc,
    aurc_draws,
    aurc_report,
    best_aurc,
    choose_confidence,
    rejection_report,
    risk_coverage,
)
from tests.classifier.test_bootstrap import gathered_draws, scored


def area_in_order(is_wrong) -> float:
    return float(np.mean(np.cumsum(is_wrong) / np.arange(1, len(is_wrong) + 1)))


def test_the_area_is_the_mean_risk_over_all_coverages():
    rng = np.random.default_rng(1)
    confidence, is_wrong = rng.random(50), rng.random(50) < 0.3
    assert aurc(confidence, is_wrong) == pytest.approx(area_in_order(is_wrong[np.argsort(-confidence)]))


def test_equal_confidences_count_as_the_mean_over_all_their_orders():
    confidence = np.array([0.9, 0.7, 0.7, 0.7, 0.2])
    is_wrong = np.array([False, True, False, True, True])
    orders = [[0, *middle, 4] for middle in permutations([1, 2, 3])]
    assert aurc(confidence, is_wrong) == pytest.approx(np.mean([area_in_order(is_wrong[o]) for o in orders]))


def test_the_best_area_has_every_error_last():
    is_wrong = np.array([False] * 7 + [True] * 3)
    assert best_aurc(10, 3) == pytest.approx(area_in_order(is_wrong))
    report = aurc_report(np.linspace(1, 0.5, 10), is_wrong, None)
    assert report["excess_aurc"] == pytest.approx(0) and report["random_aurc"] == pytest.approx(0.3)
    assert aurc_report(np.full(10, 0.5), is_wrong, None)["aurc"] == pytest.approx(0.3)
    assert best_aurc(10, 0) == 0


def test_the_area_of_a_draw_is_that_of_its_repeated_images():
    probs, labels, subjects = scored(80, 3, 15, seed=2)
    confidence, is_wrong = probs.max(axis=1), probs.argmax(axis=1) != labels
    found = aurc_draws(confidence, is_wrong, draw_subjects(subjects, num_draws=20))
    expected = [aurc(confidence[rows], is_wrong[rows]) for rows in gathered_draws(subjects, 20)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_wanted_coverage_rejects_as_many_as_it_lets():
    confidence = np.linspace(0.95, 0.5, 10)
    chosen = choose_confidence(confidence, np.arange(10) >= 8, "coverage", 0.8)
    assert chosen.coverage == pytest.approx(0.8) and chosen.risk == 0
    assert (confidence >= chosen.confidence).sum() == 8
    assert confidence[8] < chosen.confidence < confidence[7]  # halfway: rounding moves no image


def test_equal_confidences_are_kept_together_even_beyond_the_wanted_coverage():
    chosen = choose_confidence(np.array([0.9, 0.6, 0.6, 0.6, 0.5]), np.zeros(5, bool), "coverage", 0.4)
    assert chosen.coverage == pytest.approx(0.8)
    certain = choose_confidence(np.ones(20), np.zeros(20, bool), "coverage", 0.1)
    assert certain.confidence is None and "equally sure" in certain.note


def test_a_wanted_risk_keeps_as_many_as_it_can():
    confidence = np.linspace(0.99, 0.3, 40)
    is_wrong = np.zeros(40, bool)
    is_wrong[[3, 30, 33, 36, 39]] = True
    chosen = choose_confidence(confidence, is_wrong, "risk", 0.05)
    assert chosen.coverage == pytest.approx(30 / 40) and chosen.risk == pytest.approx(1 / 30)
    for number in range(31, 41):  # nothing larger would have done
        assert is_wrong[:number].mean() > 0.05


def test_a_risk_that_cannot_be_had_rejects_nothing_and_says_so():
    is_wrong = np.arange(40) % 2 == 0
    chosen = choose_confidence(np.linspace(0.99, 0.3, 40), is_wrong, "risk", 0.01)
    assert chosen.confidence is None and chosen.coverage == 1 and chosen.risk == 0.5
    assert (
        "no confidence brings the errors on validation down to 1 %: at best 50.0 % are wrong" in chosen.note
    )


def test_one_lucky_image_is_no_rule():
    is_wrong = np.ones(40, bool)
    is_wrong[0] = False
    assert "no confidence" in choose_confidence(np.linspace(1, 0.5, 40), is_wrong, "risk", 0.1).note


def test_a_target_that_is_none_is_refused():
    for wanted, target in (("risk", 1.5), ("speed", 0.5)):
        with pytest.raises(ValueError, match="wanted must be a risk or coverage"):
            choose_confidence(np.ones(3), np.zeros(3, bool), wanted, target)


def test_the_report_counts_what_is_decided():
    confidence, is_wrong = np.array([0.9, 0.8, 0.4, 0.3]), np.array([False, True, True, False])
    report = rejection_report(confidence >= 0.5, is_wrong, None)
    assert (report["coverage"], report["risk"]) == (0.5, 0.5)
    assert np.isnan(rejection_report(confidence >= 1, is_wrong, None)["risk"])
    curve = risk_coverage(confidence, is_wrong)
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1] and curve.risk[1] == 0.5
