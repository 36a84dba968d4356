"""Laws that every selection rule obeys, whatever the pool."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semisup.adaptive_thresholds import select_flexmatch, select_freematch
from semisup.curriculum import select_curriculum
from semisup.error_control import select_error_controlled
from semisup.random_control import select_at_random
from semisup.select import decisions, select_by_class, select_confident, select_top

VAL = np.random.default_rng(1).dirichlet([0.2] * 3, size=300)  # sure, and right as often as it says
VAL_LABELS = np.array([np.random.default_rng(k).choice(3, p=row) for k, row in enumerate(VAL)])
VAL_SUBJECTS = np.array([f"s{k // 2}" for k in range(300)])


def error_controlled(probs, cap, by_class=False):
    return select_error_controlled(
        probs, VAL, VAL_LABELS, VAL_SUBJECTS, 0.2, 0.1, by_class=by_class, max_per_class=cap
    )


CAPPED = {
    "fixed": lambda probs, cap: select_confident(probs, 0.6, cap),
    "per_class": lambda probs, cap: select_by_class(probs, [0.5, 0.7, 0.9], cap),
    "curriculum": lambda probs, cap: select_curriculum(probs, 2, 30.0, cap),
    "flexmatch": lambda probs, cap: select_flexmatch(probs, 0.9, cap),
    "freematch": select_freematch,
    "error_controlled": error_controlled,
    "error_controlled by class": lambda probs, cap: error_controlled(probs, cap, by_class=True),
}
EQUIVARIANT = {**CAPPED, "top_k": lambda probs, cap: select_top(probs, cap or len(probs) or 1, 0.8)}
ALL = {
    **EQUIVARIANT,
    "random": lambda probs, cap: select_at_random(probs, select_confident(probs, 0.6, cap), seed=3),
}
caps = st.one_of(st.none(), st.integers(1, 6))


@st.composite
def pools(draw):
    """(N, 3) probabilities without ties in confidence; classes may be missing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.dirichlet(draw(st.sampled_from([[0.4] * 3, [2.0, 0.2, 0.05]])), size=draw(st.integers(1, 40)))


@pytest.mark.parametrize("rule", ALL.values(), ids=ALL)
@given(probs=pools(), cap=caps)
@settings(max_examples=25, deadline=None)
def test_what_is_selected_is_parallel_sorted_unique_and_above_its_threshold(rule, probs, cap):
    chosen = rule(probs, cap)
    assert len(set(chosen.indices.tolist())) == len(chosen) == len(chosen.labels) == len(chosen.confidence)
    assert (chosen.labels == probs[chosen.indices].argmax(axis=1)).all()
    assert (chosen.confidence == probs[chosen.indices].max(axis=1)).all()
    assert (np.diff(chosen.confidence) <= 0).all()
    assert (chosen.confidence >= chosen.thresholds[chosen.labels]).all()


@pytest.mark.parametrize("rule", ALL.values(), ids=ALL)
@given(probs=pools(), cap=st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_caps_hold(rule, probs, cap):
    assert np.bincount(rule(probs, cap).labels, minlength=3).max() <= cap


@pytest.mark.parametrize("rule", CAPPED.values(), ids=CAPPED)
@given(probs=pools(), cap=st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_a_cap_takes_the_surest_of_what_would_be_selected_without_one(rule, probs, cap):
    free, capped = rule(probs, None), rule(probs, cap)
    for label in range(3):
        expected = free.indices[free.labels == label][:cap]
        assert capped.indices[capped.labels == label].tolist() == expected.tolist()


@pytest.mark.parametrize("rule", EQUIVARIANT.values(), ids=EQUIVARIANT)
@given(probs=pools(), cap=caps, random=st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_permutation_of_the_pool_permutes_the_result(rule, probs, cap, random):
    order = np.array(random.sample(range(len(probs)), len(probs)))
    chosen, permuted = rule(probs, cap), rule(probs[order], cap)
    assert order[permuted.indices].tolist() == chosen.indices.tolist()
    assert np.allclose(permuted.thresholds, chosen.thresholds)


@pytest.mark.parametrize("rule", EQUIVARIANT.values(), ids=EQUIVARIANT)
def test_ties_keep_pool_order(rule):
    probs = np.tile([[0.96, 0.02, 0.02], [0.02, 0.96, 0.02]], (10, 1))
    chosen = rule(probs, 3)
    for label in (0, 1):
        of_class = chosen.indices[chosen.labels == label]
        assert of_class.tolist() == [label, label + 2, label + 4][: len(of_class)]


@pytest.mark.parametrize("rule", ALL.values(), ids=ALL)
def test_a_pool_without_images_and_a_class_without_images_select_what_there_is(rule):
    assert len(rule(np.empty((0, 3)), None)) == 0
    probs = np.array([[0.99, 0.005, 0.005], [0.005, 0.99, 0.005], [0.98, 0.01, 0.01], [0.02, 0.96, 0.02]])
    assert 2 not in rule(probs, None).labels


@pytest.mark.parametrize("rule", ALL.values(), ids=ALL)
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([np.nan, 0.5, 0.5], r"must be finite, got \[nan, 0.5, 0.5\] in row 1 \(1 such rows\)"),
        ([np.inf, 0.5, 0.5], "must be finite"),
        ([0.5, 0.5, 0.5], r"rows that sum to 1 and nothing negative, got \[0.5, 0.5, 0.5\] in row 1"),
        ([1.2, -0.1, -0.1], "nothing negative"),
    ],
)
def test_what_are_no_probabilities_is_refused_with_the_row(rule, row, message):
    with pytest.raises(ValueError, match=message):
        rule(np.array([[0.8, 0.1, 0.1], row]), None)


@pytest.mark.parametrize("rule", ALL.values(), ids=ALL)
@given(probs=pools(), cap=caps)
@settings(max_examples=10, deadline=None)
def test_every_image_gets_one_decision_that_agrees_with_its_threshold(rule, probs, cap):
    chosen = rule(probs, cap)
    words = decisions(probs, chosen.thresholds, chosen)
    assert (words == "selected").sum() == len(chosen)
    is_below = probs.max(axis=1) < chosen.thresholds[probs.argmax(axis=1)]
    assert ((words == "below threshold") == is_below).all()
    assert set(words) <= {"selected", "below threshold", chosen.passed_over}
