"""`classifier pretrain` and `classifier tune` as commands, and what `classifier train` makes of it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from scripts.cli import cli
from tests.classifier.toy_archive import write_toys

SHORT = ("--steps", 2, "--batch", 8, "--validate-every", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    write_toys(folder)
    return folder


def run(*arguments: object):
    return CliRunner().invoke(cli, ["classifier", *map(str, arguments)])


def on_toys(command: str, folder: Path, name: str, *more: object):
    data = ("--data", folder / "toy.zip", "--split", folder / "toy.split.json")
    return run(command, *data, "--outdir", folder / name, *SHORT, *more)


def test_from_unlabeled_images_to_tuned_settings_and_a_classifier(folder):
    made = on_toys("pretrain", folder, "encoder", "--preprocessing", "zscore")
    assert made.exit_code == 0, made.output
    assert "no label was used" in made.output and "held-out subjects" in made.output
    weights = folder / "encoder" / "encoder.safetensors"
    fixed = ("--weights", weights, "--preprocessing", "zscore", "--lr", 0.002)
    tuned = on_toys("tune", folder, "tuning", *fixed, "--trials", 2, "--try", "mask=none")
    assert tuned.exit_code == 0, tuned.output
    assert "2 of 2 trials (2 complete)" in tuned.output
    assert "validation and test were not looked at" in tuned.output
    assert "best inner score is the best of many and therefore too good" in tuned.output
    made_with = json.loads((folder / "tuning" / "tuning.json").read_text())["made_with"]
    space = made_with["space"]
    assert space["arch"] == ["denoiser_se", "denoiser_plain", "small_resnet"]
    assert space["trained_stages"] == ["all", 2, 0] and space["mask"] == ["none"] and "lr" not in space
    assert (folder / "tuning" / "tuning.png").stat().st_size > 10_000

    settings = folder / "tuning" / "best-settings.json"
    data = ("--data", folder / "toy.zip", "--split", folder / "toy.split.json")
    trained = run("train", *data, "--settings", settings, "--outdir", folder / "run")
    assert trained.exit_code == 0, trained.output
    config = json.loads((folder / "run" / "model.json").read_text())["config"]
    assert config["lr"] == 0.002 and config["steps"] == 2

    again = on_toys("tune", folder, "tuning", *fixed, "--trials", 2, "--try", "mask=none")
    assert "went on after 2 finished trials" in again.output


def test_an_encoder_of_another_fold_ends_with_a_sentence(folder):
    made = on_toys("pretrain", folder, "other", "--preprocessing", "zscore", "--fold", 1)
    assert made.exit_code == 0, made.output
    weights = ("--weights", folder / "other" / "encoder.safetensors", "--preprocessing", "zscore")
    for command in ("train", "tune"):
        arch = ("--arch", "denoiser_se")
        refused = on_toys(command, folder, f"refused-{command}", *weights, *arch)
        assert refused.exit_code == 1
        assert "the encoder was trained on" in refused.output and "p0" in refused.output


def test_what_a_recipe_sets_is_searched_only_where_it_is_named(folder):
    recipe = ("--recipe", "pneumonia-backbone-plain-focal", "--size", 32)
    weights = ("--weights", folder / "encoder" / "encoder.safetensors")
    made = on_toys("tune", folder, "recipe", *recipe, *weights, "--trials", 1, "--try", "lr=0.001..0.01")
    assert made.exit_code == 0, made.output
    made_with = json.loads((folder / "recipe" / "tuning.json").read_text())["made_with"]
    assert set(made_with["space"]) == {"lr", "mask", "augmentation", "trained_stages"}
    assert made_with["settings"]["arch"] == "denoiser_plain"
    assert made_with["settings"]["preprocessing"]["size"] == 32


def test_a_space_in_a_file_is_searched_as_it_stands(folder):
    (folder / "space.yaml").write_text("loss: [focal]\nlabel_smoothing: [0.0, 0.1]\n")
    space = ("--space", folder / "space.yaml")
    made = on_toys("tune", folder, "filed", *space, "--trials", 1, "--monitor", "auroc")
    assert made.exit_code == 0, made.output
    summary = json.loads((folder / "filed" / "tuning.json").read_text())
    assert summary["made_with"]["space"] == {"loss": ["focal"], "label_smoothing": [0.0, 0.1]}
    assert summary["monitor"] == "auroc"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--try", "lose=focal"), "--try: no tuning of 'lose'; did you mean 'loss'?"),
        (("--try", "loss"), "--try must be NAME=A,B,..."),
        (("--try", "lr=0.1..0.2", "--lr", 0.1), "lr is to be searched and is also given as an option"),
        (("--trials", 0), "--trials must be at least 1, got 0"),
        (("--inner-share", 0.8), "--inner-share must be above 0 and at most 0.5, got 0.8"),
        (("--try", "trained_stages=0"), "only where a network starts from weights"),
    ],
)
def test_wrong_usage_of_tune_ends_with_exit_code_two(folder, options, message):
    result = on_toys("tune", folder, "wrong", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (folder / "wrong").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--drop-share", 1), "drop share must be in [0, 1), got 1.0"),
        (("--code-width", 100), "the bottleneck must hold at most 1/4 of the picture's numbers"),
        (("--hold-out", 0.7), "hold_out must be above 0 and at most 0.5"),
        (("--fold", 7), "fold must be 0 to 2 for this split, got 7"),
    ],
)
def test_wrong_usage_of_pretrain_ends_with_exit_code_two(folder, options, message):
    result = on_toys("pretrain", folder, "wrong", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
