"""Test-time augmentation: the same few changed views of every image, and the mean of what they give."""

from collections.abc import Iterator

import torch
from torch import Tensor

from classifier.augment import NUM_DRAWS, Augmentation, change_batch
from extract.seeds import derive_seed

GENTLE = 0.5  # of the training's range: views are to be typical, not extreme


def views_of(batch: Tensor, num_views: int, mirror: bool, seed: int) -> Iterator[Tensor]:
    """Yield the batch (N, C, H, W) itself, then `num_views` changed copies.

    A view is one fixed change, drawn from the seed, for all images of all batches: an image's result depends
    on that image alone.
    """
    yield batch
    draws = view_draws(num_views, mirror, seed)
    for view in range(num_views):
        yield change_batch(
            batch, draws[:, view : view + 1].expand(-1, len(batch)), Augmentation(mirror=mirror)
        )


def view_draws(num_views: int, mirror: bool, seed: int) -> Tensor:
    """(NUM_DRAWS, num_views) numbers in [0, 1) that the views stand for, see `change_batch`."""
    draws = torch.rand(
        NUM_DRAWS, num_views, generator=torch.Generator().manual_seed(derive_seed(seed, "views"))
    )
    draws = (draws - 0.5) * GENTLE + 0.5
    if mirror:
        draws[2] = torch.arange(num_views) % 2  # every other view is seen in the mirror
    return draws
