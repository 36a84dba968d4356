"""Pseudo-labeled images in a training: their ramp, their quota, negative labels, a warm start, resume."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from classifier.batches import TrainingBatches, sample_weights
from classifier.config import ClassifierConfig
from classifier.data import LabeledImages
from classifier.errors import ClassifierError
from classifier.losses import make_loss
from classifier.negative import NegativeLoss, exclusion, log_not
from classifier.preprocess import fit_preprocessing
from classifier.pseudo_mix import MixedBatches, PseudoMix, RampedLoss, quota_indices, ramp_factor
from classifier.resuming import KeptState
from classifier.training import train_classifier
from tests.classifier.toys import CLASSES, toy_images

QUICK = ClassifierConfig(steps=12, batch_size=10, validate_every=4, device="cpu", keep="last")
CPU = torch.device("cpu")


def mixed_images(num_labeled: int = 18, num_pseudo: int = 30) -> LabeledImages:
    pseudo = toy_images(num_pseudo, seed=7)
    pseudo = replace(pseudo, is_pseudo=np.ones(num_pseudo, bool), weights=np.linspace(0.2, 0.8, num_pseudo))
    return LabeledImages.concat([toy_images(num_labeled, seed=1), pseudo])


def train(images=None, config=QUICK, **more):
    return train_classifier(images or mixed_images(), toy_images(12, seed=2), CLASSES, config, **more)


def weights_of(classifier) -> dict[str, torch.Tensor]:
    return classifier.model.state_dict()


def are_equal(first, second) -> bool:
    mine, others = weights_of(first), weights_of(second)
    return all(torch.equal(value, others[name]) for name, value in mine.items())


def batches_of(mix: PseudoMix, config=QUICK) -> MixedBatches:
    images = mixed_images()
    preprocessing = fit_preprocessing(images.images)
    batches = MixedBatches(images, images.soft_labels(3), preprocessing, config, CPU, mix)
    batches.begin_phase([config.steps])
    return batches


def test_the_ramp_is_that_of_the_paper():
    assert ramp_factor(0, 100, 0.4) == pytest.approx(math.exp(-5))
    assert ramp_factor(20, 100, 0.4) == pytest.approx(math.exp(-1.25))
    assert [ramp_factor(step, 100, 0.4) for step in (40, 41, 99)] == [1, 1, 1]


def test_every_batch_has_the_quota_and_either_stream_shows_all_its_images_equally_often():
    is_pseudo = np.arange(24) >= 6
    drawn = list(quota_indices(is_pseudo, 0.3, batch_size=10, num_steps=12, seed=0))
    assert all(is_pseudo[batch].sum() == 3 and len(batch) == 10 for batch in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=24)
    assert set(counts[:6]) == {14} and set(counts[6:]) == {2}


@pytest.mark.parametrize(("quota", "num_pseudo"), [(0.01, 1), (0.99, 9), (0.5, 5)])
def test_either_kind_is_in_every_batch(quota, num_pseudo):
    batch = next(quota_indices(np.arange(40) % 2 == 0, quota, 10, 1, seed=0))
    assert (batch % 2 == 0).sum() == num_pseudo


def test_a_quota_takes_both_kinds():
    with pytest.raises(
        ClassifierError, match="a quota takes labeled and pseudo-labeled images, got 12 and 0"
    ):
        train(toy_images(12, seed=1), mix=PseudoMix(quota=0.5))


def test_weights_of_pseudo_labels_rise_and_those_of_labels_stay():
    images = mixed_images()
    plain = TrainingBatches(images, images.soft_labels(3), fit_preprocessing(images.images), QUICK, CPU)
    plain.begin_phase([QUICK.steps])
    ramped = batches_of(PseudoMix(ramp=0.5))
    for step, ((_, _, full), (_, _, counted)) in enumerate(zip(plain, ramped, strict=True)):
        is_labeled = full == 1
        factor = ramp_factor(step, 12, 0.5)
        assert torch.equal(counted[is_labeled], full[is_labeled])
        torch.testing.assert_close(counted[~is_labeled], full[~is_labeled] * factor)


def test_the_ramped_loss_is_divided_by_the_full_weights():
    batches = batches_of(PseudoMix(ramp=0.9))
    loss = RampedLoss(make_loss(QUICK), batches)
    full = sample_weights(mixed_images(), mixed_images().soft_labels(3), False)
    for indices, (images, targets, weights) in zip(order_of(batches), batches, strict=True):
        outputs = torch.randn(len(images), 3, generator=torch.Generator().manual_seed(0))
        losses = cross_entropy(outputs, targets, reduction="none")
        by_hand = (losses * weights).sum() / full[indices].sum()
        torch.testing.assert_close(loss(outputs, targets, weights), by_hand)
        torch.testing.assert_close(loss(outputs, targets), losses.mean())  # as at a look


def order_of(batches) -> list[np.ndarray]:
    """The rows that its batches will have."""
    again = batches_of(PseudoMix())
    return [next(again._order) for _ in range(QUICK.steps)]


def test_a_mix_of_nothing_changes_nothing():
    assert are_equal(train(), train(mix=PseudoMix()))


@pytest.mark.parametrize("mix", [PseudoMix(ramp=0.5), PseudoMix(quota=0.3), PseudoMix(0.5, 0.5)])
def test_a_mix_changes_the_training_and_repeats_to_the_bit(mix):
    first = train(mix=mix)
    assert are_equal(first, train(mix=mix)) and not are_equal(first, train())


class _Killed(Exception):
    pass


@pytest.mark.parametrize("is_negative", [False, True])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, is_negative):
    images = with_negatives() if is_negative else None
    mix, config = PseudoMix(0.8, 0.4), replace(QUICK, mixup=0.4)
    kept = KeptState(tmp_path / "state.safetensors", {"settings": "these"}, interval_sec=0)

    def kill(step, measured):
        if step == 8:
            raise _Killed

    with pytest.raises(_Killed):
        train(images, config, mix=mix, kept=kept, on_look=kill)
    resumed = train(images, config, mix=mix, kept=kept)
    assert are_equal(resumed, train(images, config, mix=mix))


# Negative labels


def with_negatives() -> LabeledImages:
    images = mixed_images()
    excluded = np.zeros((len(images), 3), bool)
    excluded[40:44, 0] = excluded[42:46, 2] = True
    labels = np.where(excluded.any(axis=1), -1, images.labels)
    return replace(images, labels=labels, excluded=excluded)


def test_log_not_is_exact_where_the_plain_formula_fails():
    logits = torch.tensor([[0.3, -1.0, 2.0], [60.0, 0.0, -5.0]], dtype=torch.float64)
    plain = torch.log(1 - torch.softmax(logits, dim=1))
    torch.testing.assert_close(log_not(logits)[0], plain[0])
    assert plain[1, 0] == -torch.inf  # while log(e^0 + e^-5) - 60 is meant
    assert log_not(logits)[1, 0].item() == pytest.approx(math.log(1 + math.exp(-5)) - 60)
    two = torch.tensor([[1.2, -0.7]])
    torch.testing.assert_close(log_not(two), torch.log_softmax(two, dim=1).flip(1))  # not the one: the other


@pytest.mark.parametrize("loss", ["cross_entropy", "binary"])
def test_the_loss_of_negative_labels_is_that_written_by_hand(loss):
    config = replace(QUICK, loss=loss)
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(4, 3, generator=generator, requires_grad=True)
    labels = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0.5, 0.5]])
    excluded = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0]])
    weights = torch.tensor([1.0, 0.5, 0.25, 1.0])
    supervised = make_loss(config).func.per_image
    by_hand = []
    for n in range(4):
        if not excluded[n].any():
            by_hand.append(supervised(outputs[n : n + 1], labels[n : n + 1])[0])
            continue
        total = torch.zeros(())
        for c in range(3):
            p = torch.sigmoid(outputs[n, c]) if loss == "binary" else torch.softmax(outputs[n], 0)[c]
            total = total - excluded[n, c] * torch.log(1 - p) / (3 if loss == "binary" else 1)
        by_hand.append(total)
    expected = (torch.stack(by_hand) * weights).sum() / weights.sum()
    found = NegativeLoss(make_loss(config), loss)(outputs, torch.cat([labels, excluded], 1), weights)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(value, outputs, retain_graph=True)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_negative_labels_are_not_smoothed_and_labels_are_as_ever():
    config = replace(QUICK, label_smoothing=0.2)
    outputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.eye(3)[[0, 1, 2, 0, 1]]
    loss, none = NegativeLoss(make_loss(config), "cross_entropy"), torch.zeros(5, 3)
    torch.testing.assert_close(
        loss(outputs, torch.cat([labels, none], 1)), make_loss(config)(outputs, labels)
    )
    torch.testing.assert_close(loss(outputs, labels), make_loss(config)(outputs, labels))  # as at a look
    only = torch.cat([none, torch.eye(3)[[0, 1, 2, 0, 1]]], 1)
    torch.testing.assert_close(loss(outputs, only), exclusion(outputs, only[:, 3:], "cross_entropy").mean())


def test_images_with_negative_labels_have_no_label_and_keep_their_weight():
    images = with_negatives()
    targets = images.soft_labels(3)
    assert (targets[images.is_negative] == 0).all() and (targets[~images.is_negative].sum(axis=1) == 1).all()
    both = np.concatenate([targets, images.excluded], axis=1).astype(np.float32)
    weights = sample_weights(images, both, balance_classes=True)
    np.testing.assert_allclose(weights[images.is_negative], images.weights[images.is_negative], rtol=1e-6)
    plain = images.subset(~images.is_negative)
    alone = sample_weights(replace(plain, excluded=None), plain.soft_labels(3), balance_classes=True)
    np.testing.assert_allclose(weights[~images.is_negative], alone, rtol=1e-6)


def test_negative_labels_take_part_in_a_training():
    images = with_negatives()
    without = images.subset(~images.is_negative)
    without = replace(without, excluded=None)
    classifier = train(images)
    assert classifier.predict_logits(images.images).shape == (len(images), 3)
    assert not are_equal(classifier, train(without))


def test_a_class_that_is_only_excluded_is_missing():
    images = with_negatives()
    excluded = images.excluded.copy()
    only = np.flatnonzero(images.labels == 1)
    excluded[only, 2] = True
    with pytest.raises(ClassifierError, match="no training image of class horizontal"):
        train(replace(images, labels=np.where(images.labels == 1, -1, images.labels), excluded=excluded))


# Warm start


def test_a_warm_training_of_no_rate_is_the_classifier_it_started_from():
    teacher = train()
    student = train(config=replace(QUICK, lr=1e-30, weight_decay=0.0, freeze_norm=True), start=teacher)
    for name, value in weights_of(student).items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(value, weights_of(teacher)[name])
    assert not are_equal(student, train(config=replace(QUICK, lr=1e-30)))
    assert set(teacher.train_subjects) <= set(student.train_subjects)


def test_a_warm_start_leaves_the_teacher_alone_and_needs_its_network():
    teacher = train()
    before = {name: value.clone() for name, value in weights_of(teacher).items()}
    train(start=teacher)
    assert all(torch.equal(value, before[name]) for name, value in weights_of(teacher).items())
    with pytest.raises(
        ClassifierError, match="with the network of this training to start from, got small_res"
    ):
        train(config=replace(QUICK, head=(8,)), start=teacher)


def test_a_warm_start_from_somebody_who_saw_the_validation_part_is_refused():
    teacher = train_classifier(toy_images(12, seed=2), toy_images(12, seed=3), CLASSES, QUICK)
    with pytest.raises(
        ClassifierError, match="to start from was trained on 6 subjects of the validation part"
    ):
        train(start=teacher)
