import csv
import json
import os
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.errors import ExtractError, SettingsError
from extract.pack import pack_folder
from extract.split import make_split, write_split
from extract.unpack import unpack_archive
from scripts.cli import cli
from tests.extract.making import many_subjects, random_pixels, rewrite_zip, write_archive


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Real and synthetic images, labeled and not, with all that a manifest can say."""
    path = tmp_path / "mixed.zip"
    with ArchiveWriter(
        path, classes=["a", "b", "never"], preparation={"size": 8, "left_out": ["x"]}
    ) as writer:
        for number, subject in enumerate(["007", "p/2", "p,3", "=cmd"]):
            for k, label in enumerate("ab"):
                record = ImageRecord(
                    label=label, subject=subject, source=f"é {subject}.nrrd", plane="axial", angle_deg=-3.5,
                    slice_index=k, position_mm=12.25,
                )  # fmt: skip
                writer.add(random_pixels(number, k), record)
        writer.add(random_pixels(50), ImageRecord(subject="q"))
        made = ImageRecord(
            origin="synthetic", seed=12, truncation_psi=0.7, class_name="b", snapshot_sha256="f0" * 32
        )
        writer.add(random_pixels(51), made)
        writer.add(random_pixels(52), ImageRecord(label="b", origin="synthetic", seed=13))
    return path


def unpack(path: Path, dest: Path, **settings: object) -> None:
    with open_archive(path) as archive:
        unpack_archive(archive, dest, **settings)


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_unpacked_and_packed_again_an_archive_has_the_same_bytes(mixed, tmp_path):
    unpack(mixed, tmp_path / "folder")
    assert files_below(tmp_path / "folder") == {
        "all/a/007_00000000.png", "all/b/007_00000001.png", "all/a/p%2F2_00000002.png",
        "all/b/p%2F2_00000003.png", "all/a/p,3_00000004.png", "all/b/p,3_00000005.png",
        "all/a/=cmd_00000006.png", "all/b/=cmd_00000007.png", "unlabeled/q_00000008.png",
        "unlabeled/seed12_00000009.png", "synthetic/b/seed13_00000010.png", "manifest.csv",
        "preparation.json",
    }  # fmt: skip
    summary = pack_folder(tmp_path / "folder", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == mixed.read_bytes()
    assert summary.num_images == 11 and summary.num_subjects == 5
    assert summary.counts == {"": 2, "a": 4, "b": 5} and summary.num_relabeled == 0


def test_the_parts_of_a_split_become_folders(tmp_path):
    with write_archive(tmp_path / "a.zip", many_subjects(12)) as archive:
        split = make_split(archive, num_folds=3, fractions=(0.5,), val_share=0.3, seed=0)
        write_split(split, tmp_path / "s.json")
        summary = unpack_archive(archive, tmp_path / "out", split=tmp_path / "s.json", fold=1, fraction=0.5)
        for part in ("train", "val", "test"):
            found = {path.name.split("_")[0] for path in (tmp_path / "out" / part).rglob("*.png")}
            assert found == set(split.subjects(1, part, 0.5))
            assert {path.name for path in (tmp_path / "out" / part).iterdir()} == {"a", "b", "c"}
        assert summary.counts == {
            part: len(list((tmp_path / "out" / part).rglob("*.png")))
            for part in ("train", "val", "test", "unused")
        }
        pack_folder(tmp_path / "out", tmp_path / "b.zip")
        assert (tmp_path / "b.zip").read_bytes() == archive.path.read_bytes()
        with pytest.raises(SettingsError, match="fold must be 0 to 2"):
            unpack_archive(archive, tmp_path / "no", split=tmp_path / "s.json", fold=3)
        with pytest.raises(SettingsError, match="--fold and --fraction need --split"):
            unpack_archive(archive, tmp_path / "no", fold=1)
        assert not (tmp_path / "no").exists()


def test_torchvision_and_fastai_open_the_folder(tmp_path):
    import_module("classifier")  # lets torchvision be imported beside a torch without CUDA
    from fastai.vision.data import ImageDataLoaders
    from torchvision.datasets import ImageFolder

    with write_archive(tmp_path / "a.zip", many_subjects(12)) as archive:
        split = make_split(archive, num_folds=3, fractions=(), val_share=0.3, seed=0)
        write_split(split, tmp_path / "s.json")
        unpack_archive(archive, tmp_path / "out", split=tmp_path / "s.json")
        data = ImageFolder(str(tmp_path / "out" / "train"))
        assert tuple(data.classes) == archive.classes
        assert len(data) == len(split.rows(archive, 0, "train"))
        for path, label in data.samples:
            index = int(Path(path).stem.split("_")[-1])
            assert archive.labels[index] == label
            assert np.array_equal(np.asarray(Image.open(path)), archive.read_image(index)[0])
        loaders = ImageDataLoaders.from_folder(
            tmp_path / "out", train="train", valid="val", bs=2, num_workers=0
        )
        assert tuple(loaders.vocab) == archive.classes
        assert len(loaders.valid_ds) == len(split.rows(archive, 0, "val"))


def test_classes_whose_names_are_no_folder_names_come_back(tmp_path):
    names = ["../evil", "a/b", "A", "a", "tumor ", "CON", "x" * 250, "é", ".hidden", "50%", "..", "a~b"]
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for number, name in enumerate(names):
            writer.add(random_pixels(number), ImageRecord(label=name, subject="s"))
    unpack(tmp_path / "a.zip", tmp_path / "deep" / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "deep"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    folders = {path.name for path in (tmp_path / "deep" / "out" / "all").iterdir()}
    assert len({name.casefold() for name in folders}) == len(names)
    assert {"%2E.%2Fevil", "a%2Fb", "tumor%20", "%43ON", "é", "%2Ehidden", "50%25"} <= folders
    pack_folder(tmp_path / "deep" / "out", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_an_official_archive_unpacks_but_needs_subjects_to_be_packed(tmp_path):
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    labels = {"labels": [[f"00000/img{k:08d}.png", k % 3] for k in range(9)]}
    official = rewrite_zip(
        path, tmp_path / "o.zip", {"manifest.csv": None, "preparation.json": None, "dataset.json": labels}
    )
    unpack(official, tmp_path / "out")
    assert len(list((tmp_path / "out" / "all" / "1").iterdir())) == 3
    with pytest.raises(ExtractError, match=r"expected a subject for each real picture.*extract dataset"):
        pack_folder(tmp_path / "out", tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()


def test_a_folder_that_holds_files_is_left_alone(mixed, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(
        ExtractError, match="expected a new or empty folder to unpack into, got one that holds"
    ):
        unpack(mixed, tmp_path / "full")
    assert files_below(tmp_path / "full") == {"mine.txt"}
    (tmp_path / "empty").mkdir()
    unpack(mixed, tmp_path / "empty")
    with pytest.raises(ExtractError, match=r"already exists.*--overwrite"):
        pack_folder(tmp_path / "empty", mixed)


def test_a_damaged_picture_leaves_no_folder(mixed, tmp_path):
    forged = rewrite_zip(mixed, tmp_path / "f.zip", {"00000/img00000004.png": b"something else"})
    with pytest.raises(
        ExtractError, match=r"img00000004\.png is not the picture that manifest\.csv describes"
    ):
        unpack(forged, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"mixed.zip", "f.zip"}


def test_a_disk_that_is_too_small_is_known_before(mixed, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(ExtractError, match=r"MB free for 11 pictures, got 0\.0 MB; free some space"):
        unpack(mixed, tmp_path / "out")


@pytest.fixture
def folder(mixed, tmp_path) -> Path:
    unpack(mixed, tmp_path / "folder")
    return tmp_path / "folder"


def test_pictures_moved_removed_or_edited_are_told_and_accepted_only_if_asked(folder, tmp_path):
    (folder / "all/b/007_00000001.png").rename(folder / "all/a/007_00000001.png")
    (folder / "all/a/p,3_00000004.png").unlink()
    (folder / "all" / "new%2Fclass").mkdir()
    (folder / "all/b/=cmd_00000007.png").rename(folder / "all/new%2Fclass/=cmd_00000007.png")
    with pytest.raises(ExtractError, match=r"1 are gone \(all/a/p,3_0.*2 lie in the folder of another class"):
        pack_folder(folder, tmp_path / "b.zip")
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(folder / "unlabeled/q_00000008.png")
    assert not (tmp_path / "b.zip").exists()
    summary = pack_folder(folder, tmp_path / "b.zip", accept_changes=True)
    assert (summary.num_removed, summary.num_relabeled, summary.num_edited) == (1, 2, 1)
    with open_archive(tmp_path / "b.zip") as archive:
        assert archive.classes == ("a", "b", "never", "new/class") and len(archive) == 10
        table = archive.manifest.set_index(["subject", "slice_index"])["label"]
        assert table["007", "1"] == "a" and table["=cmd", "1"] == "new/class"
        assert (archive.read_image(7) == 9).all()
        assert archive.preparation["changed_by_hand"] == {"removed": 1, "relabeled": 2, "edited": 1}


def test_an_edited_picture_is_refused_unless_accepted(folder, tmp_path):
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(folder / "unlabeled/q_00000008.png")
    with pytest.raises(ExtractError, match=r"q_00000008\.png: expected the picture as it was unpacked"):
        pack_folder(folder, tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()


def test_a_picture_that_nobody_lists_has_no_subject_and_is_refused(folder, tmp_path):
    shutil.copy(folder / "all/a/007_00000000.png", folder / "all/b/mine.png")
    for accept in (False, True):
        with pytest.raises(ExtractError, match=r"got all/b/mine\.png beside them"):
            pack_folder(folder, tmp_path / "b.zip", accept_changes=accept)
    (folder / "all/b/mine.png").rename(folder / "all/b/007_00000000.png")
    with pytest.raises(ExtractError, match="expected each picture once"):
        pack_folder(folder, tmp_path / "b.zip", accept_changes=True)


def test_parts_do_not_count_but_other_places_do(folder, tmp_path):
    (folder / "train").mkdir()
    (folder / "all/a").rename(folder / "train/a")
    pack_folder(folder, tmp_path / "b.zip")
    (folder / "train/a").rename(folder / "a")
    with pytest.raises(ExtractError, match="expected a picture at PART/CLASS/NAME or unlabeled/NAME"):
        pack_folder(folder, tmp_path / "c.zip")


def test_a_manifest_that_points_elsewhere_reads_nothing_there(folder, tmp_path):
    (tmp_path / "secret_00000099.png").write_bytes((folder / "all/a/007_00000000.png").read_bytes())
    text = (
        (folder / "manifest.csv").read_text().replace("all/a/007_00000000.png", "../secret_00000099.png", 1)
    )
    (folder / "manifest.csv").write_text(text)
    with pytest.raises(ExtractError, match=r"got all/a/007_00000000\.png beside them"):
        pack_folder(folder, tmp_path / "b.zip", accept_changes=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace(",", ";"), "got semicolons or tabs"),
        (lambda text: text.replace("unpacked_as", "place"), "expected the column unpacked_as"),
        (
            lambda text: text + text.splitlines()[1] + "\n",
            "expected one row a picture, got several for 00000/img0",
        ),
        (lambda text: "", "expected a table with a header"),
        (lambda text: text.replace("-3.5", "-3,5"), "expected [0-9]+ cells in line 2, got [0-9]+"),
    ],
)
def test_a_list_that_a_spreadsheet_has_bent_is_refused(folder, tmp_path, damage, message):
    (folder / "manifest.csv").write_text(damage((folder / "manifest.csv").read_text()))
    with pytest.raises(ExtractError, match=message):
        pack_folder(folder, tmp_path / "b.zip")


def test_a_folder_from_elsewhere_is_told_where_to_go(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(ExtractError, match=r"manifest\.csv: expected a file that .* unpack.* has written"):
        pack_folder(tmp_path / "a", tmp_path / "b.zip")
    (tmp_path / "a" / "manifest.csv").write_bytes(b"\xff\xfe1")
    with pytest.raises(ExtractError, match="expected UTF-8 as unpack wrote it"):
        pack_folder(tmp_path / "a", tmp_path / "b.zip")


def test_the_commands_unpack_pack_and_clear_the_cache(mixed, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "cache"))

    def run(*arguments: object):
        return CliRunner().invoke(cli, ["extract", *map(str, arguments)])

    result = run("unpack", "--data", mixed, "--dest", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "out: 11 pictures of mixed.zip (all 8, synthetic 1, unlabeled 2)" in result.output.replace(
        "\n", ""
    )
    result = run("unpack", "--data", mixed, "--dest", tmp_path / "out")
    assert result.exit_code == 1 and "expected a new or empty folder" in result.output
    result = run("unpack", "--data", mixed, "--dest", tmp_path / "out2", "--fold", 1)
    assert result.exit_code == 2 and "--fold and --fraction need --split" in result.output
    result = run("pack", "--source", tmp_path / "out", "--dest", tmp_path / "b.zip")
    assert (
        result.exit_code == 0 and "b.zip: 11 images of 5 subjects ((unlabeled) 2, a 4, b 5)" in result.output
    )
    (tmp_path / "out/all/a/007_00000000.png").unlink()
    result = run("pack", "--source", tmp_path / "out", "--dest", tmp_path / "c.zip", "--accept-changes")
    assert result.exit_code == 0 and "changed by hand: 1 removed" in result.output
    result = run("cache")
    assert result.exit_code == 0 and "0 files of decoded images" in result.output
    from extract.cache import open_images

    with open_archive(mixed) as archive:
        open_images(archive)
    assert "1 files of decoded images" in run("cache", "--check").output
    assert "removed 1 files" in run("cache", "--keep-gb", 0).output
    assert "0 files of decoded images" in run("cache").output


def test_the_folders_list_reads_in_any_csv_reader(folder):
    with open(folder / "manifest.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert rows[2]["unpacked_as"] == "all/a/p%2F2_00000002.png" and rows[2]["subject"] == "p/2"
    assert rows[9]["snapshot_sha256"] == "f0" * 32 and rows[9]["truncation_psi"] == "0.7"
    assert json.loads((folder / "preparation.json").read_text())["classes"] == ["a", "b", "never"]
    assert os.listdir(folder / "synthetic") == ["b"]
