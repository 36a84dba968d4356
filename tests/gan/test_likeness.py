"""What a generated image is held against, and when it is called a copy."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.split import make_split, read_split, write_split
from gan.audit_report import FORMAT as AUDIT_FORMAT
from gan.config import TrainConfig
from gan.errors import GanError
from gan.likeness import MAX_UNSEEN, Comparison, RealImages, find_reals, open_comparison
from gan.network_card import AUDIT_FORMAT as READ_AUDIT_FORMAT
from gan.network_card import network_card
from gan.snapshot import read_snapshot
from gan.training import train

NUM_PEOPLE = 40


def blobs(random: np.random.Generator, size: int = 16) -> np.ndarray:
    """A picture of a few blurred blobs, (1, size, size) uint8: no two are alike."""
    rows, columns = np.mgrid[:size, :size]
    picture = np.zeros((size, size))
    for _ in range(5):
        y, x = random.uniform(0, size, 2)
        picture += random.uniform(60, 200) * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 6)
    return np.clip(picture, 0, 255).astype(np.uint8)[None]


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Forty people with four pictures each, and a split of them."""
    folder = tmp_path_factory.mktemp("people")
    random = np.random.default_rng(0)
    with ArchiveWriter(folder / "people.zip") as writer:
        for person in range(NUM_PEOPLE):
            for number in range(4):
                record = ImageRecord(label="ab"[number % 2], subject=f"p{person:02d}")
                writer.add(blobs(random)[0], record)
    with open_archive(folder / "people.zip") as archive:
        write_split(
            make_split(archive, num_folds=2, fractions=(1.0,), val_share=0.3, seed=0), folder / "s.json"
        )
    return folder


@pytest.fixture(scope="module")
def network(people: Path, tiny: TrainConfig, tmp_path_factory) -> Path:
    config = replace(
        tiny, data=people / "people.zip", split=people / "s.json", fold=0, kimg=0.016,
        outdir=tmp_path_factory.mktemp("people-gan"),
    )  # fmt: skip
    return train(config)


@pytest.fixture(scope="module")
def comparison(network: Path) -> Comparison:
    snapshot = read_snapshot(network)
    found = open_comparison(snapshot, find_reals(snapshot))
    found.calibrate()
    return found


def pictures(people: Path, part: str, num: int) -> tuple[np.ndarray, list[str]]:
    with open_archive(people / "people.zip") as archive:
        rows = read_split(people / "s.json", archive).rows(archive, 0, part)[:num]
        return np.stack([archive.read_image(int(row)) for row in rows]), archive.subjects[rows].tolist()


def test_it_compares_with_the_people_that_the_generator_learned_from_alone(comparison, network, people):
    snapshot = read_snapshot(network)
    assert comparison.num_subjects == len(snapshot.subjects) and comparison.reals.is_own
    random = np.random.default_rng(1)
    for likeness in comparison.look(np.stack([blobs(random) for _ in range(10)])):
        named = [near.subject for near in likeness.nearest]
        assert len(set(named)) == len(named) == 4 and set(named) <= set(snapshot.subjects)
        scores = [near.score for near in likeness.nearest]
        assert scores == sorted(scores)


def test_copies_are_told_mirrored_and_shifted_ones_too(comparison, people):
    images, subjects = pictures(people, "train", 12)
    shifted = np.roll(images, 1, axis=3)
    brighter = np.clip(images.astype(int) + 15, 0, 255).astype(np.uint8)
    for copies in (images, images[..., ::-1], shifted, brighter):
        found = comparison.look(np.ascontiguousarray(copies))
        assert [likeness.nearest[0].subject for likeness in found] == subjects
        assert sum(likeness.is_flagged for likeness in found) >= 11
        assert sum(likeness.is_clear_copy for likeness in found) >= 6
    mirrored = comparison.look(np.ascontiguousarray(images[..., ::-1]))
    assert all(likeness.nearest[0].is_mirrored for likeness in mirrored)


def test_pictures_of_other_people_are_not_called_copies(comparison, people):
    for images in (
        pictures(people, "test", 30)[0],
        np.stack([blobs(np.random.default_rng(k)) for k in range(30)]),
    ):
        assert sum(likeness.is_flagged for likeness in comparison.look(images)) <= 1


def test_the_real_image_is_the_archives_own(comparison, people):
    images, _ = pictures(people, "train", 3)
    for image, likeness in zip(images, comparison.look(images), strict=True):
        np.testing.assert_array_equal(comparison.pixels(likeness.nearest[0]), image)
    mirrored = comparison.look(np.ascontiguousarray(images[..., ::-1]))[0].nearest[0]
    np.testing.assert_array_equal(comparison.pixels(mirrored), images[0][..., ::-1])


