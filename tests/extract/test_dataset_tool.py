"""The dataset tool: each of its sources, and what it must not do to labels and pixels."""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from extract.archive import open_archive
from extract.dataset_tool import build_dataset
from extract.errors import ExtractError, SettingsError
from extract.transforms import Transform
from scripts.cli import cli
from tests.extract.making import random_pixels, write_archive


def save(path: Path, pixels: np.ndarray | Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(path)
    return path


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def folder_of(path: Path, count: int = 4, size: int = 8, channels: int = 0) -> Path:
    for number in range(count):
        save(path / f"b{number % 2}" / f"{number}.png", random_pixels(number, size=size, channels=channels))
    return path


def images_of(path: Path) -> np.ndarray:
    with open_archive(path) as archive:
        return np.stack([archive.read_image(index) for index in range(len(archive))])


def official_view(path: Path) -> tuple[list[str], dict[str, int] | None]:
    """Names and labels as FORMATS describes the official reader: sorted pictures, labels by name."""
    with zipfile.ZipFile(path) as opened:
        assert all(info.compress_type == zipfile.ZIP_STORED for info in opened.infolist())
        names = sorted(name for name in opened.namelist() if name.lower().endswith(".png"))
        labels = json.loads(opened.read("dataset.json"))["labels"]
    return names, None if labels is None else dict(labels)


def test_a_folder_becomes_an_archive_in_the_order_of_its_paths(tmp_path: Path):
    source = folder_of(tmp_path / "pictures")
    summary = build_dataset(source, tmp_path / "a.zip")
    assert (summary.num_images, summary.image_shape, summary.num_subjects) == (4, (8, 8), None)
    expected = [random_pixels(number) for number in (0, 2, 1, 3)]
    np.testing.assert_array_equal(images_of(tmp_path / "a.zip")[:, 0], expected)
    assert official_view(tmp_path / "a.zip") == ([f"00000/img0000000{k}.png" for k in range(4)], None)


def test_labels_come_from_dataset_json_and_keep_their_numbers(tmp_path: Path):
    source = folder_of(tmp_path / "pictures")
    names = ["b0/0.png", "b0/2.png", "b1/1.png", "b1/3.png"]
    numbers = [11, 2, 0, 11]
    (source / "dataset.json").write_text(json.dumps({"labels": list(zip(names, numbers, strict=True))}))
    build_dataset(source, tmp_path / "a.zip")
    files, labels = official_view(tmp_path / "a.zip")
    assert labels == dict(zip(files, numbers, strict=True))  # 2 stays 2 though "11" < "2" as text
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.labels.tolist() == numbers
        assert len(archive.classes) == 12


def test_pictures_without_a_label_stay_unlabeled_and_the_others_keep_theirs(tmp_path: Path):
    source = folder_of(tmp_path / "pictures")
    (source / "dataset.json").write_text(json.dumps({"labels": [["b0/0.png", 1], ["gone.png", 0]]}))
    summary = build_dataset(source, tmp_path / "a.zip")
    assert (summary.num_unlabeled, summary.num_unused_labels) == (3, 1)
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.labels.tolist() == [1, -1, -1, -1]


def test_zips_are_read_in_place_with_their_labels(tmp_path: Path):
    source = tmp_path / "pictures.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as opened:
        for number in range(3):
            opened.writestr(f"x/{number}.png", png(random_pixels(number)))
        opened.writestr("dataset.json", json.dumps({"labels": [[f"x/{k}.png", k % 2] for k in range(3)]}))
    build_dataset(source, tmp_path / "a.zip", max_images=2)
    assert images_of(tmp_path / "a.zip").shape == (2, 1, 8, 8)
    assert list((official_view(tmp_path / "a.zip")[1] or {}).values()) == [0, 1]


def test_an_archive_of_ours_keeps_classes_and_subjects_when_it_is_made_smaller(tmp_path: Path):
    write_archive(tmp_path / "own.zip", {"anna": "ab", "bert": "b"}).close()
    summary = build_dataset(tmp_path / "own.zip", tmp_path / "small.zip", Transform(width=4, height=4))
    assert (summary.counts, summary.num_subjects) == ({"a": 1, "b": 2}, 2)
    with open_archive(tmp_path / "small.zip") as archive:
        assert archive.subjects.tolist() == ["anna", "anna", "bert"]
        assert archive.manifest["label"].tolist() == ["a", "b", "b"]
        assert archive.image_shape == (1, 4, 4)
    with pytest.raises(SettingsError, match="--subject-pattern is for sources without subjects"):
        build_dataset(tmp_path / "own.zip", tmp_path / "b.zip", subject_pattern=".*")


def test_unknown_subjects_count_as_one_so_that_no_split_can_leak(tmp_path: Path):
    source = folder_of(tmp_path / "pictures")
    build_dataset(source, tmp_path / "a.zip")
    build_dataset(source, tmp_path / "b.zip", subject_pattern=r"(b\d)/")
    with open_archive(tmp_path / "a.zip") as unknown, open_archive(tmp_path / "b.zip") as known:
        assert set(unknown.subjects.tolist()) == {"unknown"}
        assert known.subjects.tolist() == ["b0", "b0", "b1", "b1"]


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes byte strings as Python 2 did, which made the files of CIFAR-10."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_bytes(self, data: bytes) -> None:
        short = len(data) < 256
        self.write((b"U" + bytes([len(data)]) if short else b"T" + struct.pack("<i", len(data))) + data)
        self.memoize(data)

    dispatch[bytes] = save_bytes


def python2_pickle(content: object) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue()


def write_cifar(path: Path, batches: dict[str, object], names: list[str] | None = None) -> Path:
    contents = {f"cifar-10-batches-py/{name}": content for name, content in batches.items()}
    if names is not None:
        contents["cifar-10-batches-py/batches.meta"] = {b"label_names": [name.encode() for name in names]}
    with tarfile.open(path, "w:gz") as opened:
        for name, content in contents.items():
            data = content if isinstance(content, bytes) else python2_pickle(content)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            opened.addfile(member, io.BytesIO(data))
    return path


def test_cifar_is_read_in_the_order_of_its_batches_without_its_test_part(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    source = write_cifar(
        tmp_path / "cifar-10-python.tar.gz",
        {
            "data_batch_2": {b"data": pixels[2:], b"labels": [9, 0]},
            "data_batch_1": {b"data": pixels[:2], b"labels": [3, 5]},
            "test_batch": {b"data": pixels, b"labels": [1, 1, 1, 1]},
        },
        [f"class {letter}" for letter in "abcdefghij"],
    )
    build_dataset(source, tmp_path / "a.zip")
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.labels.tolist() == [3, 5, 9, 0]
        assert archive.classes[3] == "class d"
        np.testing.assert_array_equal(archive.read_image(2), pixels[2].reshape(3, 32, 32))


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch hacked",)


def test_a_hostile_cifar_is_refused_and_nothing_of_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    source = write_cifar(tmp_path / "cifar-10-python.tar.gz", {"data_batch_1": {b"data": Hostile()}})
    with pytest.raises(ExtractError, match="system"):
        build_dataset(source, tmp_path / "a.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar-10-python.tar.gz"]


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ({"readme": b"x"}, "expected the files data_batch_1"),
        (
            {"data_batch_1": {b"data": np.zeros((1, 5), np.uint8), b"labels": [0]}},
            r"expected 'data' of shape",
        ),
        ({"data_batch_1": {b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}}, "expected 'labels', 1"),
        ({"data_batch_1": [1, 2]}, "expected named arrays, got list"),
    ],
)
def test_a_tar_that_is_not_cifar_is_refused(tmp_path: Path, batches: dict, message: str):
    source = write_cifar(tmp_path / "cifar-10-python.tar.gz", batches)
    with pytest.raises(ExtractError, match=message):
        build_dataset(source, tmp_path / "a.zip")


