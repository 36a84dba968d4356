import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from extract.archive import open_archive
from extract.dicom_picture import read_dicom_picture, read_subject_tag, window
from extract.errors import ExtractError, SettingsError
from extract.images import ImageConfig, SubjectRule, build_image_archive

pydicom = pytest.importorskip("pydicom", reason="needs the extra synthlabel[dicom]")
from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: E402
from pydicom.uid import (  # noqa: E402
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

RAMP = np.linspace(100, 3900, 8 * 12).reshape(8, 12).astype(np.uint16)  # 12 bits


def dicom(
    pixels: np.ndarray = RAMP, *, meaning: str = "MONOCHROME2", bits: int = 12, **elements
) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    dataset.Modality, dataset.PatientID, dataset.PatientName = "CR", "P7", "Doe^Jane"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = meaning
    dataset.BitsAllocated = 8 * pixels.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def saved(path: Path, dataset: FileDataset) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def shown(tmp_path: Path, dataset: FileDataset, rgb: bool = False) -> np.ndarray:
    return read_dicom_picture(saved(tmp_path / "x.dcm", dataset), rgb)[0]


def test_without_a_window_the_robust_range_is_shown(tmp_path):
    pixels, facts = read_dicom_picture(saved(tmp_path / "x.dcm", dicom()), rgb=False)
    assert pixels.shape == (8, 12) and pixels.dtype == np.uint8
    assert pixels[0, 0] == 0 and pixels[-1, -1] == 255 and (np.diff(pixels.ravel().astype(int)) >= 0).all()
    assert (facts.width, facts.height, facts.kind, facts.mode, facts.bits) == (
        12,
        8,
        "DICOM",
        "MONOCHROME2",
        12,
    )
    assert shown(tmp_path, dicom(), rgb=True).shape == (8, 12, 3)


def test_monochrome1_is_turned_to_white_on_black(tmp_path):
    one, two = shown(tmp_path, dicom(meaning="MONOCHROME1")), shown(tmp_path, dicom())
    assert np.array_equal(one, 255 - two)
    both = dicom(meaning="MONOCHROME1", PresentationLUTShape="INVERSE")  # says the same twice
    assert np.array_equal(shown(tmp_path, both), one)


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_rescaling_then_the_window_as_an_independent_reader_does(tmp_path, function):
    dataset = dicom(RescaleSlope=0.5, RescaleIntercept=-200, RescaleType="HU", WindowCenter=[600, 0],
                    WindowWidth=[900, 1])  # fmt: skip
    if function:
        dataset.VOILUTFunction = function
    pixels = shown(tmp_path, dataset).astype(float)
    reread = pydicom.dcmread(tmp_path / "x.dcm")
    theirs = pydicom.pixels.apply_windowing(pydicom.pixels.apply_modality_lut(RAMP, reread), reread)
    low, high = -200, 4095 * 0.5 - 200  # their range is that of the rescaled bits
    assert np.abs(pixels - (theirs - low) / (high - low) * 255).max() <= 1
    assert pixels.min() == 0 or function == "SIGMOID"


def test_signed_values_and_padding(tmp_path):
    values = np.linspace(-900, 900, 96).reshape(8, 12).astype(np.int16)
    values[0] = -2000  # outside what the device saw
    dataset = dicom(values, bits=16, meaning="MONOCHROME1")
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    pixels = shown(tmp_path, dataset)
    assert (pixels[0] == 0).all() and pixels[1, 0] > 250 and pixels[-1, -1] == 0


def test_a_look_up_table_is_followed(tmp_path):
    item = pydicom.Dataset()
    item.LUTDescriptor = [4096, 0, 12]
    item.add_new("LUTData", "OW", np.arange(4096, dtype=np.uint16)[::-1].tobytes())
    pixels = shown(tmp_path, dicom(VOILUTSequence=pydicom.Sequence([item])))
    assert pixels[0, 0] == round((4095 - 100) / 4095 * 255) and pixels[-1, -1] == round(
        (4095 - 3900) / 4095 * 255
    )


def test_color_comes_as_rgb_or_gray(tmp_path):
    red = np.zeros((8, 8, 3), np.uint8)
    red[:, :, 0] = 250
    assert shown(tmp_path, dicom(red, meaning="RGB", bits=8), rgb=True)[0, 0].tolist() == [250, 0, 0]
    assert shown(tmp_path, dicom(red, meaning="RGB", bits=8))[0, 0] == 75


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_files_read_as_their_plain_twins(tmp_path, syntax):
    plain = shown(tmp_path, dicom())
    packed = dicom()
    if syntax == RLELossless:
        packed.compress(syntax)
    else:  # packed by another library; ours only reads it
        if not features.check("jpg_2000"):
            pytest.skip("this Pillow writes no JPEG 2000")
        data = io.BytesIO()
        Image.fromarray(RAMP).save(data, format="JPEG2000", no_jp2=True)
        packed.file_meta.TransferSyntaxUID = syntax
        packed.PixelData = pydicom.encaps.encapsulate([data.getvalue()])
        packed["PixelData"].VR = "OB"
        packed.BitsStored, packed.HighBit = 16, 15  # as its codestream says
    assert np.abs(shown(tmp_path, packed).astype(int) - plain).max() <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"NumberOfFrames": 2}, "got 2 frames in one file"),
        (
            {"Rows": 60000, "Columns": 60000},
            "at most 67,108,864 pixels, got a header that promises 60000x60000",
        ),
        ({"Rows": 9}, "whole pixels in a known coding"),
        ({"PhotometricInterpretation": "HSV"}, "PhotometricInterpretation MONOCHROME1, .* got HSV"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "a WindowWidth above 0, got 0"),
    ],
)
def test_what_is_no_single_whole_picture_is_refused(tmp_path, changes, message):
    with pytest.raises(ExtractError, match=r"x\.dcm: .*" + message):
        shown(tmp_path, dicom(**changes))


