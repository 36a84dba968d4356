"""A generator of a labeled fraction is measured against, and audited on, the people whom it saw."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extract.archive import open_archive
from extract.progress import no_progress
from extract.split import read_split
from gan.audit_inputs import reals_of_network
from gan.data import open_training_images
from gan.evaluation import evaluate_network, open_reference
from gan.features import PixelExtractor
from gan.quality import measure_generator, parse_metrics
from gan.reference import find_reference
from gan.snapshot import load_generator, read_snapshot
from gan.training import train
from tests.gan.test_quality import Taught

PIXELS = {"pixels": PixelExtractor()}


@pytest.fixture(scope="module")
def of_half(tiny, shapes_split, tmp_path_factory) -> Path:
    """The final snapshot of a tiny training on half of the labels of fold 1."""
    outdir = tmp_path_factory.mktemp("half")
    return train(replace(tiny, split=shapes_split, fold=1, fraction=0.5, kimg=0.024, outdir=outdir))


@pytest.fixture(scope="module")
def rows(shapes, shapes_split):
    """Rows of the archive by part of fold 1: labeled at 0.5, and all of the training part."""
    with open_archive(shapes) as archive:
        split = read_split(shapes_split, archive)
        half, whole = (split.rows(archive, 1, "train", fraction) for fraction in (0.5, 1.0))
        others = np.concatenate([split.rows(archive, 1, part) for part in ("val", "test")])
        return half, whole, others


def test_its_figures_are_those_against_the_images_it_saw(of_half, shapes, shapes_split, rows):
    half, whole, _ = rows
    assert 0 < len(half) < len(whole)
    metrics = parse_metrics("fid@pixels")
    found = evaluate_network(of_half, metrics, PIXELS, num=16)
    seen = open_training_images(shapes, shapes_split, 1, fraction=0.5)
    generator, _ = load_generator(of_half, "cpu")
    expected = measure_generator(generator, seen, metrics, PIXELS, num=16)
    assert found.results[0].num_real == len(half)
    assert found.results[0].results == expected[0].results
    assert "learned from" in found.notes[0] and "their images are the reference" in found.notes[0]
    assert len(found.notes) == 1 and found.written  # what training itself would have measured


def test_the_audit_calls_nobody_seen_whom_it_never_saw(of_half, trained, rows):
    half, whole, others = rows
    reals = reals_of_network(of_half, None, None, None, no_progress)
    assert sorted(reals.train) == sorted(half)
    assert set(reals.subjects[reals.train]) == set(read_snapshot(of_half).subjects)
    assert sorted(reals.held_out) == sorted(others)
    assert sorted(reals_of_network(trained, None, None, None, no_progress).train) == sorted(whole)


def test_a_network_that_learned_from_the_whole_training_part_is_no_stranger(of_half, shapes, shapes_split):
    with open_archive(shapes) as archive:
        sha256, subjects = archive.sha256, read_split(shapes_split, archive).subjects(1, "train")
    found = evaluate_network(
        of_half, parse_metrics("fid@task"), {"task": Taught(subjects, (), sha256)}, num=16
    )
    assert not any("outside the training part" in note for note in found.notes)


def test_another_fold_and_the_held_out_parts_are_whole(of_half, shapes_split, shapes):
    metrics = parse_metrics("fid@pixels")
    with open_archive(shapes) as archive:
        split = read_split(shapes_split, archive)
        num_other, num_test = len(split.rows(archive, 0, "train")), len(split.rows(archive, 1, "test"))
    other = evaluate_network(of_half, metrics, PIXELS, split=shapes_split, fold=0, num=99)
    assert other.results[0].num_real == num_other and "another split or fold" in other.notes[0]
    test = evaluate_network(of_half, metrics, PIXELS, part="test", num=99)
    assert test.results[0].num_real == num_test


def test_the_reference_of_a_sweep_is_the_images_it_saw(of_half, trained, rows):
    for network, expected in ((of_half, rows[0]), (trained, rows[1])):
        snapshot = read_snapshot(network)
        reals = open_reference(find_reference(snapshot, mirror=False), snapshot, no_progress)
        assert sorted(reals.rows) == sorted(expected)


def test_the_snapshot_names_the_people_of_the_fraction_alone(of_half, shapes, shapes_split):
    options = json.loads((of_half.parent / "training_options.json").read_text())
    assert options["synthlabel"]["options"]["fraction"] == 0.5
    with open_archive(shapes) as archive:
        split = read_split(shapes_split, archive)
        assert read_snapshot(of_half).subjects == split.folds[1].labeled[0.5]
