from pathlib import Path

import nibabel.orientations as orientations
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk

from extract.errors import ExtractError, SettingsError
from extract.orientation import check_orientation, turn_to_ras
from extract.phantom import rotation
from extract.volume import read_volume
from tests.extract.making import ramp_volume, write_nrrd

OBLIQUE = rotation(0.06, -0.04, 0.1)


@pytest.mark.parametrize("order", ["RAS", "LAS", "LPS", "PSR", "AIL", "SRP", "IPL"])
def test_every_stored_order_gives_the_same_volume(tmp_path, order):
    path = write_nrrd(tmp_path / "v.nrrd", ramp_volume(), order, (1.0, 2.0, 3.0))
    volume = read_volume(path)
    assert np.array_equal(volume.voxels, ramp_volume())
    assert volume.voxels.dtype == np.int16  # as stored: a small integer needs no float
    assert volume.spacing_mm == pytest.approx([1, 2, 3])
    assert volume.affine[:3, 3] == pytest.approx([-10, 5, 3])


@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS", "LAS"])
def test_every_world_gives_the_same_volume(tmp_path, space):
    volume = read_volume(write_nrrd(tmp_path / "v.nrrd", ramp_volume(), "PSR", turn=OBLIQUE, space=space))
    assert np.array_equal(volume.voxels, ramp_volume())
    assert volume.affine[:3, :3] == pytest.approx(OBLIQUE)


@pytest.mark.parametrize(
    ("order", "turn"), [("LAS", None), ("PSR", None), ("LAS", OBLIQUE), ("SRP", OBLIQUE)]
)
def test_an_independent_reader_finds_the_same_values_at_the_same_places(tmp_path, order, turn):
    path = write_nrrd(tmp_path / "v.nrrd", ramp_volume(), order, (0.9, 1.1, 2.5), turn)
    volume, other = read_volume(path), sitk.ReadImage(str(path))
    for index in np.ndindex(volume.voxels.shape):
        position = volume.affine @ [*index, 1]  # mm, RAS
        place = other.TransformPhysicalPointToIndex((-position[0], -position[1], position[2]))
        assert other[place] == volume.voxels[index]


def test_a_detached_header_reads(tmp_path):
    header = {"space": "RAS", "space directions": np.eye(3), "space origin": np.zeros(3)}
    nrrd.write(str(tmp_path / "v.nhdr"), ramp_volume(), header)
    assert np.array_equal(read_volume(tmp_path / "v.nhdr").voxels, ramp_volume())


@pytest.mark.parametrize("orientation", ["LAS", "psr"])
def test_the_flag_settles_a_missing_orientation(tmp_path, orientation):
    whole = read_volume(write_nrrd(tmp_path / "v.nrrd", ramp_volume(), orientation.upper(), (1.0, 2.0, 3.0)))
    drop = ("space", "space directions", "space origin")
    spacings = {"LAS": [1.0, 2.0, 3.0], "psr": [2.0, 3.0, 1.0]}[orientation]
    bare = write_nrrd(tmp_path / "b.nrrd", ramp_volume(), orientation.upper(), drop=drop, spacings=spacings)
    with pytest.raises(
        ExtractError, match=r"b\.nrrd: expected a header that says where the axes run to.*--orientation"
    ):
        read_volume(bare)
    settled = read_volume(bare, orientation)
    assert np.array_equal(settled.voxels, whole.voxels)
    assert settled.spacing_mm == pytest.approx(whole.spacing_mm)


def test_a_header_that_says_wins_over_the_flag(tmp_path):
    path = write_nrrd(tmp_path / "v.nrrd", ramp_volume(), "PSR")
    assert np.array_equal(read_volume(path, "RAS").voxels, ramp_volume())


def test_spacing_is_needed_even_with_the_flag(tmp_path):
    path = write_nrrd(tmp_path / "b.nrrd", ramp_volume(), drop=("space", "space directions", "space origin"))
    with pytest.raises(ExtractError, match="expected spacings or space directions"):
        read_volume(path, "RAS")


@pytest.mark.parametrize("orientation", ["RAL", "RA", "XYZ", "RASA", ""])
def test_an_impossible_flag_is_refused(orientation):
    with pytest.raises(SettingsError, match="--orientation must be three letters"):
        check_orientation(orientation)


