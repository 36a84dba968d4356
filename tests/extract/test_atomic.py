"""Real kills and full disks: what is half made is never taken for whole, and is cleared away."""

import errno
import os
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.atomic import (
    create_file,
    remove_leftovers,
    replace_file,
    replace_folder,
    scratch_folder,
    write_text,
)
from extract.errors import ExtractError
from extract.pack import pack_folder
from extract.unpack import unpack_archive
from tests.extract.making import many_subjects, random_pixels, write_archive

ROOT = Path(__file__).parents[2]
WRITING = """
import sys
from pathlib import Path
import numpy as np
from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.pack import pack_folder
from extract.unpack import unpack_archive
import extract.cache
what, source, dest = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
def report(done, total, message):
    print(done, flush=True)
    sys.stdin.readline()  # stands still until it is killed, or told to go on
for module in (extract.pack, extract.unpack, extract.cache):
    module.REPORT_INTERVAL = 2
match what:
    case "archive":
        with ArchiveWriter(dest, overwrite=True) as writer:
            for number in range(6):
                writer.add(np.full((8, 8), number, np.uint8), ImageRecord(label="a", subject="s"))
                report(number, 6, "")
    case "pack":
        pack_folder(source, dest, overwrite=True, progress=report)
    case "unpack":
        unpack_archive(open_archive(source), dest, progress=report)
    case "cache":
        extract.cache.open_images(open_archive(source), progress=report)
"""


