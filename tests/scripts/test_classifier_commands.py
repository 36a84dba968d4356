import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.split import make_split, write_split
from scripts.cli import cli
from tests.classifier.toys import CLASSES, toy_pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An archive of 30 subjects with 4 images each, two splits, and one trained run."""
    folder = tmp_path_factory.mktemp("classifier")
    labels = np.repeat(np.arange(30) % 3, 4)
    pixels = toy_pixels(labels, size=16, seed=1)
    with ArchiveWriter(folder / "toy.zip") as writer:
        for index, label in enumerate(labels):
            writer.add(pixels[index, 0], ImageRecord(label=CLASSES[label], subject=f"p{index // 4:02d}"))
    with open_archive(folder / "toy.zip") as archive:
        for name, seed in (("toy", 0), ("other", 1)):
            split = make_split(archive, num_folds=3, fractions=(0.5, 1.0), val_share=0.25, seed=seed)
            write_split(split, folder / f"{name}.split.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHLABEL_CACHE", str(folder / "cache"))
        result = run_train(folder, "run")
    assert result.exit_code == 0, result.output
    assert "run: small_resnet, 20 steps in" in result.output and "balanced accuracy" in result.output
    return folder


@pytest.fixture(autouse=True)
def use_cache(folder, monkeypatch):
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(folder / "cache"))


def run(*arguments: object):
    return CliRunner().invoke(cli, ["classifier", *map(str, arguments)])


def run_train(folder: Path, name: str, *more: object):
    return run(
        "train", "--data", folder / "toy.zip", "--split", folder / "toy.split.json", "--steps", 20,
        "--batch", 16, "--lr", 0.005, "--validate-every", 10, "--outdir", folder / name, *more,
    )  # fmt: skip


def run_evaluate(folder: Path, *more: object):
    split = () if "--split" in more else ("--split", folder / "toy.split.json")
    return run("evaluate", "--model", folder / "run", "--data", folder / "toy.zip", *split, *more)


def test_training_leaves_a_complete_run_that_knows_where_it_came_from(folder):
    names = {path.name for path in (folder / "run").iterdir()}
    assert {"model.safetensors", "model.json", "history.csv", "history.png"} <= names
    assert {"metrics.json", "predictions.parquet", "confusion-val.png", "reliability-val.png"} <= names
    description = json.loads((folder / "run" / "model.json").read_text())
    with open_archive(folder / "toy.zip") as archive:
        assert description["archive_sha256"] == archive.sha256
    assert (description["fold"], description["fraction"]) == (0, 1.0)
    assert not set(description["subjects"]["train"]) & set(description["subjects"]["val"])


def test_evaluation_adds_the_test_part_beside_validation_and_counts_openings(folder):
    before = json.loads((folder / "run" / "metrics.json").read_text()).get("test", {}).get("openings", 0)
    result = run_evaluate(folder)
    assert result.exit_code == 0, result.output
    assert "test: 40 images, subjects: 10 (95 % intervals by subject)" in result.output
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert set(metrics) >= {"val", "test"} and metrics["test"]["openings"] == before + 1
    predictions = pd.read_parquet(folder / "run" / "predictions.parquet")
    assert list(predictions.columns) == [
        "file",
        "subject",
        "label",
        "part",
        *(f"p_{name}" for name in CLASSES),
    ]
    tested = predictions[predictions["part"] == "test"]
    np.testing.assert_allclose(tested.iloc[:, 4:].sum(axis=1), 1.0)
    predicted = tested.iloc[:, 4:].to_numpy().argmax(axis=1)
    right = [CLASSES[number] == label for number, label in zip(predicted, tested["label"], strict=True)]
    assert metrics["test"]["metrics"]["accuracy"] == pytest.approx(np.mean(right))
    assert run_evaluate(folder).exit_code == 0  # a second time replaces the rows instead of adding them
    again = pd.read_parquet(folder / "run" / "predictions.parquet")
    assert len(again) == len(predictions) and again["file"].is_unique


def test_evaluating_on_subjects_of_the_training_is_refused_by_name(folder):
    result = run_evaluate(folder, "--part", "train")
    assert result.exit_code == 1
    assert "was trained on 15 of the subjects it would be evaluated on (p" in result.output


def test_another_split_whose_test_part_was_seen_is_refused(folder):
    result = run_evaluate(folder, "--split", folder / "other.split.json")
    assert result.exit_code == 1 and "of the subjects it would be evaluated on" in result.output


def test_a_finished_run_is_not_overwritten_unless_asked(folder):
    result = run_train(folder, "run")
    assert result.exit_code == 1 and "already holds a run: name another --outdir" in result.output
    assert run_train(folder, "twice", "--fraction", 0.5).exit_code == 0
    assert run_train(folder, "twice", "--overwrite").exit_code == 0
    assert json.loads((folder / "twice" / "model.json").read_text())["fraction"] == 1.0


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--arch", "small_resnat"), "did you mean small_resnet"),
        (("--fraction", 0.33), "fraction must be one of"),
        (("--fold", 9), "fold must be 0 to 2"),
        (("--steps", 0), "steps must be at least 1"),
    ],
    ids=["arch", "fraction", "fold", "steps"],
)
def test_wrong_settings_end_with_usage_errors_and_leave_nothing(folder, more, sentence):
    result = run_train(folder, "refused", *more)
    assert result.exit_code == 2 and sentence in result.output
    assert not (folder / "refused").exists()


def test_a_folder_without_a_run_is_one_sentence(folder, tmp_path):
    result = run(
        "evaluate", "--model", tmp_path, "--data", folder / "toy.zip", "--split", folder / "toy.split.json"
    )
    assert (
        result.exit_code == 1 and "model.json does not exist: give the folder of a finished" in result.output
    )


@pytest.mark.parametrize(("name", "content"), [("predictions.parquet", "x"), ("metrics.json", "[]")])
def test_a_damaged_result_of_an_earlier_evaluation_is_named(folder, name, content):
    run_train(folder, f"damaged-{name}")
    (folder / f"damaged-{name}" / name).write_text(content)
    result = run(
        "evaluate", "--model", folder / f"damaged-{name}", "--data", folder / "toy.zip",
        "--split", folder / "toy.split.json",
    )  # fmt: skip
    assert result.exit_code == 1 and "remove it and evaluate again" in " ".join(result.output.split())


def test_a_place_that_cannot_hold_the_run_is_known_before_the_training(folder):
    (folder / "notes.txt").write_text("mine")
    result = run_train(folder, "notes.txt/run", "--steps", 100_000)
    assert result.exit_code == 1 and "got a file at" in " ".join(result.output.split())


def test_preprocessing_by_name_or_file_is_kept_and_used_again(folder, tmp_path):
    (tmp_path / "steps.json").write_text('{"preset": "clahe", "size": 24}')
    result = run_train(folder, "steps", "--preprocessing", tmp_path / "steps.json")
    assert result.exit_code == 0, result.output
    description = json.loads((folder / "steps" / "model.json").read_text())
    assert description["preprocessing"]["steps"]["clahe_clip"] == 2.0
    assert description["preprocessing"]["steps"]["size"] == 24
    metrics = json.loads((folder / "steps" / "metrics.json").read_text())["val"]["metrics"]
    again = run("evaluate", "--model", folder / "steps", "--data", folder / "toy.zip",
                "--split", folder / "toy.split.json", "--part", "val")  # fmt: skip
    assert again.exit_code == 0, again.output
    assert json.loads((folder / "steps" / "metrics.json").read_text())["val"]["metrics"] == metrics


def test_an_unknown_preprocessing_ends_with_2(folder):
    result = run_train(folder, "none", "--preprocessing", "clae")
    assert result.exit_code == 2 and "did you mean 'clahe'" in " ".join(result.output.split())
    assert not (folder / "none").exists()
