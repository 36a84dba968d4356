"""Files that promise far more than they hold, read by a process that may not have the memory they ask for."""

import gzip
import io
import json
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
import json, resource, sys
from pathlib import Path
from extract.archive import open_archive
from extract.dataset_tool import build_dataset
from extract.errors import SynthlabelError
from extract.images import ImageConfig, prepare_image
from extract.volume import read_volume

def read_archive(path):
    with open_archive(path) as archive:
        for index in range(len(archive)):
            archive.read_image(index)

read = {
    "volume": read_volume,
    "picture": lambda path: prepare_image(path, ImageConfig(size=8)),
    "archive": read_archive,
    "dataset": lambda path: build_dataset(path, path.with_name("made.zip")),
}
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + int(sys.argv[2]),) * 2)
for what, path in json.loads(sys.argv[1]):
    try:
        read[what](Path(path))
        print("it was read")
    except SynthlabelError as error:
        print(" ".join(str(error).split()))
"""


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


def png_of(width: int, height: int) -> bytes:
    """A picture whose header promises so many pixels, with a right checksum."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in {b"IHDR": header, b"IDAT": zlib.compress(bytes(10**6)), b"IEND": b""}.items():
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data


def gzip_bomb(num_bytes: int) -> bytes:
    """A gzip stream of zeros: one packed piece that stands for itself, again and again."""
    packer = zlib.compressobj(9, wbits=-15)
    piece = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + piece * (num_bytes // 2**24) + packer.flush()


@pytest.fixture(scope="module")
def sentences(tmp_path_factory) -> dict[str, str]:
    """What a process that may not have the memory says of each file; it reads them one after the other."""
    folder = tmp_path_factory.mktemp("limits")
    voxels = gzip.compress(bytes(1000))
    files: dict[str, tuple[str, bytes]] = {
        "raw.nrrd": ("volume", nrrd_header("10000 10000 10000", "raw") + voxels),
        "gzip.nrrd": ("volume", nrrd_header("10000 10000 10000", "gzip") + voxels),
        "bomb.nrrd": ("volume", nrrd_header("4 3 2", "gzip") + gzip_bomb(4 * 2**30)),
        "huge.png": ("picture", png_of(100_000, 100_000)),
    }
    for name, (_, data) in files.items():
        (folder / name).write_bytes(data)
    cases = [(what, folder / name) for name, (what, _) in files.items()]
    with zipfile.ZipFile(folder / "huge.zip", "w") as opened:
        opened.writestr("00000/img00000000.png", png_of(100_000, 100_000))
    sun = struct.pack(">IIIIIIII", 0x59A66A95, 30_000, 30_000, 8, 900_000_000, 1, 0, 0) + bytes(1000)
    path = write_archive(folder / "a.zip", many_subjects(3)).path
    rewrite_zip(path, folder / "sun.zip", {"00000/img00000000.png": sun})  # a kind that OpenCV alone knows
    cases += [("archive", folder / name) for name in ("huge.zip", "sun.zip")] + [
        ("dataset", folder / "huge.zip")
    ]
    listed = json.dumps([(what, str(path)) for what, path in cases])
    done = subprocess.run(
        [sys.executable, "-c", READ, listed, str(BOUND_BYTES)],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    return {f"{what} {path.name}": line for (what, path), line in zip(cases, told, strict=True)}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("volume raw.nrrd", "raw.nrrd: expected"),  # a million million voxels
        ("volume gzip.nrrd", "gzip.nrrd: expected"),
        ("volume bomb.nrrd", "bomb.nrrd: expected"),  # 24 voxels promised, gigabytes packed
        ("picture huge.png", "huge.png: expected at most 67,108,864 pixels"),
        ("archive huge.zip", "huge.zip: 00000/img00000000.png: expected at most 67,108,864 pixels"),
        ("archive sun.zip", "cannot be decoded (known are PNG"),
        ("dataset huge.zip", "10000000000 pixels"),
    ],
)
def test_what_promises_or_packs_more_than_the_memory_holds_is_refused(sentences, file, message):
    assert message in sentences[file]


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
            entry.write(bytes(2**24))
    with (
        pytest.raises(ExtractError, match="got 50,331,648; nothing of it was loaded"),
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