def test_files_that_are_no_pictures_are_refused(tmp_path):
    (tmp_path / "x.dcm").write_bytes(b"no dicom")
    with pytest.raises(
        ExtractError, match=r"x\.dcm: expected a sound DICOM file, got one that cannot be read"
    ):
        read_dicom_picture(tmp_path / "x.dcm", rgb=False)
    report = dicom()
    del report.Rows, report.Columns, report.PixelData
    with pytest.raises(ExtractError, match="got a file without Columns"):
        shown(tmp_path, report)
    deflated = dicom()
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with pytest.raises(ExtractError, match="expected DICOM with a bounded size, got a deflated file"):
        shown(tmp_path, deflated)


@pytest.mark.parametrize("end", ["rows", "odd"])
def test_elements_that_break_when_they_are_asked_for_are_one_sentence(tmp_path, end):
    """pydicom reads an element at its first use, long after the file."""
    path = saved(tmp_path / "x.dcm", dicom(WindowCenter=600, WindowWidth=900))
    data = path.read_bytes()
    where = data.index(b"\x28\x00\x10\x00US" if end == "rows" else b"\x28\x00\x50\x10DS")
    broken = b"\x53\x02" if end == "rows" else b"FD"  # another kind of value
    path.write_bytes(data[: where + 4] + broken + data[where + 6 :])
    with pytest.raises(ExtractError, match=r"x\.dcm: expected"):
        read_dicom_picture(path, rgb=False)


def test_the_header_names_the_subject_only_where_asked(tmp_path):
    path = saved(tmp_path / "x.dcm", dicom())
    assert read_subject_tag(path, "PatientID") == "P7" and read_subject_tag(path, "PatientName") == "Doe^Jane"
    with pytest.raises(SettingsError, match="--subject-tag must be a DICOM keyword such as PatientID"):
        read_subject_tag(path, "Patient")
    with pytest.raises(
        ExtractError, match="expected a subject in the DICOM element PatientID, got none; anonymised"
    ):
        read_subject_tag(saved(path, dicom(PatientID="")), "PatientID")


def test_a_folder_of_dicom_files_becomes_an_archive(tmp_path):
    for label, person in (("ill", "A"), ("ill", "B"), ("well", "C")):
        (tmp_path / "s" / label).mkdir(parents=True, exist_ok=True)
        marked = {"BurnedInAnnotation": "YES"} if person == "B" else {}
        saved(tmp_path / "s" / label / f"{person}.DCM", dicom(PatientID=person, **marked))
    summary = build_image_archive(
        tmp_path / "s", tmp_path / "a.zip", ImageConfig(16), SubjectRule(tag="PatientID")
    )
    assert len(summary.notes) == 1 and "1 DICOM files say that text is burned into" in summary.notes[0]
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.subjects.tolist() == ["A", "B", "C"] and archive.classes == ("ill", "well")
        assert archive.manifest["source_height"].tolist() == ["8"] * 3


def test_without_the_extra_the_remedy_is_told(tmp_path, monkeypatch):
    path = saved(tmp_path / "x.dcm", dicom())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        ExtractError, match=r"x\.dcm: reading DICOM takes an extra: pip install 'synthlabel\[dicom\]'"
    ):
        read_dicom_picture(path, rgb=False)


def test_a_window_of_one_value_is_a_threshold():
    assert window(np.array([4, 5, 6]), 5.5, 1).tolist() == [0, 0, 1]
