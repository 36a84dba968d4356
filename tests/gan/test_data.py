"""What the networks are shown: real images of the training part, mirrored where asked for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import gan.job
from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.errors import SettingsError
from extract.split import read_split
from gan.config import TrainConfig
from gan.data import TrainingImages, open_training_images
from gan.errors import GanError
from gan.training import train


def test_training_looks_at_the_training_part_of_its_fold_alone(
    tiny: TrainConfig, shapes: Path, shapes_split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shown: set[int] = set()
    original = TrainingImages.pixels

    def spy(self: TrainingImages, items: np.ndarray) -> np.ndarray:
        shown.update(self.rows[items % len(self.rows)].tolist())
        return original(self, items)

    monkeypatch.setattr(TrainingImages, "pixels", spy)
    train(replace(tiny, split=shapes_split, fold=2, mirror=True, kimg=0.128, outdir=tmp_path, aug="noaug"))
    with open_archive(shapes) as archive:
        split = read_split(shapes_split, archive)
        allowed, every = split.rows(archive, 2, "train"), len(archive)
    assert shown == set(allowed.tolist())
    assert 0 < len(shown) < every


def test_mirrored_copies_stand_behind_the_originals(shapes: Path):
    data = open_training_images(shapes, mirror=True)
    assert len(data) == 2 * len(data.rows)
    items = np.array([5, 5 + len(data.rows)])
    original, mirrored = data.pixels(items)
    np.testing.assert_array_equal(mirrored, original[..., ::-1])
    assert (original != mirrored).any()


def test_batches_are_between_minus_one_and_one_with_one_hot_labels(shapes: Path):
    data = open_training_images(shapes, cond=True)
    images, labels = data.batch(np.arange(8), torch.device("cpu"))
    assert images.shape == (8, 1, 16, 16) and images.dtype == torch.float32
    assert images.min() >= -1 and images.max() <= 1
    assert data.classes == ("bar", "disc")
    assert labels.argmax(dim=1).tolist() == data.labels[data.rows[:8]].tolist()
    assert labels.sum(dim=1).tolist() == [1] * 8


def test_without_cond_labels_have_no_width(shapes: Path):
    _, labels = open_training_images(shapes).batch(np.arange(3), torch.device("cpu"))
    assert labels.shape == (3, 0)


def test_a_subset_is_taken_from_the_training_part(shapes: Path, shapes_split: Path):
    whole = open_training_images(shapes, shapes_split, 0)
    part = open_training_images(shapes, shapes_split, 0, subset=7, seed=3)
    assert len(part.rows) == 7 and set(part.rows) < set(whole.rows)
    with pytest.raises(SettingsError, match=rf"--subset must be between 1 and {len(whole.rows)}"):
        open_training_images(shapes, shapes_split, 0, subset=1000)


def test_synthetic_images_are_left_out(tmp_path: Path):
    path = tmp_path / "mixed.zip"
    with ArchiveWriter(path) as writer:
        for number in range(6):
            record = ImageRecord(subject="s0") if number < 2 else ImageRecord(origin="synthetic", seed=number)
            writer.add(np.full((16, 16), number, np.uint8), record)
    data = open_training_images(path)
    assert data.rows.tolist() == [0, 1]
    assert data.num_synthetic_left_out == 4


def test_an_archive_of_synthetic_images_alone_is_refused(tmp_path: Path):
    path = tmp_path / "synthetic.zip"
    with ArchiveWriter(path) as writer:
        writer.add(np.zeros((16, 16), np.uint8), ImageRecord(origin="synthetic", seed=1))
    with pytest.raises(GanError, match="no real image is left to train on"):
        open_training_images(path)


def test_cond_without_labels_is_refused(tmp_path: Path):
    path = tmp_path / "unlabeled.zip"
    with ArchiveWriter(path) as writer:
        writer.add(np.zeros((16, 16), np.uint8), ImageRecord(subject="s0"))
    with pytest.raises(SettingsError, match=r"--cond=True requires labels specified in dataset\.json"):
        open_training_images(path, cond=True)


def test_a_fold_that_the_split_lacks_is_refused(shapes: Path, shapes_split: Path):
    with pytest.raises(SettingsError, match=r"--fold=7: .* has 3 folds, numbered from 0"):
        open_training_images(shapes, shapes_split, 7)


def test_each_phase_sees_the_same_reals_and_latents_of_its_own(
    tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
):
    seen: dict[str, tuple] = {}

    def watch(name: str):
        original = getattr(gan.job, name)

        def watched(players, config, *arguments):
            tensors = [value.clone() for value in arguments if isinstance(value, torch.Tensor)]
            seen.setdefault(name, tensors)
            return original(players, config, *arguments)

        monkeypatch.setattr(gan.job, name, watched)

    for name in ("generator_main", "generator_path_length", "discriminator_main", "discriminator_r1"):
        watch(name)
    train(replace(tiny, kimg=0.008))
    assert torch.equal(seen["discriminator_main"][0], seen["discriminator_r1"][0])
    latents = [seen["generator_main"][0], seen["generator_path_length"][0], seen["discriminator_main"][2]]
    assert not torch.equal(latents[0], latents[1]) and not torch.equal(latents[1], latents[2])
