from dataclasses import fields, replace

import numpy as np
import torch
from scipy import ndimage

from classifier.augment import Augmentation, augment_batch

STILL = Augmentation(**{field.name: 0.0 for field in fields(Augmentation) if field.name != "mirror"})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_batch(num_images: int = 8, size: int = 24) -> torch.Tensor:
    noise = np.random.default_rng(1).normal(size=(num_images, 1, size, size))
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, 0, 2, 2)) * 8).float()


def test_without_amounts_nothing_changes():
    batch = smooth_batch()
    torch.testing.assert_close(augment_batch(batch, STILL, generator()), batch, atol=1e-5, rtol=0)


def test_a_seed_gives_one_picture_and_another_seed_another():
    batch = smooth_batch()
    first = augment_batch(batch, Augmentation(), generator(1))
    assert torch.equal(first, augment_batch(batch, Augmentation(), generator(1)))
    assert not torch.equal(first, augment_batch(batch, Augmentation(), generator(2)))


def test_mirroring_turns_left_and_right_of_some_images_only_where_allowed():
    batch = smooth_batch(32)
    mirrored = augment_batch(batch, replace(STILL, mirror=True), generator())
    is_same = [torch.allclose(a, b, atol=1e-4) for a, b in zip(mirrored, batch, strict=True)]
    is_flipped = [torch.allclose(a, b.flip(2), atol=1e-4) for a, b in zip(mirrored, batch, strict=True)]
    assert all(same != flipped for same, flipped in zip(is_same, is_flipped, strict=True))
    assert 6 < sum(is_flipped) < 26


def test_a_turn_agrees_with_scipy():
    batch = smooth_batch(4, size=32)
    turned = augment_batch(batch, replace(STILL, max_turn_deg=20.0), generator(3))
    draws = torch.rand(7, 4, generator=generator(3)).mul_(2).sub_(1)
    for image, result, draw in zip(batch, turned, draws[0], strict=True):
        expected = ndimage.rotate(image[0], float(draw) * 20, reshape=False, order=1, mode="nearest")
        np.testing.assert_allclose(result[0, 6:-6, 6:-6], expected[6:-6, 6:-6], atol=0.02)


def test_brightness_and_contrast_stay_within_their_ranges():
    batch = smooth_batch(64)
    changed = augment_batch(batch, replace(STILL, max_brightness=0.2, max_contrast=0.3), generator())
    shift = (changed - batch).mean(dim=(1, 2, 3))
    ratio = changed.std(dim=(1, 2, 3)) / batch.std(dim=(1, 2, 3))
    assert shift.abs().max() <= 0.2 + 1e-4 and shift.abs().max() > 0.15
    assert ratio.min() >= 0.7 - 1e-4 and ratio.max() <= 1.3 + 1e-4 and ratio.std() > 0.1
