import numpy as np
import pytest

from classifier.errors import ClassifierError
from classifier.segment_frame import Frame
from classifier.segment_pairs import find_pairs, read_mask, read_pair, read_pairs, split_pairs
from extract.errors import ExtractError
from tests.classifier.phantom_lungs import phantom, write_pairs, write_png


@pytest.mark.parametrize("mark", ["", "_mask", "-Mask", ".seg", "_label"])
def test_masks_are_found_by_the_pictures_names(tmp_path, mark):
    images, masks = write_pairs(tmp_path, 3, mark=mark)
    pairs, alone = find_pairs(images, [masks])
    assert not alone and [pair.name for pair in pairs] == ["p00.png", "p01.png", "p02.png"]
    assert [pair.masks[0].name for pair in pairs] == [f"p0{k}{mark}.png" for k in range(3)]
    assert [pair.subject for pair in pairs] == ["p00", "p01", "p02"]
    _, mask = read_pair(pairs[1])
    assert np.array_equal(mask, phantom(32, 1)[1])


def test_masks_of_left_and_right_lungs_are_united(tmp_path):
    images, whole = write_pairs(tmp_path, 2)
    for k in range(2):
        mask = phantom(32, k)[1]
        write_png(tmp_path / "left" / f"p0{k}.png", np.where(np.arange(32) < 16, mask, 0) * 255)
        write_png(tmp_path / "right" / f"p0{k}.png", np.where(np.arange(32) >= 16, mask, 0) * 255)
    parted = read_pairs(images, [tmp_path / "left", tmp_path / "right"], 32)
    assert np.array_equal(parted.masks, read_pairs(images, [whole], 32).masks)


def test_files_without_a_partner_are_named_and_left_out_only_on_request(tmp_path):
    images, masks = write_pairs(tmp_path, 3)
    (masks / "p01.png").unlink()
    write_png(masks / "stranger.png", phantom(32, 9)[1] * 255)
    with pytest.raises(ExtractError) as error:
        read_pairs(images, [masks], 32)
    told = str(error.value)
    assert "p01.png: no mask of that name in" in told and "stranger.png: no picture of that name" in told
    assert "--skip-unreadable" in told
    rest = read_pairs(images, [masks], 32, skip_unreadable=True)
    assert len(rest) == 2 and len(rest.unreadable) == 2


def spoil(kind: str, folder) -> None:
    picture, mask = phantom(32, 1)
    path = folder / "masks" / "p01.png"
    if kind == "size":
        write_png(path, mask[:, :30] * 255)
    elif kind == "photograph":
        write_png(path, np.tile(np.arange(32) * 8, (32, 1)))
    elif kind == "labels":
        write_png(path, mask * 100 + (np.arange(32) > 16) * mask * 100)
    elif kind == "empty":
        write_png(path, mask * 0)
    elif kind == "full":
        write_png(path, mask * 0 + 255)
    elif kind == "damaged":
        path.write_bytes(path.read_bytes()[:60])
    elif kind == "picture":
        (folder / "images" / "p01.png").write_bytes(b"no picture at all")
    assert picture.shape == (32, 32)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("size", "expected a mask of 32x32 pixels as p01.png, got 30x32"),
        ("photograph", "expected a mask of two gray levels"),
        ("labels", "a map of several labels"),
        ("empty", "got one that is empty"),
        ("full", "got one that is all inside"),
        ("damaged", "cannot be read"),
        ("picture", "cannot be read"),
    ],
)
def test_a_pair_that_cannot_be_used_is_named_with_the_reason(tmp_path, kind, sentence):
    images, masks = write_pairs(tmp_path, 3)
    spoil(kind, tmp_path)
    with pytest.raises(ExtractError) as error:
        read_pairs(images, [masks], 32)
    assert "p01" in str(error.value) and sentence in str(error.value)
    assert "1 of 3 pictures and masks" in str(error.value)


def test_masks_of_ones_and_of_soft_edges_read_alike(tmp_path):
    mask = phantom(32, 0)[1]
    assert np.array_equal(read_mask(write_png(tmp_path / "one.png", mask * 1)), mask)
    soft = np.where(mask, 251, 4)
    soft[0, 0] = 130  # as JPEG leaves at edges
    read = read_mask(write_png(tmp_path / "soft.png", soft))
    assert np.array_equal(read[1:], mask[1:])


def test_two_pictures_of_one_name_are_refused(tmp_path):
    images, masks = write_pairs(tmp_path, 2)
    write_png(images / "P01.bmp", phantom(32, 1)[0])
    with pytest.raises(ExtractError, match="expected one file of each name"):
        find_pairs(images, [masks])


def test_the_pattern_gives_the_subject_and_no_subject_is_on_two_sides(tmp_path):
    for number in range(12):
        picture, mask = phantom(32, number)
        write_png(tmp_path / "images" / f"p{number // 2}-{number}.png", picture)
        write_png(tmp_path / "masks" / f"p{number // 2}-{number}.png", mask * 255)
    pairs = read_pairs(tmp_path / "images", [tmp_path / "masks"], 32, subject_pattern="^(p[0-9]+)-")
    parts = split_pairs(pairs, 0.2, 0.2, seed=3)
    sides = {part: set(pairs.subjects[rows].tolist()) for part, rows in parts.items()}
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(12))
    assert {part: len(subjects) for part, subjects in sides.items()} == {"test": 1, "val": 1, "train": 4}
    assert not (
        sides["train"] & sides["val"] or sides["train"] & sides["test"] or sides["val"] & sides["test"]
    )
    again = split_pairs(pairs, 0.2, 0.2, seed=3)
    assert all(np.array_equal(parts[part], again[part]) for part in parts)
    others = [split_pairs(pairs, 0.2, 0.2, seed=seed)["test"].tolist() for seed in range(8)]
    assert len({tuple(rows) for rows in others}) > 1


def test_subjects_that_share_a_picture_stay_together(tmp_path):
    images, masks = write_pairs(tmp_path, 8)
    for a, b in (("p00", "p05"), ("p05", "p07")):
        for folder in (images, masks):
            (folder / f"{b}.png").write_bytes((folder / f"{a}.png").read_bytes())
    pairs = read_pairs(images, [masks], 32)
    for seed in range(10):
        parts = split_pairs(pairs, 0.3, 0.3, seed)
        place = {int(row): part for part, rows in parts.items() for row in rows}
        assert place[0] == place[5] == place[7]


def test_two_subjects_are_too_few(tmp_path):
    images, masks = write_pairs(tmp_path, 2)
    with pytest.raises(ClassifierError, match="at least 3 subjects"):
        split_pairs(read_pairs(images, [masks], 32), 0.2, 0.2, 0)


@pytest.mark.parametrize("shape", [(40, 40), (30, 50), (50, 30), (3, 64), (200, 120)])
def test_a_picture_of_any_shape_comes_back_to_its_own_size(shape):
    frame = Frame(*shape, 32)
    square = frame.put(np.full(shape, 200, np.uint8))
    assert square.shape == (32, 32) and (square[frame.place] == 200).all()
    assert square.sum() == 200 * np.prod(frame.inner)  # black around
    assert max(frame.inner) == 32
    assert frame.take_back(square.astype(np.float32) / 200).shape == shape


def test_a_mask_survives_the_way_there_and_back():
    mask = phantom(96, 0)[1]
    frame = Frame(96, 96, 48)
    back = frame.take_back(frame.put(mask.astype(np.uint8) * 255, is_mask=True) / np.float32(255)) >= 0.5
    assert (back ^ mask).sum() < 0.03 * mask.sum()
