"""The validation part that is drawn from labeled rows: whole people, and no class lost to training."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.errors import ClassifierError
from classifier.hold_out import draw_hold_out

LABELS = np.repeat([0, 1, 2], [20, 16, 6])
OWNERS = np.arange(42) // 2  # people with two pictures


@given(
    rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), min_size=4, max_size=40),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 99),
)
def test_nobody_is_on_both_sides_and_no_class_is_lost_to_training(rows, share, seed):
    labels, owners = map(np.array, zip(*rows, strict=True))
    try:
        held = draw_hold_out(labels, owners, share, seed)
    except ClassifierError:
        return
    assert held.any() and not held.all()
    assert not set(owners[held]) & set(owners[~held])
    assert set(labels[~held]) == set(labels)


def test_the_share_of_each_class_is_held_out():
    held = draw_hold_out(LABELS, OWNERS, 0.25, seed=0)
    assert np.bincount(LABELS[held]).tolist() == [4, 4, 2]  # 2, 2 and 1 of 10, 8 and 3 people


def test_the_draw_follows_from_the_seed_and_not_from_the_order_of_the_rows():
    held = draw_hold_out(LABELS, OWNERS, 0.25, seed=3)
    order = np.random.default_rng(0).permutation(len(LABELS))
    assert (draw_hold_out(LABELS[order], OWNERS[order], 0.25, seed=3) == held[order]).all()
    assert any((draw_hold_out(LABELS, OWNERS, 0.25, seed) != held).any() for seed in range(3))


def test_a_class_of_one_person_stays_in_training():
    labels = np.array([0, 0, 0, 0, 1, 1])
    owners = np.array(["a", "b", "c", "d", "e", "e"])
    assert not draw_hold_out(labels, owners, 0.5, seed=0)[labels == 1].any()


def test_nothing_to_hold_out_is_said():
    with pytest.raises(ClassifierError, match=r"at least two people .* of one class, .* got 2 people in all"):
        draw_hold_out(np.array([0, 1]), np.array([0, 1]), 0.2, seed=0)
