"""The study file: what is read, and the sentence a wrong one gets."""

from pathlib import Path

import pytest

from extract.errors import SettingsError
from semisup.config import load_study


def refusal(write_study, **changes) -> str:
    with pytest.raises(SettingsError) as caught:
        load_study(write_study(**changes))
    return str(caught.value)


def test_defaults_are_the_seed_projects_loop(write_study):
    config = load_study(write_study(pseudo={}))
    assert (config.pseudo.threshold, config.pseudo.rounds, config.pseudo.calibrate) == (0.75, 2, True)


def test_paths_are_relative_to_the_study_file(write_study, tmp_path):
    path = write_study(data="my.zip", split="sub/my.split.json", gan={"network": {0: "nets/a.safetensors"}})
    config = load_study(path)
    assert config.data == tmp_path.resolve() / "my.zip"
    assert config.split == tmp_path.resolve() / "sub" / "my.split.json"
    assert config.gan.network == {0: tmp_path.resolve() / "nets" / "a.safetensors"}


def test_settings_reach_the_packages_they_are_for(write_study):
    config = load_study(
        write_study(classifier={"steps": 7, "arch": "resnet18"}, gan={"kimg": 3, "cfg": "small"})
    )
    classifier = config.classifier_config(seed=5)
    assert (classifier.steps, classifier.arch, classifier.seed, classifier.threads) == (7, "resnet18", 5, 1)
    assert not classifier.calibrate  # the rounds do that
    gan = config.gan_config(fold=1, seed=9, outdir=Path("runs"))
    assert (gan.kimg, gan.cfg, gan.fold, gan.seed, gan.cond) == (3, "small", 1, 9, False)


def test_an_unknown_key_is_named_with_the_nearest_and_all_allowed_ones(write_study):
    text = refusal(write_study, pseudo={"treshold": 0.9})
    assert "study.yaml: pseudo.treshold: unknown setting; did you mean 'threshold'?" in text
    assert "allowed here: rule, threshold, rounds" in text
    assert "fractionss: unknown setting; did you mean 'fractions'?" in refusal(write_study, fractionss=[0.2])
    assert "classifier.step: unknown setting; did you mean 'steps'?" in refusal(
        write_study, classifier={"step": 3}
    )
    assert "gan.kimgs: unknown setting; did you mean 'kimg'?" in refusal(write_study, gan={"kimgs": 3})


@pytest.mark.parametrize("key", ["cond", "fold", "resume"])
def test_what_the_engine_decides_itself_cannot_be_set(write_study, key):
    assert f"gan.{key}: unknown setting" in refusal(write_study, gan={key: 1})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"pseudo": {"threshold": 1.5}},
            "pseudo.threshold: expected at most 1, got 1.5",
        ),
        ({"seeds": []}, "seeds: expected a list with at least one entry, got []"),
        ({"seeds": [1, 1]}, "seeds: names the same value twice"),
        ({"fractions": [0.4, 0]}, "fractions.1: expected more than 0, got 0"),
        ({"name": ""}, "name: expected text that is not empty, got ''"),
        ({"name": "a/b"}, "name: expected text without / or"),
        ({"folds": 0}, "folds: expected all, or a list of fold numbers such as [0, 1], got 0"),
        ({"classifier": {"steps": "many"}}, "classifier.steps: expected a whole number, got 'many'"),
        ({"gan": {"network": {"a": "b"}}}, "gan.network: expected a snapshot, or one a fold"),
        ({"gan": 3}, "gan: expected settings such as {key: value}, got 3"),
        ({"arms": ["supervised", "pseudo_reel"]}, "'pseudo_reel' is no arm; did you mean 'pseudo_real'?"),
        ({"arms": ["supervised_full", "pseudo_real"]}, "so 'supervised' must be listed"),
        (
            {"primary": {"arm": "pseudo_gan_full", "fraction": 0.4}},
            "primary.arm: 'pseudo_gan_full' is not among",
        ),
        ({"primary": {"arm": "supervised", "fraction": 0.4}}, "arm and baseline are both 'supervised'"),
        (
            {"primary": {"arm": "pseudo_real", "fraction": 0.3}},
            "primary.fraction: 0.3 is not among the fractions (0.4)",
        ),
        ({"primary": {"arm": "pseudo_real", "fraction": 0.4, "metric": "auc"}}, "primary.metric"),
        ({"classifier": {"steps": 0}}, "classifier: steps must be at least 1, got 0"),
        ({"gan": {"kimg": -1}}, "gan: --kimg must be at least 1"),
        ({"gan": {"cfg": "smal"}}, "gan: --cfg must be one of"),
    ],
)
def test_a_wrong_value_is_answered_with_its_place_and_what_is_allowed(write_study, changes, expected):
    assert expected in refusal(write_study, **changes)


