import numpy as np
import pytest
import torch

from classifier.segment_augment import PairAugmentation, augment_pairs
from classifier.unet import UNet, build_unet
from extract.errors import SettingsError
from tests.classifier.phantom_lungs import arrays

STILL = PairAugmentation(0, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (16, 20), (7, 64)])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_an_image_of_any_size_gets_a_logit_for_each_pixel(shape, norm):
    model = UNet(1, width=4, depth=3, norm=norm).eval()
    with torch.inference_mode():
        assert model(torch.randn(2, 1, *shape)).shape == (2, 1, *shape)


@pytest.mark.parametrize("width", [1, 2, 5, 7, 12])
def test_any_width_finds_groups_to_normalise_by(width):
    with torch.inference_mode():
        assert UNet(1, width=width, depth=1).eval()(torch.randn(1, 1, 8, 8)).isfinite().all()


def test_padding_reaches_no_further_than_the_network_sees():
    model = build_unet(1, 4, 2, "batch", seed=0).eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        whole, cut = model(image), model(image[..., :63, :63])
    np.testing.assert_allclose(whole[..., :30, :30], cut[..., :30, :30], atol=1e-5)


def test_group_norm_makes_an_image_independent_of_its_batch_in_training():
    model = build_unet(1, 4, 2, "group", seed=0).train()
    batch = torch.randn(3, 1, 16, 16)
    with torch.no_grad():
        np.testing.assert_allclose(model(batch)[:1], model(batch[:1]), atol=1e-5)


def test_the_seed_gives_the_weights_and_the_global_generator_stays():
    before = torch.random.get_rng_state()
    a, b, c = (build_unet(1, 4, 2, "group", seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.head.weight, c.head.weight)


@pytest.mark.parametrize("wrong", [{"norm": "layer"}, {"width": 0}, {"depth": 9}])
def test_settings_of_no_network_are_refused(wrong):
    with pytest.raises(SettingsError):
        UNet(**wrong)


def test_augmentation_moves_image_and_mask_alike():
    _, masks = arrays(range(6))
    shown = torch.from_numpy(masks).float() / 255
    settings = PairAugmentation(max_brightness=0, max_contrast=0, max_gamma=0, mirror=True)
    images, moved = augment_pairs(shown, shown, settings, torch.Generator().manual_seed(0))
    torch.testing.assert_close(images, moved)  # an image that is its own mask stays its own mask
    assert (moved - shown).abs().mean(dim=(1, 2, 3)).min() > 0.005  # and every one was moved
    assert moved.min() >= 0 and moved.max() <= 1


def test_gray_levels_change_without_moving_the_mask():
    pictures, masks = arrays(range(4))
    images, targets = torch.from_numpy(pictures).float() / 60 - 2, torch.from_numpy(masks).float() / 255
    settings = PairAugmentation(0, 0, 0, 0)
    changed, same = augment_pairs(images, targets, settings, torch.Generator().manual_seed(0))
    torch.testing.assert_close(same, targets, atol=1e-5, rtol=0)
    assert (changed - images).abs().mean(dim=(1, 2, 3)).min() > 0.02
    for before, after in zip(images, changed, strict=True):  # the order of gray levels stays
        order = before.flatten().argsort()
        assert (after.flatten()[order].diff() > -1e-4).all()


def test_nothing_changes_where_every_range_is_zero():
    pictures, masks = arrays(range(2))
    images, targets = torch.from_numpy(pictures).float(), torch.from_numpy(masks).float() / 255
    same, also = augment_pairs(images, targets, STILL, torch.Generator().manual_seed(0))
    torch.testing.assert_close(same, images, atol=1e-2, rtol=0)
    torch.testing.assert_close(also, targets, atol=1e-4, rtol=0)


def test_each_image_is_drawn_for_itself_and_the_generator_decides():
    pictures, masks = arrays(range(1))
    images = torch.from_numpy(pictures).float().repeat(3, 1, 1, 1)
    targets = torch.from_numpy(masks).float().repeat(3, 1, 1, 1) / 255
    first, _ = augment_pairs(images, targets, PairAugmentation(), torch.Generator().manual_seed(5))
    second, _ = augment_pairs(images, targets, PairAugmentation(), torch.Generator().manual_seed(5))
    assert torch.equal(first, second) and not torch.equal(first[0], first[1])
