"""Whatever an archive holds, reading it ends with pictures or with a sentence, in bounded time and memory."""

import io
import json
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.dataset_tool import build_dataset
from extract.pack import pack_folder
from extract.png import decode_image, encode_png
from extract.split import make_split, read_split, write_split
from extract.transforms import Transform
from extract.unpack import unpack_archive
from extract.verify import verify_archive
from tests.extract.fuzzing import EXAMPLES, damaged_json, explore, mutations, refusals
from tests.extract.making import many_subjects, random_pixels, rewrite_zip, write_archive


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Nine real images of three subjects, and a synthetic one."""
    path = tmp_path / "sound" / "a.zip"
    with ArchiveWriter(path) as writer:
        for subject, labels in many_subjects(3).items():
            for k, label in enumerate(labels):
                record = ImageRecord(
                    label=label, subject=subject, source=f"{subject}.nrrd", angle_deg=-3.5, slice_index=k
                )
                writer.add(random_pixels(int(subject[1:]), k), record)
        writer.add(random_pixels(99), ImageRecord(label="a", origin="synthetic", seed=3, truncation_psi=0.7))
    return path


def use(path: Path) -> None:
    """What commands do with an archive."""
    with open_archive(path) as archive:
        for index in range(len(archive)):
            archive.read_image(index)
            archive.row(index)
        assert len(archive.labels) == len(archive.subjects) == len(archive.manifest) == len(archive)
        assert archive.labels.max() < max(len(archive.classes), 1)
        verify_archive(archive)


@EXAMPLES
def test_zips_with_changed_bytes(sound, tmp_path, num_examples):
    path = tmp_path / "b.zip"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with refusals():
            use(path)

    explore(check, mutations(sound.read_bytes()), num_examples)


@EXAMPLES
def test_zips_whose_directory_lies(sound, tmp_path, num_examples):
    """Changes in the entries' headers alone, where the sizes, offsets, flags and methods are."""
    original, path = sound.read_bytes(), tmp_path / "b.zip"
    start = original.index(b"PK\x01\x02")

    def check(tail: bytes) -> None:
        path.write_bytes(original[:start] + tail)
        with refusals():
            use(path)

    explore(check, mutations(original[start:]), num_examples)


@EXAMPLES
def test_lists_with_changed_values(sound, tmp_path, num_examples):
    with zipfile.ZipFile(sound) as opened:
        contents = {name: json.loads(opened.read(name)) for name in ("dataset.json", "preparation.json")}
        manifest = opened.read("manifest.csv")
    cases = st.fixed_dictionaries(
        {
            "dataset.json": damaged_json(contents["dataset.json"]),
            "preparation.json": damaged_json(contents["preparation.json"]),
            "manifest.csv": st.just(manifest) | mutations(manifest) | st.none(),
        }
    )

    def check(changes: dict[str, object]) -> None:
        path = rewrite_zip(sound, tmp_path / "b.zip", changes)
        with refusals():
            use(path)

    explore(check, cases, num_examples)


@EXAMPLES
def test_pictures_with_changed_bytes(num_examples):
    gray = encode_png(random_pixels(1, size=16))
    buffers = [gray]
    kinds: list[tuple[str, str, dict[str, object]]] = [
        ("RGB", "PNG", {}), ("P", "PNG", {"transparency": 3}), ("I;16", "PNG", {}), ("LA", "PNG", {}),
        ("1", "PNG", {}), ("L", "JPEG", {}), ("RGB", "BMP", {}), ("L", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "WEBP", {}),
    ]  # fmt: skip
    for mode, kind, settings in kinds:
        buffer = io.BytesIO()
        Image.fromarray(random_pixels(2, size=16)).convert(mode).save(buffer, kind, **settings)
        buffers.append(buffer.getvalue())

    def check(data: bytes) -> None:
        with refusals():
            pixels = decode_image(data, "x.png")
            assert pixels.dtype == np.uint8 and pixels.ndim == 3 and len(pixels) in (1, 3)

    explore(check, st.sampled_from(buffers).flatmap(mutations), num_examples)


@EXAMPLES
def test_png_headers_with_any_numbers(num_examples):
    """Headers with a right checksum, so that they are believed: sizes, depths, color types, interlacing."""
    fields = st.tuples(
        st.integers(0, 2**32 - 1) | st.integers(0, 40), st.integers(0, 2**32 - 1) | st.integers(0, 40),
        st.sampled_from([1, 2, 4, 8, 16, 0, 255]), st.sampled_from([0, 2, 3, 4, 6, 1, 7]),
        st.integers(0, 1), st.integers(0, 1), st.integers(0, 2), st.binary(max_size=400),
    )  # fmt: skip

    def check(case: tuple[int, ...]) -> None:
        *header, pixels = case
        data = b"\x89PNG\r\n\x1a\n"
        chunks = {b"IHDR": struct.pack(">IIBBBBB", *header), b"IDAT": zlib.compress(pixels), b"IEND": b""}
        for kind, body in chunks.items():
            data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        with refusals():
            decode_image(data, "x.png")

    explore(check, fields, num_examples)


