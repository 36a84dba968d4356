import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.cache import open_images
from extract.errors import ExtractError
from extract.png import encode_png
from tests.extract.making import many_subjects, random_pixels, rewrite_zip, write_archive


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_images_are_decoded_once_and_cannot_be_written(cache, tmp_path):
    with write_archive(tmp_path / "a.zip", many_subjects(3)) as archive:
        reports: list[int] = []
        images = open_images(archive, lambda done, total, message: reports.append(done))
        assert images.shape == (9, 1, 8, 8) and images.dtype == np.uint8 and isinstance(images, np.memmap)
        assert all(np.array_equal(images[k], archive.read_image(k)) for k in range(9))
        assert reports == [9]
        with pytest.raises(ValueError, match="read-only"):
            images[0] = 0
        open_images(archive, lambda done, total, message: reports.append(done))
        assert reports == [9]  # nothing was decoded again
        assert [path.name for path in cache.iterdir()] == [f"{archive.sha256}.npy"]


def test_color_images_keep_their_channel_order(cache, tmp_path):
    pixels = random_pixels(1, channels=3)
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        writer.add(pixels, ImageRecord(subject="s"))
    with open_archive(tmp_path / "a.zip") as archive:
        assert np.array_equal(open_images(archive)[0].transpose(1, 2, 0), pixels)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20], lambda data: b"junk", lambda data: b"", lambda data: data[:90]]
)
def test_a_damaged_cache_is_made_anew(cache, tmp_path, damage):
    with write_archive(tmp_path / "a.zip", many_subjects(3)) as archive:
        expected = np.array(open_images(archive))
        path = cache / f"{archive.sha256}.npy"
        path.write_bytes(damage(path.read_bytes()))
        assert np.array_equal(open_images(archive), expected)


def test_a_picture_that_was_exchanged_is_found(cache, tmp_path):
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    forged = rewrite_zip(path, tmp_path / "b.zip", {"00000/img00000004.png": encode_png(random_pixels(77))})
    with (
        open_archive(forged) as archive,
        pytest.raises(ExtractError, match=r"img00000004\.png is not the picture"),
    ):
        open_images(archive)
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "file"))
    archive = write_archive(tmp_path / "a.zip", many_subjects(3))
    with pytest.raises(ExtractError, match="name another in the variable SYNTHLABEL_CACHE"):
        open_images(archive)


def test_a_full_disk_names_the_variable_and_leaves_nothing(cache, tmp_path):
    with ArchiveWriter(tmp_path / "big.zip") as writer:
        for number in range(20):
            writer.add(np.full((64, 64), number, np.uint8), ImageRecord(subject="s"))
    # A limit on the size of any file stands for a disk that fills up half-way.
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000));"
        "from pathlib import Path; from extract.archive import open_archive; from extract.cache "
        "import open_images;"
        "open_images(open_archive(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "big.zip")],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], env=dict(os.environ), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "MB free for the decoded images" in done.stderr and "SYNTHLABEL_CACHE" in done.stderr
    assert list(cache.iterdir()) == []
