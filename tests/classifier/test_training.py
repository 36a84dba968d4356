from dataclasses import replace

import numpy as np
import pytest
import torch

from classifier.config import ClassifierConfig
from classifier.data import ImageTable, LabeledImages
from classifier.errors import ClassifierError
from classifier.evaluate import classification_metrics
from classifier.training import train_classifier
from extract.errors import SettingsError
from tests.classifier.toys import CLASSES, toy_images

QUICK = ClassifierConfig(steps=6, batch_size=16, validate_every=3)


def train_quickly(train=None, val=None, config=QUICK, **changes):
    train = toy_images(48, seed=1) if train is None else train
    val = toy_images(18, seed=2) if val is None else val
    return train_classifier(train, val, CLASSES, replace(config, **changes))


def weights_of(classifier) -> list[torch.Tensor]:
    return list(classifier.model.state_dict().values())


def are_equal(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights_of(first), weights_of(second), strict=True))


def test_bands_are_learnt_from_few_images():
    classifier = train_quickly(steps=60, batch_size=32, validate_every=30, lr=5e-3)
    unseen = toy_images(60, seed=3)
    probs = classifier.predict_probs(unseen.images)
    assert classification_metrics(probs, unseen.labels, 3)["balanced_accuracy"] > 0.9


def test_a_seed_gives_the_same_bits_whatever_ran_before():
    first = train_quickly()
    torch.manual_seed(99)
    torch.rand(10)
    train_quickly(seed=7, steps=3)
    again = train_quickly()
    assert are_equal(first, again)
    columns = ["step", "train_loss", "val_nll", "val_balanced_accuracy"]
    assert first.history[columns].equals(again.history[columns])
    assert not are_equal(first, train_quickly(seed=1))


def test_dropout_is_seeded_and_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = train_quickly(arch="mobilenetv3_small_050", steps=2, validate_every=2)  # has dropout
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert are_equal(first, train_quickly(arch="mobilenetv3_small_050", steps=2, validate_every=2))


@pytest.mark.parametrize(
    ("steps", "validate_every", "looks"), [(7, 3, [3, 6, 7]), (4, 9, [4]), (6, 2, [2, 4, 6])]
)
def test_the_budget_is_kept_to_the_step(steps, validate_every, looks):
    reported: list[int] = []
    classifier = train_classifier(
        toy_images(48, seed=1),
        toy_images(18, seed=2),
        CLASSES,
        replace(QUICK, steps=steps, validate_every=validate_every),
        progress=lambda done, total, message: reported.append(done),
    )
    assert reported == list(range(1, steps + 1))
    assert classifier.history["step"].tolist() == looks
    assert int(classifier.model.stem_norm.num_batches_tracked) <= steps


def test_the_optimiser_steps_exactly_as_often_as_asked(monkeypatch):
    steps = []
    original = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: (steps.append(1), original(self))[1])
    train_quickly(steps=5, validate_every=2)
    assert len(steps) == 5


def test_the_best_look_at_the_validation_part_is_kept():
    val = toy_images(18, seed=2)
    settings = {"steps": 24, "validate_every": 4, "lr": 5e-3, "calibrate": False}
    best, last = train_quickly(val=val, **settings), train_quickly(val=val, keep="last", **settings)
    measured = classification_metrics(best.predict_probs(val.images), val.labels, 3)
    standing = best.history.sort_values(["val_balanced_accuracy", "val_nll"], ascending=[False, True]).iloc[0]
    assert measured["balanced_accuracy"] == pytest.approx(standing["val_balanced_accuracy"])
    assert measured["nll"] == pytest.approx(standing["val_nll"], rel=1e-4)
    final = classification_metrics(last.predict_probs(val.images), val.labels, 3)
    assert final["nll"] == pytest.approx(last.history["val_nll"].iloc[-1], rel=1e-4)


def test_one_hot_soft_labels_train_as_hard_ones():
    train = toy_images(48, seed=1)
    soft = replace(train, labels=np.eye(3, dtype=np.float32)[train.labels])
    assert are_equal(train_quickly(train), train_quickly(soft))


def test_an_image_of_weight_zero_is_as_if_it_were_not_there():
    train = toy_images(48, seed=1)
    junk = replace(toy_images(12, seed=9), labels=np.zeros(12, np.int64), weights=np.zeros(12))
    assert are_equal(train_quickly(train), train_quickly(LabeledImages.concat([train, junk])))


def test_weights_matter_in_proportion_only():
    train = toy_images(48, seed=1)
    uneven = np.linspace(0.5, 2, 48)
    base = train_quickly(replace(train, weights=uneven))
    assert not are_equal(base, train_quickly(train))
    doubled = train_quickly(replace(train, weights=uneven * 2))
    for a, b in zip(weights_of(base), weights_of(doubled), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_normalisation_is_measured_on_the_training_part_alone():
    bright = replace(toy_images(18, seed=2), images=ImageTable(np.full((18, 1, 16, 16), 255, np.uint8)))
    assert train_quickly(val=bright).preprocessing == train_quickly().preprocessing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_pseudo": np.arange(18) < 4}, "0 synthetic and 4 pseudo-labeled"),
        ({"origin": np.where(np.arange(18) < 3, "synthetic", "real")}, "3 synthetic and 0 pseudo-labeled"),
        ({"labels": np.eye(3, dtype=np.float32)[np.arange(18) % 3]}, "soft labels"),
    ],
    ids=["pseudo", "synthetic", "soft"],
)
def test_validation_refuses_all_but_real_images_with_expert_labels(change, message):
    with pytest.raises(ClassifierError, match=message):
        train_quickly(val=replace(toy_images(18, seed=2), **change))


def test_a_subject_on_both_sides_is_refused_by_name():
    with pytest.raises(ClassifierError, match=r"9 subjects are in training and in validation \(s1-0, s1-1"):
        train_quickly(val=toy_images(18, seed=1))


def test_a_class_without_training_images_is_refused_by_name():
    train = toy_images(48, seed=1)
    with pytest.raises(ClassifierError, match="no training image of class vertical"):
        train_quickly(train.subset(train.labels != 2))


def test_images_of_another_size_cannot_validate():
    with pytest.raises(ClassifierError, match=r"validation images have shape \(1, 32, 32\)"):
        train_quickly(val=toy_images(18, seed=2, size=32))


def test_an_unknown_network_is_refused_before_any_work():
    with pytest.raises(SettingsError, match='no network named "small_resnt": did you mean small_resnet'):
        train_quickly(arch="small_resnt")


def test_a_training_that_diverges_says_so():
    with pytest.raises(ClassifierError, match="diverged before step"):
        train_quickly(lr=1e30, steps=12, validate_every=12)


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch_size": 1}, {"lr": 0.0}, {"keep": "first"}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(SettingsError, match=next(iter(change))):
        replace(QUICK, **change)


def test_balanced_classes_weigh_the_same_in_sum():
    from classifier.batches import sample_weights

    targets = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    images = toy_images(4, seed=1)
    assert sample_weights(images, targets, balance_classes=True).tolist() == pytest.approx(
        [2 / 3] * 3 + [2.0]
    )
    assert sample_weights(images, targets, balance_classes=False).tolist() == [1] * 4


def test_the_learning_rate_suits_the_network_unless_it_is_given():
    assert QUICK.peak_lr == 5e-3
    assert replace(QUICK, arch="resnet18").peak_lr == 1e-3
    assert replace(QUICK, arch="resnet18", pretrained=True).peak_lr == 3e-4
    assert replace(QUICK, lr=0.1).peak_lr == 0.1
