"""`classifier segment train` and `apply`, from files to files."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file

from extract.archive import open_archive
from extract.split import make_split, read_split, write_split
from scripts.cli import cli
from tests.classifier.phantom_lungs import phantom, write_chest_archive, write_pairs, write_png

TRAINING = (
    "--size", 32, "--width", 6, "--depth", 2, "--steps", 60, "--lr", 0.01, "--validate-every", 20,
)  # fmt: skip


def run(*arguments: object):
    return CliRunner().invoke(cli, ["classifier", "segment", *map(str, arguments)])


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segment")
    images, masks = write_pairs(folder, 20)
    result = run("train", "--images", images, "--masks", masks, "--outdir", folder / "run", *TRAINING)
    assert result.exit_code == 0, result.output
    (folder / "train.txt").write_text(result.output)
    archive = write_chest_archive(folder / "chest.zip", 12)
    write_split(
        make_split(archive, num_folds=2, fractions=(), val_share=0.3, seed=0), folder / "chest.split.json"
    )
    return folder


def test_training_leaves_a_complete_run_and_prints_what_was_measured(folder):
    names = {path.name for path in (folder / "run").iterdir()}
    assert names == {
        "model.safetensors", "segmenter.json", "history.csv", "history.png", "metrics.json",
        "measures.csv", "pairs.csv", "overlays.png",
    }  # fmt: skip
    printed = (folder / "train.txt").read_text()
    assert "U-Net, 32 px, 60 steps on 20 pairs" in printed
    assert "test: 3 images, subjects: 3" in printed and "HD95, pixels" in printed
    described = json.loads((folder / "run" / "segmenter.json").read_text())
    parts = described["subjects"]
    assert [len(parts[part]) for part in ("train", "val", "test")] == [14, 3, 3]
    assert len(set(parts["train"]) | set(parts["val"]) | set(parts["test"])) == 20
    pairs = pd.read_csv(folder / "run" / "pairs.csv")
    assert sorted(pairs.loc[pairs["part"] == "test", "subject"]) == parts["test"]
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    measured = pd.read_csv(folder / "run" / "measures.csv")
    tested = measured[measured["part"] == "test"]
    assert set(tested["subject"]) == set(parts["test"])
    for stage in ("raw", "cleaned"):
        dice = metrics["test"][stage]["dice"]
        assert dice["mean"] == pytest.approx(tested[f"{stage}_dice"].mean()) and dice["mean"] > 0.8
        assert dice["interval_95"][0] <= dice["mean"] <= dice["interval_95"][1]


def test_a_finished_run_is_left_alone_unless_asked(folder):
    again = run(
        "train", "--images", folder / "images", "--masks", folder / "masks", "--outdir", folder / "run"
    )
    assert again.exit_code == 1 and "already holds a segmenter" in again.output


def test_a_masked_archive_comes_with_its_split_masks_table_and_sheet(folder):
    result = run(
        "apply", "--model", folder / "run", "--data", folder / "chest.zip", "--dest", folder / "m.zip",
        "--masks", folder / "m-masks", "--split", folder / "chest.split.json", "--margin", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "m.zip: 24 of 24 images, lungs are" in result.output
    with open_archive(folder / "m.zip") as masked:
        read_split(folder / "m.split.json", masked)
        assert masked.preparation["segment"]["margin"] == 1
    assert (folder / "m-lungs.csv").exists() and (folder / "m-overlays.png").exists()
    assert len(list((folder / "m-masks").rglob("*.png"))) == 24
    again = run(
        "apply", "--model", folder / "run", "--data", folder / "chest.zip", "--dest", folder / "m.zip"
    )
    assert again.exit_code == 1 and "is left alone" in again.output


def test_a_folder_is_masked_into_a_folder_and_implausible_pictures_are_named(folder, tmp_path):
    for name, seed in (("NORMAL/a", 800), ("NORMAL/b", 801), ("SICK/c", 802)):
        write_png(tmp_path / "in" / f"{name}.png", phantom(48, seed)[0])
    write_png(tmp_path / "in" / "SICK" / "blank.png", phantom(48, 0)[0] * 0 + 40)
    result = run("apply", "--model", folder / "run", "--data", tmp_path / "in", "--dest", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "without plausible lungs, kept unmasked: 1 (SICK/blank.png)" in result.output
    assert "by class: NORMAL 0 of 2, SICK 1 of 2" in result.output
    assert len(list((tmp_path / "out").rglob("*.png"))) == 4


@pytest.mark.parametrize(
    ("dest", "more", "sentence"),
    [
        ("out", (), "--dest must end in .zip"),
        ("m2.zip", ("--overlays", "sheet.jpg"), "--overlays must end in .png"),
        ("m2.zip", ("--margin", "-1"), "margin must not be negative"),
        ("m2.zip", ("--keep", "surroundings", "--crop"), "crop goes with the lungs"),
    ],
)
def test_wrong_settings_of_apply_end_with_2(folder, dest, more, sentence):
    result = run("apply", "--model", folder / "run", "--data", folder / "chest.zip",
                 "--dest", folder / dest, *more)  # fmt: skip
    assert result.exit_code == 2 and sentence in flat(result.output), result.output


def test_a_folder_does_not_become_an_archive_by_name(folder):
    result = run("apply", "--model", folder / "run", "--data", folder / "images", "--dest", folder / "x.zip")
    assert result.exit_code == 2 and "synthlabel extract images" in flat(result.output)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--size", 8), "size must be in 16"),
        (("--preprocessing", "brain-planes"), "changes gray levels alone"),
        (("--min-area", 0.9), "min_area"),
        (("--subject-pattern", "("), "must be a regular expression"),
    ],
)
def test_wrong_settings_of_train_end_with_2_and_leave_nothing(folder, tmp_path, more, sentence):
    result = run("train", "--images", folder / "images", "--masks", folder / "masks",
                 "--outdir", tmp_path / "r", *more)  # fmt: skip
    assert result.exit_code == 2 and sentence in flat(result.output), result.output
    assert not (tmp_path / "r").exists()


def test_unpaired_files_end_with_1_and_are_named(folder, tmp_path):
    images, masks = write_pairs(tmp_path, 4)
    (masks / "p03.png").unlink()
    result = run("train", "--images", images, "--masks", masks, "--outdir", tmp_path / "r", *TRAINING)
    assert result.exit_code == 1 and "p03.png: no mask of that name" in flat(result.output)


@pytest.mark.slow
def test_a_killed_training_goes_on_with_the_same_command_to_the_same_weights(folder, tmp_path):
    command = [
        sys.executable, "-m", "scripts.cli", "classifier", "segment", "train",
        "--images", folder / "images", "--masks", folder / "masks", "--outdir", tmp_path / "r",
        *TRAINING, "--validate-every", 5,
    ]  # fmt: skip
    for _ in range(3):
        process = subprocess.Popen(list(map(str, command)), cwd=Path(__file__).parents[2])
        state = tmp_path / "r" / "state.safetensors"
        before = state.stat().st_mtime_ns if state.exists() else 0
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if state.exists() and state.stat().st_mtime_ns != before:
                break
            time.sleep(0.005)
        process.kill()
        process.wait()
    assert subprocess.run(list(map(str, command)), cwd=Path(__file__).parents[2]).returncode == 0
    whole = run(*[str(part) for part in command[5:]], "--outdir", tmp_path / "whole")
    assert whole.exit_code == 0, whole.output
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("r", "whole"))
    assert all((a[name] == b[name]).all() for name in a)