def test_a_broken_tar_is_refused(tmp_path: Path):
    source = tmp_path / "cifar-10-python.tar.gz"
    source.write_bytes(gzip.compress(b"nothing of the kind" * 100)[:-9])
    with pytest.raises(ExtractError, match=r"expected a whole tar\.gz"):
        build_dataset(source, tmp_path / "a.zip")


def write_mnist(folder: Path, digits: np.ndarray, labels: list[int]) -> Path:
    source = folder / "train-images-idx3-ubyte.gz"
    source.write_bytes(gzip.compress(struct.pack(">4I", 2051, *digits.shape) + digits.tobytes()))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">2I", 2049, len(labels)) + bytes(labels))
    )
    return source


def test_mnist_is_padded_to_32_pixels_and_labeled(tmp_path: Path):
    digits = np.random.default_rng(0).integers(1, 256, (3, 28, 28), dtype=np.uint8)
    build_dataset(write_mnist(tmp_path, digits, [7, 0, 9]), tmp_path / "a.zip")
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.labels.tolist() == [7, 0, 9]
    images = images_of(tmp_path / "a.zip")[:, 0]
    np.testing.assert_array_equal(images[:, 2:30, 2:30], digits)
    assert images.shape == (3, 32, 32) and images[:, :2].max() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "train-labels-idx1-ubyte.gz").unlink(), "expected the labels beside"),
        (lambda folder: write_mnist(folder, np.zeros((2, 28, 28), np.uint8), [1]), "expected 2 labels"),
        (lambda folder: write_mnist(folder, np.zeros((1, 40, 28), np.uint8), [1]), "of at most 32x32"),
        (
            lambda folder: (folder / "train-images-idx3-ubyte.gz").write_bytes(
                gzip.compress(struct.pack(">4I", 2051, 1, 28, 28) + bytes(5))
            ),
            "ends after 0 of 1 images",
        ),
        (
            lambda folder: (folder / "train-images-idx3-ubyte.gz").write_bytes(
                gzip.compress(struct.pack(">4I", 7, 1, 1, 1))
            ),
            "expected the number 2051",
        ),
    ],
)
def test_a_damaged_mnist_is_refused_and_nothing_appears(tmp_path: Path, change, message: str):
    source = write_mnist(tmp_path, np.ones((1, 28, 28), np.uint8), [1])
    change(tmp_path)
    with pytest.raises(ExtractError, match=message):
        build_dataset(source, tmp_path / "a.zip")
    assert not list(tmp_path.glob("*.zip"))


