"""NIfTI files written by nibabel, against SimpleITK as an independent reader."""

import gzip
import io

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from extract.errors import ExtractError
from extract.nifti_file import open_nifti
from extract.phantom import rotation
from extract.volume import read_volume
from tests.extract.making import ramp_volume

AFFINE = np.eye(4)
AFFINE[:3, :3] = rotation(0.06, -0.04, 0.1) * [1.0, 2.0, 3.0]
AFFINE[:3, 3] = [-10, 5, 3]


def write_nifti(path, voxels=None, affine=AFFINE, kind=nibabel.Nifti1Image, **header):
    image = kind(ramp_volume() if voxels is None else voxels, affine)
    image.header.set_xyzt_units("mm")
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("code", ["u1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("letters", ["RAS", "LAS", "PSR"])
def test_an_independent_reader_agrees(tmp_path, letters, code, kind, suffix):
    axes = nibabel.orientations.axcodes2ornt(letters)
    image = nibabel.Nifti1Image((ramp_volume() % 120).astype(code), AFFINE).as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), axes)
    )
    path = write_nifti(tmp_path / f"v{suffix}", np.asarray(image.dataobj), image.affine, kind)
    stored = open_nifti(path)
    if kind is nibabel.Nifti2Image:  # which SimpleITK does not know
        other = nibabel.load(path)
        assert np.array_equal(stored.load(), np.asarray(other.dataobj))
        assert stored.affine == pytest.approx(other.affine)
    else:
        other = sitk.ReadImage(str(path))
        assert np.array_equal(stored.load(), sitk.GetArrayFromImage(other).T)
        for index in ([0, 0, 0], [2, 1, 0], [0, 2, 3]):
            position = np.array(other.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
            assert position == pytest.approx((stored.affine @ [*index, 1])[:3], abs=1e-4)
    volume = read_volume(path)
    assert np.array_equal(volume.voxels, ramp_volume() % 120) and volume.affine == pytest.approx(
        AFFINE, abs=1e-4
    )


def test_a_big_endian_file_reads(tmp_path):
    header = nibabel.Nifti1Header(endianness=">")
    image = nibabel.Nifti1Image(ramp_volume().astype(">i2"), AFFINE, header)
    nibabel.save(image, tmp_path / "v.nii")
    assert (tmp_path / "v.nii").read_bytes()[:4] == (348).to_bytes(4, "big")
    assert np.array_equal(open_nifti(tmp_path / "v.nii").load(), ramp_volume())


def test_slope_and_intercept_are_applied(tmp_path):
    image = nibabel.Nifti1Image(ramp_volume(), AFFINE)
    image.header.set_slope_inter(0.5, -7.0)
    nibabel.save(image, tmp_path / "v.nii")
    data = bytearray(
        (tmp_path / "v.nii").read_bytes()
    )  # nibabel rescales when it saves: set them in the file
    data[112:120] = np.array([0.5, -7.0], "<f4").tobytes()
    (tmp_path / "v.nii").write_bytes(data)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "v.nii"))).T
    assert open_nifti(tmp_path / "v.nii").load() == pytest.approx(expected)


def test_the_sform_comes_before_the_qform(tmp_path):
    image = nibabel.Nifti1Image(ramp_volume(), None)
    image.set_qform(np.diag([2.0, 2, 2, 1]), 1)
    image.set_sform(AFFINE, 2)
    nibabel.save(image, tmp_path / "both.nii")
    assert open_nifti(tmp_path / "both.nii").affine == pytest.approx(AFFINE, abs=1e-5)
    image.set_sform(None, 0)
    nibabel.save(image, tmp_path / "q.nii")
    assert open_nifti(tmp_path / "q.nii").affine == pytest.approx(np.diag([2, 2, 2, 1]))


def test_a_file_without_forms_needs_the_flag(tmp_path):
    image = nibabel.Nifti1Image(ramp_volume(), None)
    image.header.set_zooms((1.0, 2.0, 3.0))
    nibabel.save(image, tmp_path / "v.nii")
    with pytest.raises(ExtractError, match=r"got sform and qform codes of 0; pass --orientation"):
        read_volume(tmp_path / "v.nii")
    assert read_volume(tmp_path / "v.nii", "RAS").spacing_mm == pytest.approx([1, 2, 3])


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("meter", 1000.0), ("micron", 0.001)])
def test_other_units_become_millimetres(tmp_path, unit, factor):
    image = nibabel.Nifti1Image(ramp_volume(), np.diag([1 / factor, 1 / factor, 2 / factor, 1]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "v.nii")
    assert open_nifti(tmp_path / "v.nii").affine == pytest.approx(np.diag([1, 1, 2, 1]), rel=1e-5)


def test_one_volume_in_four_axes_is_taken_and_several_are_refused(tmp_path):
    path = write_nifti(tmp_path / "one.nii.gz", ramp_volume()[..., None])
    assert np.array_equal(open_nifti(path).load(), ramp_volume())
    path = write_nifti(tmp_path / "f.nii", np.stack([ramp_volume()] * 3, axis=-1))
    with pytest.raises(
        ExtractError, match=r"f\.nii: expected 3 spatial axes, got 4 \(8 x 6 x 5 x 3\).* these 3"
    ):
        read_volume(path)


def test_colors_are_refused(tmp_path):
    rgb = np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(ExtractError, match="expected real numbers as voxels"):
        read_volume(write_nifti(tmp_path / "v.nii", rgb))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    voxels = np.random.default_rng(0).integers(0, 255, (20, 20, 20)).astype(np.uint8)
    path = write_nifti(tmp_path / f"v{suffix}", voxels)
    for keep in (-900, 200, 0):
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(
            ExtractError, match="expected a whole NIfTI file, got one that is damaged or cut short"
        ):
            read_volume(path)


def test_garbage_is_refused(tmp_path):
    for name, content in (
        ("a.nii", b"x" * 999),
        ("b.nii.gz", b"x" * 999),
        ("c.nii.gz", gzip.compress(b"x" * 999)),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ExtractError, match="expected a whole NIfTI file"):
            read_volume(tmp_path / name)


def test_a_header_that_promises_a_terabyte_is_refused(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((10000, 10000, 10000))
    header["sform_code"], header["magic"], header["vox_offset"] = 1, b"n+1", 352
    stream = io.BytesIO()
    header.write_to(stream)
    (tmp_path / "v.nii").write_bytes(stream.getvalue() + bytes(100))
    with pytest.raises(ExtractError, match="promises 1,000,000,000,000"):
        read_volume(tmp_path / "v.nii")
    header.set_data_shape((1000, 1000, 1000))
    stream = io.BytesIO()
    header.write_to(stream)
    (tmp_path / "w.nii.gz").write_bytes(gzip.compress(stream.getvalue() + bytes(1000)))
    with pytest.raises(ExtractError, match="promises 4,000,000,000 bytes of voxels"):
        read_volume(tmp_path / "w.nii.gz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ExtractError, match=r"none\.nii: expected a file, got nothing there"):
        read_volume(tmp_path / "none.nii")
