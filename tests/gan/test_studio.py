"""Recipes, the studio that makes their images, and selections of them as archives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extract.archive import open_archive, read_record
from extract.errors import ExtractError, SettingsError
from extract.verify import verify_archive
from gan.audit_inputs import read_generated
from gan.errors import GanError
from gan.generate import generate_archive
from gan.mix import mix_styles
from gan.recipes import Recipe, mixed_with, mixing_steps, style_groups, walk_steps
from gan.sampling import open_sampler
from gan.selection import write_selection
from gan.studio import BATCH, Studio, open_studio
from gan.video import VideoConfig, _walk


@pytest.fixture(scope="module")
def studio(trained: Path) -> Studio:
    return open_studio(trained)


def images_of(archive_path: Path) -> np.ndarray:
    with open_archive(archive_path) as archive:
        return np.stack([archive.read_image(row) for row in range(len(archive))])


def test_a_seed_is_the_image_of_gan_generate_to_the_bit(studio, trained, tmp_path):
    recipes = [Recipe(seed, 0.7) for seed in range(10)]
    generate_archive(trained, range(10), tmp_path / "a.zip", truncation_psi=0.7, batch_size=BATCH)
    np.testing.assert_array_equal(studio.images(recipes), images_of(tmp_path / "a.zip"))
    generate_archive(trained, range(10), tmp_path / "b.zip", truncation_psi=0.7)  # its usual batch
    difference = studio.images(recipes).astype(int) - images_of(tmp_path / "b.zip")
    assert np.abs(difference).max() <= 1 and (difference != 0).mean() < 1e-3


def test_an_image_depends_on_its_recipe_alone(trained):
    first, second = open_studio(trained), open_studio(trained)
    recipes = [Recipe(seed) for seed in range(7)]
    together = first.images(recipes)
    for recipe, expected in zip(recipes, together, strict=True):
        np.testing.assert_array_equal(second.images([recipe])[0], expected)
    np.testing.assert_array_equal(first.images(recipes[::-1]), together[::-1])
    assert (first.images([Recipe(0, 0.3)]) != together[:1]).any()
    assert (first.images([Recipe(0, noise_mode="none")]) != together[:1]).any()


def test_what_is_kept_is_bounded_and_made_again_when_it_is_gone(trained, monkeypatch):
    studio = Studio(open_sampler(trained), max_kept_bytes=6 * 16 * 16)
    before = studio.images([Recipe(0)])
    studio.images([Recipe(seed) for seed in range(1, 20)])
    assert len(studio._kept) == 6
    np.testing.assert_array_equal(studio.images([Recipe(0)]), before)
    monkeypatch.setattr(studio, "_synthesize", None)  # from here on, what is kept has to do
    np.testing.assert_array_equal(studio.images([Recipe(0)]), before)


def test_a_mix_is_that_of_gan_mix(studio, trained, tmp_path):
    mix_styles(trained, [1, 2], [3, 4], tmp_path, styles=[2, 3], truncation_psi=0.8)
    for row, col in ((1, 3), (1, 4), (2, 3), (2, 4)):
        with Image.open(tmp_path / f"{row}-{col}.png") as picture:
            expected = np.asarray(picture).astype(int)
        mixed = studio.images([mixed_with(Recipe(row, 0.8), col, [2, 3])])[0, 0]
        assert np.abs(mixed - expected).max() <= 1 and (mixed != expected).mean() < 1e-2


def test_the_ways_between_two_seeds_begin_and_end_with_them(studio):
    first = Recipe(5, 0.9)
    for steps in (mixing_steps(first, 8, studio.num_ws), walk_steps(first, 8, 6)):
        assert steps[0] == first and steps[-1] == replace(first, seed=8)
        assert len(set(steps)) == len(steps) and not any(step.is_plain for step in steps[1:-1])
    assert [step.second_styles for step in mixing_steps(first, 8, 6)[1:-1]] == [(4, 5), (2, 3, 4, 5)]
    assert [step.walk_share for step in walk_steps(first, 8, 6)[1:-1]] == [0.2, 0.4, 0.6, 0.8]
    assert mixing_steps(first, 5, 6) == (first,) and walk_steps(first, 5, 6) == (first,)


def test_a_walk_ends_where_its_shares_say(studio):
    ends = studio.images([Recipe(5), Recipe(8)])
    almost = studio.images([Recipe(5, second_seed=8, walk_share=share) for share in (0.0, 1.0)])
    assert np.abs(almost.astype(int) - ends).max() <= 1
    half = studio.images([Recipe(5, second_seed=8, walk_share=0.5)])
    walk = _walk(studio.sampler, VideoConfig((5, 8)), 0)
    frame = studio.sampler.synthesize(walk.at(np.array([0.5]))[:, 0])
    assert np.abs(frame.astype(int) - half).max() <= 1  # that of `gan video`
    assert (half != ends[:1]).any() and (half != ends[1:]).any()


def test_a_mix_of_all_styles_is_the_second_image(studio):
    everything = mixed_with(Recipe(1), 3, range(studio.num_ws))
    np.testing.assert_array_equal(studio.images([everything]), studio.images([Recipe(3)]))
    assert mixed_with(Recipe(1), 3, []) == Recipe(1)


def test_the_groups_of_styles_share_out_what_a_network_has():
    assert style_groups(10) == {"coarse": (0, 1, 2, 3), "middle": (4, 5, 6, 7), "fine": (8, 9)}
    assert style_groups(6) == {"coarse": (0, 1, 2, 3), "middle": (4, 5)}
    for num_ws in (4, 6, 10, 18):
        assert sorted(sum(style_groups(num_ws).values(), ())) == list(range(num_ws))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"seed": -1}, "a seed must be between 0 and"),
        ({"seed": 1, "second_seed": 2**32, "walk_share": 0.5}, "a seed must be between 0 and"),
        ({"seed": 1, "truncation_psi": float("nan")}, "must be a number such as 0.7"),
        ({"seed": 1, "noise_mode": "random"}, "so that the image can be made again"),
        ({"seed": 1, "second_seed": 2}, "needs either the styles"),
        ({"seed": 1, "second_seed": 2, "second_styles": (1,), "walk_share": 0.5}, "needs either the styles"),
        ({"seed": 1, "walk_share": 0.5}, "needs a second seed"),
        ({"seed": 1, "second_seed": 2, "walk_share": 1.5}, "must be in"),
        ({"seed": 1, "second_seed": 2, "second_styles": (3, 1)}, "sorted and different"),
    ],
)
def test_recipes_that_mean_nothing_are_refused(wrong, sentence):
    with pytest.raises(SettingsError, match=sentence):
        Recipe(**wrong)


def test_classes_and_styles_must_be_the_networks(studio, trained_conditional):
    with pytest.raises(SettingsError, match="a network without classes was asked for the class 'disc'"):
        studio.images([Recipe(1, class_name="disc")])
    with pytest.raises(SettingsError, match="styles must be between 0 and 5"):
        studio.images([Recipe(1, second_seed=2, second_styles=(4, 6))])
    conditional = open_studio(trained_conditional)
    with pytest.raises(SettingsError, match="the class must be one of bar, disc, got ''"):
        conditional.images([Recipe(1)])
    images = conditional.images([Recipe(1, class_name=name) for name in ("bar", "disc")])
    assert (images[0] != images[1]).any()


def test_official_pickles_and_cut_files_are_sentences(trained, tmp_path):
    (tmp_path / "official.pkl").write_bytes(b"\x80\x03cposix\nsystem\n")
    with pytest.raises(GanError, match=r"turn an official network into a snapshot.*gan import"):
        open_studio(tmp_path / "official.pkl")
    (tmp_path / "cut.safetensors").write_bytes(trained.read_bytes()[:5000])
    with pytest.raises(GanError, match="cut short"):
        open_studio(tmp_path / "cut.safetensors")


# Selections


def test_a_selection_of_seeds_is_the_archive_of_gan_generate_byte_for_byte(
    studio, trained, trained_conditional, tmp_path
):
    write_selection(studio, [Recipe(seed, 0.7) for seed in range(6)], tmp_path / "selection.zip")
    generate_archive(trained, range(6), tmp_path / "made.zip", truncation_psi=0.7, batch_size=BATCH)
    assert (tmp_path / "selection.zip").read_bytes() == (tmp_path / "made.zip").read_bytes()
    recipes = [Recipe(seed, class_name="disc") for seed in range(5)]
    write_selection(open_studio(trained_conditional), recipes, tmp_path / "discs.zip")
    generate_archive(
        trained_conditional, range(5), tmp_path / "made2.zip", class_name="disc", batch_size=BATCH
    )
    assert (tmp_path / "discs.zip").read_bytes() == (tmp_path / "made2.zip").read_bytes()


def test_a_mixed_selection_tells_how_to_make_each_image_again(studio, tmp_path):
    recipes = [
        Recipe(7, 0.5),
        Recipe(7, 1.0),
        mixed_with(Recipe(1, 0.8), 3, [2, 3]),
        Recipe(1, 0.8, "", "none", 3, walk_share=0.142857),
        Recipe(7, 0.5),  # chosen twice, saved once
    ]
    summary = write_selection(studio, recipes, tmp_path / "a.zip")
    assert (summary.num_images, summary.num_mixed) == (4, 2)
    with open_archive(tmp_path / "a.zip") as archive:
        assert not archive.is_real.any() and set(archive.manifest["snapshot_sha256"]) == {
            studio.snapshot_sha256
        }
        assert archive.preparation == {"kind": "synthetic", "noise_mode": "several", "precision": "fp32"}
        for row, recipe in enumerate(recipes[:4]):
            record = read_record(archive.row(row), "a.zip")
            again = Recipe(
                record.seed, record.truncation_psi, record.class_name, record.noise_mode, record.second_seed,
                record.second_styles, record.walk_share,
            )  # fmt: skip
            assert again == recipe and all(type(style) is int for style in again.second_styles)
            np.testing.assert_array_equal(archive.read_image(row), studio.images([again])[0])
        assert not verify_archive(archive).errors
    assert len(read_generated(tmp_path / "a.zip", lambda *_: None).files) == 4  # `gan audit --fakes`


def test_an_empty_or_impossible_selection_writes_nothing(studio, tmp_path):
    with pytest.raises(SettingsError, match="at least one image to save"):
        write_selection(studio, [], tmp_path / "a.zip")
    with pytest.raises(SettingsError, match="styles must be between"):
        write_selection(
            studio, [Recipe(1), Recipe(1, second_seed=2, second_styles=(99,))], tmp_path / "a.zip"
        )
    (tmp_path / "b.zip").write_bytes(b"mine")
    with pytest.raises(ExtractError, match="already exists"):
        write_selection(studio, [Recipe(1)], tmp_path / "b.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["b.zip"]
