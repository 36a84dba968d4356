"""What a summary says beside the interval: measures of probabilities, trainings won, folds, single models."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from semisup.records import read_records
from semisup.report import write_report
from semisup.results import write_results
from semisup.summary import summarize
from tests.semisup.study_folder import FakeStudy, make_study

THREE_FOLDS = FakeStudy(
    num_subjects=36, images_per_subject=3, fractions=(0.2, 0.5), pool_size=40, has_images=False
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"), THREE_FOLDS)


@pytest.fixture(scope="module")
def records(study):
    return read_records(study)


@pytest.fixture(scope="module")
def summary(records):
    return summarize(records, num_draws=300)


def test_auroc_is_the_mean_over_runs_and_has_an_interval(records, summary):
    runs = records.select("pseudo_real", 0.2)
    expected = np.mean([roc_auc_score(run.labels, run.probs, multi_class="ovr") for run in runs])
    found = summary.find("pseudo_real", 0.2).measures["auroc"]
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high
    assert (found.num_subjects, found.num_images, found.num_seeds) == (36, 108, 3)


def test_every_comparison_has_the_other_metrics_and_the_trainings_won(summary):
    further = summary.primary.further
    assert set(summary.primary.differences) == {
        "accuracy", "macro_f1", "mcc", "auroc", "nll", "brier", "overconfidence"
    }  # fmt: skip
    assert further.win_share.num_pairs == 9
    assert 0 <= further.win_share.low <= further.win_share.value <= further.win_share.high <= 1


def test_over_the_folds_the_ratio_is_of_subjects_tested_to_subjects_trained_on(summary):
    found = summary.primary.further.over_folds
    assert found.num_folds == 3
    assert found.low < found.value < found.high


def test_subjects_of_several_classes_have_no_test_of_single_models_and_the_reason_is_told(summary):
    further = summary.primary.further
    assert further.single_models == ()
    assert "several classes for 12 of 12 subjects" in " ".join(further.left_out)


def test_one_image_a_subject_is_tested_model_by_model(tmp_path):
    study = make_study(tmp_path, replace(THREE_FOLDS, num_subjects=90, images_per_subject=1, folds=(0,)))
    further = summarize(read_records(study), num_draws=200).primary.further
    assert further.cases == "images"
    assert [(test.fold, test.seed) for test in further.single_models] == [(0, 0), (0, 1), (0, 2)]
    assert all(0 < test.mcnemar_p <= 1 and len(test.delong_p) == 3 for test in further.single_models)
    assert further.left_out == ("corrected resampled t: needs 3 folds, got 1",)


def test_results_hold_the_new_numbers_beside_the_old_ones(summary, tmp_path):
    json_path, csv_path = write_results(summary, tmp_path)
    content = json.loads(json_path.read_text())
    arm, comparison = content["arms"][0], content["comparisons"][0]
    assert {"auroc", "mcc", "ece", "nll"} <= set(arm["means"])
    assert arm["measures"]["auroc"]["low"] < arm["measures"]["auroc"]["high"]
    assert arm["ece"]["low"] <= arm["ece"]["value"] <= arm["ece"]["high"]
    assert comparison["win_share"]["num_pairs"] == 9
    assert comparison["over_folds"]["num_folds"] == 3
    assert comparison["differences"]["auroc"]["value"] == summary.primary.differences["auroc"].value
    with open(csv_path, newline="") as handle:
        rows = list(csv.DictReader(handle))
    ece = next(row for row in rows if row["metric"] == "ece")
    assert float(ece["low"]) == arm["ece"]["low"]


def test_the_report_shows_them(study):
    page = write_report(study).path.read_text(encoding="utf-8")
    assert "The same comparisons in other measures and by other tests" in page
    assert "of 9 pairs" in page
    assert "Left out: McNemar and DeLong" in page
