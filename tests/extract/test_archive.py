import csv
import errno
import io
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.archive_lists import COLUMNS
from extract.errors import ExtractError
from extract.png import decode_image, encode_png
from tests.extract.making import many_subjects, random_pixels, rewrite_zip, write_archive


@pytest.fixture
def archive_path(tmp_path: Path) -> Path:
    with write_archive(tmp_path / "a.zip", many_subjects(3)) as archive:
        return archive.path


def test_what_is_written_is_read_again(tmp_path):
    record = ImageRecord(
        label="coronal", subject="007", source="x/é, y.nrrd", plane="coronal", angle_deg=-3.5, slice_index=4,
        position_mm=12.25,
    )  # fmt: skip
    made = ImageRecord(
        origin="synthetic", seed=12, truncation_psi=0.7, class_name="coronal", snapshot_sha256="f0"
    )
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        assert writer.add(random_pixels(1), record) == "00000/img00000000.png"
        assert writer.add(random_pixels(2), made) == "00000/img00000001.png"
    with open_archive(tmp_path / "a.zip") as archive:
        assert len(archive) == 2 and archive.image_shape == (1, 8, 8)
        assert archive.classes == ("coronal",)
        assert archive.labels.tolist() == [0, -1]
        assert archive.subjects.tolist() == ["007", ""]
        assert np.array_equal(archive.read_image(0)[0], random_pixels(1))
        row = archive.manifest.iloc[0]
        assert tuple(archive.manifest.columns) == COLUMNS
        assert (row["subject"], row["source"], row["angle_deg"], row["slice_index"]) == (
            "007",
            "x/é, y.nrrd",
            "-3.5",
            "4",
        )
        assert (row["position_mm"], row["origin"], row["seed"], row["truncation_psi"]) == (
            "12.25",
            "real",
            "",
            "",
        )
        synthetic = archive.manifest.iloc[1]
        assert (synthetic["seed"], synthetic["truncation_psi"], synthetic["class"]) == (
            "12",
            "0.7",
            "coronal",
        )
        assert synthetic["snapshot_sha256"] == "f0"


def test_the_official_files_are_in_it(archive_path):
    with zipfile.ZipFile(archive_path) as opened:
        assert {entry.compress_type for entry in opened.infolist()} == {zipfile.ZIP_STORED}
        labels = json.loads(opened.read("dataset.json"))
        rows = list(csv.DictReader(io.StringIO(opened.read("manifest.csv").decode())))
    assert list(labels) == ["labels"]
    assert labels["labels"][:3] == [
        ["00000/img00000000.png", 0],
        ["00000/img00000001.png", 1],
        ["00000/img00000002.png", 2],
    ]
    assert [row["label"] for row in rows[:3]] == ["a", "b", "c"]