def start(what: str, source: Path, dest: Path) -> "subprocess.Popen[str]":
    """A process that works on `dest` and has stopped in the middle of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, what, str(source), str(dest)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture
def archive_path(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "source" / "a.zip", many_subjects(3)).path


def test_an_archive_whose_writer_was_killed_is_the_one_before_and_the_next_writer_clears_up(tmp_path):
    dest = write_archive(tmp_path / "a.zip", many_subjects(2)).path
    before = dest.read_bytes()
    kill(start("archive", dest, dest))
    assert dest.read_bytes() == before
    (leftover,) = [path for path in tmp_path.iterdir() if path != dest]
    assert leftover.name.startswith(".a.zip.") and leftover.suffix == ".part"
    write_archive(dest, many_subjects(3))
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_what_a_living_process_is_making_stays(tmp_path):
    dest = tmp_path / "a.zip"
    process = start("archive", dest, dest)
    try:
        (half_made,) = tmp_path.iterdir()
        write_archive(dest, many_subjects(2))
        assert set(tmp_path.iterdir()) == {dest, half_made}
        process.communicate("\n" * 20, timeout=30)
        assert process.returncode == 0 and [path.name for path in tmp_path.iterdir()] == ["a.zip"]
        with open_archive(dest) as archive:  # the one that ended last
            assert len(archive) == 6
    finally:
        process.kill()


def test_a_killed_unpack_leaves_no_folder_and_can_be_done_again(archive_path, tmp_path):
    kill(start("unpack", archive_path, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert [path.name[:5] for path in tmp_path.iterdir() if path.name != "source"] == [".out."]
    with open_archive(archive_path) as archive:
        unpack_archive(archive, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out"}


def test_a_killed_pack_leaves_the_archive_that_was_there(archive_path, tmp_path):
    with open_archive(archive_path) as archive:
        unpack_archive(archive, tmp_path / "folder")
    (tmp_path / "made").mkdir()
    kill(start("pack", tmp_path / "folder", tmp_path / "made" / "b.zip"))
    assert not (tmp_path / "made" / "b.zip").exists()
    pack_folder(tmp_path / "folder", tmp_path / "made" / "b.zip")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["b.zip"]


def test_leftovers_of_other_names_are_none_of_its_business(tmp_path):
    for name in (
        ".b.zip.0123abcd.part",
        ".a.zip.part",
        ".a.zip.0123abcd.part.txt",
        ".a.zip.0123abcx.part",
        "a.zip",
    ):
        (tmp_path / name).write_text("x")
    (tmp_path / ".a.zip.0123abcd.part").write_text("x")
    (tmp_path / ".a.zip.89abcdef.part").mkdir()
    (tmp_path / ".a.zip.89abcdef.part" / "inner").write_text("x")
    remove_leftovers(tmp_path / "a.zip")
    assert {path.name for path in tmp_path.iterdir()} == {
        ".b.zip.0123abcd.part", ".a.zip.part", ".a.zip.0123abcd.part.txt", ".a.zip.0123abcx.part", "a.zip",
    }  # fmt: skip


def test_a_leftover_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (tmp_path / ".a.zip.0123abcd.part").symlink_to(tmp_path / "precious")
    write_text(tmp_path / "a.zip", "y")
    assert (tmp_path / "precious" / "file").read_text() == "x"


def test_a_folder_that_was_filled_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(OSError, match="not empty"), replace_folder(tmp_path / "out") as temporary:
        (temporary / "new").write_text("x")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("x")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


@pytest.mark.parametrize("failing", range(6))
def test_a_disk_that_fills_up_at_any_write_of_an_archive_leaves_what_was_there(
    tmp_path, monkeypatch, failing
):
    path = write_archive(tmp_path / "a.zip", many_subjects(2)).path
    before = path.read_bytes()
    count = 0
    original = zipfile.ZipFile.writestr

    def write(self: zipfile.ZipFile, *arguments: object) -> None:
        nonlocal count
        count += 1
        if count > failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, *arguments)

    monkeypatch.setattr(zipfile.ZipFile, "writestr", write)
    with pytest.raises(OSError, match="No space left"), ArchiveWriter(path, overwrite=True) as writer:
        for number in range(3):
            writer.add(random_pixels(number), ImageRecord(label="a", subject="s"))
    assert path.read_bytes() == before and [item.name for item in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("limit", [60, 1200])
def test_a_disk_that_fills_up_while_unpacking_or_packing_leaves_nothing(archive_path, tmp_path, limit):
    """A limit on the size of any file stands for the disk: pictures, lists and archives meet it in turn."""
    with open_archive(archive_path) as archive:
        unpack_archive(archive, tmp_path / "folder")
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "from scripts.cli import main; main()"
    )
    for arguments in (
        ["unpack", "--data", archive_path, "--dest", tmp_path / "out"],
        ["pack", "--source", tmp_path / "folder", "--dest", tmp_path / "b.zip"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, "extract", *map(str, arguments)],
            capture_output=True, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert f"{arguments[-1]}: expected a file" in done.stderr and "file too large" in done.stderr
        assert {path.name for path in tmp_path.iterdir()} == {"source", "folder"}


def test_what_fails_to_be_written_leaves_the_file_before(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(KeyboardInterrupt), replace_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "a.txt").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_one_process_decodes_and_the_others_wait_and_one_takes_over_from_the_killed(
    archive_path, tmp_path, monkeypatch
):
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "cache"))
    first = start("cache", archive_path, tmp_path)
    second = start("cache", archive_path, tmp_path)  # its first report says that it waits
    try:
        assert sum(path.suffix == ".part" for path in (tmp_path / "cache").iterdir()) == 1
        kill(first)
        second.communicate("\n" * 1000, timeout=30)
        assert second.returncode == 0
        assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npy"]
    finally:
        first.kill()
        second.kill()


def test_a_file_that_was_replaced_while_it_was_open_is_not_known_by_the_new_ones_hash(tmp_path):
    with write_archive(tmp_path / "a.zip", many_subjects(2)) as archive:
        time.sleep(0.01)
        write_archive(tmp_path / "a.zip", many_subjects(3))
        with pytest.raises(ExtractError, match="got another or a changed one under its name"):
            _ = archive.sha256


def test_of_many_who_create_a_file_one_does(tmp_path):
    path = tmp_path / "new.txt"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: create_file(path, f"{number}\n"), range(16)))
    assert made.count(True) == 1 and path.read_text() == f"{made.index(True)}\n"
    assert not create_file(path, "other") and list(tmp_path.iterdir()) == [path]


def test_a_file_is_created_where_there_are_no_links(tmp_path, monkeypatch):
    def refuse(source, dest):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert create_file(tmp_path / "new.txt", "whole") and (tmp_path / "new.txt").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["new.txt"]


def test_a_scratch_folder_is_gone_afterwards_whatever_happens(tmp_path):
    with pytest.raises(ValueError), scratch_folder(tmp_path / "a.zip") as folder:
        (folder / "part").write_text("x")
        raise ValueError
    assert not list(tmp_path.iterdir())
    with scratch_folder(tmp_path / "a.zip") as folder:
        remove_leftovers(tmp_path / "a.zip")  # another one must not take it for a leftover
        assert folder.is_dir()
