"""What a page shows of a study is what its report says, number for number and word for word."""

import io
import json
import os
import shutil
import zipfile

import pytest

from semisup.arm_table import arm_rows, difference_in, in_metric, metrics_of
from semisup.audit import import_audit
from semisup.audit_export import export_audit
from semisup.audit_key import read_keys
from semisup.audit_open import unfinished_audits
from semisup.audit_reading import draw_in_study, list_exports, sheet_of
from semisup.audit_sheet import record_answer
from semisup.figures import label_curve
from semisup.report import write_report
from semisup.results import json_text
from semisup.run_list import RunReader
from semisup.study_result import pack_tables, report_state, work_out
from tests.semisup.study_folder import FakeStudy, make_study

SMALL = FakeStudy(
    num_subjects=60, images_per_subject=2, folds=(0,), fractions=(0.2, 0.5), image_size=16, pool_size=20
)


@pytest.fixture(scope="module")
def study_dir(tmp_path_factory):
    """With its report."""
    folder = make_study(tmp_path_factory.mktemp("result") / "study", SMALL)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def told():
    """What the progress said."""
    return []


@pytest.fixture(scope="module")
def result(study_dir, told):
    return work_out(study_dir, lambda *step: told.append(step))


def test_the_numbers_are_those_of_results_json(study_dir, result):
    found = json.loads(json_text(result.summary("en"), result.findings["en"]))
    assert found == json.loads((study_dir / "results.json").read_text())
    assert result.num_runs == 21


def test_the_words_are_those_of_the_report(study_dir, result):
    def words(text):
        return " ".join(text.replace("\\", "").replace("*", "").replace("`", "").split())

    page = words((study_dir / "report.md").read_text())
    verdict = result.summary("en").verdict
    for text in (verdict.headline, *verdict.details):
        assert words(text) in page
    assert verdict.kind != "no headline" and len(verdict.details) >= 3


def test_in_spanish_the_same_is_said(result):
    english, spanish = (result.summary(name) for name in ("en", "es"))
    assert english.verdict.kind == spanish.verdict.kind and english.arms is spanish.arms
    assert "intervalo de confianza" in spanish.verdict.headline
    assert len(english.verdict.details) == len(spanish.verdict.details)


def test_the_progress_rises_from_nothing_to_all(result, told):
    shares = [done / total for done, total, _ in told]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    assert len({message for _, _, message in told}) >= 3


def test_the_table_of_arms_has_every_number_of_the_report(study_dir, result):
    wanted = json.loads((study_dir / "results.json").read_text())
    summary = result.summary("en")
    assert metrics_of(summary) == ["balanced_accuracy", "accuracy", "macro_f1", "auroc"]
    comparisons = {
        (c["arm"], c["fraction"]): c for c in wanted["comparisons"] if c["baseline"] == "supervised"
    }
    for metric in metrics_of(summary):
        rows = arm_rows(summary, metric)
        assert [(row.result.arm, row.result.fraction) for row in rows] == [
            (arm["arm"], arm["fraction"]) for arm in wanted["arms"]
        ]
        for row, arm in zip(rows, wanted["arms"], strict=True):
            estimate = {**arm["estimates"], **arm["measures"]}[metric]
            assert (row.value.value, row.value.low, row.value.high) == (
                estimate["value"], estimate["low"], estimate["high"],
            )  # fmt: skip
            other = comparisons.get((arm["arm"], arm["fraction"]))
            assert (row.difference is None) == (other is None)
            if other:
                is_own = metric == wanted["metric"]
                found = other["difference"] if is_own else other["differences"][metric]
                assert (row.difference.value, row.difference.low) == (found["value"], found["low"])
                assert row.p_holm == (other["p_holm"] if is_own else None)
                assert row.is_primary == other["is_primary"]


