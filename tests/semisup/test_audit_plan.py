"""What a sample can show at best, known before anybody reads, and what the report makes of the result."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from semisup.audit import import_audit
from semisup.audit_plan import AuditPlan
from semisup.audit_reading import draw_in_study, list_exports, sheet_of
from semisup.audit_sample import audited_arms, draw_sample, read_population, stratify
from semisup.audit_sheet import record_answer
from semisup.audit_standing import audit_standing
from semisup.folders import read_json, write_json
from semisup.records import read_records
from semisup.statistics.corrections import clopper_pearson
from semisup.summary import summarize
from tests.semisup.study_folder import FakeStudy, make_study

SMALL = FakeStudy(num_subjects=18, folds=(0, 1), seeds=(0,), fractions=(0.2,), image_size=16)


def population(sizes, seed=0):
    """Pseudo-labels of one fraction, `sizes[arm][class]` of them."""
    rng = np.random.default_rng(seed)
    rows = [
        {"arm": arm, "fraction": 0.2, "predicted": k, "confidence": rng.uniform(0.8, 1)}
        for arm, counts in sizes.items()
        for k, count in enumerate(counts)
        for _ in range(count)
    ]
    return pd.DataFrame(rows)


def test_one_kind_promises_what_clopper_pearson_does_or_hardly_more():
    plan = AuditPlan(population({"pseudo_real": [5000]}))
    for num in (1, 20, 100):
        exact = clopper_pearson(0, num)[1]
        assert exact - 1e-9 <= plan.best_case(num).high <= 1.03 * exact


def test_the_promise_is_the_result_of_a_reading_without_errors(tmp_path):
    study = make_study(tmp_path / "study", SMALL)
    plan = AuditPlan(read_population(study, read_json(study / "study.json"), fractions=[0.2]).rows)
    num = 30
    draw_in_study(study, num, num_bands=plan.num_bands(num))
    (export,) = list_exports(study)
    sheet = sheet_of(export, "Ana")
    labels = dict(zip(export.sample.codes.tolist(), export.sample.predicted.tolist(), strict=True))
    for code, label in labels.items():
        record_answer(sheet, export.sample, code, export.sample.classes[label])
    (reader,) = import_audit(study, [sheet]).result.readers
    best = plan.best_case(num)
    if reader.error.num_errors == 0:  # no picture got two labels
        assert reader.error.high == pytest.approx(best.high)
    assert set(best.by_arm) == set(reader.by_arm)
    for cell, estimate in reader.by_arm.items():
        if estimate.num_errors == 0:
            assert estimate.high == pytest.approx(best.by_arm[cell])
    assert any(estimate.num_errors == 0 for estimate in reader.by_arm.values())


def test_more_images_promise_more_and_arms_less_than_all():
    plan = AuditPlan(population({"pseudo_real": [900, 300], "pseudo_gan_full": [2000, 50]}))
    bounds = [plan.best_case(num) for num in (8, 20, 50, 200, 1000)]
    assert all(a.high > b.high for a, b in pairwise(bounds))
    assert all(min(best.by_arm.values()) > best.high for best in bounds)


def test_bands_are_given_up_where_the_sample_is_small():
    rows = population({"pseudo_real": [400, 300], "pseudo_gan_full": [500, 200]})
    plan = AuditPlan(rows)
    assert plan.min_num == 4
    assert [plan.num_bands(num) for num in (4, 15, 16, 23, 24, 200)] == [1, 1, 2, 2, 3, 3]
    for num in (4, 16, 24):
        draw = draw_sample(rows, num, 0, plan.num_bands(num))
        assert len(draw.rows) == num and len(draw.strata) == 4 * plan.num_bands(num)
    with pytest.raises(ValueError, match="num must be 4 or more, got 3"):
        plan.best_case(3)


def test_the_number_for_a_bound_is_the_smallest_that_reaches_it():
    plan = AuditPlan(population({"pseudo_real": [900, 300], "pseudo_gan_full": [2000, 50]}))
    num = plan.num_for("pseudo_gan_full", 0.2, 0.1)
    cell = ("pseudo_gan_full", 0.2)
    assert plan.best_case(num).by_arm[cell] <= 0.1 < plan.best_case(num - 1).by_arm[cell]
    assert plan.num_for("pseudo_both", 0.2, 0.1) is None and plan.num_for("pseudo_real", 0.5, 0.1) is None


def test_a_population_that_is_read_whole_leaves_nothing_to_chance():
    plan = AuditPlan(population({"pseudo_real": [6, 4]}))
    assert plan.best_case(10).high == 0.0 and plan.num_for("pseudo_real", 0.2, 0.001) == 10


def test_strata_hold_everything_once():
    rows = population({"pseudo_real": [40, 30], "pseudo_gan_full": [50, 20]})
    found = stratify(rows)
    assert found.sizes.sum() == len(rows) and len(found.band_edges) == 2 and len(set(found.names)) == 12
    for h, (arm, _, predicted, _) in enumerate(found.names):
        assert set(rows["arm"][found.numbers == h]) == {arm}
        assert set(rows["predicted"][found.numbers == h]) == {predicted}


# What it means for the report ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def read_study(tmp_path_factory):
    """A study, and a finished reading of a sample of it that finds everything right."""
    study = make_study(tmp_path_factory.mktemp("standing") / "study", SMALL)
    draw_in_study(study, 60, num_bands=1)
    (export,) = list_exports(study)
    sheet = sheet_of(export, "Ana")
    for code, label in zip(export.sample.codes.tolist(), export.sample.predicted.tolist(), strict=True):
        record_answer(sheet, export.sample, code, export.sample.classes[label])
    return study


@pytest.mark.parametrize(
    ("wanted", "is_imported", "standing"),
    [
        (None, True, "not required"),
        ({"required": True}, False, "missing"),
        ({"required": True}, True, "met"),
        ({"required": True, "max_error": 0.9}, True, "met"),
        ({"required": True, "max_error": 0.001}, True, "too wrong"),
        ({"required": True, "max_error": 0.9}, "before a run", "incomplete"),
    ],
)
def test_the_page_and_the_report_agree_on_what_is_missing(
    read_study, tmp_path, wanted, is_imported, standing
):
    study = shutil.copytree(read_study, tmp_path / "study")
    content = read_json(study / "study.json")
    write_json(study / "study.json", {**content, "audit": wanted})
    (export,) = list_exports(study)
    if is_imported:
        import_audit(study, [sheet_of(export, "Ana")])
    if is_imported == "before a run":
        audit = json.loads((study / "audit.json").read_text())
        runs = [run["key"] for run in content["runs"] if run["arm"] == "pseudo_gan_full"]
        audit["runs"].remove(runs[0])
        (study / "audit.json").write_text(json.dumps(audit))
    found = audit_standing(study)
    assert found.standing == standing
    headline = summarize(read_records(study), num_draws=50).verdict
    words = {
        "missing": "this audit is still to come",
        "incomplete": "did not draw from 1 run of the arm",
        "too wrong": "can only say that at most",
    }
    for name, sentence in words.items():
        assert (sentence in headline.hint) == (standing == name)


def test_arms_without_pseudo_labels_are_not_offered(read_study):
    study = read_json(read_study / "study.json")
    assert audited_arms(study) == ["pseudo_real", "pseudo_gan_full"]
