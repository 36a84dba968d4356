"""Each rule on pools small enough to check by eye, or against its paper's formula written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semisup.adaptive_thresholds import flexmatch_thresholds, freematch_thresholds, select_flexmatch
from semisup.alignment import align_to_prior, alignment_factors, apply_factors
from semisup.curriculum import select_curriculum
from semisup.random_control import select_at_random
from semisup.select import Selection, decisions, select_among, select_by_class, select_confident, select_top


def two_classes(*first) -> np.ndarray:
    """(N, 2) from the probabilities of class 0."""
    return np.array([[p, 1 - p] for p in first])


def test_a_class_is_held_to_its_own_threshold():
    chosen = select_by_class(two_classes(0.85, 0.95, 0.35, 0.2), [0.9, 0.6])
    assert chosen.indices.tolist() == [1, 3, 2]
    assert chosen.thresholds.tolist() == [0.9, 0.6]


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([0.9], "expected 2 thresholds, one a class"),
        ([0.9, 0.0], "must be in"),
        ([np.nan, 0.9], "must be in"),
    ],
)
def test_thresholds_that_fit_no_class_are_refused(thresholds, message):
    with pytest.raises(ValueError, match=message):
        select_by_class(two_classes(0.9), thresholds)


def test_the_best_of_each_class_are_taken_and_no_more_than_their_share():
    probs = two_classes(0.9, 0.8, 0.7, 0.6, 0.1, 0.2)
    chosen = select_top(probs, 3)
    assert sorted(chosen.indices.tolist()) == [0, 1, 2, 4, 5]
    assert chosen.thresholds.tolist() == [0.7, 0.8]
    halves = select_top(probs, 3, max_class_share=0.5)
    assert sorted(halves.indices.tolist()) == [0, 1, 4]
    assert select_top(two_classes(0.9), 3).thresholds.tolist() == [0.9, np.inf]


@pytest.mark.parametrize(("num", "share", "message"), [(0, 1, "images_per_class"), (1, 0, "max_class_share")])
def test_numbers_that_make_no_sense_for_top_k_are_refused(num, share, message):
    with pytest.raises(ValueError, match=message):
        select_top(two_classes(0.9), num, share)


@given(st.integers(1, 60), st.sampled_from([10.0, 20.0, 33.0, 50.0]), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_curriculum_adds_its_share_each_round_until_all_are_in(num_images, step, seed):
    probs = np.random.default_rng(seed).dirichlet([1, 1, 1], size=num_images)
    before: set[int] = set()
    for round_index in range(1, 12):
        chosen = select_curriculum(probs, round_index, step)
        assert len(chosen) == np.ceil(num_images * min(1, round_index * step / 100) - 1e-9)
        assert before <= set(chosen.indices.tolist())
        before = set(chosen.indices.tolist())
    assert len(before) == num_images


def test_the_curriculum_agrees_with_numpys_percentile():
    probs = np.random.default_rng(0).dirichlet([1, 1, 1], size=100)
    threshold = np.percentile(probs.max(axis=1), 60, method="higher")
    assert set(select_curriculum(probs, 2).indices) == set(np.flatnonzero(probs.max(axis=1) >= threshold))


@pytest.mark.parametrize(("index", "step", "message"), [(0, 20, "round_index"), (1, 0, "step_percent")])
def test_a_curriculum_without_a_share_is_refused(index, step, message):
    with pytest.raises(ValueError, match=message):
        select_curriculum(two_classes(0.9), index, step)


def test_flexmatch_lowers_the_threshold_of_a_class_that_few_images_reach():
    # four sure of class 0, two of class 1; one unsure
    probs = two_classes(0.97, 0.98, 0.96, 0.99, 0.02, 0.01, 0.6)
    thresholds = flexmatch_thresholds(probs, 0.95)
    assert thresholds == pytest.approx([0.95, 0.95 * 0.5 / 1.5])
    assert len(select_flexmatch(probs, 0.95)) == 6


def test_flexmatch_warms_up_while_most_images_reach_no_threshold():
    probs = two_classes(0.97, *[0.6] * 8)  # 8 unused against 1
    assert flexmatch_thresholds(probs, 0.95) == pytest.approx([0.95 * (1 / 8) / (2 - 1 / 8), 0.0])
    assert flexmatch_thresholds(np.empty((0, 2))).tolist() == [0, 0]


@given(st.integers(0, 2**31), st.floats(0.5, 0.99))
@settings(max_examples=40, deadline=None)
def test_flexmatch_asks_no_class_for_more_than_the_fixed_threshold_and_selects_at_least_as_many(seed, fixed):
    probs = np.random.default_rng(seed).dirichlet([0.3, 0.3, 0.1], size=50)
    assert (flexmatch_thresholds(probs, fixed) <= fixed).all()
    found = set(select_flexmatch(probs, fixed).indices)
    assert set(select_confident(probs, fixed).indices) <= found


def test_freematch_is_the_papers_formula():
    probs = two_classes(0.9, 0.8, 0.7, 0.2)
    confidence = (0.9 + 0.8 + 0.7 + 0.8) / 4
    expected = np.array([2.6, 1.4]) / 4
    assert freematch_thresholds(probs) == pytest.approx(expected / expected.max() * confidence)
    even = np.full((5, 4), 0.25)
    assert freematch_thresholds(even) == pytest.approx([0.25] * 4)  # a model that knows nothing: 1 / C


@given(st.integers(0, 2**31), st.integers(0, 10))
@settings(max_examples=40, deadline=None)
def test_the_random_control_has_as_many_of_each_class_and_repeats_with_its_seed(seed, draw):
    probs = np.random.default_rng(seed).dirichlet([0.5, 0.4, 0.1], size=60)
    like = select_confident(probs, 0.8)
    chosen = select_at_random(probs, like, draw)
    assert np.bincount(chosen.labels, minlength=3).tolist() == np.bincount(like.labels, minlength=3).tolist()
    assert chosen.indices.tolist() == select_at_random(probs, like, draw).indices.tolist()
    assert (probs[chosen.indices].argmax(axis=1) == chosen.labels).all()


def test_the_random_control_draws_every_image_equally_often():
    probs = two_classes(0.99, 0.98, 0.6, 0.55)
    like = select_confident(probs, 0.9)  # two of the four
    counts = np.zeros(4)
    for seed in range(400):
        counts[select_at_random(probs, like, seed).indices] += 1
    assert np.allclose(counts / 400, 0.5, atol=0.1)
    assert set(decisions(probs, 0.0, select_at_random(probs, like, 0))) == {"selected", "not drawn"}


def test_a_random_control_for_another_pool_is_refused():
    like = Selection(np.array([0]), np.array([1]), np.array([0.9]), np.zeros(2))
    with pytest.raises(ValueError, match="expected at least 1 predictions of class 1, got 0"):
        select_at_random(two_classes(0.9), like, 0)


def test_alignment_moves_the_pools_mean_towards_the_labels_shares():
    probs = two_classes(0.9, 0.8, 0.7, 0.2)
    aligned = align_to_prior(probs, np.array([0.3, 0.7]))
    assert np.allclose(aligned.sum(axis=1), 1)
    assert abs(aligned[:, 0].mean() - 0.3) < abs(probs[:, 0].mean() - 0.3)
    first = 0.9 * 0.3 / 0.65, 0.1 * 0.7 / 0.35
    assert aligned[0] == pytest.approx(np.array(first) / sum(first))


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_alignment_to_the_pools_own_mean_changes_nothing(seed):
    probs = np.random.default_rng(seed).dirichlet([0.5, 0.4, 0.1], size=30)
    assert np.allclose(align_to_prior(probs, probs.mean(axis=0)), probs)


def test_a_class_without_labels_takes_no_probability_unless_it_has_all():
    probs = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    aligned = apply_factors(probs, alignment_factors(probs, np.array([1.0, 0.0, 0.0])))
    assert aligned.tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert align_to_prior(np.empty((0, 2)), np.array([0.5, 0.5])).shape == (0, 2)


@pytest.mark.parametrize(
    ("prior", "message"), [([1.0], "prior must hold 2 shares"), ([0.4, 0.4], "must sum to 1, got 0.8")]
)
def test_a_prior_of_other_classes_is_refused(prior, message):
    with pytest.raises(ValueError, match=message):
        align_to_prior(two_classes(0.9), np.array(prior))


def test_a_rule_sees_only_what_passed_the_gates():
    probs = two_classes(0.99, 0.98, 0.97, 0.02)
    passes = np.array([False, True, True, True])
    chosen = select_among(probs, passes, lambda seen: select_top(seen, 1))
    assert chosen.indices.tolist() == [1, 3]