def test_filters_keep_rows_and_change_no_number(result):
    summary = result.summary("en")
    whole = arm_rows(summary, "accuracy")
    some = arm_rows(summary, "accuracy", ["pseudo_real"], 0.2)
    assert [row for row in whole if (row.result.arm, row.result.fraction) == ("pseudo_real", 0.2)] == some
    at_fifth = {(row.result.arm, row.result.fraction) for row in arm_rows(summary, "accuracy", fraction=0.2)}
    assert ("supervised_full", 1.0) in at_fifth and ("pseudo_real", 0.5) not in at_fifth
    curve = in_metric(summary, "auroc", ["pseudo_real", "supervised"])
    assert {r.arm for r in curve.arms} == {"pseudo_real", "supervised"}
    assert "AUROC" in label_curve(curve).svg().decode() or "auroc" in label_curve(curve).svg().decode()
    assert difference_in(summary.comparisons[0], "nonsense", summary.metric) is None


# The files of the report ---------------------------------------------------------------------------


def test_a_report_is_missing_then_new_then_older_than_a_run(study_dir, tmp_path):
    folder = shutil.copytree(study_dir, tmp_path / "study")
    newest = RunReader(folder).read().newest_ns
    assert report_state(folder, "en", newest).made_at == pytest.approx(
        os.stat(folder / "report.html").st_mtime
    )
    assert not report_state(folder, "en", newest).is_older
    later = os.stat(folder / "report.html").st_mtime_ns + 10**9
    run = next(folder.glob("runs/*/run.json"))
    os.utime(run, ns=(later, later))
    assert report_state(folder, "en", RunReader(folder).read().newest_ns).is_older
    (folder / "report.html").unlink()
    assert report_state(folder, "en", newest).made_at is None
    assert report_state(folder, "es", newest).path.name == "report.es.html"


def test_a_later_audit_makes_the_report_older(study_dir, tmp_path):
    folder = shutil.copytree(study_dir, tmp_path / "study")
    (folder / "audit.json").write_text("{}")
    later = os.stat(folder / "report.html").st_mtime_ns + 10**9
    os.utime(folder / "audit.json", ns=(later, later))
    assert report_state(folder, "en", RunReader(folder).read().newest_ns).is_older


def test_tables_are_packed_as_they_are(study_dir):
    with zipfile.ZipFile(io.BytesIO(pack_tables(study_dir))) as packed:
        names = packed.namelist()
        assert "rounds.csv" in names and "comparisons.csv" in names
        for name in names:
            assert packed.read(name) == (study_dir / "tables" / name).read_bytes()


# Audits that are still read ------------------------------------------------------------------------


def test_an_audit_is_unfinished_until_every_picture_is_answered(study_dir, tmp_path):
    folder = shutil.copytree(study_dir, tmp_path / "study")
    assert unfinished_audits(folder) == []
    export_audit(folder, tmp_path / "hand-out", num=40)
    (key,) = read_keys(folder)
    assert unfinished_audits(folder) == [key["export"]]
    codes = sorted(row["code"] for row in key["pictures"])
    for num, is_done in ((len(codes) - 1, False), (len(codes), True)):
        sheet = tmp_path / f"sheet{num}.csv"
        sheet.write_text("code,label,unsure,comment\n" + "".join(f"{code},noise,,\n" for code in codes[:num]))
        import_audit(folder, [sheet])
        assert (unfinished_audits(folder) == []) is is_done
    export_audit(folder, tmp_path / "second", num=30, seed=5)
    assert len(unfinished_audits(folder)) == 1  # the new one


def test_a_second_reader_in_the_middle_is_not_unblinded_either(study_dir, tmp_path):
    folder = shutil.copytree(study_dir, tmp_path / "study")
    draw_in_study(folder, 30, num_bands=3)
    (export,) = list_exports(folder)
    first, second = (sheet_of(export, name) for name in ("A", "B"))
    assert unfinished_audits(folder) == [export.export]
    for path in (first, second):
        for code in export.codes:
            record_answer(path, export.sample, code, "noise")
    assert unfinished_audits(folder) == []
    record_answer(second, export.sample, export.codes[0], "")  # taken back: to be read again
    assert unfinished_audits(folder) == [export.export]
