import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from classifier.config import read_settings
from classifier.models import build_model
from classifier.recipes import RECIPES, with_size
from extract.png import encode_png
from scripts.cli import cli
from tests.classifier.toys import CLASSES, toy_pixels


def run(*arguments):
    return CliRunner().invoke(cli, ["classifier", "recipes", *arguments])


def test_every_recipe_is_listed_with_its_input_and_its_start():
    lines = run().output.splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES)
    assert "(224 px, published weights)" in lines[list(RECIPES).index("tumour-resnet50")]
    assert "(128 px, from scratch)" in lines[list(RECIPES).index("lung-convnet-1")]


def test_the_settings_of_one_are_a_file_of_settings(tmp_path):
    result = run("--show", "pneumonia-inceptionv3", "--size", "96")
    assert result.exit_code == 0 and json.loads(result.output)["head"] == [1024, 512, 512]
    (tmp_path / "settings.json").write_text(result.output)
    expected = with_size(RECIPES["pneumonia-inceptionv3"], 96).config
    assert read_settings(tmp_path / "settings.json") == expected


def test_a_misspelt_name_and_a_size_for_all_are_wrong_usage():
    result = run("--show", "lung-vit")
    assert result.exit_code == 2 and "did you mean lung-vit-b32, lung-vit-b16" in result.output
    assert run("--size", "64").exit_code == 2


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three classes, 20 pictures each, two a person."""
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "cache"))
    labels = np.repeat(np.arange(3), 20)
    for number, pixels in enumerate(toy_pixels(labels, 32, seed=0)):
        path = tmp_path / "pictures" / CLASSES[labels[number]] / f"p{number // 2:02d}-{number % 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(pixels[0]))
    return tmp_path / "pictures"


def train(folder, recipe, *arguments):
    command = [
        "classifier",
        "train",
        "--recipe",
        recipe,
        "--data",
        str(folder),
        "--size",
        "32",
        "--steps",
        "2",
    ]
    outdir = folder.parent / "run"
    return CliRunner().invoke(
        cli, [*command, "--batch", "8", "--device", "cpu", "--outdir", str(outdir), *arguments]
    )


def test_a_recipe_runs_from_the_raw_folder_in_one_command(folder):
    result = train(folder, "lung-convnet-2", "--subject-pattern", r"(p\d\d)-")
    assert result.exit_code == 0, result.output
    assert "run: lung_convnet_2, 2 steps" in result.output and "person of its own" not in result.output
    model = json.loads((folder.parent / "run" / "model.json").read_text())
    assert model["config"]["balance_classes"] and model["config"]["head"] == [128]
    assert (
        len(model["subjects"]["train"]) + len(model["subjects"]["val"]) == 24
    )  # of 30, six are the test part
    assert (folder.parent / "run.split.json").is_file()


def test_a_recipe_that_expects_weights_says_so_and_takes_them_from_a_file(folder, tmp_path):
    without = train(folder, "lung-transfer-mobilenet-base")
    assert without.exit_code == 0, without.output
    assert "it starts from random numbers, all layers learn from the first step" in without.output
    assert "each counts as a person of its own" in " ".join(without.output.split())
    weights = tmp_path / "published.safetensors"
    body = build_model("mobilenetv1_100", 5, 3, (32, 32), seed=9)
    save_file({name: value.contiguous() for name, value in body.state_dict().items()}, weights)
    given = train(folder, "lung-transfer-mobilenet-base", "--weights", str(weights), "--overwrite")
    assert given.exit_code == 0, given.output
    assert "random numbers" not in given.output
    trained = load_file(folder.parent / "run" / "model.safetensors")
    untouched = "blocks.3.0.conv_dw.weight"  # of the body, which rests in this recipe
    assert torch.equal(trained[untouched], body.state_dict()[untouched].contiguous())
