import json

import numpy as np
import pytest
import torch

from classifier.errors import ClassifierError
from classifier.mask_cleaning import CleaningConfig
from classifier.segment_config import SegmentConfig
from classifier.segment_training import train_segmenter
from classifier.segmenter import PairProvenance, load_segmenter
from tests.classifier.phantom_lungs import arrays, phantom

CONFIG = SegmentConfig(size=32, width=4, depth=2, steps=6, batch_size=4, preprocessing="clahe", threads=1)


@pytest.fixture(scope="module")
def segmenter():
    made, _ = train_segmenter(arrays(range(6)), arrays(range(10, 12)), CONFIG)
    made.cleaning = CleaningConfig(min_area=0.02, smooth=1)
    made.provenance = PairProvenance("abc", {"train": 6, "val": 2}, {"train": ["p1"], "val": ["p2"]})
    return made


def test_a_segmenter_comes_back_as_it_was(segmenter, tmp_path):
    segmenter.save(tmp_path)
    read = load_segmenter(tmp_path, "cpu")
    pictures = [phantom(32, 40)[0], phantom(70, 41)[0][:50], phantom(16, 42)[0]]
    for a, b in zip(segmenter.predict(pictures), read.predict(pictures), strict=True):
        assert np.array_equal(a, b)
    assert (read.config, read.cleaning) == (segmenter.config, segmenter.cleaning)
    assert read.provenance == segmenter.provenance
    assert read.weights_sha256 == segmenter.weights_sha256 != ""


def test_pictures_of_any_size_get_probabilities_of_their_own_size(segmenter):
    pictures = [phantom(size, size)[0][:height] for size, height in ((32, 32), (64, 40), (20, 20), (90, 90))]
    for picture, found in zip(pictures, segmenter.predict(pictures), strict=True):
        assert found.shape == picture.shape and found.dtype == np.float32
        assert found.min() >= 0 and found.max() <= 1
    alone = segmenter.predict(pictures[1:2])[0]
    np.testing.assert_allclose(alone, segmenter.predict(pictures)[1], atol=1e-5)


def test_what_is_used_is_what_training_prepared(segmenter):
    images, _ = arrays(range(3))
    with torch.inference_mode():
        direct = torch.sigmoid(segmenter.model(segmenter.preprocessing.to_batch(images)))
    np.testing.assert_array_equal(segmenter.predict([image[0] for image in images]), direct[:, 0].numpy())


def test_loading_checks_every_file(segmenter, tmp_path):
    segmenter.save(tmp_path)
    text = (tmp_path / "segmenter.json").read_text()
    with pytest.raises(ClassifierError, match=r"segmenter\.json does not exist: give the folder"):
        load_segmenter(tmp_path / "none")
    for content, sentence in (
        ("{", "expected JSON"),
        ("[]", "expected a segmenter of format 1, got list"),
        (json.dumps(json.loads(text) | {"format": 9}), "got 9; update synthlabel"),
        (json.dumps({"format": 1}), "an entry is missing or malformed"),
        (text.replace('"width": 4', '"width": 5'), "do not fit the network"),
    ):
        (tmp_path / "segmenter.json").write_text(content)
        with pytest.raises(ClassifierError, match=sentence):
            load_segmenter(tmp_path)
    (tmp_path / "segmenter.json").write_text(text)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(ClassifierError, match=r"not those that segmenter\.json beside it describes"):
        load_segmenter(tmp_path)
    weights.unlink()
    with pytest.raises(ClassifierError, match="the run is incomplete"):
        load_segmenter(tmp_path)