def test_a_missing_setting_is_named(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("name: x\ndata: a.zip\nsplit: a.json\n")
    with pytest.raises(SettingsError, match=r"study.yaml: primary: this setting is required"):
        load_study(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected settings"),
        ("- 1\n", "expected settings"),
        ("a: [1", "expected a YAML file"),
        (None, "No such file"),
    ],
)
def test_what_is_no_study_file_is_refused(tmp_path, text, expected):
    path = tmp_path / "study.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=expected):
        load_study(path)


def test_a_setting_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "study.yaml").write_text("name: a\nfractions: [0.2]\nfractions: [0.5]\n")
    with pytest.raises(SettingsError, match="line 3 sets 'fractions' a second time"):
        load_study(tmp_path / "study.yaml")


@pytest.mark.parametrize(
    ("given", "clip"), [("clahe", 2.0), ({"clahe_clip": 3}, 3), ({"preset": "clahe", "clahe_clip": 4}, 4)]
)
def test_preprocessing_is_a_name_or_settings(write_study, given, clip):
    config = load_study(write_study(classifier={"preprocessing": given}))
    assert config.classifier_config(seed=0).preprocessing.clahe_clip == clip
    assert config.classifier.model_dump(mode="json")["preprocessing"] == {"version": 2, "clahe_clip": clip}


def test_a_wrong_preprocessing_is_named(write_study):
    text = refusal(write_study, classifier={"preprocessing": "clae"})
    assert "classifier.preprocessing: preprocessing must be one of plain" in text
    text = refusal(write_study, classifier={"preprocessing": {"clip": 2}})
    assert "classifier.preprocessing: preprocessing has no setting 'clip'" in text


def test_studies_from_before_there_were_steps_keep_their_keys(write_study):
    for classifier in ({}, {"preprocessing": "plain"}):
        assert "preprocessing" not in load_study(write_study(classifier=classifier)).classifier.model_dump()


def test_an_audit_may_be_required_and_is_no_part_of_older_plans(write_study):
    config = load_study(write_study(audit={"required": True, "max_error": 0.1}))
    assert config.audit.required and config.audit.max_error == 0.1
    assert config.model_dump(mode="json")["audit"] == {"required": True, "max_error": 0.1}
    assert "audit" not in load_study(write_study()).model_dump(mode="json")


@pytest.mark.parametrize(
    ("audit", "words"),
    [
        ({"max_error": 0.1}, "max_error takes effect with required: true alone"),
        ({"required": True, "max_error": 1.5}, "audit.max_error: expected less than 1, got 1.5"),
        ({"required": True, "maximum": 0.1}, "audit.maximum: unknown setting"),
    ],
)
def test_a_wrong_audit_is_named(write_study, audit, words):
    assert words in refusal(write_study, audit=audit)


def test_an_audit_needs_pseudo_labels(write_study):
    primary = {"arm": "supervised_full", "fraction": 0.4}
    assert "the primary arm 'supervised_full' has no pseudo-labels to audit" in refusal(
        write_study, primary=primary, audit={"required": True}
    )
