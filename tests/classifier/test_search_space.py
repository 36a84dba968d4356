import json

import optuna
import pytest
import yaml

from classifier.config import ClassifierConfig
from classifier.search_space import (
    Range,
    apply_choices,
    default_space,
    draw,
    first_choices,
    make_space,
    parse_choices,
    read_space,
)
from extract.errors import SettingsError

SPACE = {
    "loss": ["focal", "cross_entropy"],
    "lr": {"low": 0.001, "high": 0.01},
    "arch": ["denoiser_se", "small_resnet"],
    "trained_stages": ["all", 0],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loss=focal,binary", ("loss", ["focal", "binary"])),
        ("lr=5e-4..0.01", ("lr", {"low": 0.0005, "high": 0.01})),
        ("trained_stages=all,2,0", ("trained_stages", ["all", 2, 0])),
        ("mask=none", ("mask", ["none"])),
        ("balance_classes=true, false", ("balance_classes", [True, False])),
    ],
)
def test_choices_on_the_command_line_read_as_in_yaml(text, expected):
    assert parse_choices(text) == expected
    make_space(dict([parse_choices(text)]))


def test_yaml_and_json_files_say_the_same(tmp_path):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    spaces = [make_space(read_space(tmp_path / name)) for name in ("space.yaml", "space.json")]
    assert spaces[0] == spaces[1] and spaces[0]["lr"] == Range(0.001, 0.01)
    assert make_space(spaces[0].to_json()) == spaces[0]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"lose": ["focal"]}, "space: no tuning of 'lose'; did you mean 'loss'?"),
        ({}, "expected at least one setting with its choices, got none"),
        (
            {"loss": ["focal", "hinge"]},
            "loss must be a list of some of cross_entropy, focal, binary, got 'hinge'",
        ),
        ({"loss": []}, "got an empty list"),
        ({"loss": ["focal", "focal"]}, "loss names a choice twice"),
        ({"lr": {"low": 0.1, "high": 0.01}}, "lr must range from a number above 0 to a larger one"),
        ({"lr": {"low": 0.1}}, r"lr must be a list or a range such as \{low: 0.001, high: 0.01\}"),
        ({"loss": {"low": 1, "high": 2}}, "loss must be a list, got"),
        ({"size": [4]}, 'size must be a list of "as_is" or pixels from 8 to 1024, got 4'),
        ({"trained_stages": [-1]}, "trained_stages must be a list of .* got -1"),
        ({"preprocessing": ["zcore"]}, "did you mean 'zscore'?"),
        ({"balance_classes": [1]}, "balance_classes must be a list of true or false, got 1"),
    ],
)
def test_what_cannot_be_searched_is_told_in_a_sentence(choices, message):
    with pytest.raises(SettingsError, match=message):
        make_space(choices, "space")


@pytest.mark.parametrize("text", ["loss", "loss=", "focal,binary"])
def test_a_choice_without_name_or_values_is_refused(text):
    with pytest.raises(SettingsError, match="--try must be NAME=A,B"):
        parse_choices(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("loss: [focal]\nloss: [binary]\n", "'loss' is set a second time"),
        ("- focal\n", "expected choices such as"),
        ("loss: [focal\n", "expected YAML or JSON"),
    ],
)
def test_a_file_that_is_no_search_space_is_named(tmp_path, content, message):
    (tmp_path / "space.yaml").write_text(content)
    with pytest.raises(SettingsError, match=f"space.yaml.*{message}"):
        read_space(tmp_path / "space.yaml")


def test_freezing_is_a_choice_only_where_a_network_starts_from_weights():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [draw(study.ask(), make_space(SPACE), lambda arch: arch == "denoiser_se") for _ in range(30)]
    assert {one["arch"] for one in drawn} == {"denoiser_se", "small_resnet"}
    assert all(("trained_stages" in one) == (one["arch"] == "denoiser_se") for one in drawn)
    assert all(0.001 <= one["lr"] <= 0.01 for one in drawn)


def test_what_is_drawn_becomes_settings_of_a_training():
    base = ClassifierConfig(preprocessing="pneumonia-backbone", steps=7)
    config = apply_choices(
        base,
        {
            "arch": "denoiser_plain",
            "trained_stages": "all",
            "size": 32,
            "mask": "otsu",
            "augmentation": "mixup",
        },
    )
    assert (config.arch, config.trained_stages, config.steps) == ("denoiser_plain", None, 7)
    assert (config.preprocessing.size, config.preprocessing.mask) == (32, "otsu")
    assert config.preprocessing.clahe_clip == 2.0  # the rest of the preprocessing stays
    assert (config.augment, config.mixup, config.cutmix) == (True, 0.2, 0.0)
    assert apply_choices(base, {"trained_stages": 0, "size": "as_is"}).trained_stages == 0


def test_the_first_trial_is_what_would_be_done_without_tuning():
    space = default_space(64, starts_pretrained=False, archs=("small_resnet", "denoiser_se"))
    config = ClassifierConfig()
    assert apply_choices(config, first_choices(space, config)) == ClassifierConfig(lr=config.peak_lr)
    assert space["size"] == ("as_is", 32) and space["trained_stages"] is None
    assert default_space(32, True, ("denoiser_se",))["trained_stages"] == ("all", 2, 0)
