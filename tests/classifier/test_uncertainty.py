"""Several predictions of an image, by views and by dropout masks: each image for itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from classifier.batches import predict_batch
from classifier.config import ClassifierConfig
from classifier.data import ImageTable
from classifier.errors import ClassifierError
from classifier.run import Classifier
from classifier.training import train_classifier
from classifier.uncertainty import dropout_layers, predict_dropout, predict_views
from tests.classifier.toys import CLASSES, toy_images

QUICK = ClassifierConfig(
    steps=10, batch_size=16, validate_every=10, augment=False, dropout=0.3, head=(16,), device="cpu"
)
METHODS = pytest.mark.parametrize("predict", [predict_views, predict_dropout])


@pytest.fixture(scope="module")
def trained() -> Classifier:
    return train_classifier(toy_images(48, seed=1), toy_images(12, seed=2), CLASSES, QUICK)


@pytest.fixture(scope="module")
def images() -> ImageTable:
    return toy_images(predict_batch(torch.device("cpu")) + 13, seed=3).images  # more than a batch


@METHODS
def test_one_sample_is_the_plain_prediction(predict, trained, images):
    assert np.array_equal(predict(trained, images, 1, seed=0)[0], trained.predict_logits(images))


@METHODS
def test_the_same_seed_gives_the_same_samples_and_another_others(predict, trained, images):
    first, again, other = (predict(trained, images, 3, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[-1], other[-1])
    assert not np.array_equal(first[-1], first[-2])  # nor are two samples of a seed alike


@METHODS
def test_a_permutation_of_the_images_permutes_the_samples(predict, trained, images):
    order = np.random.default_rng(0).permutation(len(images))
    straight, permuted = predict(trained, images, 4, 0), predict(trained, images.subset(order), 4, 0)
    np.testing.assert_allclose(permuted, straight[:, order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        predict(trained, images.subset(order[:1]), 4, 0)[:, 0], straight[:, order[0]], rtol=1e-4, atol=1e-5
    )


@METHODS
def test_the_network_stays_as_it_is(predict, trained, images):
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    plain = trained.predict_logits(images)
    assert any("running_mean" in name for name in before)
    predict(trained, images, 3, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())
    assert not any(module.training for module in trained.model.modules())
    assert np.array_equal(trained.predict_logits(images), plain)  # no mask is left in place


def test_views_begin_with_the_image_itself(trained, images):
    assert np.array_equal(predict_views(trained, images, 3, seed=0)[0], trained.predict_logits(images))


def test_mirrored_views_are_for_classifiers_that_may_mirror(trained, images):
    sided = predict_views(trained, images, 3, seed=0)
    trained.config = replace(QUICK, mirror=True)
    try:
        assert not np.array_equal(predict_views(trained, images, 3, seed=0)[1], sided[1])
    finally:
        trained.config = QUICK


def test_masks_have_the_distribution_of_torchs_own_dropout(trained, images):
    few = images.subset(np.arange(6))
    ours = predict_dropout(trained, few, 600, seed=0).astype(np.float64)
    batch = trained.preprocessing.to_batch(few.gather(np.arange(6)))
    layers = dropout_layers(trained.model)
    for layer in layers.values():
        layer.train()
    torch.manual_seed(0)
    with torch.inference_mode():
        theirs = np.stack([trained.model(batch).numpy() for _ in range(600)]).astype(np.float64)
    trained.model.eval()
    spread = theirs.std(axis=0)
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 5 * spread * np.sqrt(2 / 600)).all()
    assert (np.abs(ours.std(axis=0) / spread - 1) < 0.2).all()


def test_dropout_of_channels_drops_whole_channels(trained):
    class Channels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout2d(0.5)
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            dropped = self.drop(x.expand(-1, 8, -1, -1) * 0 + 1)  # ones
            per_channel = dropped.flatten(2)  # (N, 8, H * W)
            assert (per_channel == per_channel[..., :1]).all()
            return per_channel[:, :3, 0]

    odd = Classifier(Channels(), CLASSES, QUICK, trained.preprocessing)
    samples = predict_dropout(odd, toy_images(4, seed=1).images, 40, seed=0)
    assert set(np.unique(samples).tolist()) == {0.0, 2.0}
    assert (samples == samples[:, :1]).all()  # one thinned network for all images


def test_a_network_without_dropout_is_refused_in_a_sentence(images):
    plain = train_classifier(
        toy_images(24, seed=1), toy_images(12, seed=2), CLASSES, replace(QUICK, dropout=0.0, head=(), steps=2)
    )
    with pytest.raises(ClassifierError, match="expected a network with dropout, got small_resnet without"):
        predict_dropout(plain, images, 4, seed=0)
