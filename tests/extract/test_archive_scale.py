"""Many images, large files, and what is remembered of them."""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import extract.archive_reader
import extract.file_hash
import extract.zips
from extract.archive import ArchiveWriter, ImageRecord, file_sha256, open_archive
from extract.cache import open_images
from extract.cached import list_cached, remove_damaged, trim_cache
from extract.errors import ExtractError
from extract.file_hash import remembered_sha256
from extract.split import make_split, read_split, write_split
from tests.extract.making import many_subjects, random_pixels, rewrite_zip, write_archive


def read_officially(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """As the reference code reads a data set: its description is in our notes on formats, section 1."""
    with zipfile.ZipFile(path) as opened:
        names = sorted(name for name in opened.namelist() if Path(name).suffix.lower() in Image.EXTENSION)
        labels = dict(json.loads(opened.read("dataset.json"))["labels"])
        pixels = [np.array(Image.open(io.BytesIO(opened.read(name)))) for name in names]
    return pixels, [labels[name.replace("\\", "/")] for name in names]


def test_the_official_way_of_reading_gives_the_same_pictures_and_labels(tmp_path):
    Image.init()
    with write_archive(tmp_path / "a.zip", many_subjects(5)) as archive:
        pixels, labels = read_officially(archive.path)
        assert labels == archive.labels.tolist()
        assert all(np.array_equal(image, archive.read_image(k)[0]) for k, image in enumerate(pixels))


def test_an_archive_beyond_the_old_limits_of_zip_is_read_by_us_and_officially(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:  # limits that a small archive passes, too
        patch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 4)
        patch.setattr(zipfile, "ZIP64_LIMIT", 1500)
        path = write_archive(tmp_path / "a.zip", many_subjects(8)).path
    data = path.read_bytes()
    assert b"PK\x06\x06" in data and b"PK\x06\x07" in data  # the larger directory, and where it is
    plain = write_archive(tmp_path / "b.zip", many_subjects(8))
    with open_archive(path) as archive:
        assert all(archive.read_png(k) == plain.read_png(k) for k in range(24))
    assert read_officially(path)[1] == plain.labels.tolist()


@pytest.mark.slow
def test_seventy_thousand_images_are_written_split_and_read(tmp_path):
    pixels = [random_pixels(number) for number in range(100)]
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for number in range(70_000):
            record = ImageRecord(label="ab"[number // 7 % 2], subject=f"p{number // 70:04d}")
            drawn = pixels[number % 100].copy()
            drawn[0, :4] = np.frombuffer(number.to_bytes(4, "little"), np.uint8)  # no two alike
            writer.add(drawn, record)
    with open_archive(tmp_path / "a.zip") as archive:
        assert len(archive) == 70_000 and archive.names[-1] == "00069/img00069999.png"
        number = int.from_bytes(archive.read_image(69_999)[0, 0, :4].tobytes(), "little")
        assert number == 69_999
        split = make_split(archive, num_folds=5, fractions=(0.2,), val_share=0.15, seed=0)
        write_split(split, tmp_path / "s.json")
        assert read_split(tmp_path / "s.json", archive).folds == split.folds


def test_opening_reads_one_picture_whoever_wrote_the_archive(tmp_path, monkeypatch):
    path = write_archive(tmp_path / "a.zip", many_subjects(5)).path
    labels = {"labels": [[f"00000/img{k:08d}.png", k % 3] for k in range(15)]}
    official = rewrite_zip(
        path, tmp_path / "o.zip", {"manifest.csv": None, "preparation.json": None, "dataset.json": labels}
    )
    read: list[str] = []
    original = extract.archive_reader.read_entry

    def count(path: Path, opened: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
        read.append(name)
        return original(path, opened, name, max_bytes)

    monkeypatch.setattr(extract.archive_reader, "read_entry", count)
    for archive_path in (path, official):
        read.clear()
        with open_archive(archive_path) as archive:
            assert len(archive) == 15 and archive.labels.tolist() == [0, 1, 2] * 5 and archive.is_real.all()
            assert read == ["00000/img00000000.png"]
    with open_archive(official) as archive:
        hashes = archive.manifest["sha256"].tolist()  # these cost reading them, when they are asked for
        assert len(read) == 17
    with open_archive(path) as archive:
        assert hashes == archive.manifest["sha256"].tolist()


@pytest.fixture
def counted(tmp_path, monkeypatch) -> list[Path]:
    """Files that were read for their hash; any file counts as large, and as settled at once."""
    read: list[Path] = []

    def count(path: Path) -> str:
        read.append(path)
        return file_sha256(path)

    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(extract.file_hash, "file_sha256", count)
    monkeypatch.setattr(extract.file_hash, "MIN_REMEMBERED_BYTES", 1)
    monkeypatch.setattr(extract.file_hash, "SETTLED_SEC", -1.0)
    return read


def test_a_large_file_is_read_once_for_its_hash(tmp_path, counted):
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    expected = file_sha256(path)
    for _ in range(3):
        with open_archive(path) as archive:
            assert archive.sha256 == expected
    assert counted == [path]


def test_a_changed_file_is_read_again_even_if_it_wears_the_old_date_and_size(tmp_path, counted):
    path = tmp_path / "big"
    path.write_bytes(b"one")
    dates = path.stat()
    first = remembered_sha256(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert remembered_sha256(path) != first and len(counted) == 2
    other = tmp_path / "other"
    other.write_bytes(b"one")
    os.utime(other, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    other.replace(path)
    assert remembered_sha256(path) == first and len(counted) == 3


def test_a_file_that_was_written_just_now_and_a_small_one_are_not_remembered(tmp_path, counted, monkeypatch):
    (tmp_path / "big").write_bytes(b"one")
    monkeypatch.setattr(extract.file_hash, "SETTLED_SEC", 3.0)
    remembered_sha256(tmp_path / "big")
    monkeypatch.setattr(extract.file_hash, "SETTLED_SEC", -1.0)
    monkeypatch.setattr(extract.file_hash, "MIN_REMEMBERED_BYTES", 4)
    remembered_sha256(tmp_path / "big")
    assert len(counted) == 2 and not (tmp_path / "cache").exists()


def test_a_cache_folder_that_cannot_be_written_costs_time_alone(tmp_path, counted, monkeypatch):
    (tmp_path / "in the way").write_text("")
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "in the way"))
    (tmp_path / "big").write_bytes(b"one")
    assert remembered_sha256(tmp_path / "big") == remembered_sha256(tmp_path / "big")
    assert len(counted) == 2


@pytest.fixture
def cached(tmp_path, monkeypatch) -> list[Path]:
    """Decoded images of three archives, used in this order."""
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "cache"))
    paths = []
    for number in range(3):
        with write_archive(tmp_path / f"{number}.zip", many_subjects(number + 2)) as archive:
            open_images(archive)
            paths.append(tmp_path / "cache" / f"{archive.sha256}.npy")
            os.utime(paths[-1], (1e9 + number, 1e9 + number))
    return paths


def test_the_files_that_were_not_used_for_longest_are_cleared_away(cached, tmp_path):
    with open_archive(tmp_path / "0.zip") as archive:
        images = open_images(archive)  # the oldest is used again
    assert [item.path for item in list_cached()] == [cached[0], cached[2], cached[1]]
    (tmp_path / "cache" / "mine.npy").write_text("not ours")
    (tmp_path / "cache" / f".{cached[1].name}.0123abcd.part").write_text("of a killed process")
    removed = trim_cache(cached[0].stat().st_size + cached[2].stat().st_size)
    assert [item.path for item in removed] == [cached[1]]
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {
        cached[0].name,
        cached[2].name,
        "mine.npy",
    }
    trim_cache(0)
    assert list_cached() == [] and images.sum() > 0  # a map that is in use outlives its file


def test_a_flipped_bit_in_a_decoded_file_is_found_and_the_file_made_anew(cached, tmp_path):
    data = bytearray(cached[1].read_bytes())
    data[300] ^= 1
    cached[1].write_bytes(data)
    cached[2].write_bytes(b"")
    assert set(remove_damaged()) == {cached[1], cached[2]}
    assert not cached[1].exists() and not cached[2].exists() and cached[0].exists()
    with open_archive(tmp_path / "1.zip") as archive:
        assert all(
            np.array_equal(open_images(archive)[k], archive.read_image(k)) for k in range(len(archive))
        )
    assert remove_damaged() == []


def test_a_file_of_an_earlier_version_without_a_hash_at_its_end_is_still_used(cached, tmp_path):
    cached[0].write_bytes(cached[0].read_bytes()[:-32])
    reports: list[int] = []
    with open_archive(tmp_path / "0.zip") as archive:
        open_images(archive, lambda done, total, message: reports.append(done))
    assert reports == []


def test_a_disk_without_room_is_told_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 100))
    with (
        write_archive(tmp_path / "a.zip", many_subjects(3)) as archive,
        pytest.raises(ExtractError, match=r"a folder with 0\.0 MB free.*got: 0\.0 MB free"),
    ):
        open_images(archive)
    assert list((tmp_path / "cache").iterdir()) == []


def test_entries_are_the_same_by_the_short_way_and_by_zipfile(tmp_path, monkeypatch):
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    prefixed = tmp_path / "p.zip"
    prefixed.write_bytes(b"what a self-unpacking program would be" + path.read_bytes())
    packed = tmp_path / "d.zip"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    read = []
    for archive_path in (path, prefixed, packed):
        with open_archive(archive_path) as archive:
            read.append([archive.read_png(index) for index in range(9)])
    monkeypatch.setattr(extract.zips, "_read_stored", lambda opened, info: None)
    with open_archive(path) as archive:
        assert [archive.read_png(index) for index in range(9)] == read[0] == read[1] == read[2]
