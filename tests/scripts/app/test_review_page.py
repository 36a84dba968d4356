"""The page Review by Streamlit's own test harness: what is shown, and what a decision writes."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason='needs the extra: pip install "synthlabel[app]"')

from streamlit.testing.v1 import AppTest

from extract.archive import open_archive
from extract.review_log import log_path, read_log
from extract.review_scope import review_scope
from extract.split import read_split
from scripts.app import review_desk
from scripts.app.review_job import begin_review, review_basis
from scripts.app.settings import AppSettings, use_settings
from tests.classifier.planted import Planted

PAGE = """
import streamlit as st
from scripts.app import review
from scripts.app.settings import current_settings
review.show(current_settings())
"""


@pytest.fixture
def open_page(monkeypatch):
    """Opens the page with some settings, when everything has been found out; nobody has to look for long."""
    monkeypatch.setattr(review_desk, "MIN_LOOK_SEC", 0.0)

    def open_with(**settings) -> AppTest:
        use_settings(AppSettings(**settings))
        if settings.get("archive"):
            _wait(AppSettings(**settings))
        page = AppTest.from_string(PAGE, default_timeout=60).run()
        assert not page.exception
        return page

    yield open_with
    use_settings(AppSettings())


def _wait(settings: AppSettings) -> None:
    try:
        job = begin_review(review_basis(settings), settings.model)
    except Exception:  # the page shall tell it
        return
    until = time.monotonic() + 60
    while not job.is_done and time.monotonic() < until:
        time.sleep(0.02)


@pytest.fixture
def page(planted, open_page) -> AppTest:
    """The page with a model, by Ann, without decisions."""
    log_path(planted.archive, 0).unlink(missing_ok=True)
    page = open_page(archive=planted.archive, split=planted.split, model=planted.run)
    page.text_input[0].set_value("Ann").run()
    assert not page.exception
    return page


def press(page: AppTest, label: str) -> AppTest:
    (button,) = (button for button in page.button if button.label == label)
    assert not button.disabled, label
    button.click().run()
    assert not page.exception
    return page


def html_of(page: AppTest) -> str:
    return " ".join(element.proto.body for element in page.get("html"))


def shown_name(page: AppTest) -> str:
    return html_of(page).split('<figure class="sl-picture">')[1].split('alt="')[1].split(",")[0]


def rows_of(planted: Planted):
    with open_archive(planted.archive) as archive:
        scope = review_scope(archive, read_split(planted.split, archive), 0)
    return read_log(log_path(planted.archive, 0), scope).rows


def test_without_a_data_set_the_page_says_how_to_name_one(open_page):
    assert "--archive ZIP --split SPLIT.json" in open_page().info[0].value


def test_until_a_name_is_given_nothing_can_be_decided(planted, open_page):
    log_path(planted.archive, 0).unlink(missing_ok=True)
    page = open_page(archive=planted.archive, model=planted.run)  # the split beside it is found
    by_label = {button.label: button for button in page.button}
    assert by_label["Keep"].disabled and by_label["flat"].disabled and not by_label["Next"].disabled
    page.text_input[0].set_value("=cmd").run()
    assert "begins with a letter or digit" in page.error[0].value
    page.text_input[0].set_value("Ann").run()
    assert not page.error and not page.text_input and not log_path(planted.archive, 0).exists()
    assert not next(button for button in page.button if button.label == "Keep").disabled


def test_an_image_comes_with_its_label_its_reason_and_what_the_model_says(page):
    words = html_of(page)
    assert "Label: " in words and "The same picture also stands under" in words  # conflicts come first
    assert words.count('role="meter"') == 3 and 'class="sl-alike"' in words
    assert [button.shortcut for button in _proto(page)][:3] == ["k", "x", "u"]
    assert [button.shortcut for button in _proto(page)][3:8] == ["left", "right", "1", "2", "3"]


def _proto(page: AppTest):
    return [button.proto for button in page.button if button.proto.shortcut]


def test_a_decision_is_a_row_and_brings_the_next_image(page, planted):
    first = shown_name(page)
    press(page, "Exclude")
    second = shown_name(page)
    assert second != first
    label = html_of(page).split("Label: ")[1].split("<")[0]
    press(page, next(name for name in ("flat", "horizontal") if name != label))
    a, b = rows_of(planted)
    assert (a.action, a.image, a.author, a.reason.split(",")[0]) == (
        "exclude",
        first,
        "Ann",
        "label conflict",
    )
    assert (b.action, b.image, b.old_label) == ("relabel", second, label) and len(b.model_sha256) == 64
    assert any("2 of " in bar.proto.text for bar in page.get("progress"))


def test_the_own_class_keeps_the_label(page, planted):
    label = html_of(page).split("Label: ")[1].split("<")[0]
    press(page, label)
    assert [row.action for row in rows_of(planted)] == ["keep"]


def test_undo_shows_the_image_again_and_takes_back_ones_own_decision_only(page, planted):
    first = shown_name(page)
    press(page, "Exclude")
    second = shown_name(page)
    basis = review_basis(AppSettings(archive=planted.archive, split=planted.split))
    review_desk.record_decision(
        basis.log, basis.scope, review_desk.Decision(second, "exclude"), "Bea"
    )  # fmt: skip
    press(page, "Undo")
    assert shown_name(page) == first
    assert [(row.action, row.undoes) for row in rows_of(planted)] == [
        ("exclude", 0), ("exclude", 0), ("undo", 1),
    ]  # fmt: skip
    assert next(button for button in page.button if button.label == "Undo").disabled


def test_any_decision_can_be_undone_from_the_list(page, planted):
    for _ in range(3):
        press(page, "Keep")
    page.selectbox[2].set_value(2).run()
    press(page, "Undo this one")
    assert rows_of(planted)[-1].undoes == 2
    assert len(page.get("download_button")) == 1


def test_next_and_previous_go_through_all_images(page):
    first = shown_name(page)
    press(page, "Next")
    second = shown_name(page)
    press(page, "Previous")
    assert shown_name(page) == first != second


def test_filters_leave_what_was_asked_for(page):
    page.selectbox[0].set_value("near threshold").run()
    assert "make the model decide otherwise" in html_of(page)
    page.selectbox[0].set_value("").run()
    page.selectbox[1].set_value("vertical").run()
    assert "Label: vertical" in html_of(page)


def test_a_key_hit_twice_decides_once(page, planted, monkeypatch):
    monkeypatch.setattr(review_desk, "MIN_LOOK_SEC", 3600.0)
    press(page, "Exclude")
    assert not log_path(planted.archive, 0).exists()


def test_a_file_with_a_fault_is_told_and_left_alone(page, planted):
    press(page, "Exclude")
    path = log_path(planted.archive, 0)
    broken = path.read_text().replace('"exclude"', '"delete"')
    path.write_text(broken)
    page.run()
    assert "line 2 is not as it was written" in page.error[0].value and not page.button
    assert path.read_text() == broken


def test_a_cut_row_is_told(page, planted):
    press(page, "Exclude")
    path = log_path(planted.archive, 0)
    path.write_bytes(path.read_bytes() + b'{"number": 2, "ti')
    page.run()
    assert "was cut off while it was written" in page.warning[0].value
    press(page, "Exclude")
    assert len(rows_of(planted)) == 2


def test_a_model_of_another_fold_is_told_and_not_asked(planted, open_page):
    page = open_page(archive=planted.archive, split=planted.split, model=planted.run, fold=1)
    assert "expected a model of fold 1" in page.warning[0].value
    assert 'role="meter"' not in html_of(page)


def test_a_model_that_has_learned_all_labels_by_heart_is_told(planted, open_page, monkeypatch):
    from scripts.app import review

    page = open_page(archive=planted.archive, split=planted.split, model=planted.run)
    assert not page.info  # this one has not learned the wrong ones
    monkeypatch.setattr(review, "BY_HEART", 0.5)
    assert "has learned them by heart" in page.run().info[0].value


def test_a_folder_that_cannot_be_written_is_told(page, planted, monkeypatch):
    from extract import review_log

    def refuse(path, text):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(review_log, "create_file", refuse)
    first = shown_name(page)
    press(page, "Exclude")
    assert "make the folder writable" in page.error[0].value and shown_name(page) == first


def test_several_splits_beside_the_archive_are_a_sentence(planted, open_page, tmp_path):
    archive = Path(shutil.copy(planted.archive, tmp_path / "planted.zip"))
    for name in ("planted.split.json", "planted.b.split.json"):
        shutil.copy(planted.split, tmp_path / name)
    page = open_page(archive=archive)
    assert "name it with --split SPLIT.json" in page.error[0].value and not page.button


def test_whoever_decided_last_is_asked_whether_it_is_they_again(page, planted, open_page):
    press(page, "Keep")
    again = open_page(archive=planted.archive, split=planted.split, model=planted.run)
    assert next(button for button in again.button if button.label == "Keep").disabled
    press(again, "I am Ann")
    press(again, "Keep")
    assert [row.author for row in rows_of(planted)] == ["Ann", "Ann"]


def test_another_name_can_be_given(page, planted):
    press(page, "Keep")
    press(page, "Ann")
    page.text_input[0].set_value("Bea").run()
    press(page, "Keep")
    assert [row.author for row in rows_of(planted)] == ["Ann", "Bea"]


def test_the_page_speaks_spanish(planted, open_page):
    page = open_page(archive=planted.archive, split=planted.split, model=planted.run, language="es")
    labels = {button.label for button in page.button}
    assert {"Dejar", "Excluir", "Deshacer", "Anterior", "Siguiente"} <= labels
    assert "Etiqueta: " in html_of(page)


def test_without_a_model_torch_is_not_imported(tmp_path, planted):
    code = (
        "import sys\nfrom pathlib import Path\nfrom streamlit.testing.v1 import AppTest\n"
        "from scripts.app.settings import AppSettings, use_settings\n"
        f"use_settings(AppSettings(archive=Path({str(planted.archive)!r})))\n"
        f"page = AppTest.from_string({PAGE!r}, default_timeout=60).run()\n"
        "assert not page.exception\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
