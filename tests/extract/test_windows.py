import numpy as np
import pytest

from extract.errors import ExtractError, SettingsError
from extract.windows import CT_WINDOWS, DEFAULT_WINDOW, parse_window

VALUES = np.arange(1, 1001, dtype=float)


def test_percentiles_are_of_the_voxels_that_are_not_zero():
    assert parse_window(DEFAULT_WINDOW).limits(VALUES, 0.0, "v") == pytest.approx((10.99, 995.005))


def test_values_are_taken_as_they_are():
    assert parse_window("values:-100,400").limits(VALUES, 0.0, "v") == (-100, 400)


def test_a_ct_window_is_center_and_width():
    lung = parse_window("ct:lung")
    assert (lung.low, lung.high, lung.hounsfield) == (-1350, 150, True)
    for name, (center, width) in CT_WINDOWS.items():
        window = parse_window(f"ct:{name}")
        assert (window.high + window.low) / 2 == center and window.high - window.low == width


def test_a_mask_shows_its_one_value_against_its_background():
    assert parse_window(DEFAULT_WINDOW).limits(np.full(9, 7.0), 0.0, "v") == (0, 7)
    with pytest.raises(ExtractError, match="v: expected an image with contrast, got 7 nearly everywhere"):
        parse_window(DEFAULT_WINDOW).limits(np.full(9, 7.0), 7.0, "v")


@pytest.mark.parametrize(
    "text", ["", "brain", "ct:", "ct:Brain", "values:1", "values:2,1", "values:1,inf", "values:a,b",
             "level:1,2",
             "percentile:-1,99", "percentile:1,101", "percentile:5,5"],
)  # fmt: skip
def test_anything_else_is_refused(text):
    with pytest.raises(SettingsError, match="--window"):
        parse_window(text)
