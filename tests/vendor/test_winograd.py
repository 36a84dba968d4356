"""The quick 3x3 convolution against the plain one, and when it is chosen."""

import pytest
import torch
from torch.nn import functional as F

from vendor.stylegan2_ada import winograd
from vendor.stylegan2_ada.convolution import conv2d_resample


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Several images in one chunk of tiles, the last chunk smaller; several chunks an image.
@pytest.mark.parametrize("shape", [(1, 3, 4, 8), (37, 2, 8, 16), (2, 3, 132, 24)])
def test_the_result_is_that_of_the_plain_convolution(shape: tuple[int, int, int, int]):
    x, weight = draw(*shape, seed=1), draw(5, shape[1], 3, 3, seed=2)
    torch.testing.assert_close(
        winograd.conv3x3(x, weight), F.conv2d(x, weight, padding=1), atol=1e-11, rtol=0
    )


@pytest.mark.parametrize("is_channels_last", [False, True])
def test_first_and_second_derivatives_are_those_of_the_plain_convolution(is_channels_last: bool):
    layout = torch.channels_last if is_channels_last else torch.contiguous_format

    def derivatives(convolve) -> list[torch.Tensor]:
        x = draw(3, 4, 8, 12, seed=3).contiguous(memory_format=layout).requires_grad_(True)
        weight = draw(6, 4, 3, 3, seed=4).requires_grad_(True)
        dy = draw(3, 6, 8, 12, seed=5).requires_grad_(True)
        first = torch.autograd.grad(convolve(x, weight), (x, weight), dy, create_graph=True)
        penalty = sum((gradient * gradient.detach().cos()).square().sum() for gradient in first)
        return [*first, *torch.autograd.grad(penalty, (x, weight, dy))]

    ours = derivatives(winograd.conv3x3)
    plain = derivatives(lambda x, weight: F.conv2d(x, weight, padding=1))
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-9 * float(theirs.detach().abs().max()), rtol=0)


def test_gradients_agree_with_finite_differences():
    x = draw(1, 2, 4, 4, seed=6).requires_grad_(True)
    weight = draw(2, 2, 3, 3, seed=7).requires_grad_(True)
    assert torch.autograd.gradcheck(winograd.conv3x3, (x, weight))
    assert torch.autograd.gradgradcheck(winograd.conv3x3, (x, weight))


def test_rounding_in_float32_stays_near_1e_5():
    x, weight = draw(2, 128, 32, 32, seed=8), draw(128, 128, 3, 3, seed=9)
    exact = F.conv2d(x, weight, padding=1)
    error = (winograd.conv3x3(x.float(), weight.float()) - exact).abs().max() / exact.abs().max()
    assert error < 3e-5


def test_it_is_chosen_for_wide_float32_layers_alone():
    wide, weight = torch.zeros([1, 64, 16, 16]), torch.zeros([64, 64, 3, 3])
    assert winograd.pays(wide, weight)
    assert not winograd.pays(wide.bfloat16(), weight)
    assert not winograd.pays(wide[:, :, :14], weight)  # no whole number of tiles
    assert not winograd.pays(wide[:, :, :8, :8], weight)
    assert not winograd.pays(wide[:, :32], weight[:, :32])
    assert not winograd.pays(wide, torch.zeros([64, 64, 1, 1]))


def test_a_resampling_convolution_with_bias_takes_it_and_agrees(monkeypatch: pytest.MonkeyPatch):
    x, weight, bias = (
        draw(*s, seed=i).float() for i, s in enumerate([(2, 64, 16, 16), (64, 64, 3, 3), (64,)])
    )
    quick = conv2d_resample(x, weight, padding=1, bias=bias)
    monkeypatch.setattr(winograd, "pays", lambda x, weight: False)
    plain = conv2d_resample(x, weight, padding=1, bias=bias)
    assert not torch.equal(quick, plain)  # two ways indeed
    torch.testing.assert_close(quick, plain, atol=3e-5 * float(plain.abs().max()), rtol=0)
