import csv
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from semisup.errors import StudyError
from semisup.records import read_records
from semisup.results import write_results
from semisup.status import study_status
from semisup.summary import summarize
from tests.semisup.study_folder import FakeStudy, fail_run, make_study

SMALL = FakeStudy(num_subjects=24, images_per_subject=3, folds=(0,), pool_size=40, has_images=False)

ONE_FOLD = FakeStudy(num_subjects=48, folds=(0,), fractions=(0.2, 0.5), has_images=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"), SMALL)


@pytest.fixture(scope="module")
def summary(study):
    return summarize(read_records(study), num_draws=500)


def edit_run(study, arm, **changes):
    path = next(p for p in sorted(study.glob("runs/*/run.json")) if json.loads(p.read_text())["arm"] == arm)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_every_arm_and_fraction_has_an_estimate_from_its_own_predictions(study, summary):
    assert [(r.arm, r.fraction) for r in summary.arms] == [
        ("supervised", 0.2), ("supervised", 0.5), ("supervised", 0.7), ("supervised_full", 1.0),
        ("pseudo_real", 0.2), ("pseudo_real", 0.5), ("pseudo_real", 0.7),
        ("pseudo_gan_full", 0.2), ("pseudo_gan_full", 0.5), ("pseudo_gan_full", 0.7),
    ]  # fmt: skip
    recalls = []
    for run in read_records(study).select("pseudo_real", 0.5):
        table = pd.read_parquet(run.folder / "predictions.parquet")
        predicted = table[["p_0", "p_1", "p_2"]].to_numpy().argmax(axis=1)
        recalls.append(pd.Series(predicted == table["label"]).groupby(table["label"]).mean().mean())
    found = summary.find("pseudo_real", 0.5).estimates["balanced_accuracy"]
    assert found.value == pytest.approx(np.mean(recalls))
    assert found.low < found.value < found.high
    assert (found.num_subjects, found.num_images, found.num_seeds) == (24, 72, 3)


def test_only_the_primary_comparison_goes_without_holm(summary):
    primary = [c for c in summary.comparisons if c.is_primary]
    assert [(c.arm, c.baseline, c.fraction, c.p_holm) for c in primary] == [
        ("pseudo_gan_full", "supervised", 0.2, None)
    ]
    others = [c for c in summary.comparisons if not c.is_primary]
    assert len(others) == 8
    assert all(c.p_holm >= c.difference.p_value for c in others)
    assert {c.baseline for c in others} == {"supervised", "pseudo_real"}


def test_a_planted_gain_and_a_planted_harm_are_told_apart(tmp_path):
    gained = make_study(tmp_path / "gain", replace(ONE_FOLD, gan_gain=0.1))
    harmed = make_study(tmp_path / "harm", replace(ONE_FOLD, gan_gain=-0.1))
    assert summarize(read_records(gained), 500).verdict.kind == "gain"
    assert summarize(read_records(harmed), 500).verdict.kind == "harm"


def test_label_equivalence_agrees_with_the_difference(tmp_path):
    gained = summarize(read_records(make_study(tmp_path, replace(ONE_FOLD, gan_gain=0.06))), 500)
    found = gained.equivalences["pseudo_gan_full", 0.2]
    assert gained.primary.difference.low > 0
    assert 0.2 < found.low < found.fraction < found.high


def test_small_studies_get_no_headline(tmp_path):
    few = make_study(
        tmp_path, FakeStudy(num_subjects=12, seeds=(0, 1), folds=(0,), gan_gain=0.2, has_images=False)
    )
    verdict = summarize(read_records(few), 200).verdict
    assert verdict.kind == "no headline"
    assert "2 seeds (3 are needed) and 12 test subjects (20 are needed)" in verdict.headline


def test_rounds_are_counted_and_nearly_complete_coverage_raises_the_alarm(tmp_path, summary):
    rounds = [r for r in summary.rounds if (r.arm, r.fraction) == ("pseudo_gan_full", 0.2)]
    assert [r.round_index for r in rounds] == [0, 1, 2]
    assert sum(r.num_kept for r in rounds) == 3
    assert sum(rounds[1].per_class_selected) == pytest.approx(rounds[1].num_selected)
    assert not any("nearly its whole pool" in text for text in summary.warnings)
    full = make_study(tmp_path, FakeStudy(num_subjects=24, folds=(0,), coverage=1.0, has_images=False))
    warnings = summarize(read_records(full), 200).warnings
    assert any("nearly its whole pool (up to 100 %) in 18 of 18 rounds" in text for text in warnings)


def test_only_real_pools_have_an_agreement_with_withheld_labels(summary):
    assert {
        r.oracle_accuracy is not None for r in summary.rounds if r.arm == "pseudo_real" and r.round_index
    } == {True}
    assert {r.oracle_accuracy for r in summary.rounds if r.arm == "pseudo_gan_full"} == {None}


def test_failed_and_missing_runs_are_listed_and_the_rest_is_compared(tmp_path):
    study = make_study(tmp_path, SMALL)
    fail_run(study, "the generator saw subject007")
    gone = next(
        p for p in sorted(study.glob("runs/*")) if '"supervised_full"' in (p / "run.json").read_text()
    )
    for path in gone.iterdir():
        path.unlink()
    summary = summarize(read_records(study), 200)
    assert summary.failures == (("pseudo_real at 70 %, fold 0, seed 2", "the generator saw subject007"),)
    assert summary.missing == ("supervised_full at 100 %, fold 0, seed 0",)
    assert summary.compare("pseudo_real", "supervised", 0.7).difference.num_seeds == 2
    assert summary.find("supervised_full", 1.0).num_runs == 2


def test_a_test_part_opened_twice_and_unequal_steps_are_warnings(tmp_path):
    study = make_study(tmp_path, SMALL)
    edit_run(study, "pseudo_real", test_openings=2)
    edit_run(study, "supervised", steps_per_training=900)
    text = " ".join(summarize(read_records(study), 200).warnings)
    assert "the test part was opened 2 times in a run" in text
    assert "Arms were not trained equally long" in text


def test_runs_that_were_tested_on_other_images_are_refused(tmp_path):
    study = make_study(tmp_path, SMALL)
    path = edit_run(study, "pseudo_real").parent / "predictions.parquet"
    pd.read_parquet(path).iloc[1:].to_parquet(path, index=False)
    with pytest.raises(StudyError, match=r"both are fold 0.*got 1 that only one of them has"):
        read_records(study)


def test_damaged_files_are_named(tmp_path):
    study = make_study(tmp_path, SMALL)
    path = edit_run(study, "supervised").parent / "predictions.parquet"
    path.write_bytes(b"not a table")
    with pytest.raises(
        StudyError, match=r"predictions.parquet: expected a table with the columns file, subject"
    ):
        read_records(study)
    path.with_name("run.json").write_text('{"arm": "supervised"')
    with pytest.raises(StudyError, match=r"run.json: expected JSON"):
        read_records(study)


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(StudyError, match=r"study.json: expected a file of a study"):
        read_records(tmp_path)


def test_a_study_without_a_finished_run_has_a_summary(tmp_path):
    study = make_study(tmp_path, SMALL)
    for path in study.glob("runs/*/*"):
        path.unlink()
    summary = summarize(read_records(study), 200)
    assert summary.verdict.kind == "no headline"
    assert summary.arms == ()
    assert len(summary.missing) == 30


def test_results_are_written_as_json_and_csv_that_agree(tmp_path, summary):
    json_path, csv_path = write_results(summary, tmp_path)
    content = json.loads(json_path.read_text())
    assert content["verdict"]["headline"] == summary.verdict.headline
    with open(csv_path, newline="") as handle:
        rows = list(csv.DictReader(handle))
    chosen = [
        r
        for r in rows
        if (r["arm"], r["fraction"], r["metric"]) == ("pseudo_gan_full", "0.2", "balanced_accuracy")
    ]
    assert float(chosen[0]["difference_low"]) == content["comparisons"][0]["difference"]["low"]
    assert len(rows) == 10 * 9  # four metrics of counts, four measures of probabilities, ECE


def test_the_same_folder_gives_the_same_numbers(study, summary, tmp_path):
    again = summarize(read_records(study), num_draws=500)
    first, _ = write_results(summary, tmp_path / "a")
    second, _ = write_results(again, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "restore it, or begin anew in another --outdir"),
        ('{"name": "a"}', "expected arms, runs, pseudo"),
    ],
)
def test_a_damaged_record_of_the_study_never_costs_its_folder(tmp_path, content, message):
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(StudyError, match=message):
        study_status(tmp_path)
