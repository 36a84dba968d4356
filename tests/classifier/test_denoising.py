import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from classifier.denoising import NoiseConfig, add_noise, reconstruction_loss, ssim
from extract.errors import SettingsError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_blanked_patches_are_whole_and_as_many_as_asked_for():
    batch = torch.randn(64, 1, 16, 16)
    spoilt = add_noise(batch, NoiseConfig(sigma=0, drop_share=0.25, patch=4), generator())
    assert torch.equal(spoilt.images[~spoilt.is_dropped], batch[~spoilt.is_dropped])
    assert (spoilt.images[spoilt.is_dropped] == 0).all()
    patches = spoilt.is_dropped.reshape(64, 4, 4, 4, 4).float().mean(dim=(2, 4))
    assert set(patches.unique().tolist()) == {0.0, 1.0}
    assert float(patches.mean()) == pytest.approx(0.25, abs=0.05)


def test_patches_reach_over_the_border_of_sizes_that_they_do_not_divide():
    spoilt = add_noise(torch.ones(4, 3, 9, 7), NoiseConfig(0.5, 0.5, patch=4), generator())
    assert spoilt.images.shape == (4, 3, 9, 7) and spoilt.is_dropped.shape == (4, 1, 9, 7)


def test_the_noise_has_its_deviation_and_follows_from_the_seed():
    batch = torch.zeros(16, 1, 32, 32)
    first = add_noise(batch, NoiseConfig(sigma=0.7, drop_share=0), generator(1)).images
    assert float(first.std()) == pytest.approx(0.7, abs=0.02)
    assert torch.equal(first, add_noise(batch, NoiseConfig(sigma=0.7, drop_share=0), generator(1)).images)
    assert not torch.equal(first, add_noise(batch, NoiseConfig(0.7, 0), generator(2)).images)


def test_ssim_agrees_with_scipys_windows():
    rng = np.random.default_rng(0)
    first = gaussian_filter(rng.normal(size=(24, 20)), 1.0)
    second = first + 0.3 * rng.normal(size=(24, 20))

    def blur(picture):
        return gaussian_filter(picture, 1.5, mode="mirror", radius=5)

    x, y, c1, c2 = first + 3, second + 3, 0.06**2, 0.18**2
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    expected = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    tensors = [torch.from_numpy(picture)[None, None] for picture in (first, second)]
    assert float(ssim(*tensors)) == pytest.approx(expected.mean(), abs=1e-10)


@pytest.mark.parametrize("loss", ["mse", "ssim+l1"])
def test_a_loss_is_nothing_for_equal_pictures_and_grows_with_the_error(loss):
    picture = torch.randn(2, 1, 8, 8)  # smaller than the window of SSIM
    small, large = (
        float(reconstruction_loss(picture + error * torch.randn(2, 1, 8, 8), picture, loss))
        for error in (0.1, 1.0)
    )
    assert float(reconstruction_loss(picture, picture, loss)) == pytest.approx(0, abs=1e-6)
    assert 0 < small < large


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0, "drop_share": 0}, "needs something to undo"),
        ({"sigma": -1}, r"noise sigma must be in 0 ... 10, got -1"),
        ({"drop_share": 1.0}, r"drop share must be in \[0, 1\), got 1.0"),
        ({"patch": 0}, "patch must be at least 1 pixel, got 0"),
    ],
)
def test_noise_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        NoiseConfig(**settings)
    with pytest.raises(SettingsError, match='one of mse, ssim\\+l1, got "bce"'):
        reconstruction_loss(torch.ones(1), torch.ones(1), "bce")
