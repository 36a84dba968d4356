from functools import partial

import pytest
import torch

from classifier.config import ClassifierConfig
from classifier.losses import (
    ClassificationLoss,
    WeightedLoss,
    binary,
    cross_entropy,
    focal,
    log_probability_scores,
    make_loss,
)

LOGITS = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.arange(12) % 3
TARGETS = torch.nn.functional.one_hot(LABELS, 3).double()


def test_cross_entropy_is_torchs_own():
    reference = torch.nn.functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.1)
    assert WeightedLoss(cross_entropy, 0.1)(LOGITS, TARGETS) == pytest.approx(float(reference))


def test_focal_with_gamma_0_is_cross_entropy_and_a_larger_gamma_spares_the_sure():
    assert torch.allclose(focal(LOGITS, TARGETS, 0.0), cross_entropy(LOGITS, TARGETS))
    p = torch.softmax(LOGITS, 1)[torch.arange(12), LABELS]
    assert torch.allclose(focal(LOGITS, TARGETS, 2.0), -((1 - p) ** 2) * p.log())  # the paper's equation 4


def test_focal_has_a_finite_gradient_where_the_network_is_certain():
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    focal(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), 0.5).sum().backward()
    assert logits.grad.isfinite().all()


def test_binary_is_the_mean_over_classes_of_torchs_own():
    reference = torch.nn.functional.binary_cross_entropy(torch.sigmoid(LOGITS), TARGETS)
    assert float(binary(LOGITS, TARGETS).mean()) == pytest.approx(float(reference))


def test_sigmoids_become_probabilities_by_division_by_their_sum():
    sigmoids = torch.sigmoid(LOGITS)
    probs = torch.softmax(log_probability_scores(LOGITS, "binary"), dim=1)
    assert torch.allclose(probs, sigmoids / sigmoids.sum(dim=1, keepdim=True))
    assert log_probability_scores(LOGITS, "focal") is LOGITS


def test_an_image_of_twice_the_weight_counts_like_two():
    loss = WeightedLoss(partial(focal, gamma=2.0))
    weights = torch.ones(12, dtype=torch.float64)
    weights[3] = 2
    doubled = torch.cat([torch.arange(12), torch.tensor([3])])
    assert torch.allclose(loss(LOGITS, TARGETS, weights), loss(LOGITS[doubled], TARGETS[doubled]))


@pytest.mark.parametrize(
    ("name", "per_image"), [("cross_entropy", cross_entropy), ("binary", binary), ("focal", None)]
)
def test_settings_name_the_loss(name, per_image):
    made = make_loss(ClassifierConfig(loss=name, focal_gamma=3.0))
    assert isinstance(made, ClassificationLoss)
    expected = per_image or partial(focal, gamma=3.0)
    assert torch.allclose(made(LOGITS, TARGETS), expected(LOGITS, TARGETS).mean())
    assert torch.allclose(made.activation(LOGITS).sum(dim=1), torch.ones(12, dtype=torch.float64))
