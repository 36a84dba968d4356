"""FixMatch: laws of the loss and of the views, equal bits, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy as reference_cross_entropy

from classifier.config import ClassifierConfig
from classifier.data import ImageTable
from classifier.errors import ClassifierError
from classifier.evaluate import classification_metrics
from classifier.fixmatch import FixMatchBatches, FixMatchLoss, Unlabeled, strong_view
from classifier.fixmatch_config import FixMatchConfig
from classifier.losses import make_loss
from classifier.preprocess import fit_preprocessing
from classifier.resuming import STATE, KeptState
from classifier.training import train_classifier
from extract.errors import SettingsError
from tests.classifier.toys import CLASSES, toy_images

QUICK = ClassifierConfig(steps=6, batch_size=8, validate_every=3, calibrate=False)
LOOSE = FixMatchConfig(threshold=0.4, mu=2)


def unlabeled_toys(config: FixMatchConfig = LOOSE, num: int = 60, **changes) -> Unlabeled:
    toys = toy_images(num, seed=5)
    return replace(Unlabeled(toys.images, toys.subjects, config), **changes)


def train(config=QUICK, unlabeled=None, **more):
    return train_classifier(
        toy_images(12, seed=1), toy_images(18, seed=2), CLASSES, config,
        unlabeled=unlabeled_toys() if unlabeled is None else unlabeled, **more,
    )  # fmt: skip


def same_bits(first, second) -> bool:
    ours, theirs = first.model.state_dict().values(), second.model.state_dict().values()
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def loss_of(outputs, targets, config: FixMatchConfig) -> tuple[torch.Tensor, Unlabeled]:
    unlabeled = unlabeled_toys(config)
    settings = ClassifierConfig()
    return FixMatchLoss(make_loss(settings), settings.loss, unlabeled)(outputs, targets), unlabeled


def test_the_loss_is_the_papers():
    """Equations 3 and 4, with the sums written out by torch's own cross entropy."""
    torch.manual_seed(0)
    outputs, labels = torch.randn(3 + 2 * 6, 4) * 2, torch.tensor([0, 3, 1])
    targets = torch.eye(4)[labels]
    weak, strong = outputs[3:9], outputs[9:]
    expected = reference_cross_entropy(outputs[:3], labels)
    num_passed = 0
    for q, logits in zip(weak.softmax(dim=1), strong, strict=True):
        if q.max() >= 0.6:
            expected = expected + 0.5 * reference_cross_entropy(logits[None], q.argmax()[None]) / 6
            num_passed += 1
    found, unlabeled = loss_of(outputs, targets, FixMatchConfig(threshold=0.6, weight=0.5, mu=2))
    assert 0 < num_passed < 6
    assert found == pytest.approx(expected)
    assert unlabeled.agreement.num_seen == 6 and unlabeled.agreement.per_class.sum() == num_passed


def test_weak_views_are_targets_and_receive_no_gradient():
    outputs = torch.randn(2 + 2 * 4, 3, requires_grad=True)
    found, _ = loss_of(outputs, torch.eye(3)[[0, 1]], FixMatchConfig(threshold=0.01, mu=2))
    found.backward()
    assert outputs.grad[2:6].abs().max() == 0
    assert outputs.grad[6:].abs().min() > 0


def test_where_no_view_passes_the_supervised_loss_is_left():
    outputs = torch.randn(2 + 2 * 4, 3)
    targets = torch.eye(3)[[0, 1]]
    found, unlabeled = loss_of(outputs, targets, FixMatchConfig(threshold=1.0, mu=2))
    assert found == make_loss(ClassifierConfig())(outputs[:2], targets)
    assert unlabeled.agreement.share == 0.0


