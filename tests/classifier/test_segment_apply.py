import csv
import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from classifier.data import ImageTable
from classifier.errors import ClassifierError
from classifier.lung_pixels import ApplyConfig, crop_pixels, keep_lungs, widen_mask
from classifier.preprocess import fit_preprocessing
from classifier.segment_apply import apply_to_archive, apply_to_folder
from classifier.segment_config import SegmentConfig
from classifier.segmenter import Segmenter
from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.errors import ExtractError, SettingsError
from extract.mask_files import open_masks
from extract.split import make_split, read_split
from tests.classifier.phantom_lungs import ellipse, phantom, write_chest_archive, write_png


class LungGray(nn.Module):
    """In place of a trained network: marks the gray levels that phantom lungs have."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(80 / 255))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 100 * (0.12 - (x - self.level).abs())


@pytest.fixture(scope="module")
def segmenter():
    config = SegmentConfig(size=32, depth=2, preprocessing={"normalize": "unit"})
    scaling = fit_preprocessing(ImageTable(np.zeros((1, 1, 32, 32), np.uint8)), config.preprocessing)
    return Segmenter(LungGray(), config, scaling, weights_sha256="1234")


def with_a_blank(path, rgb=False):
    """An archive whose image 2 shows nothing; its two images of s01 are of class b."""
    with ArchiveWriter(path) as writer:
        for number in range(8):
            picture = phantom(32, 500 + number)[0] if number != 2 else np.full((32, 32), 90, np.uint8)
            record = ImageRecord(
                "ab"[number // 2 % 2], f"s{number // 2:02d}", f"{number}.jpg", source_width=99
            )
            writer.add(np.stack([picture, picture // 2, picture], axis=2) if rgb else picture, record)
    return open_archive(path)


def test_outside_the_mask_is_black_and_inside_nothing_changes(segmenter, tmp_path):
    archive = write_chest_archive(tmp_path / "chest.zip", 6)
    summary = apply_to_archive(
        segmenter, archive, tmp_path / "masked.zip", ApplyConfig(), masks=tmp_path / "masks"
    )
    assert summary.implausible == () and summary.num_written == 12 == len(archive)
    masks = open_masks(tmp_path / "masks", archive.names)
    with open_archive(tmp_path / "masked.zip") as masked:
        for index in range(12):
            mask = masks(index)
            assert mask is not None and set(np.unique(mask)) == {0, 255}
            before, after = archive.read_image(index)[0], masked.read_image(index)[0]
            assert np.array_equal(after, np.where(mask > 0, before, 0))
            truth = phantom(32, 1000 + index)[1]
            assert 2 * (truth & (mask > 0)).sum() / (truth.sum() + (mask > 0).sum()) > 0.85


def test_every_row_of_the_manifest_is_kept_and_the_settings_tell_how_it_was_made(segmenter, tmp_path):
    archive = with_a_blank(tmp_path / "chest.zip")
    apply_to_archive(segmenter, archive, tmp_path / "masked.zip", ApplyConfig(min_lungs=1))
    with open_archive(tmp_path / "masked.zip") as masked:
        columns = [name for name in archive.manifest.columns if name != "sha256"]
        assert masked.manifest[columns].equals(archive.manifest[columns])
        told = masked.preparation["segment"]
        assert told["archive_sha256"] == archive.sha256 and told["min_lungs"] == 1
        assert told["segmenter_sha256"] == segmenter.weights_sha256 and told["outside"] == "black"
        assert masked.preparation["implausible"] == [archive.names[2]]


@pytest.mark.parametrize("way", ["keep", "drop"])
def test_images_without_lungs_are_told_and_kept_unmasked_or_left_out(segmenter, tmp_path, way):
    archive = with_a_blank(tmp_path / "chest.zip")
    summary = apply_to_archive(
        segmenter, archive, tmp_path / "m.zip", ApplyConfig(implausible=way), masks=tmp_path / "masks"
    )
    assert summary.implausible == (archive.names[2],)
    assert summary.num_by_class == {"a": (4, 0), "b": (4, 1)} and summary.num_lungs[2] == 7
    assert not (tmp_path / "masks" / archive.names[2]).exists()
    with open_archive(tmp_path / "m.zip") as masked:
        assert len(masked) == (8 if way == "keep" else 7) == summary.num_written
        assert len(masked.classes) == 2
        if way == "keep":
            assert np.array_equal(masked.read_image(2), archive.read_image(2))
        else:
            assert masked.row(2)["source"] == "3.jpg"
    with open(tmp_path / "m-lungs.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["is_plausible"] for row in rows] == ["True", "True", "False", *["True"] * 5]
    assert rows[2]["written_as"] == (archive.names[2] if way == "keep" else "")
    assert rows[3]["written_as"] == archive.names[3 if way == "keep" else 2]
    assert cv2.imread(str(tmp_path / "m-overlays.png")).shape[2] == 3


def test_the_split_is_carried_over_with_everybody_on_the_same_side(segmenter, tmp_path):
    archive = write_chest_archive(tmp_path / "chest.zip", 16)
    split = make_split(archive, num_folds=2, fractions=(0.5,), val_share=0.3, seed=0)
    apply_to_archive(segmenter, archive, tmp_path / "masked.zip", ApplyConfig(), split=split)
    with open_archive(tmp_path / "masked.zip") as masked:
        carried = read_split(tmp_path / "masked.split.json", masked)
        assert carried.folds == split.folds and carried.archive_sha256 == masked.sha256
        with pytest.raises(ExtractError):
            read_split(tmp_path / "masked.split.json", archive)


def test_color_is_masked_in_every_channel(segmenter, tmp_path):
    archive = with_a_blank(tmp_path / "rgb.zip", rgb=True)
    apply_to_archive(
        segmenter, archive, tmp_path / "m.zip", ApplyConfig(outside="mean"), masks=tmp_path / "masks"
    )
    with open_archive(tmp_path / "m.zip") as masked:
        mask = open_masks(tmp_path / "masks", archive.names)(0)
        before, after = archive.read_image(0), masked.read_image(0)
        for channel in range(3):
            assert np.array_equal(after[channel][mask > 0], before[channel][mask > 0])
            outside = set(after[channel][mask == 0].tolist())
            assert outside == {round(float(before[channel][mask > 0].mean()))}


def test_surroundings_and_lungs_make_up_the_image(segmenter, tmp_path):
    archive = write_chest_archive(tmp_path / "chest.zip", 2)
    for keep in ("lungs", "surroundings"):
        apply_to_archive(segmenter, archive, tmp_path / f"{keep}.zip", ApplyConfig(keep=keep, margin=1))
    with open_archive(tmp_path / "lungs.zip") as a, open_archive(tmp_path / "surroundings.zip") as b:
        for index in range(4):
            parts = a.read_image(index), b.read_image(index)
            assert np.array_equal(np.maximum(*parts), archive.read_image(index))
            assert (np.minimum(*parts) == 0).all()


def test_cropping_gives_an_archive_of_the_same_size_filled_with_lungs(segmenter, tmp_path):
    archive = write_chest_archive(tmp_path / "chest.zip", 2)
    apply_to_archive(segmenter, archive, tmp_path / "plain.zip", ApplyConfig())
    apply_to_archive(segmenter, archive, tmp_path / "crop.zip", ApplyConfig(crop=True))
    with open_archive(tmp_path / "plain.zip") as plain, open_archive(tmp_path / "crop.zip") as cropped:
        assert cropped.image_shape == archive.image_shape
        for index in range(4):
            assert (cropped.read_image(index) > 0).mean() > (plain.read_image(index) > 0).mean()


def test_nothing_is_written_where_no_image_has_lungs(segmenter, tmp_path):
    with ArchiveWriter(tmp_path / "blank.zip") as writer:
        for number in range(3):
            writer.add(np.full((32, 32), number, np.uint8), ImageRecord("a", f"s{number}"))
    with open_archive(tmp_path / "blank.zip") as archive, pytest.raises(ClassifierError) as error:
        apply_to_archive(segmenter, archive, tmp_path / "m.zip", ApplyConfig(), masks=tmp_path / "masks")
    assert "found none that are plausible, so nothing was written" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["blank.zip"]


def test_nothing_of_the_users_is_overwritten(segmenter, tmp_path):
    archive = write_chest_archive(tmp_path / "chest.zip", 2)
    for name in ("m.zip", "m-lungs.csv", "m-overlays.png"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(ExtractError, match="already exists and is left alone"):
            apply_to_archive(segmenter, archive, tmp_path / "m.zip", ApplyConfig())
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "mine.png").write_text("mine")
    with pytest.raises(ExtractError, match="expected a new or empty folder"):
        apply_to_archive(segmenter, archive, tmp_path / "m.zip", ApplyConfig(), masks=tmp_path / "masks")
    with pytest.raises(ExtractError, match="another file than the archive that is read"):
        apply_to_archive(segmenter, archive, tmp_path / "chest.zip", ApplyConfig(), overwrite=True)


def test_a_folder_of_pictures_is_masked_at_its_own_sizes(segmenter, tmp_path):
    sizes = {"a/one": (32, 32), "a/two": (64, 48), "b/three": (90, 90)}
    for number, (name, (height, width)) in enumerate(sizes.items()):
        picture = cv2.resize(phantom(96, 700 + number)[0], (width, height), interpolation=cv2.INTER_AREA)
        write_png(tmp_path / "in" / f"{name}.png", picture)
    write_png(tmp_path / "in" / "b" / "blank.png", np.full((40, 40), 7))
    summary = apply_to_folder(
        segmenter, tmp_path / "in", tmp_path / "out", ApplyConfig(), masks=tmp_path / "masks"
    )
    assert summary.num_images == 4 and summary.implausible == ("b/blank.png",)
    for name, (height, width) in sizes.items():
        before = cv2.imread(str(tmp_path / "in" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        after = cv2.imread(str(tmp_path / "out" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        mask = cv2.imread(str(tmp_path / "masks" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        assert mask.shape == (height, width) and np.array_equal(after, np.where(mask > 0, before, 0))
    told = json.loads((tmp_path / "out" / "segmentation.json").read_text())
    assert told["implausible"] == ["b/blank.png"] and told["segmenter_sha256"] == segmenter.weights_sha256


def test_a_bad_picture_in_a_folder_is_named_and_left_out_only_on_request(segmenter, tmp_path):
    write_png(tmp_path / "in" / "good.png", phantom(32, 3)[0])
    (tmp_path / "in" / "bad.png").write_bytes(b"nothing")
    with pytest.raises(ExtractError, match=r"bad\.png"):
        apply_to_folder(segmenter, tmp_path / "in", tmp_path / "out", ApplyConfig())
    assert not (tmp_path / "out").exists()
    summary = apply_to_folder(
        segmenter, tmp_path / "in", tmp_path / "out", ApplyConfig(), skip_unreadable=True
    )
    assert summary.num_written == 1 and "bad.png" in str(summary.unreadable[0])


def test_two_pictures_that_would_become_one_are_refused(segmenter, tmp_path):
    write_png(tmp_path / "in" / "a.png", phantom(32, 3)[0])
    write_png(tmp_path / "in" / "a.bmp", phantom(32, 4)[0])
    with pytest.raises(ExtractError, match="would all become one PNG"):
        apply_to_folder(segmenter, tmp_path / "in", tmp_path / "out", ApplyConfig())


def test_the_margin_is_a_distance_in_pixels():
    mask = np.zeros((21, 21), bool)
    mask[10, 10] = True
    for margin in (0, 1, 4):
        rows, columns = np.mgrid[:21, :21]
        expected = (rows - 10) ** 2 + (columns - 10) ** 2 <= margin**2
        assert np.array_equal(widen_mask(mask, margin), expected)


def test_a_crop_holds_the_whole_mask_and_stays_in_the_picture():
    mask = ellipse(32, (0.1, 0.9), (0.3, 0.2))
    pixels = np.where(mask, 200, 0).astype(np.uint8)[None]
    cut = crop_pixels(pixels, mask, square=False)[0]
    assert (cut > 0).sum() == mask.sum() and cut.any(axis=0).all() and cut.any(axis=1).all()
    squared = crop_pixels(pixels, mask, square=True)
    assert squared.shape == (1, 32, 32)
    assert ndimage.label(squared[0] > 100)[1] == 1 and (squared > 100).mean() > 0.5


def test_pixels_are_not_changed_in_place():
    pixels = np.full((1, 8, 8), 9, np.uint8)
    keep_lungs(pixels, np.zeros((8, 8), bool), ApplyConfig())
    assert (pixels == 9).all()


@pytest.mark.parametrize(
    "wrong",
    [{"outside": "white"}, {"margin": -1}, {"min_lungs": 3}, {"implausible": "stop"},
     {"crop": True, "keep": "surroundings"}],
)  # fmt: skip
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(SettingsError):
        dataclasses.replace(ApplyConfig(), **wrong)
