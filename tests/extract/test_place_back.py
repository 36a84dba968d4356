"""Slices put back into their volumes."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import SimpleITK as sitk

from extract.archive import open_archive
from extract.errors import ExtractError, SettingsError
from extract.mask_files import open_masks
from extract.phantom import rotation
from extract.place_back import place_back, read_pictures, read_table
from extract.planes import SliceConfig
from extract.slice_place import SlicePlace
from extract.volume import open_volume
from extract.volumes import build_volume_archive
from tests.extract.making import write_nrrd

OBLIQUE = rotation(0.05, -0.03, 0.08)


def smooth_head(shape=(40, 44, 36)) -> np.ndarray:
    a, b, c = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    inside = np.clip((1 - np.sqrt((a / 0.8) ** 2 + (b / 0.85) ** 2 + (c / 0.75) ** 2)) * 4, 0, 1)
    return (inside * (120 + 40 * np.cos(3 * b) + 30 * np.sin(4 * c))).astype(np.float32)


def slice_one(
    tmp_path: Path, ras: np.ndarray, order="PSR", turn=None, spacing=(4.0, 4.0, 4.0), **settings
) -> Path:
    (tmp_path / "v" / "sub").mkdir(parents=True)
    write_nrrd(tmp_path / "v" / "sub" / "a.nrrd", ras, order, spacing, turn)
    config = SliceConfig(**{"size": 64, "planes": ("sagittal",), "step_mm": 4.0, "windows": ("values:0,255",),
                            "noise_below": 0.0, **settings})  # fmt: skip
    build_volume_archive(tmp_path / "v", tmp_path / "a.zip", config)
    return tmp_path / "a.zip"


def back(tmp_path: Path, **settings) -> tuple[np.ndarray, np.ndarray]:
    """The volume put back, and the source, both as stored."""
    with open_archive(tmp_path / "a.zip") as archive:
        (path,) = place_back(archive, tmp_path / "v", tmp_path / "out", read_pictures(archive), **settings)
    assert path == tmp_path / "out" / "sub" / "a.nrrd"
    made, source = open_volume(path), open_volume(tmp_path / "v" / "sub" / "a.nrrd")
    assert made.shape == source.shape and made.affine == pytest.approx(source.affine)
    return made.load(), source.load()


@pytest.mark.parametrize("plane", ["sagittal", "coronal", "axial"])
@pytest.mark.parametrize("order", ["LAS", "PSR"])
def test_a_volume_sliced_and_put_back_is_itself(tmp_path, plane, order):
    slice_one(tmp_path, smooth_head(), order, planes=(plane,), fov_mm=190.0, step_mm=1.0, size=256)
    made, source = back(tmp_path)
    covered = source > 40  # slices without tissue are left out
    assert np.abs(made - source)[covered].mean() < 0.5 and np.abs(made - source)[covered].max() < 6


def test_turned_and_tilted_planes_of_an_oblique_volume_give_it_back_too(tmp_path):
    slice_one(
        tmp_path, smooth_head(), "LAS", OBLIQUE, planes=("sagittal", "coronal", "axial"),
        angles_deg=(-20.0, 15.0), tilts_deg=(0.0, 25.0), fov_mm=220.0,
    )  # fmt: skip
    made, source = back(tmp_path)
    covered = source > 40
    assert np.abs(made - source)[covered].mean() < 3


@pytest.mark.parametrize(
    ("plane", "angle", "tilt"),
    [
        ("sagittal", 0, 0),
        ("sagittal", 30, 0),
        ("coronal", -25, 10),
        ("axial", 20, -35),
        ("sagittal", -40, 40),
    ],
)
def test_a_bright_ball_comes_back_where_it_was(tmp_path, plane, angle, tilt):
    grid = np.meshgrid(*[np.arange(n, dtype=float) for n in (60, 66, 54)], indexing="ij")
    head = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, (30, 33, 27), (26, 28, 24), strict=True)) < 1
    ball = np.exp(-sum((g - c) ** 2 for g, c in zip(grid, (38.3, 24.6, 31.2), strict=True)) / (2 * 2.5**2))
    ras = (head * 20 + 200 * ball).astype(np.float32)
    slice_one(
        tmp_path, ras, "PSR", OBLIQUE, (2.5, 2.5, 3.0), planes=(plane,), angles_deg=(angle,),
        tilts_deg=(tilt,), size=128, step_mm=2.0, fov_mm=200.0,
    )  # fmt: skip
    made, source = back(tmp_path)
    affine = open_volume(tmp_path / "v" / "sub" / "a.nrrd").affine

    def middle(voxels: np.ndarray) -> np.ndarray:
        weight = np.clip(voxels - 60, 0, None)
        index = [(weight * k).sum() / weight.sum() for k in np.indices(voxels.shape)]
        return (affine @ [*index, 1])[:3]

    assert np.linalg.norm(middle(made) - middle(source)) < 0.1  # mm


def test_an_independent_reader_finds_a_pixel_where_the_affine_says(tmp_path):
    path = slice_one(
        tmp_path, smooth_head(), "PSR", OBLIQUE, angles_deg=(25.0,), tilts_deg=(-15.0,), fov_mm=200.0
    )
    other = sitk.ReadImage(str(tmp_path / "v" / "sub" / "a.nrrd"))
    with open_archive(path) as archive:
        index = len(archive) // 2
        place = SlicePlace.from_text(archive.manifest["affine"][index], "here")
        pixels = archive.read_image(index)[0]
    num_compared = 0
    for row in range(8, 60, 6):
        for column in range(8, 60, 6):
            x, y, z = place.matrix @ [column, row, 0, 1]
            if other.TransformPhysicalPointToIndex((-x, -y, z)) and pixels[row, column] > 50:
                value = other.EvaluateAtPhysicalPoint((-x, -y, z), sitk.sitkLinear)
                assert value == pytest.approx(pixels[row, column], abs=1)
                num_compared += 1
    assert num_compared > 20


def test_label_maps_are_voted_and_stay_labels(tmp_path):
    path = slice_one(tmp_path, smooth_head(), planes=("sagittal", "coronal", "axial"), fov_mm=190.0)
    with open_archive(path) as archive:
        for index, name in enumerate(archive.manifest["file"]):
            pixels = archive.read_image(index)[0]
            mask = np.where(pixels > 100, 700, np.where(pixels > 30, 3, 0)).astype(np.uint16)
            (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "masks" / name), mask)
        read = open_masks(tmp_path / "masks", archive.manifest["file"].tolist())
        (made,) = place_back(archive, tmp_path / "v", tmp_path / "out", read, kind="labels")
    labels, source = open_volume(made).load(), open_volume(tmp_path / "v" / "sub" / "a.nrrd").load()
    assert labels.dtype == np.uint16 and set(np.unique(labels)) == {0, 3, 700}
    expected = np.where(source > 100, 700, np.where(source > 30, 3, 0))
    near = np.minimum(np.abs(source - 100), np.abs(source - 30)) < 12  # an edge may be off by a voxel
    assert (labels == expected)[~near].mean() > 0.99


def test_one_number_a_slice_fills_its_part_of_the_volume(tmp_path):
    path = slice_one(tmp_path, smooth_head(), "RAS", fov_mm=190.0)
    with open_archive(path) as archive:
        table = archive.manifest
        with open(tmp_path / "t.csv", "w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["file", "p"])
            writer.writerows(zip(table["file"], table["position_mm"].astype(float), strict=True))
        read = read_table(archive, tmp_path / "t.csv", "p")
        (made,) = place_back(archive, tmp_path / "v", tmp_path / "out", read)
        place = SlicePlace.from_text(table["affine"][0], "here")
    stored, values = open_volume(made), open_volume(made).load()
    x = stored.affine[0, 0] * np.arange(stored.shape[0]) + stored.affine[0, 3]
    position = x - place.matrix[0, 3] + float(table["position_mm"][0])
    position = np.clip(position, *np.sort(table["position_mm"].astype(float))[[0, -1]])  # half a step beyond
    inside = values != 0
    assert inside.mean() > 0.5
    assert np.broadcast_to(position[:, None, None], values.shape)[inside] == pytest.approx(
        values[inside], abs=1e-3
    )


def test_a_slice_without_a_number_leaves_a_gap(tmp_path):
    path = slice_one(tmp_path, smooth_head(), "RAS", fov_mm=190.0)
    with open_archive(path) as archive:
        names = archive.manifest["file"].tolist()
        (tmp_path / "t.csv").write_text(
            "file,p\n" + "".join(f"{name},1\n" for k, name in enumerate(names) if k not in (15, 16))
        )
        (made,) = place_back(
            archive, tmp_path / "v", tmp_path / "out", read_table(archive, tmp_path / "t.csv", "p")
        )
        x = SlicePlace.from_text(archive.manifest["affine"][15], "here").matrix[0, 3] + 2.0
    stored = open_volume(made)
    column = stored.load()[:, 22, 18]
    positions = stored.affine[0, 0] * np.arange(stored.shape[0]) + stored.affine[0, 3]
    gap = np.abs(positions - x) < 1.9
    assert gap.any() and (column[gap] == 0).all() and set(np.unique(column)) == {0.0, 1.0}


def test_one_plane_can_be_chosen(tmp_path):
    slice_one(tmp_path, smooth_head(), planes=("sagittal", "axial"), fov_mm=190.0)
    made, source = back(tmp_path, planes=("axial",))
    assert np.abs(made - source)[source > 20].mean() < 2.5
    with (
        open_archive(tmp_path / "a.zip") as archive,
        pytest.raises(SettingsError, match="it has axial, sagittal"),
    ):
        place_back(archive, tmp_path / "v", tmp_path / "o", read_pictures(archive), planes=("coronal",))


def test_what_is_there_is_left_alone(tmp_path):
    slice_one(tmp_path, smooth_head())
    back(tmp_path)
    with pytest.raises(ExtractError, match=r"a\.nrrd: already exists and is left alone"):
        back(tmp_path)
    back(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,p\na,1\n", "expected the column file, got name, p"),
        ("file,p\nz.png,1\n", "such as 00000/img00000000.png, got z.png"),
        ("file,p\n00000/img00000000.png,high\n", "expected a number in p, got none for 00000/img"),
        ("file,p\n00000/img00000000.png,inf\n", "expected a number in p, got none for 00000/img"),
        ("file,p\n" + "00000/img00000000.png,1\n" * 2, "expected one row a file"),
        ("", "expected a table of files and numbers"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with (
        open_archive(slice_one(tmp_path, smooth_head(), step_mm=20.0)) as archive,
        pytest.raises(ExtractError, match=message),
    ):
        read_table(archive, tmp_path / "t.csv", "p")


def test_bad_masks_are_refused(tmp_path):
    with open_archive(slice_one(tmp_path, smooth_head(), step_mm=20.0)) as archive:
        names = archive.manifest["file"].tolist()
        (tmp_path / "m" / "00000").mkdir(parents=True)
        with pytest.raises(ExtractError, match="expected masks named as the archive's images"):
            open_masks(tmp_path / "m", names)
        target = tmp_path / "m" / names[0]
        for content, message in (
            (b"rubbish", "got bytes that cannot be decoded"),
            (cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes(), "expected a gray picture"),
            (
                cv2.imencode(".png", np.zeros((32, 32), np.uint8))[1].tobytes(),
                "expected pictures of its size",
            ),
        ):
            target.write_bytes(content)
            with pytest.raises(ExtractError, match=message):
                place_back(archive, tmp_path / "v", tmp_path / "out", open_masks(tmp_path / "m", names))
        assert not (tmp_path / "out").exists()
        (tmp_path / "m.zip").write_bytes(b"no zip")
        with pytest.raises(ExtractError, match="expected a zip archive, got a file that is none"):
            open_masks(tmp_path / "m.zip", names)


def test_the_source_must_be_there(tmp_path):
    path = slice_one(tmp_path, smooth_head(), step_mm=20.0)
    (tmp_path / "v" / "sub" / "a.nrrd").rename(tmp_path / "v" / "sub" / "b.nrrd")
    with open_archive(path) as archive, pytest.raises(ExtractError, match=r"sub/a\.nrrd not there"):
        place_back(archive, tmp_path / "v", tmp_path / "out", read_pictures(archive))


def test_places_survive_being_written_and_resized():
    rng = np.random.default_rng(0)
    axes = tuple(rotation(0.2, 0.3, -0.4).T)
    place = SlicePlace.of_plane(rng.normal(0, 80, 3), axes, 0.9, 256)
    again = SlicePlace.from_text(place.to_text(), "here")
    far = np.array([255.0, 255.0, 0.0, 1.0])
    assert again.matrix @ far == pytest.approx(place.matrix @ far, abs=1e-3)
    half = place.resized(0.5, 0.5)  # pixel 10 of the small picture covers pixels 20 and 21
    assert half.matrix @ [10, 30, 0, 1] == pytest.approx(place.matrix @ [20.5, 60.5, 0, 1])
    assert place.inverse() @ [*(place.matrix @ [3, 4, 5, 1]), 1] == pytest.approx([3, 4, 5])


@pytest.mark.parametrize("text", ["", "1 2 3", "a b", " ".join(["nan"] * 12), " ".join(["0"] * 12)])
def test_a_text_that_is_no_place_is_refused(text):
    with pytest.raises(ExtractError, match="here: expected"):
        SlicePlace.from_text(text, "here")
