"""Selection rules: what they choose, and what may not change their choice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semisup.select import coverage, decisions, is_alarming, select_confident


@st.composite
def pools(draw):
    """(N, C) probabilities without ties in confidence, and a threshold."""
    num_images, num_classes = draw(st.integers(1, 30)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.dirichlet(np.full(num_classes, 0.5), size=num_images), draw(st.floats(0.3, 0.99))


def test_selects_what_reaches_the_threshold_most_confident_first():
    probs = np.array([[0.75, 0.25], [0.74, 0.26], [0.1, 0.9]])
    chosen = select_confident(probs, threshold=0.75)
    assert chosen.indices.tolist() == [2, 0]
    assert chosen.labels.tolist() == [1, 0]
    assert chosen.confidence.tolist() == [0.9, 0.75]


def test_cap_keeps_the_most_confident_of_each_class():
    probs = np.array([[0.97, 0.03], [0.99, 0.01], [0.02, 0.98], [0.60, 0.40]])
    chosen = select_confident(probs, threshold=0.95, max_per_class=1)
    assert chosen.indices.tolist() == [1, 2]
    assert chosen.labels.tolist() == [0, 1]


@given(pools(), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_caps_hold_and_nothing_below_the_threshold_passes(pool, cap):
    probs, threshold = pool
    chosen = select_confident(probs, threshold, max_per_class=cap)
    assert np.bincount(chosen.labels, minlength=1).max(initial=0) <= cap
    assert (probs[chosen.indices, chosen.labels] >= threshold).all()
    assert (probs[chosen.indices].argmax(axis=1) == chosen.labels).all()


@given(pools(), st.one_of(st.none(), st.integers(1, 5)), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_permutation_of_the_pool_permutes_the_result(pool, cap, random):
    probs, threshold = pool
    order = np.array(random.sample(range(len(probs)), len(probs)))
    chosen = select_confident(probs, threshold, max_per_class=cap)
    permuted = select_confident(probs[order], threshold, max_per_class=cap)
    assert order[permuted.indices].tolist() == chosen.indices.tolist()
    assert permuted.labels.tolist() == chosen.labels.tolist()


@given(pools())
@settings(max_examples=30, deadline=None)
def test_a_higher_threshold_selects_a_part_of_what_a_lower_one_does(pool):
    probs, threshold = pool
    low, high = select_confident(probs, threshold), select_confident(probs, min(1.0, threshold + 0.1))
    assert set(high.indices) <= set(low.indices)


def test_every_image_of_the_pool_gets_one_decision():
    probs = np.array([[0.97, 0.03], [0.99, 0.01], [0.02, 0.98], [0.60, 0.40]])
    chosen = select_confident(probs, threshold=0.95, max_per_class=1)
    words = decisions(probs, 0.95, chosen)
    assert words.tolist() == ["over cap", "selected", "selected", "below threshold"]


def test_alarm_rings_above_ninety_percent_only():
    probs = np.tile([[0.99, 0.01]], (10, 1))
    assert is_alarming(coverage(select_confident(probs, 0.75), 10))
    probs[0] = [0.5, 0.5]
    assert not is_alarming(coverage(select_confident(probs, 0.75), 10))  # nine of ten: not above
    assert not is_alarming(coverage(select_confident(probs[:0], 0.75), 0))


@pytest.mark.parametrize(
    ("probs", "threshold", "cap", "message"),
    [
        (np.ones((3, 2)), 0.5, None, "rows that sum to 1"),
        (np.ones(3), 0.5, None, "must be"),
        (np.full((3, 2), 0.5), 0.0, None, "threshold must be in"),
        (np.full((3, 2), 0.5), 1.1, None, "threshold must be in"),
        (np.full((3, 2), 0.5), 0.5, 0, "max_per_class must be at least 1"),
    ],
)
def test_nonsense_is_refused(probs, threshold, cap, message):
    with pytest.raises(ValueError, match=message):
        select_confident(probs, threshold, cap)
