"""The page Study by Streamlit's own test harness: its logic, without a browser."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason='needs the extra: pip install "synthlabel[app]"')

from streamlit.testing.v1 import AppTest

from extract.language import Points
from scripts.app import server, shell, study_open
from scripts.app.settings import AppSettings, use_settings
from scripts.app.study_curve import most_kept, round_curve
from scripts.app.study_open import begin_early, open_study
from scripts.app.study_report import quiet_page
from semisup.audit_export import export_audit
from semisup.behind import read_recorded
from semisup.run_facts import RunReader
from semisup.summary import primary_fraction, round_results
from tests.semisup.study_folder import FakeStudy, fail_run, make_study

SMALL = FakeStudy(num_subjects=21, folds=(0,), fractions=(0.2, 0.5), image_size=16, pool_size=30)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study") / "study", SMALL)


@pytest.fixture
def broken_off(finished, tmp_path):
    """A study of which some runs are missing and one has failed."""
    folder = shutil.copytree(finished, tmp_path / "study")
    fail_run(folder, "out of *memory*")
    study = json.loads((folder / "study.json").read_text())
    for run in [run for run in study["runs"] if run["arm"] == "pseudo_gan_full"][-2:]:
        shutil.rmtree(folder / "runs" / run["key"])
    return folder


@pytest.fixture
def open_page(monkeypatch):
    """Opens the page on a study, with its numbers worked out already."""
    monkeypatch.setattr(shell, "PAGES", [page for page in shell.PAGES if page.address == "study"])
    monkeypatch.setattr(study_open, "_studies", {})

    def open_with(folder, part=None, language="en", ready=True) -> AppTest:
        use_settings(AppSettings(study=folder, language=language))
        if folder is not None and ready:
            begin_early(folder)
            open_study(folder).result_job().result.result(timeout=60)
        page = AppTest.from_file(str(server.SCRIPT), default_timeout=60)
        if part:  # at once, so that nothing is worked out for a part that is not looked at
            page.session_state["study.part"] = part
        page.run()
        assert not page.exception
        return page

    yield open_with
    use_settings(AppSettings())


def go(page, part):
    next(c for c in page.segmented_control if c.key == "study.part").set_value(part).run()
    assert not page.exception
    return page


def html_of(page) -> str:
    return " ".join(element.proto.body for element in page.get("html"))


def tiles(page) -> list[str]:
    return [e.proto.body for e in page.get("html") if '<figure class="sl-tile' in e.proto.body]


def words_of(page) -> str:
    kinds = ("html", "markdown", "caption", "info", "warning", "success", "error")
    return " ".join(str(e.proto.body) for kind in kinds for e in page.get(kind) if hasattr(e.proto, "body"))


def button(page, text):
    return next(b for b in page.button if text in b.label)


def choice(page, label):
    return next(box for box in page.selectbox if box.label == label)


# Progress -----------------------------------------------------------------------------------------


def test_without_a_study_the_page_says_how_to_name_one(open_page):
    assert "synthlabel app --study DIR" in open_page(None).info[0].value


def test_a_finished_study_begins_with_its_result_and_says_so_under_progress(open_page, finished):
    page = open_page(finished)
    assert "sl-verdict" in html_of(page)
    go(page, "progress")
    assert page.success[0].value == "Finished: all 21 jobs are done."
    assert "3 done" in html_of(page)


def test_a_study_whose_process_is_gone_is_stopped_and_tells_the_command(open_page, broken_off):
    page = open_page(broken_off, ready=False)
    (said,) = page.warning
    assert said.value.startswith("Stopped: 18 of 21 jobs are done")
    assert page.code[0].value == "synthlabel semisup run --study study.yaml --outdir study"
    assert "2 waiting" in html_of(page) and "1 failed" in html_of(page)
    assert r"out of \*memory\*" in words_of(page)


def test_a_study_at_work_shows_what_runs_now_with_its_step(open_page, broken_off):
    study = json.loads((broken_off / "study.json").read_text())
    key = next(r["key"] for r in study["runs"] if not (broken_off / "runs" / r["key"]).exists())
    (broken_off / "progress").mkdir()
    beat = {"pid": os.getpid(), "title": "pseudo_gan_full, seed 1", "done": 50, "total": 200,
            "message": "round 1", "seconds": 5.0, "first_share": 0.0}  # fmt: skip
    (broken_off / "progress" / f"{key}.json").write_text(json.dumps(beat))
    page = open_page(broken_off, ready=False)
    assert page.info[0].value.startswith("At work: 18 of 21 jobs are done. About")
    shown = [element.proto.text for element in page.get("progress")]
    assert r"pseudo\_gan\_full, seed 1: step 50 of 200 · round 1" in shown
    assert "1 at work" in html_of(page) and not page.code


def test_a_study_that_ended_with_failures_says_what_tries_them_again(open_page, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "study")
    fail_run(folder, "killed")
    page = open_page(folder, part="progress", ready=False)
    assert page.warning[0].value.startswith("Ended: 20 of 21 jobs are done, 1 failed.")


# Result -------------------------------------------------------------------------------------------


def test_the_verdict_and_the_table_are_the_report_s(open_page, finished):
    page = open_page(finished)
    summary = open_study(finished).result_job().result.result().summary("en")
    shown = html_of(page)
    assert summary.verdict.headline.partition(": ")[2].rstrip(".") in shown
    primary = summary.compare("pseudo_gan_full", "supervised", primary_fraction(summary)).difference
    from extract.language import ENGLISH

    assert ENGLISH.points(Points(primary.value)) in shown and "main question" in shown
    for result in summary.arms:
        assert ENGLISH.share(result.estimates[summary.metric].value) in shown
    assert 'src="data:image/svg+xml;base64,' in shown  # the curve


def test_another_measure_and_fewer_arms_are_shown_on_demand(open_page, finished):
    page = open_page(finished)
    table = next(e.proto.body for e in page.get("html") if "sl-table" in e.proto.body)
    assert table.count("<tr") == 1 + 7  # 3 arms at two shares, and the ceiling
    choice(page, "Measure").set_value("auroc").run()
    choice(page, "Share of labels").set_value(0.5).run()
    page.multiselect[0].set_value(["supervised", "pseudo_real"]).run()
    assert not page.exception
    table = next(e.proto.body for e in page.get("html") if "sl-table" in e.proto.body)
    assert "AUROC, %" in table and table.count("<tr") == 1 + 2


def test_a_row_of_the_table_leads_to_its_rounds_and_test_images(open_page, finished):
    page = open_page(finished)
    assert choice(page, "Look at the images of").value == ("pseudo_gan_full", 0.2)
    choice(page, "Look at the images of").set_value(("pseudo_real", 0.5)).run()
    button(page, "Its test images").click().run()
    assert not page.exception
    assert (choice(page, "Arm").value, choice(page, "Share of labels").value) == ("pseudo_real", 0.5)
    assert any(b.label.endswith("missed") for b in page.button)


def test_a_filter_outlives_a_look_at_another_part(open_page, finished):
    page = open_page(finished)
    choice(page, "Measure").set_value("accuracy").run()
    go(go(page, "progress"), "result")
    assert choice(page, "Measure").value == "accuracy"


def test_numbers_that_are_not_there_yet_are_waited_for(open_page, finished, monkeypatch):
    opened = open_study(finished)
    page = open_page(finished, ready=False)
    job = open_study(finished).result_job()
    assert job is not None and opened is open_study(finished)  # begun by the visit itself
    job.result.result(timeout=60)
    assert "sl-verdict" in html_of(page.run())


def test_when_runs_are_added_the_page_offers_to_count_anew(open_page, broken_off, finished):
    page = open_page(broken_off, part="result")
    assert not [b for b in page.button if "anew" in b.label]
    for folder in (finished / "runs").iterdir():
        if not (broken_off / "runs" / folder.name).exists():
            shutil.copytree(folder, broken_off / "runs" / folder.name)
    time.sleep(0.05)
    page.run()
    button(page, "Work them out anew").click().run()
    open_study(broken_off)._jobs[-1].result.result(timeout=60)
    page.run()
    assert not [b for b in page.button if "anew" in b.label]
    assert open_study(broken_off).result_job().result.result().num_runs == 20


def test_a_damaged_study_is_a_sentence(open_page, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "study")
    next(folder.glob("runs/*/predictions.parquet")).write_bytes(b"no table")
    use_settings(AppSettings(study=folder))
    opened = open_study(folder)
    with pytest.raises(Exception, match="expected a table"):
        opened.begin_result(opened.state(opened.runs())).result.result(timeout=60)
    page = open_page(folder, ready=False)
    assert "expected a table with the columns" in page.error[0].value


# From a number to its images ----------------------------------------------------------------------


def test_a_number_of_a_round_leads_to_its_images(open_page, finished):
    page = open_page(finished, part="rounds")
    assert choice(page, "Arm").value == "pseudo_gan_full"
    run = choice(page, "Seed").set_value(1).run()
    record = next(
        info
        for path in finished.glob("runs/*/run.json")
        if (info := json.loads(path.read_text()))["arm"] == "pseudo_gan_full"
        and (info["seed"], info["fraction"]) == (1, 0.2)
    )
    count = record["rounds"][2]["num_selected"]
    chosen = next(b for b in run.button if b.key.startswith("study.rounds.chosen.2.selected.None"))
    assert chosen.label == f"{count} selected"
    chosen.click().run()
    assert not page.exception
    assert f"{count} images, in one run." in words_of(page)
    assert len(tiles(page)) == min(count, 12)
    before = tiles(page)
    button(page, "Next").click().run()
    after = tiles(page)
    assert len(after) == min(count - 12, 12) and not set(before) & set(after)
    choice(page, "Order").set_value("surest first").run()
    assert f"Page 1 of {-(-count // 12)}" in html_of(page)


def test_the_curve_frames_the_round_that_most_runs_kept_and_no_tie(finished):
    runs = RunReader(finished).read().done("pseudo_gan_full", 0.2)
    results = round_results(read_recorded(finished, runs), 3)

    def drawn(*kept):
        changed = [replace(r, num_kept=num) for r, num in zip(results, kept, strict=True)]
        data = re.search('base64,([^"]+)', round_curve(changed))[1]
        return most_kept(changed), base64.b64decode(data).decode()

    best, svg = drawn(0, 1, 2)
    assert best == 2 and svg.count("stroke-dasharray") == 1 and "kept most often" in svg
    assert svg.count("<polyline") == 3 and svg.count("<circle") == 3 + 1  # a marker a round, and its name
    best, svg = drawn(1, 1, 1)
    assert best is None and "stroke-dasharray" not in svg and "kept most often" not in svg


def test_one_image_is_looked_at_from_near(open_page, finished):
    page = open_page(finished, part="rounds")
    button(page, "selected").click().run()
    button(page, "Look at 1").click().run()
    assert not page.exception
    shown = html_of(page)
    assert "sl-large" in shown and "Drawn by the generator" in shown and "Truncation psi" in shown
    assert shown.count('role="meter"') == 3


def test_test_images_are_found_by_truth_and_prediction(open_page, finished):
    page = open_page(finished, part="tests")
    summary = open_study(finished).result_job().result.result().summary("en")
    confusion = summary.find("pseudo_gan_full", 0.2).confusion
    button(page, "right").click().run()
    assert f": {confusion[0, 0]:.3g} a run." in words_of(page)
    assert "coronal, found" in words_of(page) and "no honest test any more" not in words_of(page)
    button(page, "missed").click().run()
    assert "expert: coronal" in html_of(page) and "sl-tile apart" in html_of(page)


def test_an_arm_without_a_pool_shows_no_buttons(open_page, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "study")
    for path in folder.glob("runs/*/ledger.parquet"):
        path.unlink()
    page = open_page(folder, part="rounds", ready=False)
    assert "no pool of its own" in words_of(page)
    assert not [b for b in page.button if "selected" in b.label]


def test_a_deliberate_fault_is_marked_and_is_no_result(open_page, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "study")
    for path in folder.glob("runs/*/run.json"):
        info = json.loads(path.read_text())
        if info["arm"] == "pseudo_real":
            path.write_text(json.dumps({**info, "leak": True, "fault": "a fault"}))
    page = open_page(folder, part="rounds", ready=False)
    assert choice(page, "Arm").options == ["pseudo_real (deliberate fault)", "pseudo_gan_full"]
    go(page, "tests")
    assert "pseudo_real" not in choice(page, "Arm").options
    open_study(folder).begin_result("now").result.result(timeout=60)
    go(page, "result")
    assert "pseudo_real" not in " ".join(e.proto.body for e in page.get("html") if "<table" in e.proto.body)


def test_a_pool_that_is_gone_leaves_a_sentence_in_place_of_pictures(open_page, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "study")
    shutil.rmtree(folder / "pools")
    page = open_page(folder, part="rounds", ready=False)
    button(page, "selected").click().run()
    assert "is not in the study's folder `pools` any more" in page.info[0].value
    assert "<img" not in " ".join(tiles(page))


def test_an_unfinished_audit_holds_pseudo_labels_back_until_somebody_says_so(open_page, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "study")
    export_audit(folder, tmp_path / "hand-out", num=30)
    page = open_page(folder, part="rounds", ready=False)
    button(page, "selected").click().run()
    assert "audit of this study is not finished" in page.warning[0].value
    assert not tiles(page)
    go(page, "tests")  # test images are no pseudo-labels
    button(page, "right").click().run()
    assert tiles(page)
    go(page, "rounds")
    button(page, "I do not read that audit").click().run()
    assert tiles(page) and not page.warning


# The report ---------------------------------------------------------------------------------------


def test_a_report_is_made_only_after_asking(open_page, finished, tmp_path, monkeypatch):
    from scripts.app import study_report

    monkeypatch.setattr("semisup.report.figure_files", lambda *_: {})
    folder = shutil.copytree(finished, tmp_path / "study")
    before = sorted(path.name for path in folder.iterdir())
    page = open_page(folder, part="report", ready=False)
    assert "no report in this language yet" in page.info[0].value
    button(page, "Make the report").click().run()
    assert "writes the report" in words_of(page)
    button(page, "Leave it").click().run()
    assert sorted(path.name for path in folder.iterdir()) == before
    button(page, "Make the report").click().run()
    button(page, "Write it").click().run()
    study_report._writing[folder].result(timeout=60)
    page.run()
    assert not page.exception and (folder / "report.html").exists()
    assert "The report was made on" in words_of(page)
    names = {element.proto.label for element in page.get("download_button")}
    assert names >= {"Report (HTML)", "Numbers (CSV)", "All tables (ZIP)"}
    page.toggle[0].set_value(True).run()
    (frame,) = page.get("iframe")
    assert "default-src 'none'" in frame.proto.srcdoc and "<h1>" in frame.proto.srcdoc


def test_a_report_in_the_page_is_quiet():
    page = "<!DOCTYPE html><html><a class='x' href=\"#arms\">A</a><A HREF='http://x/y'>z</a><use href='#m'/>"
    quiet = quiet_page(page)
    assert quiet.index("Content-Security-Policy") < quiet.index("<html>")
    assert "default-src 'none'" in quiet and "script" not in quiet.split("<html>")[0]
    assert "#arms" not in quiet and "http://x" not in quiet and "<use href='#m'/>" in quiet


# Languages and names ------------------------------------------------------------------------------


def test_the_page_speaks_spanish(open_page, finished):
    page = open_page(finished, language="es")
    shown = html_of(page)
    assert "Sin mejora" in shown or "Aviso" in shown or "Mejora" in shown
    assert "Diferencia con solo etiquetas, puntos" in shown and "pregunta principal" in shown
    go(page, "rounds")
    assert any("elegidas" in b.label for b in page.button)


def test_names_from_files_are_text_and_no_markup(open_page, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "study")
    study = json.loads((folder / "study.json").read_text())
    study["name"] = "<img src=x onerror=alert(1)>"
    (folder / "study.json").write_text(json.dumps(study))
    assert "<img src=x" not in html_of(open_page(folder, ready=False))


def test_the_first_drawing_needs_no_torch(finished):
    code = (
        "import sys; from pathlib import Path; from scripts.app import study; "
        "from scripts.app.study_open import open_study; opened = open_study(Path(sys.argv[1])); "
        "opened.look(); import semisup.summary, semisup.behind_pictures; assert 'torch' not in sys.modules"
    )
    root = Path(shell.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(finished)], check=True, cwd=root)
