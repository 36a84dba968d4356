import numpy as np

from classifier.data import ImageTable
from classifier.usual import UsualInputs, measure, measure_usual
from tests.classifier.toys import toy_pixels


def test_training_images_are_usual_and_blank_inverted_or_bright_ones_are_not():
    pixels = toy_pixels(np.arange(300) % 3, 32, seed=1) // 2
    usual = measure_usual(ImageTable(pixels))
    assert usual.describe_strange(pixels) == [""] * 300
    strange = np.stack([np.zeros((1, 32, 32), np.uint8), 255 - pixels[0], pixels[0] * 0 + 200])
    said = usual.describe_strange(strange)
    assert all(said)
    assert "share of black pixels 1, in training 0 to" in said[0] and "mean gray level" in said[1]
    assert UsualInputs.from_json(usual.to_json()) == usual


def test_the_features_are_what_their_names_say():
    image = np.zeros((1, 1, 4, 4), np.uint8)
    image[0, 0, :, 2:] = 100
    found = measure(image)
    assert found["mean"] == 50 and found["contrast"] == 50 and found["black"] == 0.5
    np.testing.assert_allclose(found["edges"], (100 / 3) / 2)
    assert measure_usual(ImageTable(image[:0])) is None
