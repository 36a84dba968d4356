"""Pictures and packed data sets from elsewhere, changed at random."""

import gzip
import io
import pickle
import tarfile

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from extract.dataset_tool import build_dataset
from extract.images import ImageConfig, prepare_image
from extract.pictures import decode_picture
from tests.extract.fuzzing import EXAMPLES, explore, mutations, refusals
from tests.extract.making import random_pixels


def pictures() -> list[bytes]:
    """Small pictures of many kinds."""
    kinds: list[tuple[str, str, dict[str, object]]] = [
        ("RGB", "PNG", {}), ("P", "PNG", {"transparency": 3}), ("I;16", "PNG", {}), ("LA", "PNG", {}),
        ("1", "PNG", {}), ("L", "JPEG", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}), ("CMYK", "JPEG", {}),
        ("RGB", "BMP", {}), ("L", "TIFF", {"compression": "tiff_lzw"}), ("F", "TIFF", {}), ("P", "GIF", {}),
        ("RGB", "WEBP", {}),
    ]  # fmt: skip
    made = []
    for mode, kind, settings in kinds:
        buffer = io.BytesIO()
        Image.fromarray(random_pixels(2, size=16)).convert(mode).save(buffer, kind, **settings)
        made.append(buffer.getvalue())
    return made


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # Pillow's, of what it mends
@EXAMPLES
def test_pictures_of_a_folder(tmp_path, num_examples):
    path = tmp_path / "x.png"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with refusals():
            assert prepare_image(path, ImageConfig(size=8)).shape == (8, 8)
        with refusals():
            assert decode_picture(data, "x").pixels.dtype == np.uint8

    explore(check, st.sampled_from(pictures()).flatmap(mutations), num_examples)


@EXAMPLES
def test_mnist(tmp_path, num_examples):
    images = b"\0\0\x08\x03" + b"\0\0\0\x02" + b"\0\0\0\x1c" * 2 + bytes(range(256))[:196] * 8
    labels = b"\0\0\x08\x01" + b"\0\0\0\x02" + b"\x03\x09"
    cases = st.tuples(
        st.just(images) | mutations(images[:16]).map(lambda head: head + images[16:]) | mutations(images),
        st.just(labels) | mutations(labels),
        st.integers(0, 3),
    )
    source = tmp_path / "train-images-idx3-ubyte.gz"

    def check(case: tuple[bytes, bytes, int]) -> None:
        packed = gzip.compress(case[0])
        source.write_bytes(packed[: len(packed) // 2] if case[2] == 0 else packed)
        (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(case[1]))
        with refusals():
            build_dataset(source, tmp_path / "a.zip", overwrite=True)

    explore(check, cases, num_examples)


@EXAMPLES
def test_cifar(tmp_path, num_examples):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (2, 3072), dtype=np.uint8)
    batch = pickle.dumps({b"data": rows.tolist()[:1], b"labels": [3]}, protocol=2)[:600]
    whole = pickle.dumps({b"data": rows, b"labels": [3, 4]}, protocol=2)
    source = tmp_path / "cifar-10-python.tar.gz"

    def check(case: tuple[bytes, int]) -> None:
        with tarfile.open(source, "w:gz") as opened:
            for number in range(1, 6):
                entry = tarfile.TarInfo(f"cifar-10-batches-py/data_batch_{number}")
                data = case[0] if number == case[1] else whole
                entry.size = len(data)
                opened.addfile(entry, io.BytesIO(data))
        with refusals():
            build_dataset(source, tmp_path / "a.zip", overwrite=True)

    explore(check, st.tuples(mutations(whole) | mutations(batch), st.integers(1, 5)), num_examples)


@EXAMPLES
def test_packed_files_with_changed_bytes(tmp_path, num_examples):
    with tarfile.open(tmp_path / "sound.tar.gz", "w:gz") as opened:
        entry = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        entry.size = 10
        opened.addfile(entry, io.BytesIO(bytes(10)))
    sound = (tmp_path / "sound.tar.gz").read_bytes()

    def check(data: bytes) -> None:
        for name in ("cifar-10-python.tar.gz", "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
            (tmp_path / name).write_bytes(data)
        for name in ("cifar-10-python.tar.gz", "train-images-idx3-ubyte.gz"):
            with refusals():
                build_dataset(tmp_path / name, tmp_path / "a.zip", overwrite=True)
        assert not (tmp_path / "a.zip").exists()

    explore(check, mutations(sound) | mutations(gzip.compress(bytes(40))), num_examples)
