"""Truncation sweep: the measures of each psi, with the extractor that they rest on."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extract.errors import SettingsError
from gan.data import open_training_images
from gan.errors import GanError
from gan.features import PixelExtractor
from gan.generate import generate_archive
from gan.metrics import density_coverage, frechet_distance, precision_recall
from gan.snapshot import read_snapshot
from gan.sweep import SweepConfig, parse_psi, sweep_truncation
from tests.gan.test_generate import pixels_of

CONFIG = SweepConfig(psi=(1.0, 0.0, 0.5), seeds=tuple(range(24)), columns=4, batch_size=8)


def test_each_psi_is_measured_on_the_same_seeds(
    trained: Path, shapes: Path, shapes_split: Path, tmp_path: Path
):
    reals = open_training_images(shapes, shapes_split, 1)
    summary = sweep_truncation(trained, tmp_path / "out", reals, PixelExtractor(), CONFIG, fold=1)
    assert [row.psi for row in summary.rows] == [0.0, 0.5, 1.0]
    assert summary.num_real == summary.num_fake == len(reals) == 24  # all of them, so that none was drawn

    generate_archive(trained, range(24), tmp_path / "a.zip", truncation_psi=0.5, batch_size=8)
    features = PixelExtractor().features
    fake = features(pixels_of(tmp_path / "a.zip"))
    real = features(reals.pixels(np.arange(24)))
    expected, manifold = density_coverage(real, fake), precision_recall(real, fake)
    measured = summary.rows[1]
    assert (measured.density, measured.coverage) == pytest.approx((expected.density, expected.coverage))
    assert (measured.precision, measured.recall) == pytest.approx((manifold.precision, manifold.recall))
    assert measured.fid == pytest.approx(frechet_distance(real, fake), rel=1e-3)


def test_the_files_name_extractor_counts_and_snapshot(
    trained: Path, shapes: Path, shapes_split: Path, tmp_path: Path
):
    reals = open_training_images(shapes, shapes_split, 1)
    sweep_truncation(trained, tmp_path, reals, PixelExtractor(), CONFIG, fold=1)
    record = json.loads((tmp_path / "sweep.json").read_text())
    assert (record["extractor"], record["fold"], record["num_seeds"]) == ("pixels", 1, 24)
    assert record["snapshot_sha256"] == read_snapshot(trained).sha256
    with open(tmp_path / "sweep.csv", newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert [float(line["psi"]) for line in lines] == [0.0, 0.5, 1.0]
    for line, row in zip(lines, record["rows"], strict=True):
        assert float(line["coverage"]) == pytest.approx(row["coverage"], rel=1e-5)
        assert (line["extractor"], int(line["num_real"])) == ("pixels", record["num_real"])
    with Image.open(tmp_path / "samples.png") as picture:
        samples = np.asarray(picture.convert("L"))
    assert samples.shape == (3 + 3 * 99, 92 + 4 * 99)
    top = samples[3:99, 92:]
    cells = [top[:, 99 * column : 99 * column + 96] for column in range(4)]
    assert all((cell == cells[0]).all() for cell in cells)  # psi 0: the average image for every seed
    with Image.open(tmp_path / "measures.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5


def test_psi_is_not_chosen_on_images_that_the_generator_was_kept_from(
    trained: Path, shapes: Path, shapes_split: Path, tmp_path: Path
):
    for reals in (open_training_images(shapes), open_training_images(shapes, shapes_split, 0)):
        with pytest.raises(
            SettingsError, match=r"--split: the network was trained on the training part of fold 1"
        ):
            sweep_truncation(trained, tmp_path / "out", reals, PixelExtractor(), CONFIG)
    assert not (tmp_path / "out").exists()


def test_conditional_networks_are_compared_class_by_class_or_in_the_shares_of_the_data(
    trained_conditional: Path, shapes: Path, tmp_path: Path
):
    reals = open_training_images(shapes, cond=True)
    both = sweep_truncation(trained_conditional, tmp_path / "both", reals, PixelExtractor(), CONFIG)
    config = replace(CONFIG, class_name="disc", seeds=tuple(range(40)))
    discs = sweep_truncation(trained_conditional, tmp_path / "disc", reals, PixelExtractor(), config)
    assert (both.num_real, discs.num_real) == (24, 24)  # 24 seeds; 24 discs
    assert json.loads((tmp_path / "disc" / "sweep.json").read_text())["class"] == "disc"
    with pytest.raises(SettingsError, match="expected the network's classes bar, disc, got none"):
        sweep_truncation(
            trained_conditional, tmp_path / "c", open_training_images(shapes), PixelExtractor(), CONFIG
        )
    with pytest.raises(SettingsError, match="--class must be one of bar, disc, got 'ring'"):
        sweep_truncation(
            trained_conditional, tmp_path / "c", reals, PixelExtractor(), replace(CONFIG, class_name="ring")
        )


def test_files_that_are_there_are_left_alone(trained: Path, shapes: Path, shapes_split: Path, tmp_path: Path):
    (tmp_path / "sweep.csv").write_text("mine")
    reals = open_training_images(shapes, shapes_split, 1)
    with pytest.raises(GanError, match=r"sweep\.csv exist already"):
        sweep_truncation(trained, tmp_path, reals, PixelExtractor(), CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.csv"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"psi": ()}, "--psi must be 1 to 50 different numbers"),
        ({"psi": (0.5, 0.5)}, "--psi must be 1 to 50 different numbers"),
        ({"columns": 0}, "--columns must be at least 1"),
        ({"seeds": ()}, "--seeds must name at least one seed"),
    ],
)
def test_settings_that_measure_nothing_are_refused(settings: dict, message: str):
    with pytest.raises(SettingsError, match=message):
        replace(CONFIG, **settings)


def test_psi_are_numbers_with_commas():
    assert parse_psi("0.5, 1") == (0.5, 1.0)
    for text in ("", "a", "0.5;1", "nan"):
        with pytest.raises(SettingsError, match="--psi must be"):
            parse_psi(text)
