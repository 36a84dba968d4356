import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest

from classifier.losses import WeightedLoss, cross_entropy
from classifier.mixing import Mixer, _draw_beta


def numbered_batch(n=64, side=12):
    """Images whose every pixel is the image's number, one-hot targets by number, weights that differ."""
    images = torch.arange(n, dtype=torch.float32).view(-1, 1, 1, 1).expand(n, 2, side, side).contiguous()
    return images, torch.eye(n), torch.linspace(0.5, 2, n)


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0)])
def test_labels_say_how_much_of_which_image_is_in_the_picture(alphas):
    images, targets, _ = numbered_batch()
    mixed, labels, weights = Mixer(*alphas, seed=1)(images, targets, torch.ones(64))
    assert torch.allclose(labels.sum(dim=1), torch.ones(64), atol=1e-6)
    assert torch.allclose(weights, torch.ones(64))
    expected = (labels * torch.arange(64.0)).sum(dim=1)  # the mean number in the picture
    assert torch.allclose(mixed.mean(dim=(1, 2, 3)), expected, atol=1e-3)
    assert not torch.equal(mixed, images)


def test_cutmix_takes_whole_pixels_and_mixup_none():
    images, targets, weights = numbered_batch()
    cut, _, _ = Mixer(0, 1.0, seed=2)(images, targets, weights)
    assert torch.equal(cut, cut.round())
    blended, _, _ = Mixer(1.0, 0, seed=2)(images, targets, weights)
    assert all(len(image.unique()) == 1 for image in blended[:, 0])


def test_images_of_unequal_weight_are_mixed_without_changing_what_either_weighs():
    images, targets, weights = numbered_batch(8)
    mixer = Mixer(0.7, 0, seed=3)
    _, labels, total = mixer(images, targets, weights)
    logits = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    got = WeightedLoss(cross_entropy, reduction="sum")(logits, labels, total)
    loss_of = -torch.log_softmax(logits, 1)  # (image, class)
    # Each label row holds share_i * w_i and share_j * w_j over their sum: taken apart again here.
    assert torch.allclose(got, (labels * total[:, None] * loss_of).sum())
    assert torch.isclose(total.sum(), (labels * total[:, None]).sum())
    by_image = (labels * total[:, None]) / weights  # shares, by the image they come from
    assert torch.allclose(by_image.sum(dim=1), torch.ones(8), atol=1e-5)


def test_shares_follow_the_folded_beta():
    shares = _draw_beta(0.4, 4000, torch.Generator().manual_seed(0)).double().numpy()
    assert shares.min() >= 0.5
    unfolded = np.where(np.random.default_rng(0).random(4000) < 0.5, shares, 1 - shares)
    assert kstest(unfolded, beta(0.4, 0.4).cdf).pvalue > 0.01
    assert _draw_beta(1e-6, 50, torch.Generator().manual_seed(0)).isfinite().all()


def test_a_seed_gives_the_same_mix_and_both_ways_take_turns():
    batch = numbered_batch(16)
    first, second = Mixer(0.4, 1.0, seed=5), Mixer(0.4, 1.0, seed=5)
    is_cut = []
    for _ in range(12):
        one, two = first(*batch), second(*batch)
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
        is_cut.append(bool(torch.equal(one[0], one[0].round())))
    assert 0 < sum(is_cut) < 12
