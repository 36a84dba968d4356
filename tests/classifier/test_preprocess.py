import json

import numpy as np
import pytest
import torch

from classifier.data import ImageTable
from classifier.errors import ClassifierError
from classifier.preprocess import PreparedImages, Preprocessing, fit_preprocessing
from extract.preprocessing import PRESETS, PreprocessConfig


def random_pixels(num_images: int, channels: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_images, channels, size, size)).astype(np.uint8)


def test_mean_and_deviation_are_those_of_each_channel():
    pixels = random_pixels(7, 3, 8)
    fitted = fit_preprocessing(ImageTable(pixels))
    np.testing.assert_allclose(fitted.mean, pixels.mean(axis=(0, 2, 3)) / 255, rtol=1e-12)
    np.testing.assert_allclose(fitted.std, pixels.std(axis=(0, 2, 3)) / 255, rtol=1e-9)


def test_a_batch_of_the_fitted_images_is_standardised():
    pixels = random_pixels(20, 1, 8)
    batch = fit_preprocessing(ImageTable(pixels)).to_batch(pixels)
    assert batch.dtype == torch.float32 and batch.shape == (20, 1, 8, 8)
    assert abs(float(batch.mean())) < 1e-5 and abs(float(batch.std(correction=0)) - 1) < 1e-5


def test_constant_images_stay_finite():
    pixels = np.full((3, 1, 4, 4), 9, np.uint8)
    assert torch.isfinite(fit_preprocessing(ImageTable(pixels)).to_batch(pixels)).all()


def test_resizing_belongs_to_the_preprocessing():
    pixels = random_pixels(2, 1, 8)
    fitted = fit_preprocessing(ImageTable(pixels), PreprocessConfig(size=16))
    assert fitted.input_size == (16, 16)
    assert fitted.to_batch(pixels).shape == (2, 1, 16, 16)


def test_images_of_another_size_are_refused():
    fitted = fit_preprocessing(ImageTable(random_pixels(2, 1, 8)))
    with pytest.raises(ClassifierError, match=r"\(1, 8, 8\) as in training, got uint8 \(3, 8, 8\)"):
        fitted.to_batch(random_pixels(2, 3, 8))


def test_it_survives_json_and_refuses_another_version():
    fitted = fit_preprocessing(ImageTable(random_pixels(2, 1, 8)))
    assert Preprocessing.from_json(fitted.to_json()) == fitted
    with pytest.raises(ClassifierError, match="version 99"):
        Preprocessing.from_json({**fitted.to_json(), "version": 99})


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_singles_and_order_give_the_same_bits(name, channels):
    pixels = random_pixels(6, channels, 32)
    fitted = fit_preprocessing(ImageTable(pixels), PRESETS[name])
    together = fitted.to_batch(pixels)
    assert together.shape == (6, fitted.input_channels, *fitted.input_size)
    alone = torch.cat([fitted.to_batch(pixels[k : k + 1]) for k in range(6)])
    assert torch.equal(together, alone) and torch.equal(
        fitted.to_batch(pixels[::-1].copy()), together.flip(0)
    )
    assert torch.isfinite(together).all()


@pytest.mark.parametrize("name", PRESETS)
def test_every_way_survives_json_to_the_bit(name):
    pixels = random_pixels(4, 1, 16)
    fitted = fit_preprocessing(ImageTable(pixels), PRESETS[name])
    again = Preprocessing.from_json(json.loads(json.dumps(fitted.to_json())))
    assert again == fitted and torch.equal(again.to_batch(pixels), fitted.to_batch(pixels))


def test_the_data_set_is_measured_after_the_steps():
    pixels = random_pixels(9, 3, 16)
    config = PreprocessConfig(color="gray", clahe_clip=2.0, size=24)
    batch = fit_preprocessing(ImageTable(pixels), config).to_batch(pixels)
    assert batch.shape == (9, 1, 24, 24)
    assert abs(float(batch.mean())) < 1e-5 and abs(float(batch.std(correction=0)) - 1) < 1e-5


def test_scaling_image_by_image_undoes_exposure():
    pixels = random_pixels(3, 1, 16) // 2
    fitted = fit_preprocessing(ImageTable(pixels), PRESETS["zscore"])
    batch = fitted.to_batch(pixels)
    assert batch.mean(dim=(1, 2, 3)).abs().max() < 1e-5
    assert (batch.std(dim=(1, 2, 3), correction=0) - 1).abs().max() < 1e-5
    torch.testing.assert_close(fitted.to_batch(pixels + 100), batch, atol=1e-4, rtol=0)
    assert torch.isfinite(fitted.to_batch(np.full((2, 1, 16, 16), 9, np.uint8))).all()


@pytest.mark.parametrize(
    ("normalize", "low", "high"),
    [("unit", 0, 1), ("symmetric", -1, 1), ("imagenet", -0.449 / 0.226, 0.551 / 0.226)],
)
def test_fixed_scales_need_no_data(normalize, low, high):
    ends = np.zeros((2, 1, 4, 4), np.uint8)
    ends[1] = 255
    batch = fit_preprocessing(ImageTable(ends), PreprocessConfig(normalize=normalize)).to_batch(ends)
    assert float(batch[0].mean()) == pytest.approx(low, abs=1e-5)
    assert float(batch[1].mean()) == pytest.approx(high, abs=1e-5)


def test_a_model_of_the_first_version_gives_the_numbers_it_always_gave():
    pixels = random_pixels(4, 1, 8)
    written = {
        "version": 1,
        "channels": 1,
        "height": 8,
        "width": 8,
        "mean": [0.25],
        "std": [0.125],
        "resize": None,
    }
    first = Preprocessing.from_json(written)
    expected = (torch.from_numpy(pixels).float() - 63.75) / 31.875
    assert torch.equal(first.to_batch(pixels), expected) and first.to_json() == written
    resized = Preprocessing.from_json({**written, "resize": 16})
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(pixels).float(), size=(16, 16), mode="bilinear", antialias=True
    )
    assert torch.equal(resized.to_batch(pixels), (expected - 63.75) / 31.875) and resized.input_size == (
        16,
        16,
    )


def test_preparing_once_and_batch_by_batch_are_alike():
    pixels = random_pixels(10, 1, 32)
    table = ImageTable(pixels)
    fitted = fit_preprocessing(table, PRESETS["pneumonia-backbone"])
    at_once, in_turn = PreparedImages(table, fitted), PreparedImages(table, fitted, max_bytes=0)
    rows = np.array([7, 1, 1, 9])
    assert torch.equal(at_once.batch(rows, "cpu"), in_turn.batch(rows, "cpu"))
    assert torch.equal(at_once.batch(rows, "cpu"), fitted.to_batch(pixels[rows]))


def test_half_finished_images_are_refused_where_steps_need_gray_levels():
    fitted = fit_preprocessing(ImageTable(random_pixels(2, 1, 8)), PRESETS["clahe"])
    with pytest.raises(ClassifierError, match="only standardises by fixed numbers, got one with steps"):
        fitted.scale(torch.zeros(1, 1, 8, 8))
