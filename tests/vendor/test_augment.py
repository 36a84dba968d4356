"""Laws of the augmentation pipe and of the banded matrices that it filters with."""

import pytest
import torch
from torch.nn import functional as F

from vendor.stylegan2_ada import AugmentPipe
from vendor.stylegan2_ada.filters import downsample2d, setup_filter, upsample2d
from vendor.stylegan2_ada.wavelets import (
    SYM6,
    downsampling_matrix,
    filtering_matrix,
    octave_filters,
    reflected,
    upsampling_matrix,
)

GEOMETRY = ("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac")
COLORS = ("brightness", "contrast", "lumaflip", "hue", "saturation")
ALL = (*GEOMETRY, *COLORS, "imgfilter", "noise", "cutout")


@pytest.mark.parametrize("channels", [1, 3])
def test_strength_zero_leaves_images_untouched(channels):
    pipe = AugmentPipe(**dict.fromkeys(ALL, 1))
    pipe.p.zero_()
    images = torch.rand([3, channels, 16, 16]) * 2 - 1
    assert torch.allclose(pipe(images), images, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_each_transformation_alone_keeps_shape_and_changes_something(name, channels):
    torch.manual_seed(1)
    images = torch.rand([8, channels, 16, 16]) * 2 - 1
    result = AugmentPipe(**{name: 1})(images)
    assert result.shape == images.shape
    is_neutral = channels == 1 and name in ("hue", "saturation")
    assert torch.equal(result, images) == is_neutral


def test_without_transformations_images_pass_through():
    images = torch.randn([2, 3, 8, 8])
    assert AugmentPipe()(images) is images


@pytest.mark.parametrize(
    ("name", "percentile", "expected"),
    [
        ("xflip", 0.9, lambda x: x.flip(3)),
        ("rotate90", 0.3, lambda x: x.rot90(1, [2, 3])),
        ("rotate90", 0.6, lambda x: x.rot90(2, [2, 3])),
        ("rotate", 0.75, lambda x: x.rot90(1, [2, 3])),
        ("xint", 1.0, lambda x: torch.cat([x[:, :, 1:3].flip(2), x[:, :, :-2]], 2).roll(2, 3)),
    ],
)
def test_geometry_moves_smooth_images_where_it_says(name, percentile, expected):
    y, x = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    images = torch.stack([x + 0.2 * y, y - x * y, (2 * x + y).sin()])[None]
    result = AugmentPipe(**{name: 1})(images, debug_percentile=percentile)
    inside = (..., slice(3, -3), slice(3, -3))  # the filter sees beyond the mirrored border
    # The 12-tap filter is not symmetric: mirroring and turning move the image by part of a pixel as well.
    assert torch.allclose(result[inside], expected(images)[inside], atol=0.05)
    assert not torch.allclose(result[inside], images[inside], atol=0.05)


def test_colours_move_as_their_formulas_say():
    images = torch.rand([2, 3, 8, 8])
    flipped = AugmentPipe(lumaflip=1)(images, debug_percentile=0.9)
    assert torch.allclose(flipped, images - 2 * images.mean(1, keepdim=True), atol=1e-6)
    third_of_a_turn = AugmentPipe(hue=1)(images, debug_percentile=0.5 + 1 / 3)
    assert torch.allclose(third_of_a_turn, images.roll(1, 1), atol=1e-5)
    grey = AugmentPipe(saturation=1, saturation_std=100)(images, debug_percentile=0.1)
    assert torch.allclose(grey, images.mean(1, keepdim=True).expand_as(images), atol=1e-6)


def test_strength_is_the_share_of_images_that_change():
    torch.manual_seed(0)
    pipe = AugmentPipe(brightness=1)
    pipe.p.fill_(0.3)
    changed = pipe(torch.zeros([4000, 1, 2, 2])).flatten(1).abs().amax(1) > 0
    assert 0.27 < changed.float().mean() < 0.33


def test_a_multiplier_scales_the_strength_and_rotation_happens_once_with_it():
    torch.manual_seed(0)
    pipe = AugmentPipe(rotate=0.5)
    pipe.p.fill_(0.6)
    images = torch.randn([1500, 1, 4, 4])
    changed = (pipe(images) - images).flatten(1).abs().amax(1) > 1e-3
    assert 0.26 < changed.float().mean() < 0.34


def test_the_pipe_is_twice_differentiable():
    torch.manual_seed(0)
    pipe = AugmentPipe(**dict.fromkeys(ALL, 1))
    images = torch.rand([2, 3, 8, 8], requires_grad=True)
    (gradient,) = torch.autograd.grad(pipe(images).pow(3).sum(), images, create_graph=True)
    gradient.square().sum().backward()
    assert images.grad.isfinite().all()
    assert images.grad.abs().max() > 0


def test_matrices_equal_padding_and_filtering():
    x, f = torch.randn([2, 3, 9, 9]), setup_filter(SYM6)
    up = upsampling_matrix(f, 9, 5, 8)
    expected = upsample2d(F.pad(x, (5, 8, 5, 8), mode="reflect"), f)
    assert torch.allclose(up @ (x @ up.t()), expected, atol=1e-5)

    large = torch.randn([2, 3, 2 * 9 + 12, 2 * 9 + 12])
    down = downsampling_matrix(f, 9, 6)
    expected = downsample2d(large, f, padding=-6, flip_filter=True)
    assert torch.allclose(down @ (large @ down.t()), expected, atol=1e-5)

    taps = torch.randn([2, 7])
    taps = taps + taps.flip(1)
    matrix = filtering_matrix(taps, 9)
    padded = F.pad(x, (3, 3, 0, 0), mode="reflect")
    for n in range(2):
        expected = F.conv2d(padded[n][:, None], taps[n].reshape(1, 1, 1, 7))[:, 0]
        assert torch.allclose(x[n] @ matrix[n].t(), expected, atol=1e-5)


def test_reflection_goes_back_and_forth_without_repeating_the_ends():
    assert reflected(torch.arange(-5, 8), 4).tolist() == [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]
    assert reflected(torch.arange(-2, 3), 1).tolist() == [0] * 5


def test_the_octaves_add_up_to_the_identity():
    total = octave_filters().sum(0)
    assert abs(total[21] - 1) < 1e-9
    assert abs(total).sum() - abs(total[21]) < 1e-9


def test_images_smaller_than_the_filters_are_augmented_too():
    torch.manual_seed(0)
    result = AugmentPipe(**dict.fromkeys(ALL, 1))(torch.randn([2, 3, 4, 4]))
    assert result.shape == (2, 3, 4, 4)
    assert result.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AugmentPipe(hue=-1), "hue must not be negative"),
        (lambda: AugmentPipe(xint_max=-0.1), "xint_max must not be negative"),
        (lambda: AugmentPipe(imgfilter_bands=(1, 1)), "imgfilter_bands must be 4"),
        (lambda: AugmentPipe()(torch.zeros([1, 2, 8, 8])), "must be \\(N, 1 or 3, H, W\\)"),
    ],
)
def test_wrong_settings_and_images_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
