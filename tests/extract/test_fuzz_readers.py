"""Damaged volumes of every format: an error of our own, at once, whatever was damaged."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.errors import ExtractError
from extract.volume import read_volume
from tests.extract.making import ramp_volume, write_nrrd
from tests.extract.test_nifti_file import write_nifti

FEW = settings(
    max_examples=60,
    deadline=5000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
MANY = settings(FEW, max_examples=4000, derandomize=False)
edits = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["flip", "cut", "drop", "double", "zero", "digit"]),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=6,
)


def damage(data: bytes, changes: list[tuple[float, str, int]], head: int) -> bytes:
    """Change some places, most of them in the head, where it hurts."""
    changed = bytearray(data)
    for place, kind, value in changes:
        at = min(
            int(place**2 * max(len(changed), head)) if value % 4 == 0 else int(place * head), len(changed) - 1
        )
        if at < 0:
            break
        match kind:
            case "flip":
                changed[at] ^= value or 1
            case "cut":
                del changed[at + value :]
            case "drop":
                del changed[at : at + value % 9 + 1]
            case "double":
                changed[at:at] = changed[at : at + value % 40]
            case "zero":
                changed[at : at + value % 9 + 1] = bytes(value % 9 + 1)
            case "digit":
                changed[at] = ord("0") + value % 10
    return bytes(changed)


def read_or_refuse(path: Path) -> None:
    try:
        volume = read_volume(path)
    except ExtractError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert volume.voxels.ndim == 3 and np.isfinite(volume.affine).all()


def nrrd_bytes(folder: Path, encoding: str) -> bytes:
    return write_nrrd(folder / "sound.nrrd", ramp_volume(), "PSR", encoding=encoding).read_bytes()


def fuzz_nrrd(folder: Path, changes, encoding: str) -> None:
    (folder / "f.nrrd").write_bytes(damage(nrrd_bytes(folder, encoding), changes, 300))
    read_or_refuse(folder / "f.nrrd")


def fuzz_nifti(folder: Path, changes, zipped: bool) -> None:
    data = damage(write_nifti(folder / "sound.nii").read_bytes(), changes, 352)
    path = folder / ("f.nii.gz" if zipped else "f.nii")
    path.write_bytes(gzip.compress(data, 1) if zipped else data)
    read_or_refuse(path)


def fuzz_dicom(folder: Path, changes, number: int) -> None:
    from tests.extract.test_dicom_series import write_series

    if not (folder / "sound").is_dir():
        write_series(folder / "sound")
    (folder / "series").mkdir(exist_ok=True)
    for k, path in enumerate(sorted((folder / "sound").iterdir())):
        data = path.read_bytes()
        (folder / "series" / path.name).write_bytes(damage(data, changes, len(data)) if k == number else data)
    read_or_refuse(folder / "series")


@FEW
@given(changes=edits, encoding=st.sampled_from(["raw", "gzip", "bzip2", "ascii"]))
def test_damaged_nrrds_are_read_or_refused(tmp_path, changes, encoding):
    fuzz_nrrd(tmp_path, changes, encoding)


@FEW
@given(changes=edits, zipped=st.booleans())
def test_damaged_niftis_are_read_or_refused(tmp_path, changes, zipped):
    fuzz_nifti(tmp_path, changes, zipped)


@FEW
@given(changes=edits, number=st.integers(0, 4))
def test_damaged_dicoms_are_read_or_refused(tmp_path, changes, number):
    pytest.importorskip("pydicom")
    fuzz_dicom(tmp_path, changes, number)


@pytest.mark.slow
@MANY
@given(changes=edits, encoding=st.sampled_from(["raw", "gzip", "bzip2", "ascii"]))
def test_many_damaged_nrrds(tmp_path, changes, encoding):
    fuzz_nrrd(tmp_path, changes, encoding)


@pytest.mark.slow
@MANY
@given(changes=edits, zipped=st.booleans())
def test_many_damaged_niftis(tmp_path, changes, zipped):
    fuzz_nifti(tmp_path, changes, zipped)


@pytest.mark.slow
@MANY
@given(changes=edits, number=st.integers(0, 4))
def test_many_damaged_dicoms(tmp_path, changes, number):
    pytest.importorskip("pydicom")
    fuzz_dicom(tmp_path, changes, number)
