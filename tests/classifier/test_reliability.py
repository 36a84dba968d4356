import numpy as np
import pytest

from classifier.evaluate import expected_calibration_error
from classifier.reliability import (
    adaptive_calibration_error,
    calibration_report,
    chance_calibration_error,
)


def two_class(confidence: np.ndarray) -> np.ndarray:
    return np.column_stack([confidence, 1 - confidence])


def test_bins_of_equally_many_images_by_hand():
    probs = two_class(np.array([0.6, 0.7, 0.9, 0.95]))
    labels = np.array([0, 1, 0, 0])
    expected = (2 * abs(0.5 - 0.65) + 2 * abs(1 - 0.925)) / 4
    assert adaptive_calibration_error(probs, labels, num_bins=2) == pytest.approx(expected)
    assert adaptive_calibration_error(probs, labels, num_bins=99) == pytest.approx(
        (0.4 + 0.7 + 0.1 + 0.05) / 4
    )


def test_what_chance_alone_shows_is_what_calibrated_classifiers_show():
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.5, 1, 300)
    probs = two_class(confidence)
    shown = [
        expected_calibration_error(probs, (rng.random(300) > confidence).astype(int)) for _ in range(600)
    ]
    mean, high = chance_calibration_error(probs)
    assert mean == pytest.approx(np.mean(shown), rel=0.06)
    assert high == pytest.approx(np.percentile(shown, 95), rel=0.08)


def test_certain_probabilities_leave_nothing_to_chance():
    assert chance_calibration_error(np.eye(2)[[0, 1, 1]]) == (0, 0)
    assert chance_calibration_error(two_class(np.array([0.8])))[1] <= 0.8


def test_the_report_has_both_sides_of_the_scaling():
    rng = np.random.default_rng(2)
    before, labels = two_class(np.full(100, 0.99)), (rng.random(100) > 0.8).astype(int)
    report = calibration_report(two_class(np.full(100, 0.8)), before, labels)
    assert report["before"]["ece"] == pytest.approx(expected_calibration_error(before, labels))
    assert report["ece"] < report["ece_by_chance_95"] < report["before"]["ece"]
    assert sum(report["bins"]["count"]) == sum(report["bins_before"]["count"]) == 100
