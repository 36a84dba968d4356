"""Sensitivity and specificity of each class against a slow count."""

import numpy as np
import pytest

from semisup.per_class import sensitivity, specificity
from semisup.records import read_records
from semisup.summary import summarize
from tests.semisup.study_folder import FakeStudy, make_study

FEW = FakeStudy(num_subjects=24, images_per_subject=3, folds=(0,), fractions=(0.2,), has_images=False)


def slow(labels, predicted, number):
    hit = sum(a == number and b == number for a, b in zip(labels, predicted, strict=True))
    mine = sum(a == number for a in labels)
    right = sum(a != number and b != number for a, b in zip(labels, predicted, strict=True))
    return hit / mine, right / (len(labels) - mine)


def test_both_agree_with_a_count_one_by_one():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    confusion = np.zeros((4, 4))
    np.add.at(confusion, (labels, predicted), 1)
    for number in range(4):
        expected = slow(labels, predicted, number)
        assert (sensitivity(confusion, number), specificity(confusion, number)) == pytest.approx(expected)


def test_a_class_that_everything_is_taken_for_has_no_specificity():
    confusion = np.array([[5.0, 0.0], [7.0, 0.0]])
    assert sensitivity(confusion, 0) == 1.0 and specificity(confusion, 0) == 0.0


def test_the_mean_sensitivity_is_the_balanced_accuracy_and_lies_in_its_interval(tmp_path):
    summary = summarize(read_records(make_study(tmp_path, FEW)), 200)
    for result in summary.arms:
        own = [c for c in summary.per_class if (c.arm, c.fraction) == (result.arm, result.fraction)]
        assert [c.class_name for c in own] == list(FEW.classes)
        mean = np.mean([c.sensitivity.value for c in own])
        assert mean == pytest.approx(result.estimates["balanced_accuracy"].value)
        assert all(c.sensitivity.low <= c.sensitivity.value <= c.sensitivity.high for c in own)
        assert all(0 <= c.specificity.low <= c.specificity.high <= 1 for c in own)
