"""DICOM series written by pydicom, against SimpleITK as an independent reader."""

import locale
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from extract.archive import open_archive
from extract.errors import ExtractError, SettingsError
from extract.phantom import rotation
from extract.planes import SliceConfig
from extract.volume import open_volume, read_volume
from extract.volume_files import list_volumes
from extract.volumes import build_volume_archive
from tests.extract.making import head_volume, ramp_volume

pydicom = pytest.importorskip("pydicom", reason="needs the extra: pip install 'synthlabel[dicom]'")
from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid  # noqa: E402

SPACING = (0.9, 1.1, 2.5)


def write_series(
    folder: Path,
    lps: np.ndarray | None = None,
    turn: np.ndarray | None = None,
    drop: tuple[int, ...] = (),
    shift: dict[int, float] | None = None,
    tilt_mm: float = 0.0,
    series: str = "",
    compress: bool = False,
    prefix: str = "i",
    **tags,
) -> Path:
    """A series of axial slices from an array that runs to the left, back and top; names and numbers are "
    "shuffled."""
    folder.mkdir(parents=True, exist_ok=True)
    lps = ramp_volume() if lps is None else lps
    turn = np.eye(3) if turn is None else turn
    uid = series or generate_uid()
    order = np.random.default_rng(0).permutation(lps.shape[2])
    for k in range(lps.shape[2]):
        if k in drop:
            continue
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        meta.MediaStorageSOPInstanceUID = generate_uid()
        path = folder / f"{prefix}{order[k]:03d}.dcm"
        item = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        depth = k * SPACING[2] + (shift or {}).get(k, 0.0)
        place = turn @ [0, 0, depth] + turn @ [0, k * tilt_mm, 0] + [4.0, -5.0, 6.0]
        item.SOPClassUID, item.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        item.SeriesInstanceUID, item.StudyInstanceUID = uid, "1.2.3"
        item.PatientID, item.Modality, item.SeriesNumber = "p1", "MR", 3
        item.InstanceNumber = int(order[k])
        item.ImagePositionPatient = [float(f"{value:.6f}") for value in place]
        item.ImageOrientationPatient = [float(f"{value:.8f}") for value in [*turn[:, 0], *turn[:, 1]]]
        item.PixelSpacing = [SPACING[1], SPACING[0]]
        item.Columns, item.Rows = lps.shape[:2]
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit = 16, 16, 15
        item.PixelRepresentation = int(lps.dtype.kind == "i")
        item.PixelData = np.ascontiguousarray(lps[:, :, k].T).tobytes()
        for keyword, value in tags.items():
            if value is None:
                delattr(item, keyword)
            else:
                setattr(item, keyword, value)
        if compress:
            item.compress(RLELossless)
        item.save_as(path, enforce_file_format=True)
    return folder


@pytest.mark.parametrize("turn", [np.eye(3), rotation(0.1, -0.2, 0.15), rotation(0, np.pi / 2, 0.1)])
def test_an_independent_reader_agrees(tmp_path, turn):
    folder = write_series(tmp_path / "s", turn=turn)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    other, stored = reader.Execute(), open_volume(folder)
    values, theirs = stored.load(), sitk.GetArrayFromImage(other).T
    assert stored.shape == theirs.shape
    for index in np.ndindex(stored.shape):
        x, y, z, _ = stored.affine @ [*index, 1]
        assert values[index] == theirs[other.TransformPhysicalPointToIndex((-x, -y, z))]
    corner = stored.affine @ [0, 0, 0, 1]
    index = other.TransformPhysicalPointToContinuousIndex((-corner[0], -corner[1], corner[2]))
    assert np.abs(np.array(index) - np.round(index)).max() < 1e-3  # at a voxel's center for both


def test_slices_are_sorted_by_place_and_come_out_in_ras(tmp_path):
    volume = read_volume(write_series(tmp_path / "s"))
    assert np.array_equal(volume.voxels, ramp_volume()[::-1, ::-1])
    assert volume.spacing_mm == pytest.approx(SPACING) and volume.name == "s"


