"""Files that promise far more than they hold, read by a process that may not have the memory they ask for."""

import gzip
import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extract.archive import open_archive
from extract.errors import ExtractError
from tests.extract.making import many_subjects, random_pixels, rewrite_zip, write_archive

ROOT = Path(__file__).parents[2]
BOUND_BYTES = 2**30  # of address space, beside what the imports take
READ = """
import resource, sys
from pathlib import Path
import extract.archive, extract.cache, extract.dataset_tool, extract.images, extract.volume, extract.verify
from extract.errors import SynthlabelError
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + int(sys.argv[3]), held + int(sys.argv[3])))
path = Path(sys.argv[2])
try:
    match sys.argv[1]:
        case "volume":
            extract.volume.read_volume(path)
        case "picture":
            extract.images.prepare_image(path, extract.images.ImageConfig(size=8))
        case "archive":
            with extract.archive.open_archive(path) as archive:
                for index in range(len(archive)):
                    archive.read_image(index)
        case "dataset":
            extract.dataset_tool.build_dataset(path, path.with_name("made.zip"))
except SynthlabelError as error:
    print(error)
    sys.exit(1)
"""


def read_within_bounds(what: str, path: Path) -> str:
    """The sentence with which reading ends."""
    done = subprocess.run(
        [sys.executable, "-c", READ, what, str(path), str(BOUND_BYTES)],
        capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr + done.stdout
    return done.stdout.strip()


def nrrd_header(sizes: str, encoding: str) -> bytes:
    lines = [
        "NRRD0005",
        "type: uint8",
        "dimension: 3",
        "space: RAS",
        f"sizes: {sizes}",
        f"encoding: {encoding}",
    ]
    return "\n".join([*lines, "space directions: (1,0,0) (0,1,0) (0,0,1)"]).encode() + b"\n\n"


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_header_that_promises_a_million_million_voxels(tmp_path, encoding):
    path = tmp_path / "a.nrrd"
    path.write_bytes(nrrd_header("10000 10000 10000", encoding) + gzip.compress(bytes(1000)))
    assert "a.nrrd: expected" in read_within_bounds("volume", path)


def test_a_picture_that_promises_ten_thousand_million_pixels(tmp_path):
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in {b"IHDR": header, b"IDAT": zlib.compress(bytes(10**6)), b"IEND": b""}.items():
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    (tmp_path / "a.png").write_bytes(data)
    assert "a.png: expected" in read_within_bounds("picture", tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("00000/img00000000.png", data)
    assert "claims 100000x100000" in read_within_bounds("archive", tmp_path / "a.zip")
    assert "10000000000 pixels" in read_within_bounds("dataset", tmp_path / "a.zip")


@pytest.mark.parametrize(
    "name", ["manifest.csv", "dataset.json", "preparation.json", "00000/img00000004.png"]
)
def test_an_entry_that_unpacks_to_gigabytes(tmp_path, name):
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    bomb = rewrite_zip(path, tmp_path / "b.zip", {name: None})
    with (
        zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as opened,
        opened.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry,
    ):
        for _ in range(3):
            entry.write(bytes(2**25))
    with (
        pytest.raises(ExtractError, match="got 100,663,296; nothing of it was loaded"),
        open_archive(bomb) as archive,
    ):
        archive.read_image(4)


def test_an_entry_that_declares_less_than_it_unpacks_to(tmp_path):
    """The size in the directory bounds what is unpacked; a lie about it is a fault of the entry."""
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 10)
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(ExtractError, match=r"expected (a sound entry|an image)"):
        open_archive(tmp_path / "b.zip")


def test_an_entry_that_declares_more_than_the_file_holds(tmp_path):
    """Found by fuzzing: room for the packed size was made before it was read."""
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 20 : entry + 24] = b"\xfe\xff\xff\x7f"
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(
        ExtractError, match=r"expected a sound entry .*got a packed size of 2,147,483,646 bytes"
    ):
        open_archive(tmp_path / "b.zip")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset.json", '{"labels": [["x", 1000000000000]]}', "expected at most 100,000 classes"),
        ("dataset.json", "[" * 100_000, "nested too deeply"),
        ("dataset.json", '{"labels": [["a", ' + "9" * 10_000 + "]]}", "expected JSON"),
        ("preparation.json", '{"settings": [], "classes": ["a"]}', "expected an object as settings"),
        ("preparation.json", '{"settings": {}, "classes": [1]}', "expected a list of names as classes"),
    ],
)  # fmt: skip
def test_lists_beyond_all_use_are_refused(tmp_path, name, content, message):
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    with pytest.raises(ExtractError, match=message):
        open_archive(rewrite_zip(path, tmp_path / "b.zip", {name: content}))


def test_one_endless_subject_does_not_cost_its_length_for_each_image(tmp_path):
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    with zipfile.ZipFile(path) as opened:
        text = opened.read("manifest.csv").decode().replace(",s00,", f",{'s' * 3000},")
    with pytest.raises(ExtractError, match="names of at most 255 characters in the column subject"):
        open_archive(rewrite_zip(path, tmp_path / "b.zip", {"manifest.csv": text}))


def test_a_link_and_a_name_that_occurs_twice_are_refused(tmp_path):
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    with zipfile.ZipFile(path, "a") as opened:
        link = zipfile.ZipInfo("00000/img00000009.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(ExtractError, match=r"got symbolic links \(00000/img00000009\.png\)"):
        open_archive(path)
    path = write_archive(tmp_path / "b.zip", many_subjects(3)).path
    with zipfile.ZipFile(path, "a") as opened, pytest.warns(UserWarning, match="Duplicate name"):
        opened.writestr("manifest.csv", "file\n")
    with pytest.raises(ExtractError, match=r"expected each name once, got manifest\.csv more than once"):
        open_archive(path)


def test_a_picture_of_a_kind_that_only_opencv_knows_is_refused_before_it_is_decoded(tmp_path):
    sun = struct.pack(">IIIIIIII", 0x59A66A95, 30_000, 30_000, 8, 900_000_000, 1, 0, 0)  # a Sun raster
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    rewrite_zip(path, tmp_path / "b.zip", {"00000/img00000000.png": sun + bytes(1000)})
    assert "cannot be decoded (known are PNG" in read_within_bounds("archive", tmp_path / "b.zip")


def test_sixteen_bit_and_palette_pictures_are_named(tmp_path):
    def save(picture: Image.Image) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()

    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    pixels = random_pixels(5)
    deep = save(Image.fromarray(pixels.astype(np.uint16) * 200))
    with pytest.raises(ExtractError, match=r"img00000000\.png: expected 8-bit gray or RGB"):
        open_archive(rewrite_zip(path, tmp_path / "b.zip", {"00000/img00000000.png": deep}))
    palette = save(Image.fromarray(np.stack([pixels] * 3, axis=2)).convert("P"))
    changed = rewrite_zip(path, tmp_path / "c.zip", {"00000/img00000001.png": palette})
    with (
        open_archive(changed) as archive,
        pytest.raises(ExtractError, match=r"got \(3, 8, 8\) in 00000/img00000001\.png"),
    ):
        archive.read_image(1)
