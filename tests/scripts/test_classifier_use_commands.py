import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from classifier.config import ClassifierConfig
from classifier.job import train_run
from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.split import make_split, write_split
from scripts.cli import cli
from tests.classifier.toys import CLASSES, toy_pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An archive of 18 subjects with 4 images each, its split, a run, masks of the left half, pictures."""
    folder = tmp_path_factory.mktemp("use")
    labels = np.repeat(np.arange(18) % 3, 4)
    pixels = toy_pixels(labels, size=32, seed=1)
    settings = {"kind": "images", "size": 32, "rgb": False, "fit": "pad"}
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :16] = 255
    with ArchiveWriter(folder / "toy.zip", preparation=settings) as writer:
        for index, label in enumerate(labels):
            record = ImageRecord(label=CLASSES[label], subject=f"p{index // 4:02d}")
            name = writer.add(pixels[index, 0], record)
            (folder / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(folder / "masks" / name)
    with open_archive(folder / "toy.zip") as archive:
        split = make_split(archive, num_folds=3, fractions=(1.0,), val_share=0.3, seed=0)
        write_split(split, folder / "toy.split.json")
    (folder / "pictures").mkdir()
    for index in range(3):
        Image.fromarray(pixels[index * 4, 0]).save(folder / "pictures" / f"new{index}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHLABEL_CACHE", str(folder / "cache"))
        config = ClassifierConfig(steps=12, batch_size=16, validate_every=6)
        train_run(folder / "toy.zip", folder / "toy.split.json", 0, 1.0, config, folder / "run")
    return folder


@pytest.fixture(autouse=True)
def use_cache(folder, monkeypatch):
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(folder / "cache"))


def run(*arguments: object):
    return CliRunner().invoke(cli, ["classifier", *map(str, arguments)])


def said(result) -> str:
    return " ".join(result.output.split())


def test_explaining_an_archive_draws_pictures_and_a_sheet_of_each_class(folder, tmp_path):
    call = ("explain", "--model", folder / "run", "--data", folder / "toy.zip", "--limit", 2)
    result = run(*call, "--outdir", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "6 pictures by grad-cam, layer blocks.1, sheet-flat.png, sheet-horizontal.png" in result.output
    listed = json.loads((tmp_path / "out" / "explanation.json").read_text())
    pictures = {item["picture"] for item in listed["images"]}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == pictures | set(listed["sheets"]) | {"explanation.json"}
    assert {item["label"] for item in listed["images"]} == set(CLASSES)
    with Image.open(tmp_path / "out" / sorted(pictures)[0]) as picture:
        assert picture.width > 3 * 256
    again = run(*call, "--outdir", tmp_path / "out")
    assert again.exit_code == 1 and "already holds files" in said(again)
    fewer = run(*call[:-1], 1, "--outdir", tmp_path / "out", "--overwrite", "--method", "activations")
    assert fewer.exit_code == 0, fewer.output
    assert len(list((tmp_path / "out").glob("0*.png"))) == 3  # none of the first six is left over


def test_masks_give_a_share_that_joins_the_evaluation_and_its_page(folder, tmp_path):
    call = (
        "explain", "--model", folder / "run", "--data", folder / "toy.zip", "--masks", folder / "masks",
        "--limit", 1,
    )  # fmt: skip
    val = ("--split", folder / "toy.split.json", "--part", "val")
    result = run(*call, *val, "--outdir", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "of Grad-CAM's mass lies outside the masks" in said(result)
    assert "looking everywhere alike would give 50.0%" in said(result)
    found = json.loads((folder / "run" / "metrics.json").read_text())["val"]["explanation"]
    assert found["numbers"]["of a uniform map"] == 0.5 and found["text"].rstrip(".") in said(result)
    assert "mass lies outside the masks" in (folder / "run" / "evaluation-val.html").read_text()
    test = run(*call, "--split", folder / "toy.split.json", "--part", "test", "--outdir", tmp_path / "test")
    assert test.exit_code == 1 and "run `classifier evaluate --part test` first" in said(test)
    everything = run(*call, "--outdir", tmp_path / "all")
    assert everything.exit_code == 0 and "72 images of 18 subjects" in said(everything)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--class", "tumour"), "--class must be one of flat, horizontal, vertical"),
        (("--layer", "block.1"), "did you mean blocks.1"),
        (("--method", "attention"), "attention maps are for vision transformers"),
        (("--part", "val"), "give --split and --part together"),
        (("--limit", 0), "--limit must be at least 1"),
    ],
    ids=["class", "layer", "method", "part", "limit"],
)
def test_what_cannot_be_explained_ends_with_a_usage_error_and_no_file(folder, tmp_path, more, sentence):
    call = ("explain", "--model", folder / "run", "--data", folder / "toy.zip", "--outdir", tmp_path / "out")
    result = run(*call, *more)
    assert result.exit_code == 2 and sentence in said(result), result.output
    assert not (tmp_path / "out").exists()


def test_predictions_are_shown_written_and_explained(folder, tmp_path):
    call = ("predict", "--model", folder / "run", folder / "pictures", folder / "toy.zip")
    result = run(*call, "--out", tmp_path / "p.csv", "--explain", tmp_path / "why", "--reject-below", 0.5)
    assert result.exit_code == 0, result.output
    assert "75 images" in result.output and "not sure below 0.5 (--reject-below)" in result.output
    assert "and 63 more (--out writes them all)" in result.output
    table = pd.read_csv(tmp_path / "p.csv")
    assert table["file"][0] == "new0.png" and len(table) == 75
    unsure = table[[f"p_{name}" for name in CLASSES]].max(axis=1) < 0.5
    assert ((table["decision"] == "not sure") == unsure).all()
    assert len(list((tmp_path / "why").glob("0*.png"))) == 75
    assert "images are of subjects that the classifier has seen" in said(result)


def test_without_a_flag_the_runs_own_rule_decides(folder, tmp_path):
    result = run("predict", "--model", folder / "run", folder / "pictures", "--out", tmp_path / "p.json")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "p.json").read_text())
    rule = json.loads((folder / "run" / "decision.json").read_text())
    assert content["decision"]["reject_confidence"] == rule["reject_confidence"]
    assert "decision.json" in result.output


def test_unreadable_files_end_with_1_unless_they_may_be_skipped(folder, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    Image.new("L", (32, 32), 90).save(tmp_path / "in" / "good.png")
    call = ("predict", "--model", folder / "run", tmp_path / "in")
    result = run(*call)
    assert result.exit_code == 1 and "1 files could not be read, the others were judged" in said(result)
    assert "good.png" in result.output
    skipped = run(*call, "--skip-unreadable")
    assert skipped.exit_code == 0 and "left out:" in skipped.output and "bad.png" in skipped.output


def test_files_that_are_there_are_left_alone(folder, tmp_path):
    (tmp_path / "p.csv").write_text("mine")
    result = run("predict", "--model", folder / "run", folder / "pictures", "--out", tmp_path / "p.csv")
    assert result.exit_code == 1 and "already exists and is left alone" in said(result)
    assert (tmp_path / "p.csv").read_text() == "mine"
    wrong = run("predict", "--model", folder / "run", folder / "pictures", "--out", tmp_path / "p.xlsx")
    assert wrong.exit_code == 2 and "--out must end in .csv or .json" in said(wrong)


def test_the_export_is_checked_with_the_archives_images(folder, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    call = ("export", "--model", folder / "run", "--data", folder / "toy.zip", "--dest", tmp_path / "m.onnx")
    result = run(*call)
    assert result.exit_code == 0, result.output
    assert "m.json beside it; differs from PyTorch by at most" in said(result)
    assert "on 24 images" in said(result)
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "m.json"}

    for model, out in ((folder / "run", "run.csv"), (tmp_path / "m.onnx", "onnx.csv")):
        predicted = run("predict", "--model", model, folder / "toy.zip", "--out", tmp_path / out)
        assert predicted.exit_code == 0, predicted.output
        assert "not sure below" in predicted.output or "most probable class" in predicted.output
    ours, theirs = (pd.read_csv(tmp_path / name) for name in ("run.csv", "onnx.csv"))
    assert theirs["decision"].tolist() == ours["decision"].tolist()
    np.testing.assert_allclose(theirs["confidence"], ours["confidence"], atol=1e-4)
    why = run("predict", "--model", tmp_path / "m.onnx", folder / "pictures", "--explain", tmp_path / "why")
    assert why.exit_code == 2 and "give the run's folder" in said(why)
