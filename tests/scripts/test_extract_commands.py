import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from extract.archive import open_archive
from extract.errors import SettingsError
from extract.split import read_split
from scripts.cli import cli
from scripts.number_lists import parse_angles
from tests.extract.making import head_volume, write_nrrd

VOLUMES = ("volumes", "--source", ".", "--dest", "a.zip")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["extract", *[str(argument) for argument in arguments]])


def said(result: Result) -> str:
    return " ".join(result.output.split())  # however it was wrapped


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Phantoms, their archive and its split, by the commands alone."""
    folder = tmp_path_factory.mktemp("commands")
    assert run("phantom", "--out", folder / "v", "--subjects", 6, "--seed", 1, "--voxel-mm", 5).exit_code == 0
    volumes = run(
        "volumes", "--source", folder / "v", "--dest", folder / "planes.zip", "--size", 16,
        "--angles", "-7:7:7", "--slices-per-plane", 12, "--subjects", folder / "v" / "subjects.csv",
        "--workers", 1,
    )  # fmt: skip
    assert volumes.exit_code == 0, volumes.output
    assert "images of 6 subjects from 6 volumes (coronal" in said(volumes)
    split = run(
        "split",
        "--data",
        folder / "planes.zip",
        "--dest",
        folder / "planes.split.json",
        "--folds",
        2,
        "--fractions",
        "0.5",
    )
    assert split.exit_code == 0, split.output
    return folder


def test_the_commands_lead_from_phantoms_to_a_split(made):
    with open_archive(made / "planes.zip") as archive:
        split = read_split(made / "planes.split.json", archive)
        assert archive.classes == ("coronal", "noise", "sagittal")
        assert set(archive.manifest["angle_deg"]) == {"-7", "0", "7"}
        assert len(split.folds) == 2 and split.fractions == (0.5, 1.0)


def test_split_prints_the_size_of_each_part(made, tmp_path):
    result = run(
        "split",
        "--data",
        made / "planes.zip",
        "--dest",
        tmp_path / "s.split.json",
        "--folds",
        2,
        "--fractions",
        "0.5",
    )
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0] == ["fold", "0", "subjects", "images", "coronal", "noise", "sagittal"]
    assert lines[1][:2] == ["test", "3"] and ["labeled", "at", "50", "%", "1"] in [line[:5] for line in lines]
    again = run("split", "--data", made / "planes.zip", "--dest", tmp_path / "s.split.json")
    assert again.exit_code == 1 and "already exists" in said(again)


def test_split_says_which_subjects_it_keeps_together(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    (tmp_path / "p" / "x").mkdir(parents=True)
    for number in range(12):
        Image.fromarray(pixels[max(number, 1)]).save(tmp_path / "p" / "x" / f"p{number}.png")
    images = run(
        "images",
        "--source",
        tmp_path / "p",
        "--dest",
        tmp_path / "a.zip",
        "--size",
        8,
        "--subject-pattern",
        r"p\d+",
    )
    assert images.exit_code == 0, images.output
    result = run("split", "--data", tmp_path / "a.zip", "--dest", tmp_path / "a.split.json", "--folds", 2)
    assert "kept together because they share an identical picture: p0+p1" in said(result)


def test_show_writes_a_picture(made):
    result = run(
        "show", "--data", made / "planes.zip", "--dest", made / "sheet.png", "--columns", 4, "--rows", 1
    )
    assert result.exit_code == 0 and Image.open(made / "sheet.png").width > 300


def test_verify_prints_the_table_and_fails_on_a_leak(made, tmp_path):
    sound = run("verify", "--data", made / "planes.zip", "--split", made / "planes.split.json")
    assert sound.exit_code == 0 and "pictures are sound; planes.split.json: 2 folds are sound" in said(sound)
    assert "sagittal" in sound.output
    content = json.loads((made / "planes.split.json").read_text())
    content["folds"][0]["train"].append(content["folds"][0]["test"][0])
    (tmp_path / "leak.split.json").write_text(json.dumps(content))
    leak = run("verify", "--data", made / "planes.zip", "--split", tmp_path / "leak.split.json")
    assert leak.exit_code == 1 and "expected each subject on one side" in said(leak)


def test_bad_volumes_end_with_1_and_can_be_left_out(tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    write_nrrd(folder / "good.nrrd", head_volume(), spacing=(4.0, 4.0, 4.0))
    (folder / "bad.nrrd").write_bytes((folder / "good.nrrd").read_bytes()[:-200])
    arguments = ["volumes", "--source", folder, "--dest", tmp_path / "a.zip", "--size", 16]
    refused = run(*arguments)
    assert refused.exit_code == 1 and "bad.nrrd: expected a whole NRRD file" in said(refused)
    assert "--skip-unreadable" in said(refused) and not (tmp_path / "a.zip").exists()
    skipped = run(*arguments, "--skip-unreadable")
    assert skipped.exit_code == 0
    assert "left out:" in skipped.output and "from 1 volumes, 1 left out" in said(skipped)


def test_a_volume_without_orientation_names_the_flag(tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    drop = ("space", "space directions", "space origin")
    write_nrrd(folder / "v.nrrd", head_volume(), drop=drop, spacings=[4.0, 4.0, 4.0])
    arguments = ["volumes", "--source", folder, "--dest", tmp_path / "a.zip", "--size", 16]
    refused = run(*arguments)
    assert refused.exit_code == 1 and "pass --orientation, for instance --orientation LPS" in said(refused)
    assert run(*arguments, "--orientation", "RAS").exit_code == 0


def test_an_unreadable_picture_ends_with_1_and_can_be_left_out(tmp_path):
    (tmp_path / "p" / "x").mkdir(parents=True)
    Image.new("L", (8, 8), 9).save(tmp_path / "p" / "x" / "a.png")
    (tmp_path / "p" / "x" / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    arguments = [
        "images",
        "--source",
        tmp_path / "p",
        "--dest",
        tmp_path / "a.zip",
        "--size",
        8,
        "--subject-pattern",
        ".*",
    ]
    refused = run(*arguments)
    assert refused.exit_code == 1 and "1 of 2 pictures cannot be used" in said(refused)
    assert run(*arguments, "--skip-unreadable").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*VOLUMES, "--angles", "1:2"], "--angles must be start:stop:step"),
        ([*VOLUMES, "--planes", "oblique"], "--planes must name some of"),
        ([*VOLUMES, "--size", "100"], "--size must be a power of two"),
        ([*VOLUMES, "--step-mm", "2", "--slices-per-plane", "3"], "not both"),
        (["images", "--source", ".", "--dest", "a.zip"], "give either --subjects TABLE or --subject-pattern"),
        (["phantom", "--out", "x", "--voxel-mm", "0.1"], "--voxel-mm must be between 1 and 6 mm"),
    ],
)  # fmt: skip
def test_wrong_flags_end_with_2(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2 and message in said(result)


def test_an_empty_folder_ends_with_1(tmp_path):
    result = run("volumes", "--source", tmp_path, "--dest", tmp_path / "a.zip")
    assert result.exit_code == 1 and "expected volumes" in said(result)


@pytest.mark.parametrize(
    ("text", "angles"),
    [("0", (0.0,)), ("-21:21:21", (-21.0, 0.0, 21.0)), ("3,-2.5", (3.0, -2.5)),
     ("0:0.3:0.1", (0.0, 0.1, 0.2, 0.3)), ("-21:21:5", (-21, -16, -11, -6, -1, 4, 9, 14, 19))],
)  # fmt: skip
def test_angles_are_a_range_with_its_end_or_a_list(text, angles):
    assert parse_angles(text) == pytest.approx(angles)


@pytest.mark.parametrize("text", ["a", "1:2", "0:10:0", "10:0:1", "0:9:0.001", ""])
def test_impossible_angles_are_refused(text):
    with pytest.raises(SettingsError, match="--angles must"):
        parse_angles(text)


def test_finished_phantoms_are_left_alone_unless_told_otherwise(made):
    before = {path.name: path.read_bytes() for path in (made / "v").iterdir()}
    again = run("phantom", "--out", made / "v", "--subjects", 1, "--seed", 2, "--voxel-mm", 6)
    assert again.exit_code == 1 and "subjects.csv: already exists and is left alone" in said(again)
    assert {path.name: path.read_bytes() for path in (made / "v").iterdir()} == before


@pytest.mark.parametrize(
    "command", [("split",), ("split", "--overwrite"), ("show",), ("show", "--overwrite")]
)
def test_an_archive_is_not_replaced_by_a_split_or_a_picture_of_it(made, command):
    before = (made / "planes.zip").read_bytes()
    result = run(*command, "--data", made / "planes.zip", "--dest", made / "planes.zip")
    assert result.exit_code == 2 and "--dest must end in ." in said(result)
    assert (made / "planes.zip").read_bytes() == before


def test_a_picture_that_is_there_is_left_alone(made):
    (made / "mine.png").write_bytes(b"mine")
    result = run("show", "--data", made / "planes.zip", "--dest", made / "mine.png")
    assert result.exit_code == 1 and (made / "mine.png").read_bytes() == b"mine"


def test_a_class_folder_without_a_picture_is_told(tmp_path):
    for name in ("full", "void"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "pictures" / "full" / "p1.png")
    result = run(
        "images", "--source", tmp_path / "pictures", "--dest", tmp_path / "a.zip", "--size", 8,
        "--subject-pattern", ".*",
    )  # fmt: skip
    assert result.exit_code == 0 and "note: no picture in the folder 'void'" in said(result)
