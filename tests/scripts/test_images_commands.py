from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from extract.archive import open_archive
from scripts.cli import cli


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["extract", *[str(argument) for argument in arguments]])


def said(result: Result) -> str:
    return " ".join(result.output.split())  # however it was wrapped


@pytest.fixture
def kaggle(tmp_path) -> Path:
    """Parts above classes, as the chest set is downloaded; the ill are wider."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for label, width in (("NORMAL", 20), ("PNEUMONIA", 28)):
            (tmp_path / "chest" / part / label).mkdir(parents=True)
            for person in range(count):
                pixels = rng.integers(0, 256, (20, width), dtype=np.uint8)
                Image.fromarray(pixels).save(
                    tmp_path / "chest" / part / label / f"{label[0]}{person}_{part}.png"
                )
    return tmp_path


def test_a_downloaded_folder_of_parts_becomes_one_archive_with_its_warnings(kaggle):
    result = run(
        "images", "--source", kaggle / "chest", "--dest", kaggle / "a.zip", "--size", 16,
        "--subject-pattern", r"([NP]\d+)_", "--class-name", "PNEUMONIA=ill", "--class-name", "NORMAL=well",
        "--workers", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "32 images of 24 subjects from 32 pictures (ill 16, well 16)" in said(result)
    assert "note: the folders test, train were taken for parts" in said(result)
    assert "note: 8 of 24 subjects stand in several parts" in said(result)
    assert "note: the files' size and kind alone predict the class: balanced accuracy 1.00" in said(result)
    with open_archive(kaggle / "a.zip") as archive:
        assert sorted(set(archive.manifest["part"])) == ["test", "train"]


def test_ids_and_classes_from_a_table(kaggle):
    files = sorted((kaggle / "chest" / "train").rglob("*.png"))
    rows = "".join(f"{path.stem};{int(path.stem[0] == 'P')}\n" for path in files)
    (kaggle / "labels.csv").write_text("id;clase\n" + rows)
    result = run(
        "images", "--source", kaggle / "chest" / "train", "--dest", kaggle / "a.zip", "--size", 16,
        "--labels", kaggle / "labels.csv", "--label-column", "clase", "--file-column", "id",
        "--subject-pattern", ".*", "--workers", 1,
    )  # fmt: skip
    assert result.exit_code == 0 and "(0 12, 1 12)" in said(result)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--class-name", "x"), "--class-name must be OLD=NEW"),
        (("--class-name", "NORMAL=a", "--class-name", "NORMAL=b"), "each OLD once"),
        (("--class-name", "x=y"), "no picture has the class 'x'"),
        (("--subject-tag", "PatientID"), "give either --subjects TABLE or --subject-pattern"),
        (("--label-column", "x"), "--label-column needs --subjects TABLE or --labels TABLE"),
    ],
)
def test_wrong_flags_end_with_2(kaggle, more, message):
    result = run(
        "images", "--source", kaggle / "chest", "--dest", kaggle / "a.zip", "--subject-pattern", ".*", *more
    )
    assert result.exit_code == 2 and message in said(result) and not (kaggle / "a.zip").exists()


def test_ways_of_preprocessing_are_drawn_and_nothing_is_replaced(kaggle):
    run("images", "--source", kaggle / "chest", "--dest", kaggle / "a.zip", "--size", 16,
        "--subject-pattern", ".*", "--workers", 1)  # fmt: skip
    drawn = ("preprocess", "--data", kaggle / "a.zip", "--dest", kaggle / "b.png")
    result = run(*drawn, "--preset", "clahe", "--preset", "lung", "--images", 5)
    assert result.exit_code == 0 and "2 ways of preprocessing a.zip" in said(result)
    with Image.open(kaggle / "b.png") as sheet:
        assert sheet.height > 3 * 128 and sheet.width > 5 * 128
    assert run(*drawn).exit_code == 1 and run(*drawn, "--overwrite").exit_code == 0
    with Image.open(kaggle / "b.png") as sheet:
        assert sheet.height > 9 * 128
    wrong = run("preprocess", "--data", kaggle / "a.zip", "--dest", kaggle / "c.png", "--preset", "clae")
    assert wrong.exit_code == 2 and "did you mean 'clahe'" in said(wrong)
    assert run("preprocess", "--data", kaggle / "a.zip", "--dest", kaggle / "c.zip").exit_code == 2
