"""The error-controlled threshold: its bound, its walk, and a simulation that its promise holds.

The simulated subjects have several images each that are right or wrong together, as those of a patient are.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from semisup.error_control import (
    THRESHOLDS,
    control_error,
    error_bound,
    fewest_subjects,
    select_error_controlled,
    upper_bound,
)


def subjects_of(sizes) -> np.ndarray:
    return np.array([f"s{k}" for k in np.repeat(np.arange(len(sizes)), sizes)])


# --- the bound


@pytest.mark.parametrize(("num_wrong", "num"), [(0, 30), (1, 46), (7, 50), (49, 50), (50, 50), (3, 1000)])
def test_the_bound_agrees_with_scipys_exact_test(num_wrong, num):
    other = binomtest(num_wrong, num, alternative="less").proportion_ci(0.95, method="exact").high
    assert upper_bound(num_wrong, num, 0.05) == pytest.approx(other)


def test_so_few_subjects_suffice_and_one_less_does_not():
    for epsilon, delta in [(0.1, 0.05), (0.05, 0.05), (0.2, 0.01)]:
        fewest = fewest_subjects(epsilon, delta)
        assert upper_bound(0, fewest, delta) <= epsilon < upper_bound(0, fewest - 1, delta)
    assert fewest_subjects(0.1, 0.05) == 29


def test_each_subject_has_one_vote_however_many_images_it_has():
    wrong = np.array([True] * 30 + [False] * 9)
    found = error_bound(wrong, subjects_of([30, *[1] * 9]), 0.05)
    assert (found.num_subjects, found.num_images, found.num_wrong, found.votes) == (10, 39, 30, 1.0)
    assert found.bound == pytest.approx(upper_bound(1, 10, 0.05))
    half = error_bound(np.array([True, False, False]), subjects_of([2, 1]), 0.05)
    assert half.votes == 0.5


def test_no_image_bounds_nothing():
    assert error_bound(np.array([], dtype=bool), np.array([], dtype=str), 0.05).bound == 1.0


# --- the walk


def held_out(num=200, first_wrong=120):
    """Confidences from 0.999 down to 0.4, one image a subject, wrong from one place in this order on."""
    return np.linspace(0.999, 0.4, num), np.arange(num) >= first_wrong, subjects_of([1] * num)


def test_the_walk_goes_down_as_far_as_the_bound_allows():
    confidence, wrong, subjects = held_out()
    found = control_error(confidence, wrong, subjects, 0.1)
    number = THRESHOLDS.index(found.threshold)
    above = [confidence >= t for t in THRESHOLDS[number : number + 2]]
    bounds = [upper_bound(wrong[a].sum(), a.sum(), 0.05) for a in above]
    assert bounds[0] <= 0.1 < bounds[1]
    assert found.passed.bound == pytest.approx(bounds[0]) and found.failed.bound == pytest.approx(bounds[1])
    assert found.note == (
        f"threshold {found.threshold:g}: of {above[0].sum()} held-out images of {above[0].sum()} subjects "
        f"above it {wrong[above[0]].sum()} were wrong, so the error is at most {bounds[0]:.3f}, but for a "
        "chance of 0.05"
    )


def test_a_failure_ends_the_walk_even_where_lower_thresholds_would_pass():
    confidence = np.repeat([0.95, 0.6], [60, 600])
    wrong = np.arange(660) < 10  # among the surest only
    found = control_error(confidence, wrong, subjects_of([1] * 660), 0.1)
    assert upper_bound(10, 660, 0.05) < 0.1
    assert found.threshold == 0.6  # 60 are less than a quarter: the walk begins further down
    confidence = np.repeat([0.95, 0.6], [60, 120])
    found = control_error(confidence, wrong[:180], subjects_of([1] * 180), 0.1)
    assert upper_bound(10, 180, 0.05) < 0.1 and found.threshold == np.inf
    assert "above 0.95, 10 of 60 held-out images of 60 subjects were wrong" in found.note


def test_where_all_are_right_all_may_pass():
    confidence, _, subjects = held_out()
    found = control_error(confidence, np.zeros(200, dtype=bool), subjects, 0.1)
    assert found.threshold == pytest.approx(0.4) and found.failed is None


def test_too_few_subjects_select_nothing_and_say_how_many_it_takes():
    confidence, wrong, subjects = held_out(28, 28)
    found = control_error(confidence, wrong, subjects, 0.1)
    assert found.threshold == np.inf and found.passed is None
    assert found.note == (
        "no threshold can be vouched for: an error of 0.1 takes 29 held-out subjects even if none is wrong, "
        "and there are 28; nothing is selected"
    )
    thirty = control_error(np.ones(300), np.zeros(300, dtype=bool), subjects_of([30] * 10), 0.1)
    assert thirty.threshold == np.inf  # 300 images, but of 10 subjects
    nobody = control_error(np.array([]), np.array([], dtype=bool), np.array([], dtype=str), 0.1)
    assert nobody.threshold == np.inf


@given(
    st.integers(0, 2**31),
    st.integers(20, 150),
    st.tuples(st.floats(0.02, 0.5), st.floats(0.02, 0.5)),
    st.tuples(st.floats(0.01, 0.4), st.floats(0.01, 0.4)),
)
@settings(max_examples=80, deadline=None)
def test_a_larger_epsilon_or_delta_never_selects_less(seed, num_subjects, epsilons, deltas):
    rng = np.random.default_rng(seed)
    confidence, wrong, subjects = clustered(rng, num_subjects, (1, 1, 2, 5), error=0.06, together=0.5)
    strict = control_error(confidence, wrong, subjects, min(epsilons), min(deltas)).threshold
    assert control_error(confidence, wrong, subjects, max(epsilons), min(deltas)).threshold <= strict
    assert control_error(confidence, wrong, subjects, min(epsilons), max(deltas)).threshold <= strict


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_held_out_images_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    confidence, wrong, subjects = clustered(rng, 80, (1, 3), error=0.03, together=0.5)
    order = rng.permutation(len(wrong))
    first = control_error(confidence, wrong, subjects, 0.1)
    again = control_error(confidence[order], wrong[order], subjects[order], 0.1)
    assert first.threshold == again.threshold


# --- the rule


def test_the_threshold_is_found_on_held_out_images_and_put_on_the_pool():
    val = np.array([[0.9, 0.1]] * 40 + [[0.55, 0.45]] * 40)
    labels = np.array([0] * 40 + [0, 1] * 20)
    pool = np.array([[0.95, 0.05], [0.6, 0.4], [0.08, 0.92]])
    chosen = select_error_controlled(pool, val, labels, subjects_of([1] * 80), 0.1)
    assert chosen.indices.tolist() == [0, 2]
    assert chosen.thresholds.tolist() == [0.9, 0.9]  # no held-out image speaks for what lies below
    assert "40 held-out images of 40 subjects above it 0 were wrong" in chosen.note


def test_a_class_that_nothing_vouches_for_selects_nothing():
    val = np.array([[0.9, 0.1]] * 60 + [[0.1, 0.9]] * 60)
    labels = np.array([0] * 60 + [0, 1] * 30)  # what is called class 1 is wrong half of the time
    pool = np.array([[0.95, 0.05], [0.05, 0.95]])
    chosen = select_error_controlled(pool, val, labels, subjects_of([1] * 120), 0.1, by_class=True)
    assert chosen.indices.tolist() == [0]
    assert chosen.thresholds[1] == np.inf
    assert "class 0: threshold" in chosen.note and "class 1: no threshold can be vouched for" in chosen.note


def test_by_class_each_class_pays_for_the_promise_to_hold_for_all():
    val = np.array([[0.9, 0.1]] * 30 + [[0.1, 0.9]] * 40)
    labels = np.array([0] * 30 + [1] * 40)
    chosen = select_error_controlled(val, val, labels, subjects_of([1] * 70), 0.1, 0.05, by_class=True)
    assert fewest_subjects(0.1, 0.025) == 36  # not 29
    assert set(chosen.labels) == {1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilon": 0}, r"epsilon must be in \(0, 1\), got 0"),
        ({"delta": 1}, r"delta must be in \(0, 1\), got 1"),
        ({"subjects": np.array([""] * 200)}, "every held-out image needs a subject"),
        ({"subjects": np.array(["a"])}, "got 200 confidences, 200 judgements and 1 subjects"),
        ({"confidence": np.full(200, np.nan)}, "confidence must be finite"),
    ],
)
def test_nonsense_is_refused(changes, message):
    confidence, wrong, subjects = held_out()
    given = {"confidence": confidence, "is_wrong": wrong, "subjects": subjects, "epsilon": 0.1, **changes}
    with pytest.raises(ValueError, match=message):
        control_error(**given)


def test_held_out_images_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="val_probs must have the 2 classes of probs, got 3"):
        select_error_controlled(np.full((1, 2), 0.5), np.full((1, 3), 1 / 3), np.array([0]), np.array(["s"]))


# --- the promise


def clustered(rng, num_subjects, sizes, error, together, falling=False):
    """Held-out images of subjects: confidence, errors and subjects.

    Args:
        sizes: images a subject, drawn from these.
        error: chance that an image is wrong; with `falling` it grows as the confidence falls.
        together: chance that a subject's images all share one fate.
    """
    counts = rng.choice(sizes, num_subjects)
    owner = np.repeat(np.arange(num_subjects), counts)
    center = rng.uniform(0.4, 1.0, num_subjects)  # subjects are easy or hard
    confidence = np.clip(center[owner] + rng.normal(0, 0.02, len(owner)), 0.34, 1.0)
    chance = true_error(center) if falling else np.full(num_subjects, error)
    fate = rng.random(num_subjects) < chance
    share_fate = (rng.random(num_subjects) < together)[owner]
    wrong = np.where(share_fate, fate[owner], rng.random(len(owner)) < chance[owner])
    return confidence, wrong, owner.astype(str)


def true_error(center):
    return 0.35 * (1 - np.asarray(center)) / 0.6


def share_broken(num_trials, num_subjects, sizes, together, epsilon, choose=None, seed=0):
    """Share of trials whose chosen threshold lets more than epsilon through, where any threshold does."""
    rng = np.random.default_rng(seed)
    broken = 0
    for _ in range(num_trials):
        confidence, wrong, subjects = clustered(rng, num_subjects, sizes, epsilon * 1.001, together)
        choose_one = choose or (lambda *seen: control_error(*seen, epsilon, 0.05).threshold)
        broken += np.isfinite(choose_one(confidence, wrong, subjects))
    return broken / num_trials


def image_by_image(epsilon):
    """The same walk for somebody who takes all images for independent."""

    def choose(confidence, wrong, subjects):
        each = np.arange(len(wrong)).astype(str)
        return control_error(confidence, wrong, each, epsilon, 0.05).threshold

    return choose


def luckiest(epsilon):
    """The smallest threshold of all that pass, without a walk."""

    def choose(confidence, wrong, subjects):
        passing = [
            threshold
            for threshold in THRESHOLDS
            if error_bound(wrong[confidence >= threshold], subjects[confidence >= threshold], 0.05).bound
            <= epsilon
        ]
        return min(passing, default=np.inf)

    return choose


def limit(num_trials):
    """What a rule that breaks its promise in 5 % of the trials stays below in 99.9 %."""
    return binom.ppf(0.999, num_trials, 0.05) / num_trials


@pytest.mark.parametrize("sizes", [(1,), (2, 5, 10)])
@pytest.mark.parametrize("together", [0.0, 1.0])
def test_the_promise_holds_for_subjects_whose_images_are_alike(sizes, together):
    assert share_broken(200, 80, sizes, together, 0.1) <= limit(200)


def test_images_taken_for_independent_break_it():
    assert share_broken(150, 80, (2, 5, 10), 1.0, 0.1, image_by_image(0.1)) > 0.15


def test_the_smallest_of_all_passing_thresholds_breaks_it():
    assert share_broken(80, 200, (1,), 1.0, 0.1, luckiest(0.1)) > 0.12


def test_it_selects_where_there_is_something_to_select():
    rng = np.random.default_rng(0)
    found = [
        control_error(*clustered(rng, 600, (1, 2, 5), 0, 0.5, falling=True), 0.1, 0.05).threshold
        for _ in range(40)
    ]
    assert np.mean(np.isfinite(found)) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("num_subjects", [60, 100, 400])
@pytest.mark.parametrize(("sizes", "together"), [((1,), 0.0), ((1, 1, 1, 2, 30), 1.0), ((10, 20, 50), 0.5)])
def test_the_promise_holds_in_many_worlds(epsilon, num_subjects, sizes, together):
    assert share_broken(1500, num_subjects, sizes, together, epsilon) <= limit(1500)


@pytest.mark.slow
@pytest.mark.parametrize("num_subjects", [90, 400])
def test_the_promise_holds_where_errors_grow_as_confidence_falls(num_subjects):
    rng = np.random.default_rng(1)
    sizes, trials, epsilon = (1, 1, 1, 2, 8), 1500, 0.1
    world = clustered(rng, 200_000, sizes, 0, 0.7, falling=True)
    truth = {t: vote_error(*world, t) for t in THRESHOLDS}
    broken, chose = 0, 0
    for _ in range(trials):
        seen = clustered(rng, num_subjects, sizes, 0, 0.7, falling=True)
        found = control_error(*seen, epsilon, 0.05).threshold
        chose += np.isfinite(found)
        broken += np.isfinite(found) and truth[found] > epsilon
    assert broken / trials <= limit(trials) and chose > trials / 20


def vote_error(confidence, wrong, subjects, threshold):
    above = confidence >= threshold
    if not above.any():
        return 0.0
    found = error_bound(wrong[above], subjects[above], 0.05)
    return found.votes / found.num_subjects