def test_gantry_tilt_stays_in_the_affine(tmp_path):
    stored = open_volume(write_series(tmp_path / "s", tilt_mm=0.7))
    assert stored.affine[:3, 2] == pytest.approx([0, -0.7, 2.5])


def test_hounsfield_units_and_inverted_grays(tmp_path):
    ct = {"Modality": "CT", "RescaleSlope": 2, "RescaleIntercept": -1100}
    values = open_volume(write_series(tmp_path / "ct", **ct)).load()
    expected = ramp_volume().astype(np.float32) * 2 - 1100
    assert values == pytest.approx(np.maximum(expected, -1024)) and (expected < -1024).any()
    values = open_volume(write_series(tmp_path / "m", RescaleIntercept=-10)).load()
    assert np.array_equal(values, ramp_volume() - 10) and values.dtype != np.float64
    flipped = write_series(
        tmp_path / "m1", ramp_volume().astype(np.uint16), PhotometricInterpretation="MONOCHROME1"
    )
    assert np.array_equal(open_volume(flipped).load(), 65535 - ramp_volume().astype(int))


def test_a_compressed_series_reads(tmp_path):
    assert np.array_equal(open_volume(write_series(tmp_path / "s", compress=True)).load(), ramp_volume())


@pytest.fixture
def kept_locale():
    """SimpleITK's writer of JPEG 2000 leaves the C locale behind, in which files are read as ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


def test_a_compression_of_jpeg_2000_reads(tmp_path, kept_locale):
    pytest.importorskip("gdcm")
    folder = write_series(tmp_path / "s")
    for path in folder.iterdir():
        image = sitk.ReadImage(str(path))
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(path))
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG2000")
        writer.Execute(image)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_compressed
    assert np.array_equal(open_volume(folder).load(), ramp_volume())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drop": (2,)}, r"every 2\.5 mm, got 5 mm between i\d+\.dcm and i\d+\.dcm: slices are missing"),
        ({"shift": {2: 0.4}}, "expected evenly spaced slices, got gaps of 2.1 to 2.9 mm"),
        ({"shift": {2: -2.5}}, "expected one slice at each position, got 1 doubled"),
        ({"NumberOfFrames": 4}, "expected one slice a file, got 4 frames; convert the series to NIfTI"),
        ({"SamplesPerPixel": 3}, "expected gray slices, got 3 values a pixel"),
        ({"ImagePositionPatient": None}, "got no ImagePositionPatient; it is a picture of its own"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "expected gray values .*, got PALETTE COLOR"),
        ({"drop": (0, 1, 2, 3)}, "expected a series of at least 2 slices, got 1"),
        ({"Rows": 20000, "Columns": 20000}, "expected slices of at most 8192 pixels"),
        ({"Rows": 2000}, "its header promises 32,000 bytes of voxels|damaged"),
        ({"PixelSpacing": [0, 1]}, "three different lines"),
    ],
)  # fmt: skip
def test_what_would_misplace_a_slice_is_refused(tmp_path, settings, message):
    with pytest.raises(ExtractError, match=message):
        read_volume(write_series(tmp_path / "s", **settings))


def test_mixed_orientations_sizes_and_series_are_refused(tmp_path):
    for kind, other in (
        ("orientation", {"turn": rotation(0, 0.5, 0)}),
        ("PixelSpacing", {"PixelSpacing": [2, 2]}),
    ):
        folder = write_series(tmp_path / kind, series="1.2.9")
        write_series(folder, series="1.2.9", prefix="j", **other)
        with pytest.raises(ExtractError, match=f"{kind}"):
            read_volume(folder)
    folder = write_series(tmp_path / "two")
    write_series(folder, prefix="j")
    with pytest.raises(ExtractError, match="expected the files of one series, got 2"):
        read_volume(folder)


def test_every_series_of_a_tree_is_a_volume(tmp_path):
    write_series(tmp_path / "ann" / "t1")
    write_series(tmp_path / "bob")
    write_series(tmp_path / "bob", prefix="j", SeriesNumber=7)
    write_series(tmp_path / "bob" / "report", drop=(1, 2, 3, 4), Rows=None)
    (tmp_path / "notes.txt").write_text("no volume")
    found, num_ignored = list_volumes(tmp_path)
    assert [item.name for item in found] == ["ann/t1", "bob/series-3", "bob/series-7"]
    assert [len(item.files) for item in found] == [5, 5, 5] and num_ignored == 2
    assert found[1].open(tmp_path).shape == (8, 6, 5)


def test_one_patient_under_two_names_is_refused(tmp_path):
    head = head_volume().astype(np.int16)
    for name, patient in (("a", "p1"), ("b", "p1"), ("c", "p2")):
        write_series(tmp_path / "v" / name, head, PatientID=patient)
    config = SliceConfig(size=16, slices_per_plane=3)
    with pytest.raises(
        ExtractError, match=r"b: expected a patient to be one subject.*--subject-tag PatientID"
    ):
        build_volume_archive(tmp_path / "v", tmp_path / "a.zip", config)
    build_volume_archive(tmp_path / "v", tmp_path / "a.zip", config, subject_tag="PatientID")
    with open_archive(tmp_path / "a.zip") as archive:
        assert set(archive.subjects) == {"p1", "p2"}
    (tmp_path / "t.csv").write_text("file,subject\na,x\nb,y\nc,z\n")  # the IDs were blanked: the table knows
    build_volume_archive(tmp_path / "v", tmp_path / "b.zip", config, subjects=tmp_path / "t.csv")
    with open_archive(tmp_path / "b.zip") as archive:
        assert set(archive.subjects) == {"x", "y", "z"}


def test_a_subject_needs_a_tag_that_is_there(tmp_path):
    write_series(tmp_path / "v" / "a", head_volume().astype(np.int16), PatientID="")
    config = SliceConfig(size=16, slices_per_plane=3)
    with pytest.raises(ExtractError, match="expected the subject in the DICOM tag PatientID, got none"):
        build_volume_archive(tmp_path / "v", tmp_path / "a.zip", config, subject_tag="PatientID")
    with pytest.raises(SettingsError, match="--subject-tag must be one of PatientID"):
        build_volume_archive(tmp_path / "v", tmp_path / "a.zip", config, subject_tag="Rows")


def test_without_the_extra_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    write_series(tmp_path / "v")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for attempt in (lambda: read_volume(tmp_path / "v"), lambda: list_volumes(tmp_path)):
        with pytest.raises(
            ExtractError, match=r"pydicom, which is not installed; run: pip install 'synthlabel\[dicom\]'"
        ):
            attempt()


def test_damaged_files_are_named(tmp_path):
    folder = write_series(tmp_path / "v" / "s", head_volume().astype(np.int16))
    victim = sorted(folder.iterdir())[2]
    victim.write_bytes(victim.read_bytes()[:-40])
    with pytest.raises(ExtractError, match=r"i002\.dcm: expected a whole DICOM file"):
        read_volume(folder)
    victim.write_bytes(bytes(128) + b"DICM" + b"rubbish")
    with pytest.raises(ExtractError, match=r"i002\.dcm: expected the place of the slice in its header"):
        read_volume(folder)
    config = SliceConfig(size=16)
    with pytest.raises(ExtractError, match="2 of 2 volumes cannot be used") as caught:
        build_volume_archive(tmp_path / "v", tmp_path / "a.zip", config)
    assert "i002.dcm: expected a whole DICOM file" in str(caught.value)


def test_a_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 300)
    with pytest.raises(ExtractError, match="expected a folder of DICOM files, got none in it"):
        read_volume(tmp_path)
