import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from classifier.mask_cleaning import TOUCHING, CleaningConfig, clean_mask
from extract.errors import SettingsError
from tests.classifier.phantom_lungs import ellipse

SIZE = 64
LEFT, RIGHT = ((0.5, 0.28), (0.3, 0.14)), ((0.5, 0.72), (0.28, 0.12))


def lungs() -> np.ndarray:
    return ellipse(SIZE, *LEFT) | ellipse(SIZE, *RIGHT)


def num_pieces(mask: np.ndarray) -> int:
    return int(ndimage.label(mask, TOUCHING)[1])


def blobs(seed: int) -> np.ndarray:
    """Ellipses of all sizes and places, with holes and specks: what a bad network may leave."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((32, 32), bool)
    for _ in range(rng.integers(0, 7)):
        piece = ellipse(32, tuple(rng.random(2)), tuple(rng.uniform(0.03, 0.6, 2)))
        mask = mask & ~piece if rng.random() < 0.3 else mask | piece
    return mask ^ (rng.random((32, 32)) < rng.choice([0.0, 0.02, 0.2]))


configs = st.builds(
    CleaningConfig,
    min_area=st.sampled_from([0.002, 0.01, 0.05]),
    max_area=st.sampled_from([0.3, 0.45, 1.0]),
    smooth=st.integers(0, 3),
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), configs)
def test_cleaning_twice_is_cleaning_once_and_leaves_two_whole_pieces_at_most(seed, config):
    mask = blobs(seed)
    cleaned = clean_mask(mask, config)
    again = clean_mask(cleaned.mask, config)
    assert np.array_equal(again.mask, cleaned.mask) and again.num_lungs == cleaned.num_lungs
    assert not again.was_joined and again.num_dropped == 0
    assert num_pieces(cleaned.mask) == cleaned.num_lungs <= 2
    assert np.array_equal(ndimage.binary_fill_holes(cleaned.mask), cleaned.mask)
    assert not (cleaned.mask & ~ndimage.binary_fill_holes(mask)).any()  # nothing but holes is added


def test_an_empty_mask_stays_empty_and_is_told():
    cleaned = clean_mask(np.zeros((SIZE, SIZE), bool))
    assert not cleaned.mask.any() and cleaned.num_lungs == 0 and cleaned.finding == "no lung"


def test_two_good_lungs_stay_as_they_are():
    cleaned = clean_mask(lungs())
    assert np.array_equal(cleaned.mask, lungs())
    assert (cleaned.num_lungs, cleaned.num_dropped, cleaned.was_joined) == (2, 0, False)


def test_specks_go_and_holes_close():
    mask = lungs()
    mask[2:4, 2:4] = mask[60, 30] = True  # specks
    mask[30:34, 16:20] = False  # a hole in a lung
    cleaned = clean_mask(mask)
    assert np.array_equal(cleaned.mask, lungs()) and cleaned.num_dropped == 2


def test_a_third_large_piece_below_is_no_lung():
    stomach = ellipse(SIZE, (0.92, 0.62), (0.07, 0.2))
    cleaned = clean_mask(lungs() | stomach)
    assert np.array_equal(cleaned.mask, lungs())


def test_air_beside_the_body_is_no_lung_and_no_partner_of_one():
    air = np.zeros((SIZE, SIZE), bool)
    air[10:50, 58:] = True
    assert clean_mask(ellipse(SIZE, *LEFT) | air).num_lungs == 1
    cleaned = clean_mask(lungs() | air)
    assert np.array_equal(cleaned.mask, lungs())


def test_lungs_that_touch_are_parted_by_a_cut_of_one_pixel():
    bridge = np.zeros((SIZE, SIZE), bool)
    bridge[24:30, 20:46] = True
    joined = lungs() | bridge
    assert num_pieces(joined) == 1
    cleaned = clean_mask(joined)
    assert cleaned.num_lungs == 2 and cleaned.was_joined
    assert 0 < (joined & ~cleaned.mask).sum() <= 6
    labels, _ = ndimage.label(cleaned.mask, TOUCHING)
    assert labels[32, 16] != labels[32, 46] and labels[32, 16] and labels[32, 46]


def test_lungs_joined_over_their_whole_height_are_not_torn_apart():
    cleaned = clean_mask(ellipse(SIZE, (0.5, 0.5), (0.3, 0.35)))
    assert cleaned.num_lungs == 1 and not cleaned.was_joined


def test_one_lung_alone_is_one_lung():
    one = ellipse(SIZE, *LEFT)
    cleaned = clean_mask(one)
    assert np.array_equal(cleaned.mask, one) and cleaned.finding == "one lung"


def test_a_piece_that_is_tiny_beside_the_other_is_no_second_lung():
    speck = ellipse(SIZE, (0.5, 0.72), (0.06, 0.06))
    assert speck.mean() > 0.01  # large enough by itself
    cleaned = clean_mask(ellipse(SIZE, *LEFT) | speck, CleaningConfig(min_ratio=0.15))
    assert cleaned.num_lungs == 1 and not cleaned.mask[:, 40:].any()


def test_a_mask_that_fills_the_picture_is_no_lung():
    assert clean_mask(np.ones((SIZE, SIZE), bool)).num_lungs == 0


def test_smoothing_cuts_off_what_is_thin():
    mask = lungs()
    mask[32, :16] = True  # a thread to the border
    cleaned = clean_mask(mask, CleaningConfig(smooth=2))
    assert not cleaned.mask[32, :8].any() and cleaned.num_lungs == 2
    assert (cleaned.mask ^ lungs()).sum() < 0.05 * lungs().sum()


@pytest.mark.parametrize(
    ("settings_given", "sentence"),
    [
        ({"min_area": 0.5}, "expected 0 < min_area < max_area"),
        ({"min_ratio": 0}, "min_ratio must be in"),
        ({"smooth": -1}, "smooth must not be negative"),
    ],
)
def test_settings_outside_their_range_are_refused(settings_given, sentence):
    with pytest.raises(SettingsError, match=sentence):
        CleaningConfig(**settings_given)
