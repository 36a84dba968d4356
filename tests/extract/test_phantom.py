import csv
from collections import Counter

import numpy as np
import pytest
import SimpleITK as sitk

from extract.archive import open_archive
from extract.errors import SettingsError
from extract.phantom import STORED_ORDERS, PhantomConfig, make_phantom, rotation, write_phantoms, write_volume
from extract.planes import SliceConfig
from extract.volume import read_volume
from extract.volumes import build_volume_archive

COARSE = PhantomConfig(voxel_mm=4.0)


def test_the_same_seed_writes_the_same_files(tmp_path):
    for name in "ab":
        write_phantoms(tmp_path / name, 2, 7, COARSE)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    write_phantoms(tmp_path / "c", 1, 8, COARSE)
    assert (tmp_path / "c" / "phantom000.nrrd").read_bytes() != (
        tmp_path / "a" / "phantom000.nrrd"
    ).read_bytes()


def test_more_subjects_leave_the_first_ones_as_they_are(tmp_path):
    write_phantoms(tmp_path / "a", 1, 7, COARSE)
    write_phantoms(tmp_path / "b", 2, 7, COARSE)
    assert (tmp_path / "a" / "phantom000.nrrd").read_bytes() == (
        tmp_path / "b" / "phantom000.nrrd"
    ).read_bytes()


def test_the_table_lists_files_and_stored_orders(tmp_path):
    write_phantoms(tmp_path, 3, 0, COARSE)
    rows = list(csv.DictReader((tmp_path / "subjects.csv").open()))
    assert [row["file"] for row in rows] == [f"phantom{k:03d}.nrrd" for k in range(3)]
    assert [row["subject_id"] for row in rows] == [f"phantom{k:03d}" for k in range(3)]
    assert [row["voxel_order"] for row in rows] == list(STORED_ORDERS[:3])


def test_the_header_undoes_the_stored_order(tmp_path):
    volumes = []
    for order in STORED_ORDERS:
        phantom = make_phantom(5, order, COARSE)
        write_volume(tmp_path / f"{order}.nrrd", phantom)
        volumes.append(read_volume(tmp_path / f"{order}.nrrd"))
    for volume in volumes[1:]:
        assert np.array_equal(volume.voxels, volumes[0].voxels)
        assert volume.affine == pytest.approx(volumes[0].affine)


def test_the_header_means_the_same_to_an_independent_reader(tmp_path):
    (path,) = write_phantoms(tmp_path, 1, 3, COARSE)
    volume, other = read_volume(path), sitk.ReadImage(str(path))
    for index in ((20, 25, 24), (10, 30, 20), (33, 14, 12)):
        x, y, z, _ = volume.affine @ [*index, 1]
        assert other[other.TransformPhysicalPointToIndex((-x, -y, z))] == volume.voxels[index]


def test_left_and_right_are_alike_but_front_and_back_are_not():
    still = PhantomConfig(voxel_mm=4.0, tilt_deg=0.0, noise=0.0)
    voxels = make_phantom(11, "RAS", still).voxels.astype(float)
    assert np.corrcoef(voxels.ravel(), voxels[::-1].ravel())[0, 1] > 0.85
    assert np.corrcoef(voxels.ravel(), voxels[:, ::-1].ravel())[0, 1] < 0.75
    assert np.corrcoef(voxels.ravel(), voxels[:, :, ::-1].ravel())[0, 1] < 0.6


def test_subjects_differ_in_shape_and_brightness():
    heads = [make_phantom(seed, "RAS", COARSE).voxels.astype(float) for seed in range(4)]
    for a in range(4):
        for b in range(a):
            assert np.corrcoef(heads[a].ravel(), heads[b].ravel())[0, 1] < 0.95
    bright = [np.percentile(head, 99) for head in heads]
    assert max(bright) > 1.2 * min(bright)


def test_a_rotation_is_one():
    turn = rotation(0.1, -0.2, 0.3)
    assert turn @ turn.T == pytest.approx(np.eye(3)) and np.linalg.det(turn) == pytest.approx(1)
    assert rotation(0, 0, np.pi / 2) @ [1, 0, 0] == pytest.approx([0, 1, 0])


def test_phantoms_slice_into_all_three_classes(tmp_path):
    write_phantoms(tmp_path / "v", 2, 0, COARSE)
    config = SliceConfig(size=32, slices_per_plane=14)
    build_volume_archive(tmp_path / "v", tmp_path / "a.zip", config, subjects=tmp_path / "v" / "subjects.csv")
    with open_archive(tmp_path / "a.zip") as archive:
        for subject in ("phantom000", "phantom001"):
            counts = Counter(archive.manifest.loc[archive.subjects == subject, "label"])
            assert min(counts["sagittal"], counts["coronal"]) >= 8 and counts["noise"] >= 2


@pytest.mark.parametrize("settings", [{"voxel_mm": 0.1}, {"noise": -1.0}, {"asymmetry": 2.0}])
def test_settings_outside_their_range_are_refused(settings):
    with pytest.raises(SettingsError):
        PhantomConfig(**settings)


def test_no_subjects_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="--subjects must be at least 1, got 0"):
        write_phantoms(tmp_path, 0, 0)