def test_lsun_databases_are_read_in_the_order_of_their_keys(tmp_path: Path):
    lmdb = pytest.importorskip("lmdb")
    source = tmp_path / "church_lmdb"
    with lmdb.open(str(source), map_size=2**20) as opened, opened.begin(write=True) as transaction:
        for key in (b"b", b"a"):
            stream = io.BytesIO()
            picture = Image.fromarray(np.full((16, 24, 3), key[0], np.uint8))
            picture.save(stream, format="WEBP", lossless=True)
            transaction.put(key, stream.getvalue())
    build_dataset(source, tmp_path / "a.zip", Transform("center-crop", 8, 8))
    images = images_of(tmp_path / "a.zip")
    assert images.shape == (2, 3, 8, 8)
    assert [image.mean() for image in images] == [ord("a"), ord("b")]


def test_a_folder_that_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "church_lmdb").mkdir()
    with pytest.raises(ExtractError, match="expected an LMDB database"):
        build_dataset(tmp_path / "church_lmdb", tmp_path / "a.zip")


def test_center_crop_takes_the_middle_square_of_gray_pictures_too(tmp_path: Path):
    wide = np.zeros((8, 20), np.uint8)
    wide[:, 6:14] = random_pixels(1)
    save(tmp_path / "p" / "a.png", wide)
    build_dataset(tmp_path / "p", tmp_path / "a.zip", Transform("center-crop", 8, 8))
    np.testing.assert_array_equal(images_of(tmp_path / "a.zip")[0, 0], random_pixels(1))


