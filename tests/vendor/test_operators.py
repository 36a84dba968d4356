"""Activations and convolutions against slow references, with finite differences for their derivatives."""

import pytest
import torch
from torch.nn import functional as F

from vendor.stylegan2_ada.activations import ACTIVATIONS, bias_act, lrelu_in_place, scaled_lrelu
from vendor.stylegan2_ada.convolution import conv2d_resample, modulated_conv2d
from vendor.stylegan2_ada.filters import setup_filter, upfirdn2d


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_activation_derivatives_are_those_of_finite_differences(act):
    x = torch.linspace(-2, 2, 24, dtype=torch.float64).reshape(2, 3, 2, 2).requires_grad_(True)
    b = torch.tensor([0.03, -0.02, 0.01], dtype=torch.float64, requires_grad=True)

    def activate(x, b):
        return bias_act(x, b, act=act, gain=1.3, clamp=1.7)

    assert torch.autograd.gradcheck(activate, (x, b))
    assert torch.autograd.gradgradcheck(activate, (x, b), atol=1e-4)


def test_the_bias_lies_on_the_axis_that_is_asked_for():
    x, b = torch.zeros([2, 3]), torch.tensor([1.0, 2.0])
    assert bias_act(x, b, dim=0).tolist() == [[1, 1, 1], [2, 2, 2]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"act": "gelu"}, "act must be one of linear, relu"),
        ({"clamp": -1.0}, "clamp must not be negative"),
        ({"b": torch.zeros(2)}, "bias must have shape \\(3,\\)"),
    ],
)
def test_wrong_activation_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        bias_act(torch.zeros([1, 3]), **settings)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_modulated_convolution_equals_one_convolution_per_image_with_its_own_weights(fused, demodulate):
    x, styles = torch.randn([3, 4, 6, 6]), torch.randn([3, 4])
    weight = torch.randn([5, 4, 3, 3])
    y = modulated_conv2d(x, weight, styles, padding=1, demodulate=demodulate, fused=fused)
    for n in range(3):
        own = weight * styles[n][None, :, None, None]
        if demodulate:
            own = own / (own.square().sum([1, 2, 3], keepdim=True) + 1e-8).sqrt()
        expected = F.conv2d(x[n : n + 1], own, padding=1)
        assert torch.allclose(y[n : n + 1], expected, atol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
def test_modulated_convolution_differentiates_twice(fused, up, down):
    tensors = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ([2, 1, 4, 4], [2, 1, 3, 3], [2, 1])
    ]
    f = setup_filter([1, 3, 3, 1])

    def convolve(x, weight, styles):
        return modulated_conv2d(
            x, weight, styles, up=up, down=down, padding=1, resample_filter=f, fused=fused
        ).mean([2, 3])

    assert torch.autograd.gradcheck(convolve, tensors)
    assert torch.autograd.gradgradcheck(convolve, tensors)


def test_half_precision_does_not_overflow_where_plain_products_would():
    x = torch.full([1, 64, 4, 4], 300.0, dtype=torch.float16)
    weight, styles = torch.full([2, 64, 3, 3], 50.0), torch.full([1, 64], 1000.0)
    y = modulated_conv2d(x, weight, styles, padding=1, fused=False)
    assert y.dtype == torch.float16
    assert y.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: conv2d_resample(torch.zeros([1, 3, 4, 4]), torch.zeros([2, 4, 1, 1])),
            "3 channels do not fit",
        ),
        (
            lambda: conv2d_resample(torch.zeros([1, 4, 4, 4]), torch.zeros([2, 4, 1, 1]), up=0),
            "up and down must be at least 1",
        ),
        (
            lambda: modulated_conv2d(
                torch.zeros([2, 4, 4, 4]), torch.zeros([2, 4, 1, 1]), torch.zeros([1, 4])
            ),
            "styles, got",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_scaled_leaky_relu_is_its_steps_and_so_are_its_derivatives():
    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=torch.float64).requires_grad_(True)

    torch.manual_seed(0)
    x, factors, b, dy = draw(2, 3, 4, 5), draw(2, 3), draw(3), draw(2, 3, 4, 5)
    for noise in (None, draw(2, 1, 4, 5), draw(1, 1, 4, 5)):
        inputs = [t for t in (x, factors, b, noise) if t is not None]

        def plain(x, factors, b, noise=None):
            y = x * factors[:, :, None, None] + b[:, None, None] + (0 if noise is None else noise)
            return torch.nn.functional.leaky_relu(y, 0.2).clamp(-0.9, 0.9)

        def quick(x, factors, b, noise=None):
            return scaled_lrelu(x, factors, b, noise, alpha=0.2, clamp=0.9)

        results = []
        for function in (plain, quick):
            y = function(*inputs)
            first = torch.autograd.grad(y, inputs, dy, create_graph=True)
            second = torch.autograd.grad(
                sum(g.square().sum() for g in first), [*inputs, dy], allow_unused=True
            )
            results.append([y, *first, *(torch.zeros(()) if g is None else g for g in second)])
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one.expand_as(other), other.expand_as(one), check_dtype=False)


def test_leaky_relu_in_place_overwrites_what_a_convolution_made():
    x = torch.randn([2, 3, 4, 4], requires_grad=True)
    weight = torch.randn([3, 3, 1, 1], requires_grad=True)
    made = torch.nn.functional.conv2d(x, weight)
    before = made.detach().clone()
    y = lrelu_in_place(made, 0.2, 1.0)
    assert y.data_ptr() == made.data_ptr()
    expected = torch.nn.functional.leaky_relu(before, 0.2).clamp(-1, 1)
    torch.testing.assert_close(y.detach(), expected)
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert torch.autograd.grad(slope.square().sum(), weight)[0].abs().sum() > 0


@pytest.mark.parametrize("flip_filter", [False, True])
def test_enlarging_in_bfloat16_takes_another_way_to_the_same_result(flip_filter: bool):
    x = torch.randn([2, 3, 5, 6]).bfloat16().contiguous(memory_format=torch.channels_last)
    f = setup_filter([1, 2, 3, 4])
    for padding in ((2, 1, 2, 1), (0, 3, -1, 2), (-2, -2, 1, 1)):
        quick = upfirdn2d(x, f, up=2, padding=padding, flip_filter=flip_filter, gain=4)
        plain = upfirdn2d(x.float(), f, up=2, padding=padding, flip_filter=flip_filter, gain=4)
        torch.testing.assert_close(quick.float(), plain, atol=2e-2 * float(plain.abs().max()), rtol=0)
