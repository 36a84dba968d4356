"""Sampling: the same seed gives the same image, whatever else is sampled with it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extract.archive import open_archive
from extract.errors import ExtractError, SettingsError
from gan.errors import GanError
from gan.generate import generate_archive, generate_png_files
from gan.seeds import latents, parse_seeds
from gan.snapshot import read_snapshot


def pixels_of(path: Path) -> np.ndarray:
    with open_archive(path) as archive:
        return np.stack([archive.read_image(index) for index in range(len(archive))])


def test_sampling_twice_gives_the_same_file(trained: Path, tmp_path: Path):
    first = generate_archive(trained, range(5), tmp_path / "a.zip", truncation_psi=0.7)
    generate_archive(trained.parent, range(5), tmp_path / "b.zip", truncation_psi=0.7)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert (first.num_images, first.network) == (5, trained)


def test_an_image_does_not_depend_on_the_batch_or_on_other_seeds(trained: Path, tmp_path: Path):
    generate_archive(trained, range(12), tmp_path / "whole.zip", batch_size=8)
    whole = pixels_of(tmp_path / "whole.zip").astype(int)
    assert len({image.tobytes() for image in whole}) == 12
    for name, seeds, batch_size in (("ones", [3, 11, 0], 1), ("threes", [3, 11, 0], 3)):
        generate_archive(trained, seeds, tmp_path / f"{name}.zip", batch_size=batch_size)
        difference = np.abs(pixels_of(tmp_path / f"{name}.zip") - whole[seeds])
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_records_name_seed_truncation_and_snapshot(trained: Path, tmp_path: Path):
    generate_archive(trained, [7, 9], tmp_path / "a.zip", truncation_psi=0.5)
    with open_archive(tmp_path / "a.zip") as archive:
        rows = archive.manifest
    assert rows["origin"].tolist() == ["synthetic"] * 2
    assert rows["seed"].tolist() == ["7", "9"]
    assert rows["truncation_psi"].tolist() == ["0.5"] * 2
    assert rows["snapshot_sha256"].tolist() == [read_snapshot(trained).sha256] * 2
    assert rows["label"].tolist() == ["", ""] == rows["subject"].tolist()


def test_a_conditional_generator_labels_what_it_was_asked_for(trained_conditional: Path, tmp_path: Path):
    generate_archive(trained_conditional, [0, 1], tmp_path / "disc.zip", class_name="disc")
    generate_archive(trained_conditional, [0, 1], tmp_path / "bar.zip", class_name="0")
    with open_archive(tmp_path / "disc.zip") as archive:
        assert archive.manifest["label"].tolist() == ["disc", "disc"] == archive.manifest["class"].tolist()
        assert archive.classes == ("bar", "disc")
        assert archive.labels.tolist() == [1, 1]
    with open_archive(tmp_path / "bar.zip") as archive:
        assert archive.labels.tolist() == [0, 0]
    assert (pixels_of(tmp_path / "disc.zip") != pixels_of(tmp_path / "bar.zip")).any()


def test_a_conditional_generator_wants_a_class(trained_conditional: Path, tmp_path: Path):
    with pytest.raises(SettingsError, match=r"Must specify class label with --class .* bar, disc"):
        generate_archive(trained_conditional, [0], tmp_path / "a.zip")
    with pytest.raises(SettingsError, match=r"--class must be one of bar, disc .* got 'ring'"):
        generate_archive(trained_conditional, [0], tmp_path / "a.zip", class_name="ring")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_archive_is_left_alone(trained: Path, tmp_path: Path):
    dest = tmp_path / "a.zip"
    dest.write_bytes(b"precious")
    with pytest.raises(ExtractError, match="already exists"):
        generate_archive(trained, [0], dest)
    assert dest.read_bytes() == b"precious"
    generate_archive(trained, [0], dest, overwrite=True)
    assert len(pixels_of(dest)) == 1


def test_full_truncation_gives_the_average_image_for_every_seed(trained: Path, tmp_path: Path):
    generate_archive(trained, [1, 2, 3], tmp_path / "a.zip", truncation_psi=0.0)
    images = pixels_of(tmp_path / "a.zip")
    assert (images == images[0]).all()


def test_png_files_have_the_official_names_and_the_pixels_of_the_archive(trained: Path, tmp_path: Path):
    generate_archive(trained, [3, 85], tmp_path / "a.zip")
    generate_png_files(trained, [3, 85], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["seed0003.png", "seed0085.png"]
    stored = pixels_of(tmp_path / "a.zip")
    with Image.open(tmp_path / "out" / "seed0085.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), stored[1, 0])


def test_latents_are_the_legacy_draws_of_each_seed():
    np.testing.assert_array_equal(latents([85], 4)[0], np.random.RandomState(85).randn(4).astype(np.float32))


def test_seeds_are_ranges_and_lists():
    assert parse_seeds("0-3") == [0, 1, 2, 3]
    assert parse_seeds("7") == [7]
    assert parse_seeds("1,5-6, 9") == [1, 5, 6, 9]
    for text in ("", "a", "3-1", "-5", "1;2"):
        with pytest.raises(SettingsError, match="--seeds must be a range such as 0-1999 or a list"):
            parse_seeds(text)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"noise_mode": "loud"}, "--noise-mode must be one of const, random, none"),
        ({"batch_size": 0}, "--batch must be at least 1"),
        ({"seeds": []}, "--seeds must name at least one seed"),
        ({"seeds": [2**32]}, "--seeds must be between 0 and"),
        ({"precision": "half"}, "--precision must be one of fp32, bf16, fp16, got 'half'"),
        ({"precision": "fp16"}, "--precision=fp16 is for GPUs"),
    ],
)
def test_wrong_settings_are_refused(trained: Path, tmp_path: Path, arguments: dict, sentence: str):
    with pytest.raises(SettingsError, match=sentence):
        generate_archive(trained, **{"seeds": [0], "dest": tmp_path / "a.zip", **arguments})


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"truncation_psi": float("nan")}, "--trunc must be a number"), ({"batch_size": 0}, "--batch must be")],
)
def test_settings_that_give_no_picture_are_refused(trained: Path, tmp_path: Path, settings, message):
    with pytest.raises(SettingsError, match=message):
        generate_archive(trained, [0], tmp_path / "a.zip", **settings)
    assert not (tmp_path / "a.zip").exists()


def test_a_range_that_would_fill_the_memory_is_refused():
    with pytest.raises(SettingsError, match="at most 10,000,000 seeds"):
        parse_seeds("0-5000000000")


def test_bf16_gives_nearly_the_same_images_and_is_told_in_the_archive(trained: Path, tmp_path: Path):
    generate_archive(trained, range(8), tmp_path / "fp32.zip")
    generate_archive(trained, range(8), tmp_path / "bf16.zip", precision="bf16")
    exact, rounded = (pixels_of(tmp_path / f"{name}.zip").astype(int) for name in ("fp32", "bf16"))
    assert np.abs(exact - rounded).max() > 0 and np.abs(exact - rounded).mean() < 2
    for name in ("fp32", "bf16"):
        with open_archive(tmp_path / f"{name}.zip") as archive:
            assert archive.preparation["precision"] == name


def test_pictures_that_are_there_are_left_alone(trained: Path, tmp_path: Path):
    (tmp_path / "seed0001.png").write_bytes(b"mine")
    with pytest.raises(GanError, match=r"seed0001\.png exist already and are left alone"):
        generate_png_files(trained, [0, 1], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["seed0001.png"]
    generate_png_files(trained, [0, 1], tmp_path, overwrite=True)
    assert (tmp_path / "seed0001.png").read_bytes() != b"mine"
