"""Deliberate faults: refused unless asked for, exactly what they say they are, and in no result."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.errors import SettingsError
from extract.split import make_split, read_split, write_split
from gan.snapshot import read_snapshot
from semisup import run_models, runs
from semisup.arms import ARMS
from semisup.by_image import split_by_image
from semisup.config import load_study
from semisup.errors import StudyError
from semisup.guards import read_fit_snapshot
from semisup.ledger import read_ledger
from semisup.plan import GanJob, make_plan
from semisup.records import read_records
from semisup.report import write_report
from semisup.run_data import opened_run_data
from semisup.study import run_study
from semisup.summary import summarize
from tests.semisup.conftest import CLASSES, draw_picture, study_settings
from tests.semisup.test_pool import TINY_GAN

LEAKS = [name for name, arm in ARMS.items() if arm.is_leak]
SETTINGS = {
    "arms": [*LEAKS, "supervised", "pseudo_real", "pseudo_gan_full"],
    "allow_leaks": True,
    "controls_of": "pseudo_gan_full",
    "seeds": [0],
    "gan": {**TINY_GAN, "kimg": 0.016},
    "pool": {"num_images": 20},
    "pseudo": {"threshold": 0.5, "rounds": 2, "gates": ["same_picture"]},
}


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory) -> tuple[Path, dict[str, list]]:
    """A finished study with all faults, and what each training saw."""
    folder = tmp_path_factory.mktemp("leaks")
    (folder / "study.yaml").write_text(yaml.safe_dump(study_settings(data_dir, **SETTINGS)))
    trained: dict[str, list] = {}
    train, perform = run_models.train_classifier, runs.perform_run

    with pytest.MonkeyPatch.context() as patch:

        def spy(images, val, *rest, **more):
            trained[now[-1]].append((images, val, more["deliberate_leak"]))
            return train(images, val, *rest, **more)

        def note(job, basis, progress):
            now.append(job.arm)
            trained[now[-1]] = []
            perform(job, basis, progress)

        now: list[str] = []
        patch.setattr(run_models, "train_classifier", spy)
        patch.setattr(runs, "perform_run", note)
        summary = run_study(folder / "study.yaml", folder / "out", jobs=1)
    assert summary.failures == ()
    return folder / "out", trained


@pytest.fixture(scope="module")
def split(data_dir):
    with open_archive(data_dir / "tiny.zip") as archive:
        return read_split(data_dir / "tiny.split.json", archive)


def infos(study_dir: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in sorted(study_dir.glob("runs/*/run.json"))]
    return {info["arm"]: info for info in found}


def predictions(study_dir: Path, info: dict, name: str = "predictions.parquet") -> pd.DataFrame:
    return pd.read_parquet(study_dir / "runs" / info["key"] / name)


# Asked for ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("leak", LEAKS)
def test_a_fault_is_refused_unless_the_study_allows_it(write_study, leak):
    arms = ["supervised", "pseudo_real", "pseudo_gan_full", leak]
    with pytest.raises(
        SettingsError, match=rf"arms: '{leak}' commits a fault on purpose .* allow_leaks: true"
    ):
        load_study(write_study(arms=arms))
    assert load_study(write_study(arms=arms, allow_leaks=True)).arms == arms


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"primary": {"arm": "leak_slices", "fraction": 0.4}}, "primary.arm: 'leak_slices' commits a fault"),
        (
            {"primary": {"arm": "pseudo_real", "baseline": "leak_slices", "fraction": 0.4}},
            "primary.baseline: 'leak_slices' commits a fault",
        ),
        (
            {"controls_of": "leak_validation"},
            r"controls_of: expected a pseudo-label arm of this study \(pseudo_real, pseudo_gan_full\)",
        ),
        (
            {"arms": ["supervised", "pseudo_real", "leak_generator"]},
            "'leak_generator' is held against 'pseudo_gan_full', which is not listed",
        ),
        (
            {"arms": ["supervised", "supervised_full", "leak_validation"],
             "primary": {"arm": "supervised_full", "fraction": 0.4}},
            "'leak_validation' is held against a pseudo-label arm such as 'pseudo_real'",
        ),
        (
            {"gan": {"network": "net.safetensors"}},
            "the generator of 'leak_generator' sees all images, which no other may",
        ),
    ],
)  # fmt: skip
def test_a_fault_stays_out_of_the_headline_and_has_an_honest_counterpart(write_study, changes, expected):
    settings = {**SETTINGS, **changes}
    if "arms" in changes:
        settings.pop("controls_of")
    with pytest.raises(SettingsError, match=expected):
        load_study(write_study(**settings))


def test_plans_without_faults_are_as_they_were(write_study):
    config = load_study(write_study())
    assert "allow_leaks" not in config.model_dump()
    usual = {run.key for run in make_plan(config).runs}
    arms = ["supervised", "supervised_full", "pseudo_real", "leak_validation"]
    assert usual < {run.key for run in make_plan(load_study(write_study(arms=arms, allow_leaks=True))).runs}


# What each is -------------------------------------------------------------------------------------


def test_a_split_by_image_changes_nothing_but_the_images_of_tested_subjects(finished, data_dir, split):
    _, trained = finished
    (leaky, val, _), (honest, other_val, _) = trained["leak_slices"]
    ((supervised, _, _),) = trained["supervised"]
    tested = set(split.folds[0].test)
    assert np.bincount(leaky.labels).tolist() == np.bincount(supervised.labels).tolist()
    assert leaky.labels.tolist() == honest.labels.tolist()
    is_seen = np.isin(leaky.subjects, sorted(tested))
    assert 0 < is_seen.sum() < len(leaky)
    assert not tested & set(honest.subjects)
    ours, theirs = (part.images.gather(np.arange(len(part))) for part in (leaky, honest))
    assert (ours == theirs).all(axis=(1, 2, 3)).tolist() == (~is_seen).tolist()
    assert val.subjects.tolist() == other_val.subjects.tolist()


def test_no_tested_image_is_trained_on_and_each_subject_and_class_is_halved(data_dir, split):
    with open_archive(data_dir / "tiny.zip") as archive:
        drawn = split_by_image(archive, split, 0, 0.4)
        test = split.rows(archive, 0, "test")
        assert sorted([*drawn.tested, *drawn.seen]) == test.tolist()
        assert not set(drawn.tested) & ({*drawn.leaky} | {*drawn.honest})
        for subject in split.folds[0].test:
            for label in (0, 1):
                both = (archive.subjects == subject) & (archive.labels == label)
                assert both[drawn.tested].sum() == both[drawn.seen].sum() == 2
        for rows in (drawn.leaky, drawn.honest):
            assert len(set(rows)) == len(rows) == len(split.rows(archive, 0, "train", 0.4))
        whole = split_by_image(archive, split, 0, 1.0)  # the honest one is then the whole training part
        assert set(whole.honest) == set(split.rows(archive, 0, "train"))


def test_the_honest_model_is_judged_on_the_very_images(finished):
    study, _ = finished
    info = infos(study)["leak_slices"]
    ours, theirs = (
        predictions(study, info, name) for name in ("predictions.parquet", "predictions-honest.parquet")
    )
    assert ours["file"].tolist() == theirs["file"].tolist()
    assert set(ours["file"]) < set(predictions(study, infos(study)["supervised"])["file"])
    assert info["leak"] is True and "other images of the tested subjects" in info["fault"]
    assert 0 < info["claim"]["num_tested_images_exposed"] <= len(ours)


def test_where_every_test_subject_has_one_image_nothing_can_leak(tmp_path):
    rng = np.random.default_rng(0)
    with ArchiveWriter(tmp_path / "tiny.zip") as writer:
        for subject in range(24):
            record = ImageRecord(label=CLASSES[subject % 2], subject=f"s{subject:02d}")
            writer.add(draw_picture(subject % 2, rng), record)
    with open_archive(tmp_path / "tiny.zip") as archive:
        split = make_split(archive, num_folds=2, fractions=[0.4], val_share=0.3, seed=0)
    write_split(split, tmp_path / "tiny.split.json")
    arms = ["supervised", "pseudo_real", "leak_slices"]
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study_settings(tmp_path, arms=arms, allow_leaks=True)))
    with pytest.raises(
        SettingsError, match="each has one of a class, so a split by image would leak nothing"
    ):
        make_plan(load_study(path))


def test_the_leaky_generator_saw_everybody_and_serves_its_arm_alone(finished, data_dir, split, write_study):
    study, _ = finished
    info = infos(study)["leak_generator"]
    made = json.loads((study / "pools" / info["pool_key"] / "pool.json").read_text())
    network = study / made["network"]
    assert set(read_snapshot(network).subjects) == {f"s{k:02d}" for k in range(16)}
    with open_archive(data_dir / "tiny.zip") as archive:
        with pytest.raises(Exception, match="subjects of the test part of fold 0"):
            read_fit_snapshot(network, archive, split, 0)
        assert read_fit_snapshot(network, archive, split, 0, deliberate_leak=True)
        honest = json.loads(
            (study / "pools" / infos(study)["pseudo_gan_full"]["pool_key"] / "pool.json").read_text()
        )
        with pytest.raises(StudyError, match="expected a generator that saw all subjects"):
            read_fit_snapshot(study / honest["network"], archive, split, 0, deliberate_leak=True)
    settings = {**SETTINGS, "folds": "all"}
    gans = [job for job in make_plan(load_study(write_study(**settings))).jobs if isinstance(job, GanJob)]
    assert sum(gan.is_leak for gan in gans) == 1 and len(gans) == 3  # shared by the folds


def test_about_half_of_the_spoiled_validation_is_pseudo_labeled_and_not_trained_on(finished):
    study, trained = finished
    info = infos(study)["leak_validation"]
    ledger = read_ledger(study / "runs" / info["key"] / "ledger.parquet")
    for (images, val, opened), entry in zip(
        trained["leak_validation"], info["claim"]["by_round"][1:], strict=True
    ):
        num_moved = int(val.is_pseudo.sum())
        assert opened and num_moved == entry["num_pseudo_labeled"] > 0
        assert (~val.is_pseudo).sum() >= num_moved
        rows = ledger[ledger["round_index"] == entry["round_index"]]
        assert rows["in_validation"].sum() == num_moved
        assert (rows.loc[rows["in_validation"], "weight"] == 0).all()
        assert images.is_pseudo.sum() == (rows["weight"] > 0).sum()
    best = info["claim"]["by_round"][info["best_round"]]
    assert info["claim"]["metrics"]["balanced_accuracy"] == best["balanced_accuracy"]
    assert best["balanced_accuracy"] == max(entry["balanced_accuracy"] for entry in info["claim"]["by_round"])


def test_what_repeats_an_arm_has_its_pool_and_its_gates(finished):
    study, _ = finished
    plan = make_plan(load_study(study.parent / "study.yaml"))
    opened = {}
    for job in plan.runs:
        with opened_run_data(job, plan.basis(study)) as data:
            opened[job.arm] = data
    honest = opened["pseudo_gan_full"]
    for leak in ("leak_validation", "leak_test_selection"):
        assert opened[leak].pool.identity.images.tolist() == honest.pool.identity.images.tolist()
        assert opened[leak].gate_basis.seen.files.tolist() == honest.gate_basis.seen.files.tolist()
    assert opened["pseudo_real"].gate_basis is None is opened["leak_slices"].gate_basis


def test_selection_on_the_test_part_looks_at_the_images_that_it_reports(finished, split):
    study, trained = finished
    info = infos(study)["leak_test_selection"]
    for _, val, _ in trained["leak_test_selection"]:
        assert set(val.subjects) == set(split.folds[0].test)
    assert len(trained["leak_test_selection"]) == 3  # its teacher, too, has its checkpoint from the test part
    assert info["teacher_key"] is None and info["test_openings"] == 2
    claimed = info["claim"]["metrics"]["balanced_accuracy"]
    assert claimed == pytest.approx(info["test_metrics"]["balanced_accuracy"])
    by_round = [entry["balanced_accuracy"] for entry in info["claim"]["by_round"]]
    assert claimed == max(by_round) >= by_round[info["claim"]["honest_best_round"]]


def test_no_other_arm_opens_a_guard(finished):
    _, trained = finished
    opened = {arm for arm, trainings in trained.items() for _, _, is_open in trainings if is_open}
    assert opened == {"leak_validation"}


# Never a result -----------------------------------------------------------------------------------


def test_faults_are_in_no_comparison_table_curve_or_verdict(finished):
    study, _ = finished
    summary = summarize(read_records(study), num_draws=50)
    assert {result.arm for result in summary.arms} == {"supervised", "pseudo_real", "pseudo_gan_full"}
    for part in (summary.comparisons, summary.rounds, summary.budgets):
        assert part and not any(one.arm in LEAKS for one in part)
    assert not any(arm in LEAKS for arm, _ in summary.equivalences)
    assert not any(leak in text for leak in LEAKS for text in (*summary.verdict.details, *summary.warnings))


def test_the_report_shows_claimed_honest_and_inflation_in_a_section_of_its_own(finished):
    study, _ = finished
    write_report(study)
    results = json.loads((study / "results.json").read_text())
    found = {leak["arm"]: leak for leak in results["leaks"]}
    assert list(found) == LEAKS
    for leak in found.values():
        assert leak["inflation"] == pytest.approx(leak["claimed"] - leak["honest"]["value"], abs=1e-9)
        assert leak["interval"][0] <= leak["inflation"] <= leak["interval"][1]
    assert {name: leak["is_paired"] for name, leak in found.items()} == {
        "leak_slices": True, "leak_generator": True, "leak_validation": False, "leak_test_selection": True,
    }  # fmt: skip
    page = (study / "report.html").read_text()
    before, _, section = page.partition("What the usual faults would have claimed")
    assert section and all(f"<code>{leak}</code>" in section for leak in LEAKS)
    assert not any(leak in before for leak in LEAKS)
    assert "leak_" not in (study / "results.csv").read_text()


def test_a_study_without_faults_has_no_such_section(finished_study):
    assert "usual faults" not in write_report(finished_study).path.read_text(encoding="utf-8")