def test_without_the_rule_nothing_is_flagged_but_neighbours_are_named(network, people):
    snapshot = read_snapshot(network)
    comparison = open_comparison(snapshot, find_reals(snapshot))
    images, subjects = pictures(people, "train", 2)
    found = comparison.look(images)
    assert [likeness.nearest[0].subject for likeness in found] == subjects
    assert not any(likeness.is_flagged for likeness in found) and not comparison.is_calibrated
    steps: list[tuple[int, int]] = []
    comparison.calibrate(lambda done, total, message: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1] <= MAX_UNSEEN
    assert all(likeness.is_flagged for likeness in comparison.look(images))


def test_another_archive_is_compared_with_as_such(network, shapes):
    snapshot = read_snapshot(network)
    reals = find_reals(snapshot, shapes)
    assert reals == RealImages(shapes, None, None, is_own=False)
    comparison = open_comparison(snapshot, reals)
    comparison.calibrate()
    assert comparison.is_calibrated and comparison.num_subjects == 12 and comparison.calibration is not None
    assert len(comparison) == comparison.num_available == 48


def test_of_another_archive_a_split_shows_the_training_part_alone(network, people, shapes, shapes_split):
    snapshot = read_snapshot(network)
    reals = find_reals(snapshot, shapes, shapes_split, 1)
    comparison = open_comparison(snapshot, reals)
    with open_archive(shapes) as archive:
        train_part = set(read_split(shapes_split, archive).subjects(1, "train"))
    random = np.random.default_rng(5)
    found = comparison.look(np.stack([blobs(random) for _ in range(20)]))
    assert {near.subject for likeness in found for near in likeness.nearest} <= train_part
    assert comparison.num_subjects == len(train_part)


def test_a_large_archive_is_compared_with_in_an_even_choice(network, people):
    snapshot = read_snapshot(network)
    comparison = open_comparison(snapshot, find_reals(snapshot), max_images=20)
    assert len(comparison) == 20 < comparison.num_available


def test_too_few_people_give_no_rule(network, tmp_path):
    random = np.random.default_rng(3)
    with ArchiveWriter(tmp_path / "few.zip") as writer:
        for person in range(4):
            writer.add(blobs(random)[0], ImageRecord(subject=f"q{person}"))
    snapshot = read_snapshot(network)
    comparison = open_comparison(snapshot, find_reals(snapshot, tmp_path / "few.zip"))
    comparison.calibrate()
    assert comparison.is_calibrated and comparison.calibration is None
    assert not comparison.look(blobs(random)[None])[0].is_flagged


def test_archives_of_another_size_or_none_are_refused_with_a_sentence(network, people, tmp_path):
    snapshot = read_snapshot(network)
    with ArchiveWriter(tmp_path / "large.zip") as writer:
        writer.add(np.zeros((32, 32), np.uint8), ImageRecord(subject="a"))
    with pytest.raises(GanError, match=r"expected images of shape \(1, 16, 16\)"):
        open_comparison(snapshot, find_reals(snapshot, tmp_path / "large.zip"))
    lonely = tmp_path / "alone" / network.name
    lonely.parent.mkdir()
    lonely.write_bytes(network.read_bytes())
    with pytest.raises(GanError, match="name it with --archive"):
        find_reals(read_snapshot(lonely))


# The card


def test_the_card_says_whom_the_network_learned_from(network, people):
    snapshot = read_snapshot(network)
    card = network_card(snapshot)
    assert (card.archive_name, card.part, card.fold) == ("people.zip", "train", 0)
    assert card.num_subjects == len(snapshot.subjects) and card.snapshot_sha256 == snapshot.sha256
    assert card.quality == () and card.audit is None and not card.is_imported


def test_the_card_has_the_figures_and_the_audit_of_this_very_snapshot(network, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    path = run / network.name
    path.write_bytes(network.read_bytes())
    line = {"results": {"fid@task": 3.0}, "snapshot_pkl": path.name, "num_real": 9, "num_fake": 8}
    other = {**line, "results": {"fid@task": 1.0}, "snapshot_pkl": "another.safetensors"}
    replaced = {**line, "results": {"fid@task": 2.0}, "snapshot_sha256": "0" * 64}
    text = "\n".join(map(json.dumps, (line, other, replaced))) + "\n{cut"
    (run / "metric-fid@task.jsonl").write_text(text)
    snapshot = read_snapshot(path)
    audit = {
        "format": AUDIT_FORMAT, "verdict": "no sign", "num_images": 100, "snapshot_sha256": snapshot.sha256,
        "copies": {"num_flagged": 1, "num_expected": 0.5},
    }  # fmt: skip
    for name, content in (
        ("audit", audit),
        ("other", {**audit, "snapshot_sha256": "1" * 64, "verdict": "copies"}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "audit.json").write_text(json.dumps(content))
    card = network_card(snapshot)
    (figure,) = card.quality
    assert (figure.name, figure.value, figure.num_real, figure.num_fake) == ("fid@task", 3.0, 9, 8)
    assert card.audit is not None and (card.audit.word, card.audit.num_flagged) == ("no sign", 1)
    assert READ_AUDIT_FORMAT == AUDIT_FORMAT
