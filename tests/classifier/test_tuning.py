import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from classifier import trial, tuning
from classifier.config import ClassifierConfig, read_settings
from classifier.data import real_part
from classifier.errors import ClassifierError
from classifier.inner_folds import inner_folds
from classifier.pretrain_config import PretrainConfig
from classifier.pretrain_job import pretrain_run
from classifier.search_space import make_space
from classifier.tune_config import TuneConfig
from classifier.tuning import tune_run
from extract.archive import open_archive
from extract.cache import open_images
from extract.errors import SettingsError
from extract.split import read_split
from tests.classifier.toy_archive import Watched, rows_of, write_toys
from tests.classifier.toys import CLASSES, toy_images

ROOT = Path(__file__).parents[2]
CONFIG = ClassifierConfig(steps=4, batch_size=8, validate_every=2)
SPACE = make_space({"lr": {"low": 0.001, "high": 0.02}, "loss": ["cross_entropy", "focal"]})
TUNE = TuneConfig(trials=5, startup_trials=2, prune=False)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return write_toys(tmp_path_factory.mktemp("tuning"))


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch):
    monkeypatch.setattr("classifier.tune_report.plot_tuning", lambda *arguments: None)


@pytest.fixture
def scripted(monkeypatch):
    """Trainings whose looks are given instead of trained: a dict from trial number to what its looks see."""
    looks: dict[int, object] = {}
    begun: list[ClassifierConfig] = []

    def train(train, val, classes, config, *, progress, on_look):
        seen = looks[len(begun)]
        begun.append(config)
        if isinstance(seen, BaseException):
            raise seen
        for number, value in enumerate(seen):
            progress((number + 1) * 2, config.steps, "")
            on_look((number + 1) * 2, {"balanced_accuracy": value, "nll": -value, "auroc": value})

    monkeypatch.setattr("classifier.training.train_classifier", train)
    return SimpleNamespace(looks=looks, begun=begun)


def tune_toys(toys, outdir, config=CONFIG, space=SPACE, tune=TUNE, **more):
    fold = more.pop("fold", 0)
    return tune_run(*toys, fold, 1.0, config, space, tune, outdir, **more)


def table(outdir: Path) -> pd.DataFrame:
    return pd.read_csv(outdir / "trials.csv").drop(columns="seconds")


def test_validation_and_test_are_never_looked_at(toys, tmp_path, monkeypatch):
    watched = []

    def open_watched(archive, progress):
        watched.append(Watched(open_images(archive, progress), rows_of(*toys, 0, "val", "test")))
        return watched[-1]

    monkeypatch.setattr(trial, "open_images", open_watched)
    tune_toys(toys, tmp_path / "run", tune=replace(TUNE, trials=1, inner_folds=2))
    assert set.union(*(images.seen for images in watched)) == rows_of(*toys, 0, "train")


def test_a_seed_gives_the_same_trials_and_a_stopped_tuning_goes_on_with_them(toys, tmp_path):
    whole = tune_toys(toys, tmp_path / "whole")
    assert whole.counts == {"complete": 5}

    def stop_in_the_third_trial(done, total, message):
        if total == 5 * CONFIG.steps and done == 2 * CONFIG.steps + 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_toys(toys, tmp_path / "run", progress=stop_in_the_third_trial)
    again = tune_toys(toys, tmp_path / "run")
    assert (again.session.num_before, again.session.num_interrupted) == (2, 1)
    assert table(tmp_path / "run").equals(table(tmp_path / "whole"))
    assert json.loads((tmp_path / "run" / "tuning.json").read_text())["interrupted_and_run_again"] == 1
    more = tune_toys(toys, tmp_path / "run", tune=replace(TUNE, trials=6))
    assert more.session.num_before == 5 and len(more.trials) == 6