def test_center_crop_wide_letterboxes_and_leaves_small_pictures_out(tmp_path: Path):
    save(tmp_path / "p" / "a.png", np.full((30, 32), 200, np.uint8))
    save(tmp_path / "p" / "b.png", np.full((8, 16), 200, np.uint8))
    save(tmp_path / "p" / "c.png", np.full((7, 64), 200, np.uint8))
    summary = build_dataset(tmp_path / "p", tmp_path / "a.zip", Transform("center-crop-wide", 16, 8))
    assert (summary.num_images, summary.num_too_small) == (2, 1)
    images = images_of(tmp_path / "a.zip")[:, 0]
    assert (images[:, 4:12] == 200).all() and images[:, :4].max() == 0 == images[:, 12:].max()


def test_width_and_height_alone_resize_with_the_filter_asked_for(tmp_path: Path):
    pixels = random_pixels(0, size=16)
    save(tmp_path / "p" / "a.png", pixels)
    build_dataset(tmp_path / "p", tmp_path / "a.zip", Transform(width=8, height=8, resize_filter="box"))
    means = pixels.reshape(8, 2, 8, 2).mean(axis=(1, 3))
    assert np.abs(images_of(tmp_path / "a.zip")[0, 0] - means).max() <= 1


def test_palettes_and_alpha_become_what_they_look_like(tmp_path: Path):
    colors = random_pixels(0, channels=3)
    save(tmp_path / "p" / "a.png", Image.fromarray(colors).quantize(64))
    layer = np.dstack([colors, np.full((8, 8), 255, np.uint8)])
    save(tmp_path / "p" / "b.png", layer)
    layer = layer.copy()
    layer[0, 0, 3] = 0
    save(tmp_path / "p" / "c.png", layer)
    summary = build_dataset(tmp_path / "p", tmp_path / "a.zip")
    images = images_of(tmp_path / "a.zip").transpose(0, 2, 3, 1).astype(int)
    assert summary.num_transparent == 1
    assert np.abs(images[0] - colors).mean() < 12  # colors of a palette of 64, not its indices
    np.testing.assert_array_equal(images[1], colors)
    assert (images[2, 0, 0] == 0).all() and (images[2, 1:] == colors[1:]).all()