def test_a_half_labeled_archive_writes_null_for_the_official_reader_and_keeps_its_names(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        writer.add(random_pixels(1), ImageRecord(label="b", subject="s"))
        writer.add(random_pixels(2), ImageRecord(subject="s"))
    with open_archive(tmp_path / "a.zip") as archive, zipfile.ZipFile(tmp_path / "a.zip") as opened:
        assert json.loads(opened.read("dataset.json")) == {"labels": None}
        assert archive.classes == ("b",) and archive.labels.tolist() == [0, -1]


def test_classes_that_no_image_shows_keep_their_numbers(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip", classes=["z", "m", "a"]) as writer:
        writer.add(random_pixels(1), ImageRecord(label="m", subject="s"))
        with pytest.raises(ExtractError, match=r"expected a class among \['a', 'm', 'z'\], got 'q'"):
            writer.add(random_pixels(2), ImageRecord(label="q", subject="s"))
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.classes == ("a", "m", "z") and archive.labels.tolist() == [1]


def test_the_same_images_give_the_same_bytes(tmp_path):
    paths = [write_archive(tmp_path / name, many_subjects(4)).path for name in ("a.zip", "b.zip")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_settings_of_the_preparation_are_kept(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip", preparation={"size": 8}) as writer:
        writer.describe(fov_mm=190.0)
        writer.add(random_pixels(1), ImageRecord(subject="s"))
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.preparation == {"size": 8, "fov_mm": 190.0}


def test_an_official_archive_reads_with_numbers_as_class_names(archive_path, tmp_path):
    labels = [[f"00000/img{k:08d}.png", [11, 0, 2][k % 3]] for k in range(9)]
    bare = rewrite_zip(
        archive_path, tmp_path / "official.zip",
        {"manifest.csv": None, "preparation.json": None, "dataset.json": {"labels": labels}},
    )  # fmt: skip
    with open_archive(bare) as archive:
        assert archive.classes == tuple(str(k) for k in range(12))
        assert archive.labels[:3].tolist() == [11, 0, 2]
        assert archive.manifest["label"].tolist()[:3] == ["11", "0", "2"]
        assert set(archive.subjects) == {""}
    unlabeled = rewrite_zip(
        archive_path, tmp_path / "bare.zip",
        {"manifest.csv": None, "preparation.json": None, "dataset.json": {"labels": None}},
    )  # fmt: skip
    with open_archive(unlabeled) as archive:
        assert archive.classes == () and set(archive.labels) == {-1}


@pytest.mark.parametrize("shape", [(8, 8), (5, 7), (16, 16, 3), (1, 1)])
def test_png_bytes_decode_to_the_same_pixels_in_two_readers(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = encode_png(pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    decoded = decode_image(data, "x")
    assert np.array_equal(decoded[0] if len(shape) == 2 else decoded.transpose(1, 2, 0), pixels)
    assert data == encode_png(pixels.copy(order="F"))


def test_only_8_bit_gray_or_rgb_can_be_encoded_or_read():
    with pytest.raises(ValueError, match="must be"):
        encode_png(np.zeros((4, 4), np.uint16))
    deep = cv2.imencode(".png", np.zeros((4, 4), np.uint16))[1].tobytes()
    with pytest.raises(ExtractError, match="expected 8-bit gray or RGB"):
        decode_image(deep, "deep.png")


def test_a_real_image_needs_a_subject():
    with pytest.raises(ExtractError, match=r"scan\.nrrd: expected a subject, got none.*--subject"):
        ImageRecord(label="a", source="scan.nrrd")


def test_an_image_of_another_shape_is_refused(tmp_path):
    with (
        pytest.raises(
            ExtractError,
            match=r"s2\.png: expected the shape of the images before it, \(8, 8\), got \(16, 16\)",
        ),
        ArchiveWriter(tmp_path / "a.zip") as writer,
    ):
        writer.add(random_pixels(1), ImageRecord(subject="s"))
        writer.add(random_pixels(1, size=16), ImageRecord(subject="s", source="s2.png"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(8, 16), (12, 12)])
def test_a_side_that_the_gan_cannot_take_is_refused(tmp_path, shape):
    with (
        pytest.raises(ExtractError, match=r"power of two.*--size"),
        ArchiveWriter(tmp_path / "a.zip") as writer,
    ):
        writer.add(np.zeros(shape, np.uint8), ImageRecord(subject="s"))


def test_an_archive_that_is_there_is_left_alone(archive_path):
    before = archive_path.read_bytes()
    with pytest.raises(ExtractError, match=r"already exists.*--overwrite"):
        ArchiveWriter(archive_path)
    assert archive_path.read_bytes() == before


def test_nothing_is_left_when_writing_stops(archive_path, tmp_path):
    before = archive_path.read_bytes()
    with pytest.raises(KeyboardInterrupt), ArchiveWriter(archive_path, overwrite=True) as writer:
        writer.add(random_pixels(9), ImageRecord(subject="s"))
        raise KeyboardInterrupt
    assert archive_path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_full_disk_leaves_the_old_archive_and_no_rubbish(archive_path, tmp_path, monkeypatch):
    before = archive_path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"), ArchiveWriter(archive_path, overwrite=True) as writer:
        writer.add(random_pixels(9), ImageRecord(subject="s"))
        monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
        writer.add(random_pixels(10), ImageRecord(subject="s"))
    assert archive_path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_an_empty_archive_is_not_written(tmp_path):
    with pytest.raises(ExtractError, match="expected at least one image"), ArchiveWriter(tmp_path / "a.zip"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_zip_is_refused(tmp_path, archive_path):
    with pytest.raises(ExtractError, match="nothing there"):
        open_archive(tmp_path / "none.zip")
    with pytest.raises(ExtractError, match="got a folder"):
        open_archive(tmp_path)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(archive_path.read_bytes()[:-300])
    with pytest.raises(ExtractError, match=r"cut\.zip: expected a zip archive"):
        open_archive(cut)


def test_a_damaged_entry_is_named(archive_path, tmp_path):
    data = bytearray(archive_path.read_bytes())
    data[60] ^= 0xFF  # inside the first picture
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(data)
    with pytest.raises(ExtractError, match=r"damaged\.zip: expected a sound entry 00000/img00000000\.png"):
        open_archive(damaged)


@pytest.mark.parametrize(
    "name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "C:/evil.png"]
)
def test_names_that_point_outside_are_refused(archive_path, tmp_path, name):
    with pytest.raises(ExtractError, match="points outside"):
        open_archive(rewrite_zip(archive_path, tmp_path / "evil.zip", {name: encode_png(random_pixels(1))}))


def _manifest_with(archive_path: Path, old: str, new: str) -> str:
    with zipfile.ZipFile(archive_path) as opened:
        text = opened.read("manifest.csv").decode()
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("img00000003.png", "img00000099.png", r"manifest\.csv lists 00000/img00000099\.png"),
        ("img00000003.png", "img00000002.png", r"expected a row of manifest\.csv for 00000/img00000003\.png"),
        ("00000/img00000000.png,a,", "00000/img00000000.png,c,", "contradict each other: .*0.png is 'c'"),
        (",real,", ",imagined,", "expected an origin real or synthetic.*imagined"),
        (",s00,", ",,", "expected a subject for each real image.*img00000000"),
        ("snapshot_sha256", "snapshot", "expected the column snapshot_sha256"),
        ("00000/img00000000.png,a,", "00000/img00000000.png,q,", r"expected classes among \['a', .*got q"),
    ],
)  # fmt: skip
def test_lists_that_contradict_each_other_are_refused(archive_path, tmp_path, old, new, message):
    text = _manifest_with(archive_path, old, new)
    with pytest.raises(ExtractError, match=message):
        open_archive(rewrite_zip(archive_path, tmp_path / "b.zip", {"manifest.csv": text}))


def test_labels_in_dataset_json_alone_contradict_an_unlabeled_manifest(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        writer.add(random_pixels(1), ImageRecord(subject="s"))
    labels = {"labels": [["00000/img00000000.png", 3]]}
    with pytest.raises(ExtractError, match=r"contradict each other.*is '' \(class -1\) in the one, class 3"):
        open_archive(rewrite_zip(tmp_path / "a.zip", tmp_path / "b.zip", {"dataset.json": labels}))


def test_a_listed_picture_that_is_missing_is_named(archive_path, tmp_path):
    with pytest.raises(ExtractError, match=r"lists 00000/img00000004\.png, expected in the archive"):
        open_archive(rewrite_zip(archive_path, tmp_path / "b.zip", {"00000/img00000004.png": None}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"expected JSON in dataset\.json"),
        ("[1]", r"expected an object in dataset\.json, got list"),
        ('{"labels": [["00000/img00000000.png", 0]]}', r"expected a label in dataset\.json for .*001"),
        ('{"labels": [["00000/img00000000.png", [0.5, 0.5]]]}', "expected integer classes from 0"),
        ('{"labels": [3]}', r"expected \[name, label\] pairs"),
    ],
)  # fmt: skip
def test_a_faulty_dataset_json_is_refused(archive_path, tmp_path, content, message):
    with pytest.raises(ExtractError, match=message):
        open_archive(rewrite_zip(archive_path, tmp_path / "b.zip", {"dataset.json": content}))


def test_an_archive_without_pictures_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("readme.txt", "nothing here")
    with pytest.raises(ExtractError, match=r"expected images .*got none"):
        open_archive(tmp_path / "a.zip")


def test_a_picture_of_another_size_is_named_when_it_is_read(archive_path, tmp_path):
    odd = rewrite_zip(
        archive_path, tmp_path / "b.zip", {"00000/img00000005.png": encode_png(random_pixels(1, size=4))}
    )
    with (
        open_archive(odd) as archive,
        pytest.raises(ExtractError, match=r"\(1, 4, 4\) in 00000/img00000005\.png"),
    ):
        archive.read_image(5)


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99)])  # the flag "encrypted"; an unknown method
def test_an_entry_that_python_cannot_unpack_is_refused(archive_path, tmp_path, offset, value):
    data = bytearray(archive_path.read_bytes())
    for signature, shift in ((b"PK\x03\x04", 2), (b"PK\x01\x02", 0)):  # the first picture's two headers
        data[data.find(signature) + offset - shift] = value
    (tmp_path / "packed.zip").write_bytes(bytes(data))
    with pytest.raises(ExtractError, match=r"packed\.zip: expected a sound entry 00000/img00000000\.png"):
        open_archive(tmp_path / "packed.zip")


def test_a_folder_is_no_name_for_an_archive(tmp_path):
    (tmp_path / "a.zip").mkdir()
    with pytest.raises(ExtractError, match="expected the name of an archive to write, got a folder"):
        ArchiveWriter(tmp_path / "a.zip", overwrite=True)