@pytest.mark.parametrize("encoding", ["gzip", "raw"])
def test_a_truncated_file_is_refused(tmp_path, encoding):
    rng = np.random.default_rng(0)
    path = write_nrrd(
        tmp_path / "v.nrrd", rng.integers(0, 255, (20, 20, 20), dtype=np.uint8), encoding=encoding
    )
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(
        ExtractError, match=r"v\.nrrd: expected a whole NRRD file, got one that is damaged or cut short"
    ):
        read_volume(path)


def test_garbage_is_refused(tmp_path):
    for content in (b"", b"not a volume", b"NRRD0004\ntype: uint8\n", b"NRRD0004\ntype: horse\n\n"):
        (tmp_path / "g.nrrd").write_bytes(content)
        with pytest.raises(ExtractError, match=r"g\.nrrd: expected a whole NRRD file"):
            read_volume(tmp_path / "g.nrrd")


def test_a_missing_data_file_of_a_detached_header_is_refused(tmp_path):
    header = {"space": "RAS", "space directions": np.eye(3), "space origin": np.zeros(3)}
    nrrd.write(str(tmp_path / "v.nhdr"), ramp_volume(), header)
    next(path for path in tmp_path.iterdir() if path.suffix != ".nhdr").unlink()
    with pytest.raises(ExtractError, match=r"expected a file for the voxels of .*v\.nhdr, got nothing"):
        read_volume(tmp_path / "v.nhdr")


def _write(path: Path, voxels: np.ndarray, **header) -> Path:
    nrrd.write(str(path), voxels, header)
    return path


def test_a_4d_volume_is_refused_with_its_kinds(tmp_path):
    path = _write(
        tmp_path / "v.nrrd", np.ones((2, 4, 4, 4), np.uint8), kinds=["list", "domain", "domain", "domain"],
        space="left-posterior-superior",
        **{"space directions": np.vstack([np.full(3, np.nan), np.eye(3)]), "space origin": np.zeros(3)},
    )  # fmt: skip
    with pytest.raises(
        ExtractError, match=r"expected 3 spatial axes, got 4 \(kinds: list domain domain domain\)"
    ):
        read_volume(path)


def test_a_color_picture_is_no_volume(tmp_path):
    path = _write(
        tmp_path / "v.nrrd", np.ones((3, 4, 4), np.uint8),
        space="RAS", kinds=["RGB-color", "domain", "domain"],
        **{"space directions": np.vstack([np.full(3, np.nan), np.eye(3)[:2]]), "space origin": np.zeros(3)},
    )  # fmt: skip
    with pytest.raises(ExtractError, match="expected 3 spatial axes, got 2 of 3"):
        read_volume(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinite_voxels_are_counted(tmp_path, bad):
    voxels = ramp_volume().astype(np.float32)
    voxels[1, 2, 3] = voxels[4, 4, 4] = bad
    with pytest.raises(ExtractError, match="expected finite voxels, got 2 of 240 that are NaN or infinite"):
        read_volume(write_nrrd(tmp_path / "v.nrrd", voxels))


def test_a_constant_volume_is_refused(tmp_path):
    with pytest.raises(ExtractError, match="expected an image, got the value 7 in every voxel"):
        read_volume(write_nrrd(tmp_path / "v.nrrd", np.full((4, 4, 4), 7, np.uint8)))


def test_directions_in_one_plane_are_refused(tmp_path):
    flat = np.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]])
    path = _write(
        tmp_path / "v.nrrd",
        ramp_volume(),
        space="RAS",
        **{"space directions": flat, "space origin": np.zeros(3)},
    )
    with pytest.raises(ExtractError, match="along three different lines"):
        read_volume(path)


def test_units_other_than_millimetres_are_refused(tmp_path):
    path = write_nrrd(tmp_path / "v.nrrd", ramp_volume(), **{"space units": ["m", "m", "m"]})
    with pytest.raises(ExtractError, match="expected space units of mm"):
        read_volume(path)


def test_axes_go_where_an_independent_library_takes_them():
    rng = np.random.default_rng(0)
    voxels = ramp_volume()
    for _ in range(60):
        axes, signs = rng.permutation(3), rng.choice([-1, 1], 3)
        affine = np.eye(4)
        affine[:3, :3] = rotation(*rng.normal(0, 0.15, 3)) @ np.diag(signs)[axes] * rng.uniform(0.5, 3, 3)
        affine[:3, 3] = rng.normal(0, 50, 3)
        turned, matrix = turn_to_ras(voxels, affine)
        to_ras = orientations.io_orientation(affine)
        assert np.array_equal(turned, orientations.apply_orientation(voxels, to_ras))
        assert matrix == pytest.approx(affine @ orientations.inv_ornt_aff(to_ras, voxels.shape))
