from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from classifier.autoencoder import Encoder
from classifier.backbone_heads import SqueezeExcitation
from classifier.config import ClassifierConfig
from classifier.encoder_file import write_encoder
from classifier.errors import ClassifierError
from classifier.models import build_model
from classifier.network import OwnNetwork
from classifier.run import load_classifier
from classifier.stages import body_stages, head_parameters
from classifier.training import train_classifier
from tests.classifier.toys import CLASSES, toy_images

ARCHS = ("denoiser_se", "denoiser_plain")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(5)
    encoder = Encoder(1)
    encoder.stages[0].norm1.running_mean.fill_(0.25)  # moments travel with the weights
    write_encoder(
        folder, encoder, {"archive_sha256": "", "subjects": {"train": ["stranger"], "held_out": []}}
    )
    return folder / "encoder.safetensors"


def test_excitation_weighs_channels_as_in_the_paper():
    torch.manual_seed(0)
    module, x = SqueezeExcitation(4, reduction=2), torch.randn(2, 4, 3, 5)
    made = module(x).detach().numpy()
    w1, b1, w2, b2 = (parameter.detach().numpy() for parameter in module.parameters())
    for n in range(2):
        z = np.array([x[n, c].mean().item() for c in range(4)])
        hidden = np.maximum(w1 @ z + b1, 0)
        scale = 1 / (1 + np.exp(-(w2 @ hidden + b2)))
        for c in range(4):
            np.testing.assert_allclose(made[n, c], x[n, c].numpy() * scale[c], rtol=1e-5)


@pytest.mark.parametrize(("arch", "num_features"), [("denoiser_se", 448), ("denoiser_plain", 128)])
def test_the_networks_keep_the_contract(arch, num_features):
    model = build_model(arch, 3, 1, (20, 16), head=(8,), dropout=0.1).eval()
    assert isinstance(model, OwnNetwork) and len(body_stages(model)) == 4
    x = torch.randn(2, 1, 20, 16)
    assert model(x).shape == (2, 3) and model.penultimate(x).shape == (2, 8)
    assert build_model(arch, 3, 1, (16, 16)).penultimate(torch.randn(2, 1, 16, 16)).shape == (2, num_features)


def test_three_depths_reach_the_head_with_excitations_and_one_without():
    reached = {}
    for arch in ARCHS:
        model = build_model(arch, 3, 1, (32, 32)).eval()
        features = [feature.detach().requires_grad_() for feature in model.encoder(torch.randn(1, 1, 32, 32))]
        model.encoder.forward = lambda x, features=features: features
        model(torch.zeros(1, 1, 32, 32)).sum().backward()
        reached[arch] = [feature.grad is not None for feature in features]
    assert reached == {
        "denoiser_se": [False, True, True, True],
        "denoiser_plain": [False, False, False, True],
    }


@pytest.mark.parametrize("arch", ARCHS)
def test_the_encoders_file_fills_the_body_and_leaves_the_head(arch, weights):
    plain = build_model(arch, 3, 1, (16, 16), seed=1)
    filled = build_model(arch, 3, 1, (16, 16), seed=1, weights=weights)
    stored = load_file(weights)
    assert stored and all(torch.equal(filled.state_dict()[name], value) for name, value in stored.items())
    pairs = zip(head_parameters(plain), head_parameters(filled), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_an_encoder_of_gray_images_does_not_fit_colour(weights):
    with pytest.raises(
        ClassifierError, match=r"expected the weights of denoiser_se, got .*conv1.weight of shape"
    ):
        build_model("denoiser_se", 3, 3, (16, 16), weights=weights)


@pytest.mark.parametrize("trained_stages", [0, 2])
def test_frozen_stages_stay_and_the_others_learn(weights, tmp_path, trained_stages):
    config = ClassifierConfig(
        arch="denoiser_se", weights=weights, trained_stages=trained_stages, steps=3, batch_size=12,
        validate_every=3, lr=0.01, preprocessing="zscore",
    )  # fmt: skip
    train, val = toy_images(24, seed=1), toy_images(12, seed=2)
    classifier = train_classifier(train, val, CLASSES, config)
    stored, state = load_file(weights), classifier.model.state_dict()
    has_changed = [
        any(
            not torch.equal(state[name], value)
            for name, value in stored.items()
            if name.startswith(f"encoder.stages.{stage}.") and "tracked" not in name
        )
        for stage in range(4)
    ]
    assert has_changed == [stage >= 4 - trained_stages for stage in range(4)]
    assert "stranger" in classifier.train_subjects
    classifier.save(tmp_path)
    again = load_classifier(tmp_path, device="cpu")  # needs no encoder's file any more
    assert np.array_equal(again.predict_logits(val.images), classifier.predict_logits(val.images))


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_both_networks_learn_with_either_loss(loss):
    train, val = toy_images(60, seed=1), toy_images(30, seed=2)
    config = ClassifierConfig(steps=40, batch_size=20, validate_every=20, lr=5e-3, loss=loss, augment=False)
    for arch in ARCHS:
        classifier = train_classifier(train, val, CLASSES, replace(config, arch=arch))
        assert classifier.history["val_balanced_accuracy"].max() > 0.8
