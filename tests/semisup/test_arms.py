"""The arms beside the first four: what each is trained on, and how it is paired with the others."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from extract.errors import SettingsError
from semisup import run_models, runs
from semisup.arms import ARMS, DEFAULT_ARMS
from semisup.config import load_study
from semisup.ledger import read_ledger
from semisup.plan import make_plan
from semisup.query import query_study
from semisup.records import read_records
from semisup.report import write_report
from semisup.study import run_study
from semisup.summary import summarize
from tests.semisup.conftest import study_settings

CONTROLS = ["random_selection", "shuffled_labels", "duplicated_real"]
AUGMENTED = {"steps": 12, "batch_size": 16, "validate_every": 6, "augment": True, "device": "cpu"}


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory) -> tuple[Path, dict[str, list]]:
    """A finished study with all arms that need no generator, and what each training saw."""
    folder = tmp_path_factory.mktemp("controls")
    settings = study_settings(
        data_dir,
        arms=[*CONTROLS, "supervised", "supervised_plain", "pseudo_real"],
        classifier=AUGMENTED,
        pseudo={"threshold": 0.5, "rounds": 2, "max_per_class": 6},
    )
    (folder / "study.yaml").write_text(yaml.safe_dump(settings))
    trained: dict[str, list] = {}
    train, perform = run_models.train_classifier, runs.perform_run

    with pytest.MonkeyPatch.context() as patch:

        def spy(images, val, classes, config, **more):
            trained[arms[-1]].append((images, config))
            return train(images, val, classes, config, **more)

        def note(job, basis, progress):
            arms.append(job.arm)
            trained[job.arm] = []
            perform(job, basis, progress)

        arms: list[str] = []
        patch.setattr(run_models, "train_classifier", spy)
        patch.setattr(runs, "perform_run", note)
        summary = run_study(folder / "study.yaml", folder / "out", jobs=1)
    assert summary.failures == ()
    return folder, trained


def infos(study_dir: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in sorted(study_dir.glob("runs/*/run.json"))]
    return {info["arm"]: info for info in found}


def ledger_of(study_dir: Path, info: dict) -> pd.DataFrame:
    return read_ledger(study_dir / "runs" / info["key"] / "ledger.parquet")


def test_every_control_has_the_rounds_the_counts_and_the_weights_of_its_reference(finished):
    folder, trained = finished
    found = infos(folder / "out")
    reference = found["pseudo_real"]
    assert len(reference["rounds"]) == 3 and reference["rounds"][1]["num_selected"] > 0
    for name in CONTROLS:
        control = found[name]
        assert control["reference_key"] == reference["key"]
        assert control["teacher_key"] == found["supervised"]["key"]
        assert control["trainings_here"] == reference["trainings_here"] == 2
        for ours, theirs in zip(control["rounds"], reference["rounds"], strict=True):
            for key in ("per_class_selected", "num_train_images", "labeled_repeats", "pseudo_weight"):
                assert ours[key] == theirs[key], (name, key)
        for (images, config), (other, other_config) in zip(
            trained[name], trained["pseudo_real"], strict=True
        ):
            assert config == other_config  # seed and steps
            assert len(images) == len(other)
            assert np.allclose(images.weights, other.weights)


def test_random_selection_takes_other_images_of_the_same_pool(finished):
    folder, _ = finished
    found = infos(folder / "out")
    ours, theirs = (ledger_of(folder / "out", found[arm]) for arm in ("random_selection", "pseudo_real"))
    assert ours["image"].tolist() == theirs["image"].tolist()
    assert ours["teacher_sha256"].tolist() == theirs["teacher_sha256"].tolist()
    chosen, other = (set(table.loc[table["decision"] == "selected", "image"]) for table in (ours, theirs))
    assert chosen != other
    given = ours[ours["decision"] == "selected"]
    assert given["pseudo_label"].tolist() == given["predicted"].tolist()


def test_shuffled_labels_give_the_same_images_other_labels(finished):
    _, trained = finished
    for (ours, _), (theirs, _) in zip(trained["shuffled_labels"], trained["pseudo_real"], strict=True):
        rows = np.flatnonzero(theirs.is_pseudo)
        assert np.array_equal(ours.images.gather(rows), theirs.images.gather(rows))
        assert sorted(ours.labels[rows]) == sorted(theirs.labels[rows])
    assert any(
        (ours.labels != theirs.labels).any()
        for (ours, _), (theirs, _) in zip(trained["shuffled_labels"], trained["pseudo_real"], strict=True)
    )


def test_duplicated_real_trains_on_labeled_images_alone(finished):
    _, trained = finished
    ((supervised, _),) = trained["supervised"]
    known = {picture.tobytes() for picture in supervised.images.gather(np.arange(len(supervised)))}
    for images, _ in trained["duplicated_real"]:
        assert not images.is_pseudo.any() and (images.origin == "real").all()
        assert {picture.tobytes() for picture in images.images.gather(np.arange(len(images)))} == known


def test_supervised_plain_differs_from_supervised_by_augmentation_alone(finished):
    _, trained = finished
    ((plain, config),) = trained["supervised_plain"]
    ((augmented, usual),) = trained["supervised"]
    assert plain.labels.tolist() == augmented.labels.tolist()
    assert usual.augment and not config.augment
    assert {**vars(config), "augment": True} == vars(usual)


def test_all_arms_stand_in_the_report_and_controls_face_their_reference(finished):
    folder, _ = finished
    summary = summarize(read_records(folder / "out"), num_draws=50)
    assert {result.arm for result in summary.arms} == {
        *CONTROLS, "supervised", "supervised_plain", "pseudo_real"
    }  # fmt: skip
    for name in CONTROLS:
        assert summary.compare("pseudo_real", name, 0.4) is not None
        assert summary.compare(name, "supervised", 0.4) is not None
    assert not summary.primary.p_holm and summary.primary.baseline == "supervised"
    write_report(folder / "out")
    page = (folder / "out" / "report.html").read_text()
    assert all(name in page for name in CONTROLS)


def test_controls_can_be_asked_for_which_labels_they_gave(finished):
    folder, _ = finished
    counts = query_study(
        folder / "out",
        "SELECT arm, count(*) AS num, avg(CAST(pseudo_label = predicted AS INT)) AS kept FROM ledger "
        "WHERE decision = 'selected' GROUP BY arm ORDER BY arm",
    ).set_index("arm")
    assert counts.loc["random_selection", "num"] == counts.loc["shuffled_labels", "num"]
    assert counts.loc["random_selection", "kept"] == 1 > counts.loc["shuffled_labels", "kept"]


def test_controls_come_after_their_reference_whatever_the_order_in_the_study_file(write_study):
    arms = [*CONTROLS, "pseudo_real", "supervised"]
    plan = make_plan(load_study(write_study(arms=arms, seeds=[0, 1], fractions=[0.4, 1.0])))
    places = [job.key for job in plan.jobs]
    assert all(places.index(need) < places.index(job.key) for job in plan.jobs for need in job.needs)
    by_key = {run.key: run for run in plan.runs}
    controls = [run for run in plan.runs if run.arm in CONTROLS]
    assert len(controls) == 6  # at fraction 1 their reference has no pool
    for run in controls:
        reference = by_key[run.reference_key]
        assert (reference.arm, reference.fold, reference.seed) == ("pseudo_real", run.fold, run.seed)
        assert reference.classifier_seed == run.classifier_seed


def test_a_control_of_an_arm_without_rounds_has_none_and_is_the_supervised_model(write_study, tmp_path):
    path = write_study(arms=["supervised", "pseudo_real", *CONTROLS], pseudo={"rounds": 0})
    run_study(path, tmp_path / "out", jobs=1)
    found = infos(tmp_path / "out")
    for name in CONTROLS:
        assert found[name]["trainings_here"] == 0
        assert found[name]["test_metrics"] == found["supervised"]["test_metrics"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"arms": ["supervised", "random_selection"],
             "primary": {"arm": "random_selection", "fraction": 0.4}},
            "'random_selection' repeats the rounds of a pseudo-label arm, and none is listed",
        ),
        (
            {"controls_of": "supervised_full"},
            r"controls_of: expected a pseudo-label arm of this study .pseudo_real., got 'supervised_full'",
        ),
        (
            {"arms": ["supervised", "pseudo_real", "shuffled_labels"],
             "pseudo": {"threshold": 0.5, "labels": "soft"}},
            "'shuffled_labels' repeats one label an image, and pseudo.labels is soft",
        ),
        (
            {"arms": ["supervised", "supervised_plain", "pseudo_real"]},
            "'supervised_plain' is the baseline without augmentation, and this study's classifier has none",
        ),
        (
            {"arms": ["random_selection", "pseudo_real"], "primary": {"arm": "pseudo_real", "baseline":
             "random_selection", "fraction": 0.4}},
            "'supervised' must be listed",
        ),
    ],
)  # fmt: skip
def test_arms_that_cannot_be_are_refused_in_words(write_study, changes, expected):
    with pytest.raises(SettingsError, match=expected):
        load_study(write_study(**changes))


def test_a_study_file_without_arms_means_the_four_of_the_first_release(write_study):
    path = write_study()
    content = yaml.safe_load(path.read_text())
    content.pop("arms")
    path.write_text(yaml.safe_dump(content))
    assert load_study(path).arms == list(DEFAULT_ARMS)


def test_the_keys_of_plans_of_the_first_release_are_as_they_were(write_study):
    """The names of the jobs of the tiny study less what the files hold, as that release made them."""
    assert set(DEFAULT_ARMS) <= set(ARMS)
    plan = make_plan(load_study(write_study()))
    for run in plan.runs:
        expected = {
            "arm",
            "fold",
            "seed",
            "fraction",
            "classifier",
            "calibrate",
            "archive",
            "split",
            "threads",
        }
        if run.teacher_key:
            expected |= {"pseudo", "teacher", "pool"}
        assert set(run.settings) == expected


def test_fixmatch_is_one_training_on_labeled_images_and_views_of_the_withheld_ones(write_study, tmp_path):
    arms = ["supervised", "pseudo_real", "fixmatch_real"]
    path = write_study(arms=arms, fixmatch={"mu": 2, "threshold": 0.6}, pseudo={"rounds": 0})
    assert run_study(path, tmp_path / "out", jobs=1).failures == ()
    found = infos(tmp_path / "out")
    info = found["fixmatch_real"]
    assert (info["trainings_here"], info["steps_per_training"], info["test_openings"]) == (1, 12, 1)
    assert info["teacher_key"] is None
    assert info["agreement"]["num_views"] == 12 * 2 * 16
    assert sum(info["agreement"]["per_class_passed"]) == pytest.approx(
        info["agreement"]["share_passed"] * info["agreement"]["num_views"]
    )
    assert info["settings"]["fixmatch"] == {"threshold": 0.6, "mu": 2, "weight": 1.0, "ema": 0.999}
    assert info["test_metrics"] != found["supervised"]["test_metrics"]
    (row,) = query_study(tmp_path / "out", "SELECT * FROM runs WHERE arm = 'fixmatch_real'").to_dict(
        "records"
    )
    assert row["agreement_num_views"] == 12 * 2 * 16
    write_report(tmp_path / "out")
    assert "fixmatch_real" in (tmp_path / "out" / "report.html").read_text()


def test_wrong_fixmatch_settings_are_refused_in_the_words_of_the_study_file(write_study):
    with pytest.raises(SettingsError, match=r"fixmatch: mu must be at least 1, got 0"):
        load_study(write_study(fixmatch={"mu": 0}))
    with pytest.raises(SettingsError, match=r"fixmatch.tau: unknown setting"):
        load_study(write_study(fixmatch={"tau": 0.9}))


def test_rounds_that_would_repeat_themselves_are_not_trained_and_not_repeated_by_controls(
    write_study, tmp_path, monkeypatch
):
    from semisup import rounds

    monkeypatch.setattr(rounds, "flip_rate", lambda before, after, pool_size: 0.0)
    pseudo = {"threshold": 0.5, "rounds": 4, "stop_flip_rate": 0.0}
    path = write_study(arms=["supervised", "pseudo_real", "random_selection"], pseudo=pseudo)
    assert run_study(path, tmp_path / "out", jobs=1).failures == ()
    found = infos(tmp_path / "out")
    assert found["pseudo_real"]["trainings_here"] == found["random_selection"]["trainings_here"] == 1
    assert found["pseudo_real"]["stopped"] == "0.0% of the pseudo-labels would change in round 2"
    plan = make_plan(load_study(write_study()))
    assert "stop_flip_rate" not in next(run for run in plan.runs if run.teacher_key).settings["pseudo"]
