import dataclasses
import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.errors import SettingsError
from extract.pixel_steps import apply_steps, gray_levels
from extract.preprocess_sheet import HEADING, MARGIN, TILE, preprocess_sheet
from extract.preprocessing import (
    COLORS,
    CROPS,
    MASKS,
    NORMALIZATIONS,
    PRESETS,
    PreprocessConfig,
    load_preprocessing,
    parse_preprocessing,
)
from extract.tissue import tissue_mask


def heads(num_images: int = 5, channels: int = 1, size: int = 32) -> np.ndarray:
    """Noisy bright ellipses with a dark middle on a dark ground, each of another size and place."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    images = np.empty((num_images, channels, size, size), np.uint8)
    for k in range(num_images):
        radius = np.hypot((y - 14 - k) / (8 + k % 3), (x - 18 + k) / 7)
        head = np.where(radius < 1, 150, 5) - 140 * (radius < 0.3)
        images[k] = np.clip(head + rng.normal(0, 4, (channels, size, size)), 0, 255)
    return images


EVERY_STEP = PreprocessConfig(
    color="gray",
    mask="otsu",
    crop="content",
    size=24,
    clahe_clip=3.0,
    clahe_tiles=4,
    brightness=0.8,
    contrast=1.5,
)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_preset_gives_the_shape_it_promises_and_images_do_not_touch_each_other(name, channels):
    pixels, config = heads(channels=channels), PRESETS[name]
    before = pixels.copy()
    together = apply_steps(pixels, config)
    assert together.dtype == np.uint8 and together.shape == (5, *config.output_shape(pixels.shape[1:]))
    alone = [apply_steps(pixels[k : k + 1], config)[0] for k in range(5)]
    assert np.array_equal(together, np.stack(alone))
    assert np.array_equal(apply_steps(pixels[::-1], config), together[::-1])
    assert np.array_equal(pixels, before)


@st.composite
def configs(draw) -> PreprocessConfig:
    crop = draw(st.sampled_from(CROPS))
    return PreprocessConfig(
        color=draw(st.sampled_from(COLORS)),
        mask=draw(st.sampled_from(MASKS)),
        threshold=draw(st.integers(0, 254)),
        crop=crop,
        crop_share=draw(st.floats(0.01, 1)) if crop == "center" else 1.0,
        size=draw(st.none() | st.integers(8, 40)),
        clahe_clip=draw(st.none() | st.floats(0.1, 100)),
        clahe_tiles=draw(st.integers(1, 20)),
        brightness=draw(st.floats(0.01, 10)),
        contrast=draw(st.floats(0.01, 10)),
        normalize=draw(st.sampled_from(NORMALIZATIONS)),
    )


@settings(max_examples=60, deadline=None)
@given(configs(), st.integers(0, 2**32 - 1), st.sampled_from([1, 3]), st.integers(1, 20), st.integers(1, 20))
def test_whatever_the_steps_shapes_hold_and_images_do_not_touch_each_other(
    config, seed, channels, height, width
):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, rng.integers(1, 257), (3, channels, height, width), dtype=np.uint8)
    made = apply_steps(pixels, config)
    assert made.shape == (3, *config.output_shape(pixels.shape[1:])) and made.dtype == np.uint8
    assert np.array_equal(apply_steps(pixels[1:2], config)[0], made[1])
    assert parse_preprocessing(json.loads(json.dumps(config.to_json()))) == config


def test_no_steps_change_nothing():
    pixels = heads()
    assert np.array_equal(apply_steps(pixels, PreprocessConfig()), pixels)
    assert not PreprocessConfig().changes_pixels and not PRESETS["zscore"].changes_pixels
    assert all(PRESETS[name].changes_pixels for name in set(PRESETS) - {"plain", "zscore"})


def test_an_empty_batch_keeps_its_shape():
    assert apply_steps(heads()[:0], EVERY_STEP).shape == (0, 1, 24, 24)


def test_gray_is_that_of_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 7), dtype=np.uint8)
    theirs = [np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L")) for image in pixels]
    assert np.array_equal(gray_levels(pixels), np.stack(theirs))


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_and_contrast_are_those_of_pillow(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (3, channels, 16, 16), dtype=np.uint8)
    made = apply_steps(pixels, PreprocessConfig(brightness=0.7, contrast=2.0))
    for image, ours in zip(pixels, made, strict=True):
        picture = Image.fromarray(image[0] if channels == 1 else image.transpose(1, 2, 0))
        picture = ImageEnhance.Contrast(ImageEnhance.Brightness(picture).enhance(0.7)).enhance(2.0)
        theirs = np.asarray(picture)[None] if channels == 1 else np.asarray(picture).transpose(2, 0, 1)
        # Pillow cuts fractions off where we round: one level before the contrast doubles it, one after
        assert np.abs(theirs.astype(int) - ours).max() <= 4


def test_clahe_is_that_of_opencv_on_gray_and_on_lightness():
    pixels = heads()
    made = apply_steps(pixels, PreprocessConfig(clahe_clip=2.0, clahe_tiles=4))
    assert np.array_equal(made[0, 0], cv2.createCLAHE(2.0, (4, 4)).apply(pixels[0, 0]))
    red = np.zeros((1, 3, 32, 32), np.uint8)
    red[:, 0] = heads(1)[:, 0]
    equalized = apply_steps(red, PreprocessConfig(clahe_clip=2.0)).astype(int)
    assert equalized[0, 0].sum() > red[0, 0].astype(int).sum()  # lighter
    hue = equalized[0, 0] - equalized[0, 1:].mean(axis=0)
    assert (hue[red[0, 0] > 100] > 60).all()  # and still red


def test_a_mask_blackens_what_is_not_tissue_and_fills_holes():
    pixels = heads()
    for mask in ("threshold", "otsu"):
        made = apply_steps(pixels, PreprocessConfig(mask=mask, threshold=60))
        assert (made[:, :, 0] == 0).all() and (made[:, :, :, 0] == 0).all()
        assert np.array_equal(made[0, 0, 14, 16:21], pixels[0, 0, 14, 16:21])  # the dark middle stays


def test_a_mask_of_an_empty_picture_takes_nothing_away():
    empty = np.full((2, 1, 16, 16), 7, np.uint8)
    empty[1, 0, 3, 3] = 255  # a speck
    for config in (PreprocessConfig(mask="otsu"), PreprocessConfig(mask="threshold", crop="content")):
        assert np.array_equal(apply_steps(empty, config), empty)
    assert tissue_mask(empty[1, 0]).all()


def test_content_is_cropped_to_a_square_about_it():
    pixels = np.zeros((1, 1, 64, 64), np.uint8)
    pixels[0, 0, 10:42, 20:36] = 200
    made = apply_steps(pixels, PreprocessConfig(crop="content", size=32))
    assert (
        (made[0, 0, :, 8:24] == 200).all()
        and (made[0, 0, :, :8] == 0).all()
        and (made[0, 0, :, 24:] == 0).all()
    )
    corner = np.zeros((1, 1, 64, 64), np.uint8)
    corner[0, 0, :32, :16] = 200  # the square moves into the image
    assert (apply_steps(corner, PreprocessConfig(crop="content", size=32))[0, 0, :, :16] == 200).all()


def test_the_middle_is_cropped_and_brought_back_to_size():
    pixels = np.zeros((1, 3, 32, 48), np.uint8)
    pixels[:, :, 8:24, 16:32] = 100
    config = PreprocessConfig(crop="center", crop_share=0.5)
    made = apply_steps(pixels, config)
    assert made.shape == (1, 3, 32, 32) == (1, *config.output_shape((3, 32, 48))) and (made == 100).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"color": "blue"}, "color must be one of keep, gray, rgb, got 'blue'"),
        ({"size": 4}, r"size must be in 8 \.\.\. 1024, got 4"),
        ({"size": 64.0}, "size must be a whole number, got 64.0"),
        ({"clahe_clip": 0}, "clahe_clip must be above 0"),
        ({"clahe_clip": "2"}, "clahe_clip must be a number, got '2'"),
        ({"contrast": -1}, "contrast must be above 0"),
        ({"brightness": float("nan")}, "brightness must be a number"),
        ({"crop_share": 0.5}, 'crop_share goes with crop "center"'),
        ({"threshold": 255}, r"threshold must be in 0 \.\.\. 254"),
        ({"clahe_tiles": True}, "clahe_tiles must be a whole number"),
        ({"normalize": "none"}, "normalize must be one of dataset, image"),
    ],
)
def test_settings_outside_their_range_are_refused(wrong, message):
    with pytest.raises(SettingsError, match=message):
        PreprocessConfig(**wrong)


@pytest.mark.parametrize("name", PRESETS)
def test_settings_survive_json(name, tmp_path):
    config = PRESETS[name]
    (tmp_path / "p.json").write_text(json.dumps(config.to_json()))
    assert load_preprocessing(str(tmp_path / "p.json")) == config == load_preprocessing(name)
    assert parse_preprocessing(config.differences()) == config and config.describe()


def test_a_file_may_change_a_preset(tmp_path):
    (tmp_path / "p.json").write_text('{"preset": "pneumonia-backbone", "clahe_clip": 4}')
    changed = dataclasses.replace(PRESETS["pneumonia-backbone"], clahe_clip=4)
    assert load_preprocessing(str(tmp_path / "p.json")) == changed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"clahe_clp": 2}', "p.json: preprocessing has no setting 'clahe_clp'; did you mean 'clahe_clip'"),
        ('{"version": 3}', "version 3, this release knows version 2"),
        ("[1]", "expected settings such as"),
        ("{", "expected settings in JSON"),
        ('{"preset": "clae"}', "got 'clae'; did you mean 'clahe'"),
        ('{"size": "64"}', "size must be a whole number"),
    ],
)
def test_a_wrong_file_is_answered_with_the_key(tmp_path, content, message):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(SettingsError, match=message):
        load_preprocessing(str(tmp_path / "p.json"))


def test_unknown_names_and_missing_files_are_refused(tmp_path):
    with pytest.raises(
        SettingsError, match=r"must be one of plain, clahe, .* got 'calhe'; did you mean 'clahe'"
    ):
        load_preprocessing("calhe")
    with pytest.raises(SettingsError, match="cannot read the preprocessing: No such file"):
        load_preprocessing(str(tmp_path / "none.json"))
    with pytest.raises(SettingsError, match="must be a name or settings"):
        parse_preprocessing(3)


def test_the_sheet_shows_originals_above_each_way(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for k, image in enumerate(heads(6, size=128)):
            writer.add(image[0], ImageRecord(label="ab"[k % 2], subject=f"s{k}"))
    with open_archive(tmp_path / "a.zip") as archive:
        ways = {"plain": PRESETS["plain"], "dark": PreprocessConfig(brightness=0.1)}
        sheet = np.asarray(preprocess_sheet(archive, ways, num_images=4))
        tops = [MARGIN + HEADING + k * (TILE + HEADING + 4) for k in range(3)]
        tiles = [sheet[top : top + TILE, MARGIN : MARGIN + TILE, 0] for top in tops]
        middle = slice(0, TILE - 20)  # the class stands in the lower corner of the originals
        assert np.array_equal(tiles[0][middle], tiles[1][middle])
        assert any(np.array_equal(tiles[1], archive.read_image(row)[0]) for row in range(6))
        assert tiles[2].max() <= tiles[0].max() * 0.1 + 1
        with pytest.raises(SettingsError, match="at least one image and one way"):
            preprocess_sheet(archive, {})
