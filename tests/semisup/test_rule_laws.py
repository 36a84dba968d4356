"""Laws that every selection rule obeys, whatever the pool."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semisup.adaptive_thresholds import select_flexmatch, select_freematch
from semisup.curriculum import select_curriculum
from semisup.error_control import select_error_controlled
from semisup.pseudo_config import (
    CurriculumRule,
    ErrorControlledRule,
    FixedRule,
    FlexMatchRule,
    FreeMatchRule,
    PerClassRule,
    RandomRule,
    TopKRule,
)
from semisup.random_control import select_at_random
from semisup.rules import RunFacts, make_rule
from semisup.select import (
    Evidence,
    decisions,
    rule_among,
    select_by_class,
    select_confident,
    select_top,
)

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


CONFIGS = {
    "fixed": FixedRule(threshold=0.6, max_per_class=5),
    "fixed, aligned": FixedRule(threshold=0.6, align=True),
    "fixed, soft": FixedRule(threshold=0.6, labels="soft"),
    "fixed, weighted": FixedRule(threshold=0.6, labels="weighted", weight_by="entropy", align=True),
    "per_class": PerClassRule(rule="per_class", class_thresholds={"a": 0.5, "b": 0.7, "c": 0.9}),
    "top_k": TopKRule(rule="top_k", images_per_class=3, max_class_share=0.8),
    "curriculum": CurriculumRule(rule="curriculum", step_percent=30),
    "flexmatch": FlexMatchRule(rule="flexmatch", threshold=0.9),
    "freematch": FreeMatchRule(rule="freematch", max_per_class=4),
    "error_controlled": ErrorControlledRule(rule="error_controlled", epsilon=0.2),
    "random": RandomRule(rule="random", threshold=0.6),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@given(probs=pools(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_a_rule_over_a_gated_pool_is_the_rule_over_the_pool_without_the_gated_images(config, probs, seed):
    facts = RunFacts(("a", "b", "c"), np.array([0.5, 0.3, 0.2]), VAL_SUBJECTS, seed=7)
    passes = np.random.default_rng(seed).random(len(probs)) < 0.6
    rows = np.flatnonzero(passes)
    gated = rule_among(passes, make_rule(config, facts))(Evidence(2, probs, VAL, VAL_LABELS))
    alone = make_rule(config, facts)(Evidence(2, probs[passes], VAL, VAL_LABELS))
    assert gated.indices.tolist() == rows[alone.indices].tolist()
    assert passes[gated.indices].all()
    for name in ("labels", "confidence", "thresholds", "soft_labels", "weights"):
        ours, theirs = getattr(gated, name), getattr(alone, name)
        assert (ours is None) == (theirs is None) and (ours is None or np.array_equal(ours, theirs)), name
    if alone.aligned_probs is not None:
        assert np.array_equal(gated.aligned_probs[passes], alone.aligned_probs)
    if not passes.any():
        assert gated.note == "no image of the pool passed the gates"


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_gate_that_lets_everybody_pass_changes_nothing(config):
    facts = RunFacts(("a", "b", "c"), np.array([0.5, 0.3, 0.2]), VAL_SUBJECTS, seed=7)
    probs = np.random.default_rng(0).dirichlet([0.4] * 3, size=60)
    evidence = Evidence(1, probs, VAL, VAL_LABELS)
    ours = rule_among(np.ones(60, dtype=bool), make_rule(config, facts))(evidence)
    theirs = make_rule(config, facts)(evidence)
    for name, value in vars(theirs).items():
        assert np.array_equal(getattr(ours, name), value), name