@pytest.mark.slow  # starts processes that import everything
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_tuning_that_is_killed_keeps_what_was_finished(toys, tmp_path, jobs):
    arguments = [
        "tune", "--data", toys[0], "--split", toys[1], "--arch", "small_resnet", "--steps", "4",
        "--batch", "8", "--validate-every", "2", "--try", "lr=0.001..0.02", "--try", "size=as_is",
        "--try", "loss=cross_entropy,focal", "--try", "mask=none", "--try", "augmentation=mild",
        "--trials", "5", "--startup-trials", "2", "--no-prune", "--jobs", jobs, "--outdir", tmp_path / "run",
    ]  # fmt: skip
    with open_archive(toys[0]) as archive:
        open_images(archive)
    # Each finished trial writes two files (one before there is a best one); two jobs write theirs at the end.
    killed_after = 4 if jobs == "1" else 1
    order = {"kill_after_files": killed_after, "arguments": [str(argument) for argument in arguments]}
    (tmp_path / "order.json").write_text(json.dumps(order))
    command = [sys.executable, "-m", "tests.classifier.killed_work", str(tmp_path / "order.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=200)
    assert done.returncode == -9, done.stderr.decode()
    space = make_space(SPACE.to_json() | {"size": ["as_is"], "mask": ["none"], "augmentation": ["mild"]})
    resumed = tune_toys(toys, tmp_path / "run", space=space)
    assert resumed.session.num_before == (2 if jobs == "1" else 5)
    assert resumed.trials["trial"].tolist() == [0, 1, 2, 3, 4]
    if jobs == "1":  # beside each other, trials know less of each other
        tune_toys(toys, tmp_path / "whole", space=space)
        assert table(tmp_path / "run").equals(table(tmp_path / "whole"))


def test_a_trial_that_was_running_when_its_process_died_is_run_again(toys, tmp_path, scripted):
    scripted.looks.update({0: [0.5, 0.6], 1: SystemExit(), 2: [0.5, 0.7], 3: [0.4, 0.5]})
    with pytest.raises(SystemExit):
        tune_toys(toys, tmp_path / "run", tune=replace(TUNE, trials=3))
    found = tune_toys(toys, tmp_path / "run", tune=replace(TUNE, trials=3))
    assert found.trials["trial"].tolist() == [0, 1, 2] and found.session.num_interrupted == 1
    assert scripted.begun[1].lr == scripted.begun[2].lr  # drawn anew from the same seed
    assert (found.best.trial, found.best.score) == (1, 0.7)


def test_trials_below_the_median_are_stopped_at_that_look(toys, tmp_path, scripted):
    scripted.looks.update({0: [0.6, 0.7], 1: [0.6, 0.8], 2: [0.2, 0.9], 3: [0.7, 0.9]})
    config = replace(CONFIG, steps=4, validate_every=2)
    found = tune_toys(toys, tmp_path / "run", config, tune=replace(TUNE, trials=4, prune=True))
    assert found.trials["state"].tolist() == ["complete", "complete", "pruned", "complete"]
    assert found.trials["steps"].tolist() == [4, 4, 2, 4]
    assert (found.best.trial, found.best.score) == (3, 0.9)


def test_the_score_is_the_mean_of_the_kept_looks_over_the_inner_folds(toys, tmp_path, scripted):
    scripted.looks.update({0: [0.8, 0.6], 1: [0.5, 0.4], 2: [0.8, 0.6], 3: [0.5, 0.4]})
    two_folds = replace(TUNE, trials=1, inner_folds=2)
    best = tune_toys(toys, tmp_path / "best", tune=two_folds).best
    last = tune_toys(toys, tmp_path / "last", replace(CONFIG, keep="last"), tune=two_folds).best
    assert best.fold_scores == [0.8, 0.5] and best.score == pytest.approx(0.65)
    assert last.fold_scores == [0.6, 0.4]


def test_a_low_nll_is_the_better_one(toys, tmp_path, scripted):
    scripted.looks.update({0: [-0.9, -0.8], 1: [-0.4, -0.5], 2: [-0.7, -0.7]})
    found = tune_toys(toys, tmp_path / "run", replace(CONFIG, monitor="nll"), tune=replace(TUNE, trials=3))
    assert (found.best.trial, found.best.score) == (1, 0.4)


def test_a_trial_that_fails_says_why_and_the_others_go_on(toys, tmp_path, scripted):
    scripted.looks.update(
        {0: ClassifierError("it diverged"), 1: [0.5, 0.6], 2: RuntimeError("out of memory")}
    )
    found = tune_toys(toys, tmp_path / "run", tune=replace(TUNE, trials=3))
    assert found.counts == {"failed": 2, "complete": 1}
    assert table(tmp_path / "run")["note"].fillna("").tolist() == ["it diverged", "", "out of memory"]
    scripted.looks.update({3: ClassifierError("it diverged")})
    with pytest.raises(ClassifierError, match="got none of 1; the last one failed: it diverged"):
        tune_toys(toys, tmp_path / "other", tune=replace(TUNE, trials=1))


def test_no_trial_is_begun_after_the_time(toys, tmp_path, scripted):
    scripted.looks.update({number: [0.5, 0.6] for number in range(5)})
    found = tune_toys(toys, tmp_path / "run", tune=replace(TUNE, trials=1))
    clock = iter([0.0, 10.0, 30.0, 70.0, 90.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        found = tune_toys(toys, tmp_path / "run", tune=replace(TUNE, timeout_minutes=1))
    assert len(found.trials) == 3


def test_the_best_settings_train_a_classifier(toys, tmp_path, scripted):
    scripted.looks.update({0: [0.5, 0.6], 1: [0.5, 0.8]})
    space = make_space({"arch": ["denoiser_se", "denoiser_plain"], "size": [16], "mask": ["otsu"]})
    tune_toys(toys, tmp_path / "run", space=space, tune=replace(TUNE, trials=2))
    settings = read_settings(tmp_path / "run" / "best-settings.json")
    assert (settings.steps, settings.batch_size, settings.validate_every) == (4, 8, 2)
    assert settings.arch == scripted.begun[1].arch
    assert (settings.preprocessing.size, settings.preprocessing.mask) == (16, "otsu")
    assert settings.seed == 0 and settings.calibrate  # those of the trials are not taken along
    summary = json.loads((tmp_path / "run" / "tuning.json").read_text())
    assert "too good: do not report it" in summary["note"]


def test_settings_that_matter_are_ranked_above_those_that_do_not(toys, tmp_path, monkeypatch):
    def train(train, val, classes, config, *, progress, on_look):
        score = 0.9 if config.loss == "focal" else 0.4
        on_look(4, {"balanced_accuracy": score + (0.001 if config.label_smoothing else 0)})

    monkeypatch.setattr("classifier.training.train_classifier", train)
    space = make_space({"loss": ["cross_entropy", "focal"], "label_smoothing": [0.0, 0.1], "mask": ["none"]})
    found = tune_toys(toys, tmp_path / "run", space=space, tune=replace(TUNE, trials=12, startup_trials=12))
    assert list(found.importance) == ["loss", "label_smoothing"]  # what never varied has no importance
    assert found.importance["loss"] > 0.8 and sum(found.importance.values()) == pytest.approx(1)
    assert found.best.settings["loss"] == "focal"


@pytest.mark.parametrize(("num_folds", "share", "num_made"), [(1, 0.25, 1), (3, 0.25, 3)])
def test_inner_folds_divide_by_subject_and_show_every_class(num_folds, share, num_made):
    images = toy_images(60, seed=1)
    links = [("s1-0", "s1-1", "s1-2", "s1-3")]
    folds = inner_folds(images, CLASSES, num_folds=num_folds, share=share, seed=0, links=links)
    assert len(folds) == num_made
    for train, val in folds:
        subjects = [set(images.subjects[part].tolist()) for part in (train, val)]
        assert not subjects[0] & subjects[1] and len(train) + len(val) == 60
        assert all(set(images.labels[part]) == {0, 1, 2} for part in (train, val))
        assert len({name in subjects[0] for name in links[0]}) == 1
    if num_folds == 3:
        assert sorted(np.concatenate([val for _, val in folds])) == list(range(60))


def test_too_few_subjects_for_the_inner_folds_are_told(toys):
    with open_archive(toys[0]) as archive:
        split = read_split(toys[1], archive)
        train = real_part(archive, open_images(archive), split, 0, "train", 1.0)
    with pytest.raises(ClassifierError, match="at least 40 subjects to divide into 40 parts"):
        inner_folds(train, CLASSES, num_folds=40, share=0.25, seed=0)
    one_class = train.subset(np.isin(train.subjects, np.unique(train.subjects)[:3]))
    with pytest.raises(ClassifierError, match=r"has no image of class .*use a larger --fraction"):
        inner_folds(one_class, CLASSES, num_folds=2, share=0.25, seed=0)


def test_a_tuning_is_gone_on_with_only_as_it_was_begun(toys, tmp_path, scripted):
    scripted.looks.update({number: [0.5, 0.6] for number in range(4)})
    one = replace(TUNE, trials=1)
    tune_toys(toys, tmp_path / "run", tune=one)
    for changes, message in (
        ({"config": replace(CONFIG, steps=8)}, "begun otherwise .settings was .*now"),
        ({"tune": replace(one, seed=1)}, "seed was 0, now 1"),
        ({"space": make_space({"loss": ["focal"]})}, "space was"),
        ({"fold": 1}, "fold was 0, now 1"),
    ):
        with pytest.raises(ClassifierError, match=message):
            tune_toys(toys, tmp_path / "run", **({"tune": one} | changes))
    again = tune_toys(toys, tmp_path / "run", replace(CONFIG, steps=8), tune=one, overwrite=True)
    assert again.session.num_before == 0 and len(again.trials) == 1


def test_an_encoder_that_saw_a_judge_is_refused_and_a_fit_one_is_searched_with_its_depths(toys, tmp_path):
    config = PretrainConfig(steps=1, batch_size=8, preprocessing="zscore")
    encoder = pretrain_run(toys[0], tmp_path / "encoder", config, split_path=toys[1]).encoder
    space = make_space({"arch": ["denoiser_plain", "small_resnet"], "trained_stages": [0, "all"]})
    with pytest.raises(ClassifierError, match=r"was trained on .* subjects of the test part of fold 1"):
        tune_toys(toys, tmp_path / "run", replace(CONFIG, weights=encoder), space, fold=1)
    found = tune_toys(
        toys, tmp_path / "fit", replace(CONFIG, weights=encoder, preprocessing="zscore"), space,
        replace(TUNE, trials=4, startup_trials=4),
    )  # fmt: skip
    assert found.counts == {"complete": 4}
    is_ours = found.trials["arch"] == "denoiser_plain"
    assert 0 < is_ours.sum() < 4 and (found.trials["trained_stages"].notna() == is_ours).all()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"arch": ["small_resnet", "resnet99"]}, 'no network named "resnet99"'),
        ({"trained_stages": [0, 2]}, "only where a network starts from weights"),
    ],
)
def test_a_search_that_cannot_be_meant_is_refused_before_anything(toys, tmp_path, space, message):
    with pytest.raises(SettingsError, match=message):
        tune_toys(toys, tmp_path / "run", space=make_space(space))
    assert not (tmp_path / "run").exists()


def test_a_folder_has_one_tuning_at_a_time(toys, tmp_path, scripted):
    def meet(done, total, message):
        if total == CONFIG.steps:
            with pytest.raises(ClassifierError, match="another process is working in this folder"):
                tune_toys(toys, tmp_path / "run")
            met.append(done)

    met: list[int] = []
    scripted.looks.update({0: [0.5, 0.6]})
    tune_toys(toys, tmp_path / "run", tune=replace(TUNE, trials=1), progress=meet)
    assert met
