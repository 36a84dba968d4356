"""Further label fractions for the supervised curve alone: what is run, which keys stay, what is read off."""

import json
import math

import pytest
import yaml

from extract.archive import open_archive
from extract.errors import SettingsError
from extract.split import make_split, write_split
from semisup.config import load_study
from semisup.errors import StudyError
from semisup.estimate import estimate_study, job_seconds, measure_sizes
from semisup.plan import make_plan
from semisup.plan_table import plan_json, plan_table
from semisup.probing import ClassifierCost
from semisup.records import read_records
from semisup.report import write_report
from semisup.status import study_status
from semisup.study import plan_identity, run_study
from semisup.summary import summarize
from tests.semisup.conftest import study_settings
from tests.semisup.study_folder import FakeStudy, make_study
from tests.semisup.test_config import refusal


@pytest.fixture(scope="module")
def finer_split(data_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("finer") / "finer.split.json"
    with open_archive(data_dir / "tiny.zip") as archive:
        write_split(make_split(archive, num_folds=2, fractions=[0.4, 0.6, 0.8], val_share=0.3, seed=0), path)
    return str(path)


@pytest.fixture
def write_fine_study(write_study, finer_split):
    return lambda **changes: write_study(split=finer_split, **changes)


def test_at_a_fraction_of_the_curve_the_supervised_arm_alone_is_run(write_fine_study):
    arms = ["supervised", "supervised_full", "pseudo_real", "pseudo_gan", "random_selection"]
    plan = make_plan(load_study(write_fine_study(arms=arms, curve_fractions=[0.8, 0.6])))
    assert {run.fraction for run in plan.runs if run.arm == "supervised"} == {0.4, 0.6, 0.8}
    assert {(run.arm, run.fraction) for run in plan.runs if run.arm != "supervised"} == {
        ("supervised_full", 1.0), ("pseudo_real", 0.4), ("pseudo_gan", 0.4), ("random_selection", 0.4),
    }  # fmt: skip
    assert {job.fraction for job in plan.jobs if job.kind == "gan"} == {0.4}


def test_a_run_has_the_same_key_whether_its_fraction_is_of_the_curve_or_of_all_arms(write_fine_study):
    of_curve = make_plan(load_study(write_fine_study(curve_fractions=[0.6])))
    of_all = make_plan(load_study(write_fine_study(fractions=[0.4, 0.6])))
    keys = {(run.arm, run.fraction): run.key for run in of_all.runs}
    assert all(keys[run.arm, run.fraction] == run.key for run in of_curve.runs)
    assert len(keys) == len(of_curve.runs) + 1  # pseudo_real at 0.6


def test_a_study_without_a_curve_has_the_plan_that_it_had(write_fine_study):
    plain, empty = (make_plan(load_study(write_fine_study(**more))) for more in ({}, {"curve_fractions": []}))
    assert plan_identity(plain) == plan_identity(empty)
    assert "curve_fractions" not in plan_identity(plain)
    assert "alone also" not in plan_table(plain)
    assert plan_identity(make_plan(load_study(write_fine_study(curve_fractions=[0.6])))) != plan_identity(
        plain
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"curve_fractions": [0.4]}, "curve_fractions: 0.4 is among the fractions, where all arms are run"),
        ({"curve_fractions": [0.6, 0.6]}, "curve_fractions: names the same value twice"),
        ({"curve_fractions": [1.2]}, "curve_fractions.0: expected at most 1, got 1.2"),
        ({"curve_fractions": [1.0]}, "'supervised_full' is the supervised model at fraction 1 already"),
        (
            {"curve_fractions": [0.6], "arms": ["supervised_full", "fixmatch_real"],
             "primary": {"arm": "fixmatch_real", "baseline": "supervised_full", "fraction": 0.4}},
            "curve_fractions: at these fractions 'supervised' alone is run, and it is not among the arms",
        ),
    ],
)  # fmt: skip
def test_points_that_nobody_would_read_are_refused(write_fine_study, changes, expected):
    assert expected in refusal(write_fine_study, **changes)


def test_a_fraction_that_the_split_lacks_is_named_with_its_key(write_study):
    with pytest.raises(SettingsError, match=r"curve_fractions: 0.6 does not exist, .* has 0.4, 1; choose"):
        make_plan(load_study(write_study(curve_fractions=[0.6])))