def test_a_gray_palette_is_gray(tmp_path: Path):
    gray = random_pixels(0) // 32 * 32
    save(tmp_path / "p" / "a.png", Image.fromarray(gray).convert("P"))
    build_dataset(tmp_path / "p", tmp_path / "a.zip")
    np.testing.assert_array_equal(images_of(tmp_path / "a.zip")[0, 0], gray)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((8, 6), np.uint8), r"a\.png: expected a square picture .* got 6x8; give --transform"),
        (np.zeros((12, 12), np.uint8), "expected a width and height that are a power of two, got 12"),
        (np.zeros((8, 8), np.uint16), "expected 8 bits a color, got more"),
    ],
)
def test_pictures_that_an_archive_cannot_hold_are_refused(tmp_path: Path, pixels: np.ndarray, message: str):
    save(tmp_path / "p" / "a.png", pixels)
    with pytest.raises(ExtractError, match=message):
        build_dataset(tmp_path / "p", tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_pictures_that_differ_are_refused_with_their_attributes(tmp_path: Path):
    save(tmp_path / "p" / "a.png", random_pixels(0))
    save(tmp_path / "p" / "b.png", random_pixels(0, channels=3))
    with pytest.raises(ExtractError, match=r"b\.png: expected the attributes .* RGB, but a\.png has .* gray"):
        build_dataset(tmp_path / "p", tmp_path / "a.zip")


def test_damaged_pictures_stop_the_work_or_are_left_out_on_request(tmp_path: Path):
    source = folder_of(tmp_path / "p")
    (source / "b0" / "1bad.png").write_bytes(png(random_pixels(9))[:40])
    with pytest.raises(ExtractError, match=r"1 of 5 pictures cannot be used(.|\n)*1bad\.png"):
        build_dataset(source, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()
    summary = build_dataset(source, tmp_path / "a.zip", skip_unreadable=True)
    assert (summary.num_images, len(summary.unreadable)) == (4, 1)
    assert official_view(tmp_path / "a.zip")[0][-1] == "00000/img00000003.png"  # no gap in the numbers


def test_a_small_file_that_claims_to_be_huge_is_refused(tmp_path: Path):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = png(random_pixels(0))
    (tmp_path / "p").mkdir()
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "p" / "a.png").write_bytes(data[:16] + header + crc + data[33:])
    with pytest.raises(ExtractError, match="pixels"):
        build_dataset(tmp_path / "p", tmp_path / "a.zip")


def test_a_folder_as_destination_holds_the_files_of_the_archive(tmp_path: Path):
    source = folder_of(tmp_path / "p")
    (tmp_path / "out").mkdir()
    build_dataset(source, tmp_path / "out")
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert names == [
        *(f"00000/img0000000{k}.png" for k in range(4)), "dataset.json", "manifest.csv", "preparation.json",
    ]  # fmt: skip
    with pytest.raises(ExtractError, match="--dest folder must be empty"):
        build_dataset(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "p"]  # no scratch is left


def test_a_folder_as_destination_appears_whole_or_not_at_all(tmp_path: Path):
    source = folder_of(tmp_path / "p")
    save(source / "z.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(ExtractError, match="expected the attributes"):
        build_dataset(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "Missing input file or directory"),
        ("empty", "expected pictures"),
        ("none.zip", "expected a zip"),
    ],
)
def test_sources_with_nothing_in_them_are_errors(tmp_path: Path, name: str, message: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.zip").write_bytes(b"")
    with pytest.raises(ExtractError, match=message):
        build_dataset(tmp_path / name, tmp_path / "a.zip")


def test_names_that_point_outside_the_zip_are_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as opened:
        opened.writestr("../a.png", png(random_pixels(0)))
    with pytest.raises(ExtractError, match="points outside"):
        build_dataset(tmp_path / "p.zip", tmp_path / "a.zip")


def test_an_absurd_class_number_does_not_fill_the_memory(tmp_path: Path):
    source = folder_of(tmp_path / "p", count=1)
    (source / "dataset.json").write_text(json.dumps({"labels": [["b0/0.png", 10**12]]}))
    with pytest.raises(ExtractError, match="expected at most 100,000 classes"):
        build_dataset(source, tmp_path / "a.zip")


def extract_dataset(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["extract", "dataset", *(str(argument) for argument in arguments)])


def test_the_command_says_what_it_made_and_what_it_could_not_know(tmp_path: Path):
    source = folder_of(tmp_path / "p")
    result = extract_dataset("--source", source, "--dest", tmp_path / "a.zip", "--max-images=3")
    assert result.exit_code == 0, result.output
    assert "a.zip: 3 images, 8x8 gray, no labels" in result.output
    assert "note: subjects are unknown" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dest", ""], "must not be an empty text"),
        (["--transform=center-crop"], "must specify --width and --height when using --transform=center-crop"),
        (["--transform=zoom"], "--transform must be one of center-crop, center-crop-wide"),
        (["--max-images=0"], "--max-images must be at least 1"),
        (["--resize-filter=cubic"], "--resize-filter must be one of box, lanczos"),
    ],
)
def test_wrong_usage_ends_with_2(tmp_path: Path, arguments: list[str], message: str):
    source = folder_of(tmp_path / "p", count=1)
    result = extract_dataset("--source", source, "--dest", tmp_path / "a.zip", *arguments)
    assert result.exit_code == 2 and message in " ".join(result.output.split())
    assert not (tmp_path / "a.zip").exists()


def test_a_file_of_an_unknown_kind_is_wrong_usage(tmp_path: Path):
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    result = extract_dataset("--source", tmp_path / "a.rar", "--dest", tmp_path / "a.zip")
    assert result.exit_code == 2 and "--source must be a folder" in result.output
