"""Gates: what each turns away, the number that decided, and which reason an image keeps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances

from semisup import gates
from semisup.gates import (
    combine,
    memorised,
    near_duplicates,
    not_measured,
    off_manifold,
    same_picture,
    spread,
)


@st.composite
def clouds(draw):
    """(N, D) of a pool and (M, D) of training images."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m, d = draw(st.integers(1, 20)), draw(st.integers(5, 20)), draw(st.integers(1, 5))
    return rng.normal(size=(n, d)) * draw(st.floats(0.5, 3)), rng.normal(size=(m, d))


def test_a_copy_of_a_file_is_found_by_its_hash():
    gate = same_picture(["a", "b", "c"], ["x", "b", "b"])
    assert gate.is_out.tolist() == [False, True, False]
    assert gate.nearest.tolist() == [-1, 1, -1]


def test_a_copy_score_below_the_threshold_turns_away_and_a_correlation_at_its_limit():
    nearest = np.array([4, 5, 6])
    gate = memorised(np.array([0.2, 0.7, 1.1]), nearest, 0.7)
    assert gate.is_out.tolist() == [True, False, False]
    gate = near_duplicates(np.array([0.5, 0.98, 1.0]), nearest, 0.98)
    assert gate.is_out.tolist() == [False, True, True]
    assert gate.nearest.tolist() == [4, 5, 6] and gate.value.tolist() == [0.5, 0.98, 1.0]


def test_a_gate_that_was_not_measured_lets_everybody_pass_and_says_why():
    gated = combine([not_measured("memorised", 3, "too few subjects"), same_picture("abc", "c")])
    assert gated.passes.tolist() == [True, True, False]
    assert np.isnan(gated.gates[0].limit) and gated.gates[0].text == "not measured: too few subjects"


def test_a_gate_over_some_images_lets_the_others_of_the_pool_pass():
    gate = spread(same_picture("ab", "b"), np.array([1, 3]), 4)
    assert gate.is_out.tolist() == [False, False, False, True]
    assert gate.nearest.tolist() == [-1, -1, -1, 0]


def test_the_real_images_balls_are_those_of_the_paper():
    train = np.array([[0.0], [1.0], [3.0]])  # k = 1: radii 1, 1, 2
    gate = off_manifold(np.array([[-1.0], [-1.5], [4.9], [5.1], [0.0]]), train, num_neighbours=1)
    assert gate.is_out.tolist() == [False, True, False, True, False]
    assert gate.value == pytest.approx([1.0, 1.5, 0.95, 1.05, 0.0])


@given(clouds(), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_balls_agree_with_a_slow_loop_and_grow_with_the_neighbours(cloud, k):
    pool, train = cloud
    gate = off_manifold(pool, train, k)
    radii = np.sort(pairwise_distances(train, train), axis=1)[:, k]
    inside = [any(np.linalg.norm(x - y) <= r for y, r in zip(train, radii, strict=True)) for x in pool]
    assert (gate.is_out == ~np.array(inside)).all()
    assert (off_manifold(pool, train, k + 1).is_out <= gate.is_out).all()
    assert not off_manifold(train, train, k).is_out.any()


def test_equal_training_images_have_balls_without_radius():
    gate = off_manifold(np.array([[0.0], [0.1]]), np.array([[0.0], [0.0], [0.0]]), 2)
    assert gate.is_out.tolist() == [False, True]


def test_blocks_give_what_one_piece_gives(monkeypatch):
    rng = np.random.default_rng(0)
    pool, train = rng.normal(size=(50, 3)), rng.normal(size=(30, 3))
    whole = off_manifold(pool, train)
    monkeypatch.setattr(gates, "BLOCK", 7)
    again = off_manifold(pool, train)
    assert again.value.tolist() == whole.value.tolist() and again.nearest.tolist() == whole.nearest.tolist()


@given(clouds(), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_permutation_of_the_pool_permutes_the_gates(cloud, random):
    pool, train = cloud
    order = np.array(random.sample(range(len(pool)), len(pool)))
    assert (
        off_manifold(pool, train, 2).is_out[order].tolist()
        == off_manifold(pool[order], train, 2).is_out.tolist()
    )


def test_an_image_keeps_the_first_reason_and_each_gate_its_count():
    first = same_picture(["a", "b", "c", "d"], ["a"])
    second = memorised(np.array([0.1, 0.9, 0.2, 0.9]), np.array([0, 0, 1, 1]), 0.5)
    gated = combine([first, second], np.array(["x.png", "y.png"]))
    assert gated.reason.tolist() == ["same picture", "", "memorised", ""]
    assert gated.passes.tolist() == [False, True, False, True]
    assert gated.counts() == {"same picture": 1, "memorised": 1}
    assert combine([second, first]).counts() == {"memorised": 2, "same picture": 0}
    assert gated.nearest_file.tolist() == ["x.png", "", "y.png", ""]
    assert np.array_equal(gated.value, [1.0, np.nan, 0.2, np.nan], equal_nan=True)


def test_gates_over_different_pools_are_refused():
    with pytest.raises(ValueError, match=r"expected gates over one pool, got \[1, 2\] images"):
        combine([same_picture("a", "b"), same_picture("ab", "b")])
    with pytest.raises(ValueError, match="expected gates over one pool"):
        combine([])
    with pytest.raises(ValueError, match="expected a reason for each gate"):
        combine([same_picture("a", "b"), same_picture("a", "c")])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: off_manifold(np.array([[np.nan]]), np.zeros((2, 1)), 1),
            "features of the pool must be finite, row 0 is not",
        ),
        (
            lambda: off_manifold(np.zeros((1, 1)), np.array([[0], [np.inf]]), 1),
            "training images must be finite",
        ),
        (lambda: off_manifold(np.zeros((1, 2)), np.zeros((1, 3)), 1), "of one extractor, got"),
        (lambda: off_manifold(np.zeros((1, 2)), np.zeros((0, 2)), 1), "at least one training image"),
        (
            lambda: off_manifold(np.zeros((1, 1)), np.zeros((3, 1)), 3),
            r"num_neighbours must be in 1 \.\.\. 2",
        ),
        (lambda: near_duplicates(np.zeros(1), np.zeros(1, int), 0), "min_correlation must be in"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
