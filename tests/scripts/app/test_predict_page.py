"""The page Predict by Streamlit's own test harness: its logic, without a browser."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("streamlit", reason='needs the extra: pip install "synthlabel[app]"')

from streamlit.testing.v1 import AppTest

from extract.archive import open_archive
from scripts.app import server
from scripts.app.model_card import card_rows
from scripts.app.models import begin_features, begin_loading
from scripts.app.parts import plain, probability_bars
from scripts.app.settings import AppSettings, use_settings
from tests.classifier.uploaded import as_png


@pytest.fixture
def open_page():
    """Opens the page with some settings."""

    def open_with(**settings) -> AppTest:
        use_settings(AppSettings(**settings))
        page = AppTest.from_file(str(server.SCRIPT), default_timeout=60).run()
        assert not page.exception
        return page

    yield open_with
    use_settings(AppSettings())


def html_of(page: AppTest) -> str:
    return " ".join(element.proto.body for element in page.get("html"))


def give(page: AppTest, *paths: Path, extra=()) -> AppTest:
    files = [(path.name, path.read_bytes(), "application/octet-stream") for path in paths]
    page.file_uploader[0].set_value([*files, *extra]).run()
    assert not page.exception
    return page


def test_without_a_model_the_page_says_how_to_name_one(open_page):
    page = open_page()
    assert "synthlabel app --model RUN" in page.info[0].value
    assert not page.file_uploader


def test_before_any_file_the_card_is_open(open_page, phantom_model):
    page = open_page(model=phantom_model.run)
    words = html_of(page)
    assert "For research only." in words and "nothing here is a diagnosis" in words
    assert "small_resnet" in words and "coronal, noise, sagittal" in words
    assert page.file_uploader[0].label.startswith("Images (PNG")


def test_a_picture_shows_class_bars_and_grad_cam(open_page, phantom_model):
    page = give(open_page(model=phantom_model.run), phantom_model.pictures[0])
    words = html_of(page)
    assert 'class="sl-decision' in words and words.count('role="meter"') == 3
    assert len(page.get("image")) == 2
    assert {widget.label for widget in page.slider} == {"Opacity of the heat map"}
    page.slider[0].set_value(0).run()
    page.selectbox[0].set_value("noise").run()
    assert not page.exception and len(page.get("image")) == 2


def test_a_low_limit_of_the_model_says_not_sure(open_page, phantom_model, monkeypatch):
    from classifier import decision

    real = decision.read_decision(phantom_model.run)
    strict = type(real)(**{**real.__dict__, "reject_confidence": 1.01})
    monkeypatch.setattr(decision, "read_decision", lambda run: strict)
    page = give(open_page(model=phantom_model.run), phantom_model.pictures[0])
    assert "sl-decision unsure" in html_of(page) and "not sure" in html_of(page)
    assert "Most probable is" in html_of(page)


def test_a_volume_has_planes_and_a_slider_of_its_slices(open_page, phantom_model):
    page = give(open_page(model=phantom_model.run), phantom_model.volume)
    labels = [widget.label for widget in page.selectbox]
    assert labels == ["Plane", "What speaks for"]
    (slices,) = (widget for widget in page.slider if widget.label == "Slice")
    assert (slices.min, slices.max) == (1, 5)
    first = page.get("image")[0].proto.imgs[0].url
    slices.set_value(5).run()
    assert not page.exception and page.get("image")[0].proto.imgs[0].url != first
    assert any("whole volume, 10 slices" in caption.value for caption in page.caption)


def test_several_files_are_chosen_by_name(open_page, phantom_model):
    page = give(open_page(model=phantom_model.run), *phantom_model.pictures[:3])
    files = page.selectbox[0]
    assert files.label == "File" and files.options[2].endswith(phantom_model.pictures[2].name)
    files.select_index(2).run()
    assert not page.exception


def test_bad_files_are_sentences_and_the_good_one_is_shown(open_page, phantom_model):
    extra = [("tool.png", b"MZ" + bytes(50), "image/png"), ("x_[y](z)*.exe", b"MZ", "a/b")]
    page = give(open_page(model=phantom_model.run), phantom_model.pictures[0], extra=extra)
    (fault,) = page.error
    assert fault.value.startswith("2 files could not be used:")
    assert "expected a whole picture" in fault.value and "Traceback" not in fault.value
    assert plain("x_[y](z)*.exe") in fault.value
    assert 'class="sl-decision' in html_of(page)


def test_only_bad_files_leave_the_card(open_page, phantom_model):
    page = give(open_page(model=phantom_model.run), extra=[("a.png", b"no", "image/png")])
    assert page.error[0].value.startswith("This file could not be used:")
    assert 'class="sl-decision' not in html_of(page)


def test_the_switch_turns_the_page_to_spanish_and_keeps_the_files(open_page, phantom_model):
    page = give(open_page(model=phantom_model.run), phantom_model.pictures[0])
    page.segmented_control[0].set_value("es").run()
    assert not page.exception
    words = html_of(page)
    assert "Solo para investigación." in words and 'class="sl-decision' in words
    assert "Opacidad del mapa de calor" in [widget.label for widget in page.slider]
    assert "For research" not in words


def test_the_language_to_begin_with_comes_from_the_command(open_page, phantom_model):
    assert "Solo para investigación." in html_of(open_page(model=phantom_model.run, language="es"))


def test_where_files_go_is_told_as_it_is(open_page):
    assert "Everything stays on this computer." in html_of(open_page())
    assert "the computer that runs this page, unencrypted" in html_of(open_page(is_local=False))


def test_the_nearest_training_images_are_named(open_page, phantom_model):
    begin_features(phantom_model.run, phantom_model.archive).result.result(timeout=60)
    page = open_page(model=phantom_model.run, archive=phantom_model.archive)
    page = give(page, phantom_model.pictures[0])
    assert any("Nearest training images" in text.value for text in page.markdown)
    shown = [text.value for text in page.markdown if "phantom" in text.value]
    assert len(shown) >= 2 and len(set(shown)) == len(shown)


def test_an_image_of_the_training_part_is_told_as_such(open_page, phantom_model, tmp_path):
    job = begin_features(phantom_model.run, phantom_model.archive)
    row = int(job.result.result(timeout=60).rows[0])
    with open_archive(phantom_model.archive) as archive:
        picture = as_png(archive.read_image(row)[0])
    page = open_page(model=phantom_model.run, archive=phantom_model.archive)
    page = give(page, extra=[("known.png", picture, "image/png")])
    assert any("among the training images" in warning.value for warning in page.warning)
    page = give(page, phantom_model.pictures[0])
    assert not any("among the training images" in warning.value for warning in page.warning)


def test_another_archive_is_told_and_nothing_is_shown(open_page, phantom_model, tmp_path):
    other = tmp_path / "other.zip"
    other.write_bytes(phantom_model.archive.read_bytes() + b"\n")
    job = begin_features(phantom_model.run, other)
    assert job.result.exception(timeout=60) is not None
    page = give(open_page(model=phantom_model.run, archive=other), phantom_model.pictures[0])
    assert any("expected the archive that the model was trained on" in info.value for info in page.info)


def test_a_color_picture_for_a_gray_model_is_remarked_on(open_page, phantom_model):
    colors = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    page = give(open_page(model=phantom_model.run), extra=[("c.png", as_png(colors), "image/png")])
    assert any("in color" in info.value for info in page.info)


def test_a_model_that_cannot_be_loaded_is_a_sentence(open_page, phantom_model, tmp_path):
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(phantom_model.run, broken)
    (broken / "model.safetensors").write_bytes(b"nothing")
    page = give(open_page(model=broken), phantom_model.pictures[0])
    assert page.error and "model.safetensors" in page.error[0].value


def test_a_model_is_loaded_once_until_it_changes(phantom_model):
    import os

    first = begin_loading(phantom_model.run)
    assert begin_loading(phantom_model.run) is first
    os.utime(phantom_model.run / "model.json")
    assert begin_loading(phantom_model.run) is not first


def test_bars_escape_names_and_mark_the_limit():
    drawn = probability_bars({"<b>": 0.2, "other": 0.8}, 0.75, 'a "line"')
    assert "&lt;b&gt;" in drawn and "<b>" not in drawn
    assert drawn.index("other") < drawn.index("&lt;b&gt;")
    assert "left:75.00%" in drawn and "a &quot;line&quot;" in drawn


def test_what_was_chosen_for_one_picture_does_not_hold_for_the_next(open_page, phantom_model):
    page = give(open_page(model=phantom_model.run), phantom_model.pictures[0])
    given = page.selectbox[0].value
    other = next(name for name in page.selectbox[0].options if name != given)
    page.selectbox[0].set_value(other).run()
    page = give(page, phantom_model.pictures[0])
    assert page.selectbox[0].value == given


def test_the_shared_network_is_used_by_one_visitor_at_a_time(open_page, phantom_model, monkeypatch):
    from classifier import explain
    from scripts.app import predict
    from scripts.app.models import at_work

    held = []

    def noting(function):
        def noted(*given, **named):
            held.append(at_work._is_owned())
            return function(*given, **named)

        return noted

    monkeypatch.setattr(explain, "explain_images", noting(explain.explain_images))
    monkeypatch.setattr(predict, "judge_uploads", noting(predict.judge_uploads))
    give(open_page(model=phantom_model.run), phantom_model.pictures[1])
    assert held == [True, True]


def test_the_card_of_a_model_that_was_trained_again_is_the_new_one(phantom_model, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(phantom_model.run, run)
    before = dict(card_rows(run))
    description = json.loads((run / "model.json").read_text())
    description["subjects"]["train"] = description["subjects"]["train"][:1]
    (run / "model.json").write_text(json.dumps(description))
    os.utime(run / "model.json", ns=(0, 12345))
    after = dict(card_rows(run))
    assert before.keys() == after.keys() and before != after