def test_the_plan_tells_of_the_curve(write_fine_study):
    plan = make_plan(load_study(write_fine_study(curve_fractions=[0.8, 0.6])))
    assert "fractions 0.4; supervised alone also at 0.6, 0.8" in plan_table(plan)
    assert "supervised          3 runs     3 trainings" in plan_table(plan)


def test_a_run_of_the_curve_is_estimated_with_the_validation_part_of_its_fraction(write_fine_study):
    plan = make_plan(load_study(write_fine_study(curve_fractions=[0.8])))
    sizes = measure_sizes(plan)
    assert sizes.val[0.4] < sizes.val[0.8]
    cost = ClassifierCost(1, 0.1, 2, 0.01, model_bytes=1000, num_steps=9)
    run = next(run for run in plan.runs if run.fraction == 0.8)
    looks = 2 * 2 * sizes.val[0.8] / sizes.val[0.4]
    expected = 1 + 12 * 0.1 + looks + 0.01 * (sizes.test + 2 * sizes.val[0.8])
    assert job_seconds(run, plan, sizes, cost, None) == pytest.approx(expected)


def test_label_equivalence_is_that_of_a_study_that_paid_for_every_arm(tmp_path):
    fake = FakeStudy(num_subjects=48, folds=(0,), has_images=False, gan_gain=0.03)
    study = make_study(tmp_path, fake)
    whole = summarize(read_records(study), 300)
    for path in study.glob("runs/*/run.json"):
        info = json.loads(path.read_text())
        if info["arm"].startswith("pseudo") and info["fraction"] > 0.2:
            path.unlink()
    content = json.loads((study / "study.json").read_text())
    content |= {"fractions": [0.2], "curve_fractions": [0.5, 0.7]}
    content["runs"] = [
        run for run in content["runs"] if run["fraction"] == 0.2 or not run["arm"].startswith("pseudo")
    ]
    (study / "study.json").write_text(json.dumps(content))
    short = summarize(read_records(study), 300)
    cell = ("pseudo_gan_full", 0.2)
    assert short.curve == whole.curve == (0.2, 0.5, 0.7, 1.0)
    assert 0.2 < short.equivalences[cell].fraction < 1.0
    assert short.equivalences[cell] == whole.equivalences[cell]
    assert not short.missing and not short.warnings


def test_a_study_with_a_curve_runs_and_reports_it(data_dir, finer_split, tmp_path):
    settings = study_settings(data_dir, split=finer_split, curve_fractions=[0.6, 0.8])
    settings["classifier"] |= {"steps": 4, "validate_every": 4}
    file, folder = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(settings))
    done = run_study(file, folder, jobs=1)
    assert (done.num_done, done.failures) == (5, ())
    assert study_status(folder).counts["supervised"] == {"done": 3}
    write_report(folder)
    page = (folder / "report.html").read_text()
    assert "measured at 40 %, 60 %, 80 %, 100 % of the labels" in page.replace("\xa0", " ")
    found = json.loads((folder / "results.json").read_text())
    assert [arm["fraction"] for arm in found["arms"] if arm["arm"] == "supervised"] == [0.4, 0.6, 0.8]
    assert [entry["fraction"] for entry in found["label_equivalence"]] == [0.4]
    assert all(math.isfinite(arm["means"]["nll"]) for arm in found["arms"])
    assert json.loads((folder / "study.json").read_text())["curve_fractions"] == [0.6, 0.8]
    assert run_study(file, folder, jobs=1).num_performed == 0
    file.write_text(yaml.safe_dump({**settings, "curve_fractions": [0.6]}))
    with pytest.raises(StudyError, match=r"curve_fractions: \[0.6, 0.8\] there, \[0.6\] now"):
        run_study(file, folder, jobs=1)


def test_the_plan_as_json_names_the_curve(write_fine_study):
    plan = make_plan(load_study(write_fine_study(curve_fractions=[0.6])))
    content = plan_json(plan, estimate_study(plan, probe_sec=0))
    assert (content["fractions"], content["curve_fractions"]) == ([0.4], [0.6])
    assert content["arms"]["supervised"]["runs"] == 2
