"""The public lung masks beside the checkout, where they are there."""

import os
from pathlib import Path

import numpy as np
import pytest

from classifier.mask_cleaning import clean_mask
from classifier.segment_config import SegmentConfig
from classifier.segment_job import train_segment_run
from classifier.segment_pairs import find_pairs, read_pair, read_pairs, split_pairs
from classifier.segmenter import load_segmenter

DATA = Path(os.environ.get("SYNTHLABEL_DATA", Path(__file__).parents[2] / "../shared/data"))
IMAGES, MASKS = DATA / "lung_masks" / "images", DATA / "lung_masks" / "masks"
needs_masks = pytest.mark.skipif(
    not IMAGES.is_dir(), reason=f"no real lung masks at {IMAGES} (see SYNTHLABEL_DATA)"
)


@needs_masks
def test_all_real_pairs_are_read_and_split():
    pairs = read_pairs(IMAGES, [MASKS], 64)
    assert len(pairs) == 138 and not pairs.unreadable
    assert pairs.images.shape == pairs.masks.shape == (138, 1, 64, 64)
    parts = split_pairs(pairs, 0.15, 0.15, 0)
    assert [len(parts[part]) for part in ("train", "val", "test")] == [96, 21, 21]
    share = (pairs.masks >= 128).mean(axis=(1, 2, 3))
    assert share.min() > 0.05 and share.max() < 0.5


@needs_masks
def test_cleaning_leaves_what_experts_drew_as_it_is():
    pairs, _ = find_pairs(IMAGES, [MASKS])
    for pair in pairs[::3]:
        _, mask = read_pair(pair)
        cleaned = clean_mask(mask)
        assert cleaned.num_lungs == 2 and not cleaned.was_joined, pair.name
        assert (cleaned.mask ^ mask).sum() <= 10, pair.name


@needs_masks
@pytest.mark.slow
def test_real_lungs_are_found_on_people_never_seen(tmp_path):
    config = SegmentConfig(size=64, width=8, depth=3, steps=300, threads=1)
    _, measured, _ = train_segment_run(IMAGES, [MASKS], tmp_path / "run", config)
    dice = measured["test"].means["cleaned"]["dice"]
    assert dice.mean > 0.93 and dice.low > 0.90
    pairs, _ = find_pairs(IMAGES, [MASKS])
    picture, truth = read_pair(pairs[5])
    found = load_segmenter(tmp_path / "run", "cpu").segment([picture])[0]
    assert found.num_lungs == 2 and np.mean(found.mask == truth) > 0.9
