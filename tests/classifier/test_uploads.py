import gzip
import zlib

import numpy as np
import pytest

from classifier.inputs import list_sources, read_source
from classifier.preparation import InputSettings
from classifier.uploads import Upload, UploadLimits, shown_name, stored_uploads
from extract.language import Message
from extract.planes import SliceConfig
from tests.classifier.uploaded import nrrd_bytes, png_bytes

OF_PICTURES = InputSettings(size=32, rgb=False, fit="pad", made_from="images")
OF_VOLUMES = InputSettings(size=32, rgb=False, slices=SliceConfig(size=32, fov_mm=200.0), made_from="volumes")


def store(*uploads: Upload, settings: InputSettings = OF_PICTURES, limits: UploadLimits | None = None):
    with stored_uploads(uploads, settings, limits) as stored:
        assert all(path.exists() for path in stored.inputs)
    return stored


def reasons(stored) -> str:
    return "\n".join(item.reason for item in stored.refused)


def test_uploads_lie_on_the_disk_for_the_time_of_the_block_alone():
    with stored_uploads([Upload("a.png", png_bytes())], OF_PICTURES) as stored:
        assert stored.inputs[0].read_bytes() == png_bytes() and stored.names == ("a.png",)
        folder = stored.folder
    assert not folder.exists()
    with pytest.raises(RuntimeError), stored_uploads([Upload("a.png", png_bytes())], OF_PICTURES) as stored:
        folder = stored.folder
        raise RuntimeError
    assert not folder.exists()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd.png", "passwd.png"),
        ("C:\\scans\\a.png", "a.png"),
        ("a\x00b\n.png", "ab.png"),
        ("/", "file"),
        ("é ñ.png", "é ñ.png"),
    ],
)
def test_a_name_is_its_last_part_and_printable(given, shown):
    assert shown_name(given) == shown


def test_no_name_leads_out_of_the_folder():
    names = ["../../../x.png", "..", "CON.png", "a" * 300 + ".png", "x.png", "x.png", "%2e%2e.png"]
    with stored_uploads([Upload(name, png_bytes()) for name in names], OF_PICTURES) as stored:
        for path in stored.inputs:
            assert path.resolve().is_relative_to(stored.folder.resolve())
        assert len(set(stored.inputs)) == len(names) - 1  # ".." is no picture's name
        assert len(stored.refused) == 1


def test_what_is_too_large_or_too_much_is_refused_and_the_rest_goes_on():
    limits = UploadLimits(num_files=3, file_megabytes=1, total_megabytes=2)
    big, bigger = bytes(10**6 - 100), bytes(10**6 + 1)
    stored = store(
        Upload("a.png", bigger), Upload("b.png", big), Upload("c.png", big), Upload("d.png", big),
        limits=limits,
    )  # fmt: skip
    assert stored.names == ("b.png", "c.png")
    assert "a.png: expected at most 1 MB a file" in reasons(stored)
    assert "d.png: expected at most 3 files at once, got 4" in reasons(stored)
    limits = UploadLimits(num_files=9, file_megabytes=1, total_megabytes=2)
    stored = store(*(Upload(f"{k}.png", big) for k in range(3)), limits=limits)
    assert stored.names == ("0.png", "1.png") and "2.png: expected at most 2 MB altogether" in reasons(stored)
    assert all(isinstance(item.reason, Message) for item in stored.refused)  # so that they can be translated


def test_other_kinds_and_empty_files_are_refused_by_name():
    stored = store(Upload("tool.exe", b"MZ" + bytes(64)), Upload("a.zip", b"PK"), Upload("b.png", b""))
    assert not stored.inputs
    assert "tool.exe: expected a picture or a volume (.png" in reasons(stored)
    assert "got a file of another kind" in reasons(stored) and "b.png: expected a picture" in reasons(stored)


def test_a_dicom_file_is_known_by_its_mark_whatever_its_name():
    data = bytes(128) + b"DICM" + bytes(10)
    with stored_uploads([Upload("IM000017", data)], OF_PICTURES) as stored:
        assert stored.inputs[0].name == "IM000017.dcm" and stored.names == ("IM000017",)


def test_a_volume_for_a_model_of_pictures_is_refused_in_its_own_words():
    stored = store(Upload("scan.nrrd", nrrd_bytes()))
    assert "scan.nrrd is a volume, and the classifier was trained on pictures" in reasons(stored)
    assert "/" not in reasons(stored).split(" is a volume")[0]  # no temporary folder


def test_a_header_that_points_at_other_files_is_refused(tmp_path):
    header = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\nData File: /etc/passwd\n\n"
    stored = store(Upload("a.nrrd", header), Upload("b.nhdr", header), settings=OF_VOLUMES)
    assert not stored.inputs and reasons(stored).count("got a header whose voxels lie in another") == 2


def test_a_volume_that_promises_too_many_voxels_is_refused_by_its_header_alone():
    head = (
        "NRRD0004\ntype: uchar\ndimension: 3\nspace: right-anterior-superior\nsizes: 1200 1200 1200\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nencoding: gzip\n\n"
    )
    bomb = head.encode() + gzip.compress(bytes(2**21)) + bytes(2**21)  # a size that gzip could promise
    stored = store(Upload("bomb.nrrd", bomb), settings=OF_VOLUMES)
    assert "bomb.nrrd: expected at most 134,217,728 voxels, got 1,728,000,000" in reasons(stored)


def test_a_nifti_zip_bomb_is_told_by_what_gzip_can_hold():
    header = bytearray(348)
    header[:4] = (348).to_bytes(4, "little")
    for place, value in enumerate((3, 500, 500, 500, 1, 1, 1, 1)):
        header[40 + 2 * place : 42 + 2 * place] = value.to_bytes(2, "little")
    header[70:72], header[72:74] = (2).to_bytes(2, "little"), (8).to_bytes(2, "little")
    header[108:112] = np.float32(352).tobytes()
    header[254:256] = (1).to_bytes(2, "little")
    for row in range(3):
        header[280 + 16 * row + 4 * row : 284 + 16 * row + 4 * row] = np.float32(1).tobytes()
    header[344:348] = b"n+1\x00"
    stored = store(Upload("bomb.nii.gz", gzip.compress(bytes(header) + bytes(4))), settings=OF_VOLUMES)
    assert "bomb.nii.gz: expected a whole NIfTI file" in reasons(stored)


def test_slices_of_a_dicom_series_make_one_input(tmp_path):
    pytest.importorskip("pydicom")
    from tests.extract.test_dicom_series import write_series

    write_series(tmp_path, np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(np.int16))
    uploads = [Upload(path.name, path.read_bytes()) for path in sorted(tmp_path.iterdir())]
    stored = store(*uploads, settings=OF_VOLUMES)
    assert len(uploads) > 1 and len(stored.inputs) == 1 and stored.names == ("DICOM",)


def test_twenty_thousand_pixels_a_side_are_refused_before_they_are_decoded(tmp_path):
    row = zlib.compress(bytes(20_001))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (20_000).to_bytes(4, "big")
    picture = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + size + b"\x08\x00\x00\x00\x00")
    picture += chunk(b"IDAT", row) + chunk(b"IEND", b"")
    with stored_uploads([Upload("huge.png", picture)], OF_PICTURES) as stored:
        (source,) = list_sources(stored.inputs, OF_PICTURES)
        (fault,) = read_source(source, OF_PICTURES)
    assert "expected at most" in fault.reason and "pixels" in fault.reason