@EXAMPLES
def test_splits_with_changed_values(tmp_path, num_examples):
    with write_archive(tmp_path / "a.zip", many_subjects(9)) as archive:
        write_split(
            make_split(archive, num_folds=2, fractions=(0.5,), val_share=0.3, seed=0), tmp_path / "a.json"
        )
        content = json.loads((tmp_path / "a.json").read_text())

        def check(case: object) -> None:
            (tmp_path / "b.json").write_text(case if isinstance(case, str) else json.dumps(case))
            with refusals():
                read_split(tmp_path / "b.json", archive)

        texts = mutations((tmp_path / "a.json").read_bytes()).map(lambda data: data.decode(errors="replace"))
        explore(check, damaged_json(content) | texts, num_examples)


STRANGE = (
    ".. ../../evil /etc/evil a/b a\\b C:evil . ... con NUL.txt Tumor tumor TUMOR é e\u0301 \u212b Å %2e%2e ~ "
    "a~b -rf a. *? =1+1 \u202egnp"
)
NAMES = st.sampled_from([*STRANGE.split(" "), "", " ", "a\tb", "a" * 250]) | st.text(max_size=12)


@EXAMPLES
def test_names_of_any_kind_unpack_inside_the_folder_and_pack_to_the_same_bytes(tmp_path, num_examples):
    cases = st.lists(st.tuples(NAMES, NAMES, st.booleans()), min_size=1, max_size=6)
    place = tmp_path / "place"
    place.mkdir()

    def check(images: list[tuple[str, str, bool]]) -> None:
        for path in place.iterdir():
            _remove(path)
        with refusals():
            with ArchiveWriter(place / "a.zip", overwrite=True) as writer:
                for number, (label, subject, is_real) in enumerate(images):
                    record = ImageRecord(
                        label=label, subject=subject, source=label, origin="real" if is_real else "synthetic"
                    )
                    writer.add(random_pixels(number), record)
            with open_archive(place / "a.zip") as archive:
                unpack_archive(archive, place / "folder" / "deep")
            pack_folder(place / "folder" / "deep", place / "b.zip")
            assert (place / "a.zip").read_bytes() == (place / "b.zip").read_bytes()
            assert {path.name for path in place.iterdir()} == {"a.zip", "b.zip", "folder"}
            assert [path.name for path in (place / "folder").iterdir()] == ["deep"]
        assert [path.name for path in tmp_path.iterdir()] == ["place"]

    explore(check, cases, num_examples)


@EXAMPLES
def test_folders_whose_lists_were_changed_are_packed_or_refused(sound, tmp_path, num_examples):
    with open_archive(sound) as archive:
        unpack_archive(archive, tmp_path / "folder")
    manifest = (tmp_path / "folder" / "manifest.csv").read_bytes()
    described = json.loads((tmp_path / "folder" / "preparation.json").read_text())

    def check(case: tuple[bytes, object, bool]) -> None:
        (tmp_path / "folder" / "manifest.csv").write_bytes(case[0])
        (tmp_path / "folder" / "preparation.json").write_text(json.dumps(case[1]))
        with refusals():
            pack_folder(tmp_path / "folder", tmp_path / "b.zip", accept_changes=case[2], overwrite=True)
            use(tmp_path / "b.zip")

    cases = st.tuples(
        st.just(manifest) | mutations(manifest), st.just(described) | damaged_json(described), st.booleans()
    )
    explore(check, cases, num_examples)


@EXAMPLES
def test_the_dataset_tool_survives_the_same_zips(sound, tmp_path, num_examples):
    def check(data: bytes) -> None:
        (tmp_path / "b.zip").write_bytes(data)
        with refusals():
            build_dataset(
                tmp_path / "b.zip", tmp_path / "c.zip", Transform(width=8, height=8), overwrite=True,
                skip_unreadable=True,
            )  # fmt: skip

    bare = rewrite_zip(sound, tmp_path / "bare.zip", {"manifest.csv": None, "preparation.json": None})
    explore(check, mutations(sound.read_bytes()) | mutations(bare.read_bytes()), num_examples)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
