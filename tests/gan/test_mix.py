"""Style mixing, several classes in one archive, and the images of projected latents."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extract.archive import open_archive
from extract.errors import SettingsError
from gan.class_shares import assign_classes, parse_shares
from gan.errors import GanError
from gan.generate import generate_archive, generate_png_files
from gan.mix import check_styles, mix_styles
from gan.projected import generate_projected_png_files, write_projected_w
from gan.sampling import open_sampler


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def test_mixing_takes_the_listed_styles_from_the_column(trained: Path, tmp_path: Path):
    summary = mix_styles(trained, [1, 2], [3], tmp_path, styles=[0, 1], truncation_psi=0.7)
    names = {"1-1.png", "2-2.png", "3-3.png", "1-3.png", "2-3.png", "grid.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (summary.num_images, summary.styles, summary.num_styles) == (5, (0, 1), 6)
    sampler = open_sampler(trained)
    ws = sampler.map_seeds([1, 3], 0.7)
    mixed = ws[:1].clone()
    mixed[:, :2] = ws[1:, :2]
    expected = sampler.synthesize(mixed)[0, 0].astype(int)
    assert np.abs(pixels_of(tmp_path / "1-3.png") - expected).max() <= 1


def test_all_styles_give_the_column_and_unmixed_seeds_are_as_generated(trained: Path, tmp_path: Path):
    mix_styles(trained, [1], [3], tmp_path / "mix", styles=range(6))
    generate_png_files(trained, [1, 3], tmp_path / "seeds")
    for mixed, seed in (("1-3", 3), ("3-3", 3), ("1-1", 1)):
        difference = pixels_of(tmp_path / "mix" / f"{mixed}.png") - pixels_of(
            tmp_path / "seeds" / f"seed000{seed}.png"
        )
        assert np.abs(difference).max() <= 1


def test_the_grid_shows_columns_above_rows_beside_and_a_black_corner(trained: Path, tmp_path: Path):
    summary = mix_styles(trained, [1, 2], [3, 4, 5], tmp_path)
    grid = pixels_of(summary.grid)
    assert grid.shape == (3 * 16, 4 * 16)
    assert (grid[:16, :16] == 0).all()
    np.testing.assert_array_equal(grid[:16, 32:48], pixels_of(tmp_path / "4-4.png"))
    np.testing.assert_array_equal(grid[32:, :16], pixels_of(tmp_path / "2-2.png"))
    np.testing.assert_array_equal(grid[16:32, 48:], pixels_of(tmp_path / "1-5.png"))


def test_conditional_networks_are_mixed_within_a_class(trained_conditional: Path, tmp_path: Path):
    mix_styles(trained_conditional, [1], [2], tmp_path / "disc", class_name="disc")
    mix_styles(trained_conditional, [1], [2], tmp_path / "bar", class_name="bar")
    assert (pixels_of(tmp_path / "disc" / "grid.png") != pixels_of(tmp_path / "bar" / "grid.png")).any()
    with pytest.raises(SettingsError, match="Must specify class label with --class"):
        mix_styles(trained_conditional, [1], [2], tmp_path / "none")


def test_the_default_styles_of_large_networks_fit_small_ones():
    assert check_styles(range(7), 6) == (0, 1, 2, 3, 4, 5)
    with pytest.raises(SettingsError, match="--styles must name style inputs between 0 and 5"):
        check_styles([6, 9], 6)


def test_pictures_that_are_there_are_left_alone(trained: Path, tmp_path: Path):
    (tmp_path / "1-2.png").write_bytes(b"mine")
    with pytest.raises(GanError, match=r"1-2\.png exist already"):
        mix_styles(trained, [1], [2], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["1-2.png"]
    with pytest.raises(SettingsError, match="--rows must name at least one seed"):
        mix_styles(trained, [], [2], tmp_path / "other")


def test_all_classes_come_in_equal_shares_with_their_labels(trained_conditional: Path, tmp_path: Path):
    summary = generate_archive(
        trained_conditional, range(5), tmp_path / "all.zip", class_name="all", batch_size=2
    )
    assert summary.counts == {"bar": 3, "disc": 2}
    generate_archive(trained_conditional, [1, 3], tmp_path / "disc.zip", class_name="disc", batch_size=2)
    with open_archive(tmp_path / "all.zip") as both, open_archive(tmp_path / "disc.zip") as discs:
        assert both.manifest["label"].tolist() == ["bar", "disc", "bar", "disc", "bar"]
        assert both.manifest["class"].tolist() == both.manifest["label"].tolist()
        for index, place in enumerate((1, 3)):
            difference = both.read_image(place).astype(int) - discs.read_image(index)
            assert np.abs(difference).max() <= 1


def test_shares_are_met_as_nearly_as_whole_images_can(trained_conditional: Path, tmp_path: Path):
    shares = parse_shares("bar=3, disc=1")
    summary = generate_archive(trained_conditional, range(8), tmp_path / "a.zip", class_shares=shares)
    assert summary.counts == {"bar": 6, "disc": 2}
    assigned = assign_classes(1000, [0.5, 0.3, 0.2, 0.0])
    for length in (1, 7, 500, 1000):
        counts = np.bincount(assigned[:length], minlength=4)
        assert np.abs(counts - length * np.array([0.5, 0.3, 0.2, 0.0])).max() < 1


@pytest.mark.parametrize("text", ["", "bar", "bar=", "=3", "bar=x", "bar=1,bar=2"])
def test_shares_that_cannot_be_read_are_refused(text: str):
    with pytest.raises(SettingsError, match="--class-shares must be classes and their shares"):
        parse_shares(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_shares": {"ring": 1.0}}, "--class-shares must name classes among bar, disc, got 'ring'"),
        ({"class_shares": {"bar": 0.0}}, "must be numbers of at least 0, one of them above it"),
        ({"class_shares": {"bar": -1.0, "disc": 3.0}}, "must be numbers of at least 0"),
        ({"class_shares": {"bar": 1.0}, "class_name": "bar"}, "give --class or --class-shares, not both"),
    ],
)
def test_shares_that_mean_nothing_are_refused(
    trained_conditional: Path, tmp_path: Path, arguments: dict, message: str
):
    with pytest.raises(SettingsError, match=message):
        generate_archive(trained_conditional, [0], tmp_path / "a.zip", **arguments)


def test_shares_need_a_conditional_network(trained: Path, tmp_path: Path):
    with pytest.raises(SettingsError, match="--class-shares needs a class-conditional network"):
        generate_archive(trained, [0], tmp_path / "a.zip", class_shares={"bar": 1.0})


def test_projected_latents_give_the_images_of_their_seeds(trained: Path, tmp_path: Path):
    ws = open_sampler(trained).map_seeds([4, 5])
    write_projected_w(tmp_path / "w.npz", ws.numpy())
    with np.load(tmp_path / "w.npz") as arrays:
        assert arrays["w"].shape == (2, 6, 16)
    generate_png_files(trained, [4, 5], tmp_path / "out")
    summary = generate_projected_png_files(trained, tmp_path / "w.npz", tmp_path / "out")
    assert summary.num_images == 2
    np.testing.assert_array_equal(
        pixels_of(tmp_path / "out" / "proj01.png"), pixels_of(tmp_path / "out" / "seed0005.png")
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"w": np.zeros((1, 8, 16))}, r"got \(1, 8, 16\); it was projected with a network of another size"),
        ({"w": np.full((1, 6, 16), np.nan)}, "expected finite numbers in 'w'"),
        ({"z": np.zeros((1, 6, 16))}, "expected an array 'w' .* got z"),
        ({"w": np.array([{"a": 1}], dtype=object)}, "allow_pickle=False"),
    ],
)
def test_latents_that_do_not_fit_are_refused(trained: Path, tmp_path: Path, arrays: dict, message: str):
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(GanError, match=message):
        generate_projected_png_files(trained, tmp_path / "w.npz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_or_damaged_file_of_latents_is_refused(trained: Path, tmp_path: Path):
    (tmp_path / "w.npz").write_bytes(b"PK\x03\x04 and then nothing")
    for name in ("w.npz", "gone.npz"):
        with pytest.raises(GanError, match=r"expected an array 'w' of shape \(n, 6, 16\) in an \.npz file"):
            generate_projected_png_files(trained, tmp_path / name, tmp_path / "out")
