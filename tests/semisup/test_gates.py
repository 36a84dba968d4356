"""Gates: what each turns away, the number that decided, and which reason an image keeps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances

from semisup import gates
from semisup.gates import (
    combine,
    correlated_duplicates,
    duplicate_distance,
    flagged_as_memorised,
    near_duplicates,
    off_manifold,
    same_picture,
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


def test_flags_of_the_audit_turn_away():
    assert flagged_as_memorised(["a", "b", "c"], ["c", "z"]).is_out.tolist() == [False, False, True]


def test_an_image_near_a_training_image_is_turned_away_with_its_distance():
    gate = near_duplicates(np.array([[0.0, 1.0], [3.0, 4.0]]), np.array([[0.0, 0.0], [9.0, 9.0]]), 1.0)
    assert gate.is_out.tolist() == [True, False]
    assert gate.value.tolist() == [1.0, 5.0]
    assert gate.nearest.tolist() == [0, 0]


@given(clouds(), st.floats(0, 3))
@settings(max_examples=40, deadline=None)
def test_nearness_agrees_with_scikit_learn_and_grows_with_the_limit(cloud, limit):
    pool, train = cloud
    gate = near_duplicates(pool, train, limit)
    assert np.allclose(gate.value, pairwise_distances(pool, train).min(axis=1))
    assert (gate.is_out <= near_duplicates(pool, train, limit + 0.5).is_out).all()


def test_the_suggested_distance_is_one_between_people_not_within_one():
    train = np.array([[0.0], [0.001], [5.0], [5.001], [9.0]])
    subjects = np.array(["a", "a", "b", "b", "c"])
    assert duplicate_distance(train, subjects, share=0.0) == pytest.approx(3.999)
    with pytest.raises(ValueError, match="expected images of at least two subjects"):
        duplicate_distance(train, np.array(["a"] * 5))


def test_brightness_and_contrast_do_not_hide_a_copy():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(4, 64))
    pool = np.stack([0.3 * train[2] + 7, rng.normal(size=64), np.full(64, 0.5)])
    gate = correlated_duplicates(pool, train)
    assert gate.is_out.tolist() == [True, False, False]
    assert gate.nearest[0] == 2 and gate.value[0] == pytest.approx(1)
    assert gate.value[1] == pytest.approx(max(np.corrcoef(pool[1], row)[0, 1] for row in train))
    assert gate.value[2] == 0  # an even image is like nothing


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
    subjects = np.repeat(np.arange(10), 3)

    def everything():
        found = [
            near_duplicates(pool, train, 0.5),
            correlated_duplicates(pool, train),
            off_manifold(pool, train),
        ]
        return [(gate.value.tolist(), gate.nearest.tolist()) for gate in found], duplicate_distance(
            train, subjects
        )

    whole = everything()
    monkeypatch.setattr(gates, "BLOCK", 7)
    assert everything() == whole


@given(clouds(), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_permutation_of_the_pool_permutes_the_gates(cloud, random):
    pool, train = cloud
    order = np.array(random.sample(range(len(pool)), len(pool)))
    for gate in (lambda x: near_duplicates(x, train, 0.5), lambda x: off_manifold(x, train, 2)):
        assert gate(pool).is_out[order].tolist() == gate(pool[order]).is_out.tolist()


def test_an_image_keeps_the_first_reason_and_each_gate_its_count():
    first, second = same_picture(["a", "b", "c", "d"], ["a"]), flagged_as_memorised("abcd", "ac")
    gated = combine([first, second])
    assert gated.reason.tolist() == ["same picture", "", "memorised", ""]
    assert gated.passes.tolist() == [False, True, False, True]
    assert gated.counts() == {"same picture": 1, "memorised": 1}
    assert combine([second, first]).counts() == {"memorised": 2, "same picture": 0}
    assert gated.examples("memorised", 5).tolist() == [2]
    assert gated.examples("off manifold", 5).tolist() == []


def test_examples_are_drawn_not_picked():
    gated = combine([flagged_as_memorised([str(k) for k in range(100)], [str(k) for k in range(100)])])
    drawn = gated.examples("memorised", 6)
    assert len(set(drawn.tolist())) == 6 and drawn.tolist() == sorted(drawn.tolist())
    assert drawn.tolist() != list(range(6))
    assert drawn.tolist() == gated.examples("memorised", 6).tolist()


def test_gates_over_different_pools_are_refused():
    with pytest.raises(ValueError, match=r"expected gates over one pool, got \[1, 2\] images"):
        combine([same_picture("a", "b"), flagged_as_memorised("ab", "b")])
    with pytest.raises(ValueError, match="expected gates over one pool"):
        combine([])
    with pytest.raises(ValueError, match="expected a reason for each gate"):
        combine([same_picture("a", "b"), same_picture("a", "c")])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: near_duplicates(np.array([[np.nan]]), np.zeros((1, 1)), 1),
            "features of the pool must be finite, row 0 is not",
        ),
        (
            lambda: off_manifold(np.zeros((1, 1)), np.array([[0], [np.inf]]), 1),
            "training images must be finite",
        ),
        (lambda: near_duplicates(np.zeros((1, 2)), np.zeros((1, 3)), 1), "of one extractor, got"),
        (lambda: near_duplicates(np.zeros((1, 2)), np.zeros((0, 2)), 1), "at least one training image"),
        (lambda: near_duplicates(np.zeros((1, 2)), np.zeros((1, 2)), -1), "max_distance must be at least 0"),
        (
            lambda: off_manifold(np.zeros((1, 1)), np.zeros((3, 1)), 3),
            r"num_neighbours must be in 1 \.\.\. 2",
        ),
        (lambda: correlated_duplicates(np.zeros((1, 1)), np.zeros((1, 1)), 0), "min_correlation must be in"),
        (lambda: duplicate_distance(np.zeros((2, 1)), np.array(["a", "b"]), 1), r"share must be in \[0, 1\)"),
        (lambda: duplicate_distance(np.zeros((2, 1)), np.array(["a"])), "expected a subject for each of 2"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
