"""What a student learns from a selected image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from semisup.label_forms import (
    complementary_labels,
    confidence_weights,
    entropy_weights,
    negative_labels,
    remaining_labels,
    uncertainty_weights,
    with_soft_labels,
    with_weights,
)
from semisup.select import select_confident

PROBS = np.array([[0.9, 0.08, 0.02], [0.3, 0.4, 0.3], [0.03, 0.02, 0.95]])


def test_soft_labels_are_the_teachers_distributions_in_the_order_of_the_selection():
    chosen = with_soft_labels(select_confident(PROBS, 0.5), PROBS)
    assert chosen.indices.tolist() == [2, 0]
    assert np.allclose(chosen.soft_labels, PROBS[[2, 0]])
    assert chosen.soft_labels.dtype == np.float32


def test_weights_belong_to_the_selected_images():
    chosen = with_weights(select_confident(PROBS, 0.5), np.array([0.2, 0.5, 1.0]))
    assert chosen.weights.tolist() == [1.0, 0.2]
    with pytest.raises(ValueError, match=r"weights must be in \[0, 1\]"):
        with_weights(select_confident(PROBS, 0.5), np.array([0.2, 0.5, 1.5]))
    with pytest.raises(ValueError, match=r"weights must be in \[0, 1\]"):
        with_weights(select_confident(PROBS, 0.5), np.array([np.nan, 0.5, 1]))


@given(st.integers(0, 2**31), st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_weights_lie_between_nothing_and_all_and_entropy_agrees_with_scipy(seed, num_classes):
    probs = np.random.default_rng(seed).dirichlet([0.2] * num_classes, size=20)
    for weights in (confidence_weights(probs), entropy_weights(probs)):
        assert ((weights >= 0) & (weights <= 1)).all()
    assert np.allclose(entropy_weights(probs), 1 - entropy(probs, axis=1) / np.log(num_classes))


def test_a_sure_prediction_weighs_all_and_an_even_one_nothing_by_entropy():
    probs = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert entropy_weights(probs).tolist() == [1.0, 0.0]
    assert confidence_weights(probs).tolist() == [1.0, 0.5]


def test_uncertainty_takes_weight_away():
    assert uncertainty_weights(np.array([0.0, 0.1, 0.2]), 0.1) == pytest.approx([1, np.exp(-1), np.exp(-2)])
    with pytest.raises(ValueError, match="finite and not negative"):
        uncertainty_weights(np.array([np.nan]), 0.1)
    with pytest.raises(ValueError, match="scale must be more than 0, got 0"):
        uncertainty_weights(np.array([0.1]), 0)


def test_what_is_nearly_impossible_is_a_negative_label():
    assert negative_labels(PROBS).tolist() == [[False, False, True], [False] * 3, [True, True, False]]
    unsure = np.full((3, 3), 0.2)
    unsure[2, 0] = 0.01
    assert negative_labels(PROBS, uncertainty=unsure, max_uncertainty=0.05).tolist() == [
        [False] * 3,
        [False] * 3,
        [True, False, False],
    ]


@given(st.integers(0, 2**31), st.floats(0, 0.49))
@settings(max_examples=40, deadline=None)
def test_negative_labels_never_exclude_the_prediction_and_grow_with_the_threshold(seed, threshold):
    probs = np.random.default_rng(seed).dirichlet([0.3] * 4, size=20)
    excluded = negative_labels(probs, threshold)
    assert not excluded[np.arange(20), probs.argmax(axis=1)].any()
    assert (excluded <= negative_labels(probs, min(0.499, threshold + 0.1))).all()
    remaining = remaining_labels(probs, excluded)
    assert np.allclose(remaining.sum(axis=1), 1) and (remaining[excluded] == 0).all()


def test_complementary_labels_are_any_other_class_equally_often():
    labels = np.repeat([0, 1, 2], 3000)
    drawn = complementary_labels(labels, 3, seed=0)
    assert (drawn != labels).all()
    for label in range(3):
        counts = np.bincount(drawn[labels == label], minlength=3)
        assert np.delete(counts, label) == pytest.approx([1500, 1500], abs=120)


def test_negative_nonsense_is_refused():
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 0.5\), got 0.5"):
        negative_labels(PROBS, 0.5)
    with pytest.raises(ValueError, match="uncertainty must have the shape of probs"):
        negative_labels(PROBS, uncertainty=np.zeros(3))
    with pytest.raises(ValueError, match="row 0 has no class left"):
        remaining_labels(PROBS, np.ones((3, 3), dtype=bool))
    with pytest.raises(ValueError, match=r"labels must lie in 0 \.\.\. 1"):
        complementary_labels(np.array([2]), 2, 0)
