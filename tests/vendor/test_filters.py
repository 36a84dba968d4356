"""Filters and resampling against slow references and laws."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from vendor.stylegan2_ada.filters import downsample2d, setup_filter, upfirdn2d, upsample2d


def slow_upfirdn(image, f, up, down, padding, flip, gain):
    """One (H, W) image with explicit zeros, SciPy's convolution and slicing."""
    left, right, top, bottom = padding
    height, width = image.shape
    spread = np.zeros([height * up[1], width * up[0]])
    spread[:: up[1], :: up[0]] = image
    canvas = np.zeros([max(height * up[1] + top + bottom, 1), max(width * up[0] + left + right, 1)])
    for y in range(spread.shape[0]):
        for x in range(spread.shape[1]):
            if 0 <= y + top < canvas.shape[0] and 0 <= x + left < canvas.shape[1]:
                canvas[y + top, x + left] = spread[y, x]
    f = np.outer(f, f) if f.ndim == 1 else f
    filtered = convolve2d(canvas, f[::-1, ::-1] if flip else f, mode="valid")
    return filtered[:: down[1], :: down[0]] * gain


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("taps", "up", "down", "padding", "flip", "gain"),
    [
        ([1, 3, 3, 1], (2, 2), (1, 1), (2, 1, 2, 1), False, 4.0),
        ([1, 3, 3, 1], (1, 1), (2, 2), (1, 1, 1, 1), False, 1.0),
        ([1, 2, 5], (3, 2), (2, 3), (4, -1, 0, 5), True, 0.5),
        ([[1, 2, 3], [4, 5, 7]], (2, 1), (1, 2), (0, 3, 2, 2), False, 2.0),
        (range(1, 9), (2, 2), (1, 1), (4, 3, 5, 2), True, 1.5),
        ([1], (2, 3), (1, 1), (0, 0, 0, 0), False, 1.0),
    ],
)
def test_resampling_equals_explicit_zeros_convolution_and_slicing(
    taps, up, down, padding, flip, gain, layout
):
    x = torch.randn([2, 3, 6, 5], dtype=torch.float64).contiguous(memory_format=layout)
    f = setup_filter(taps)
    y = upfirdn2d(x, f, up=up, down=down, padding=padding, flip_filter=flip, gain=gain)
    for n in range(2):
        for c in range(3):
            expected = slow_upfirdn(x[n, c].numpy(), f.double().numpy(), up, down, padding, flip, gain)
            np.testing.assert_allclose(y[n, c].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("taps", [[1, 3, 3, 1], [1, 2, 5], [[1, 2], [3, 4], [5, 6]], range(1, 9)])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_first_and_second_derivative_are_those_of_finite_differences(taps, up, down):
    x = torch.randn([1, 1, 4, 3], dtype=torch.float64, requires_grad=True)
    f = setup_filter(taps)

    def resample(image):
        return upfirdn2d(image, f, up=up, down=down, padding=(5, 4, 3, 6)).sin()

    assert torch.autograd.gradcheck(resample, x)
    assert torch.autograd.gradgradcheck(resample, x)


def test_a_constant_image_keeps_its_value_away_from_the_border():
    f, x = setup_filter([1, 3, 3, 1]), torch.full([1, 1, 8, 8], 0.7)
    assert torch.allclose(upsample2d(x, f)[:, :, 2:-2, 2:-2], torch.tensor(0.7))
    assert torch.allclose(downsample2d(x, f)[:, :, 1:-1, 1:-1], torch.tensor(0.7))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: setup_filter([]), "at least one tap"),
        (lambda: setup_filter([[[1.0]]]), "one or two axes"),
        (lambda: setup_filter([[1, 2]], separable=True), "separable filter is one row"),
        (lambda: upfirdn2d(torch.zeros([4, 4]), None), "must be \\(N, C, H, W\\)"),
        (lambda: upfirdn2d(torch.zeros([1, 1, 4, 4]), None, up=0), "up must be at least 1"),
        (lambda: upfirdn2d(torch.zeros([1, 1, 2, 2]), setup_filter([1, 3, 3, 1])), "smaller than its"),
    ],
)
def test_wrong_filters_and_images_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