def test_a_batch_is_labeled_then_weak_then_strong_and_labeled_images_come_as_in_the_supervised_training():
    from classifier.batches import TrainingBatches

    labeled, config = toy_images(12, seed=1), replace(QUICK, augment=False)
    preprocessing, device = fit_preprocessing(labeled.images), torch.device("cpu")
    common = labeled, labeled.soft_labels(3), preprocessing, config, device
    unlabeled = unlabeled_toys()
    ours, plain = FixMatchBatches(*common, unlabeled), TrainingBatches(*common)
    for batches in (ours, plain):
        batches.begin_phase([4])
    known = preprocessing.to_batch(unlabeled.images.gather(np.arange(60)), device)
    for (images, targets, weights), (only, its_targets, _) in zip(ours, plain, strict=True):
        assert images.shape[0] == 8 + 2 * 16 and len(targets) == len(weights) == 8
        assert torch.equal(images[:8], only) and torch.equal(targets, its_targets)
        places = [
            (known == image).flatten(1).all(dim=1).nonzero().flatten().tolist() for image in images[8:24]
        ]
        assert all(places)  # without augmentation the weak view is the image
        assert not any((known == image).flatten(1).all(dim=1).any() for image in images[24:])


def test_the_strong_view_moves_no_side_unless_mirroring_is_allowed():
    """The left half is bright and the right one dark: a mirrored image could be told."""
    batch = torch.ones(200, 1, 16, 16)
    batch[..., 8:] = -1
    for mirror in (False, True):
        views = strong_view(batch, mirror, torch.Generator().manual_seed(0))
        is_mirrored = views[..., :8].mean(dim=(1, 2, 3)) < views[..., 8:].mean(dim=(1, 2, 3))
        assert (0.3 < is_mirrored.float().mean() < 0.7) if mirror else not is_mirrored.any()


def test_the_strong_view_cuts_a_square_of_at_most_half_the_side():
    views = strong_view(torch.full((300, 1, 32, 32), 5.0), False, torch.Generator().manual_seed(1))
    lost = (views == 0).flatten(1).float().mean(dim=1)
    assert lost.max() <= 0.26 and (lost > 0).float().mean() > 0.8


def test_a_seed_gives_the_same_bits_whatever_ran_before():
    first = train()
    torch.rand(10)
    second = train()
    assert same_bits(first, second)
    assert not same_bits(first, train(replace(QUICK, seed=1)))
    assert first.config.ema == 0.999 and first.history["step"].iloc[-1] == 6


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path):
    def die(step, measured):
        if step == 6:
            raise InterruptedError

    kept = KeptState(tmp_path / STATE, {"what": "toys"}, interval_sec=0.0)
    config = replace(QUICK, steps=6)
    with pytest.raises(InterruptedError):
        train(config, on_look=die, kept=kept)
    assert kept.path.exists()
    assert same_bits(train(config), train(config, kept=kept))


@pytest.mark.slow
def test_unlabeled_images_help_where_three_labels_a_class_are_too_few():
    config = replace(QUICK, steps=120, batch_size=9, validate_every=30, lr=5e-3)
    labeled, val, unseen = toy_images(6, seed=1), toy_images(18, seed=2), toy_images(90, seed=3)

    def score(**more) -> float:
        model = train_classifier(labeled, val, CLASSES, config, **more)
        return classification_metrics(model.predict_probs(unseen.images), unseen.labels, 3)["nll"]

    unlabeled = unlabeled_toys(FixMatchConfig(threshold=0.8, mu=3, ema=0.9), num=240)
    assert score(unlabeled=unlabeled) < score()
    assert unlabeled.agreement.share > 0.3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"subjects": toy_images(60, seed=2).subjects},
            "9 subjects are among the unlabeled images and in val",
        ),
        (
            {"images": ImageTable(np.zeros((60, 1, 8, 8), np.uint8))},
            "both must come from archives of one size",
        ),
        (
            {"images": ImageTable(np.zeros((0, 1, 16, 16), np.uint8)), "subjects": np.zeros(0, str)},
            "FixMatch needs unlabeled images, got none",
        ),
    ],
)
def test_unfit_unlabeled_images_are_refused(changes, expected):
    with pytest.raises(ClassifierError, match=expected):
        train(unlabeled=unlabeled_toys(**changes))


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"mu": 0}, {"weight": -1.0}, {"ema": 1.0}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        FixMatchConfig(**wrong)
