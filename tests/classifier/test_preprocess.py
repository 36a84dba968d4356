import numpy as np
import pytest
import torch

from classifier.data import ImageTable
from classifier.errors import ClassifierError
from classifier.preprocess import Preprocessing, fit_preprocessing


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
    fitted = fit_preprocessing(ImageTable(pixels), resize=16)
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
