"""The page Audit by Streamlit's own test harness: a whole audit, its pauses, faults and result."""

import json
import re
import shutil

import pytest

pytest.importorskip("streamlit", reason='needs the extra: pip install "synthlabel[app]"')

from streamlit.testing.v1 import AppTest

from extract.atomic import replace_file
from scripts.app import audit_draw, audit_reading, audit_state
from scripts.app.audit_reading import class_keys, none_key
from scripts.app.settings import AppSettings, check_settings, use_settings
from semisup import audit_sheet
from semisup.audit import import_audit, read_audit
from semisup.audit_export import export_audit
from semisup.audit_key import read_keys
from semisup.audit_reading import draw_in_study, list_exports, reader_sheets, sheet_of
from semisup.audit_sheet import read_answers, record_answer
from semisup.audit_statistics import NONE_OF_THESE, Answer
from semisup.errors import StudyError
from semisup.folders import read_json, write_json
from semisup.ledger import read_ledger
from tests.semisup.study_folder import FakeStudy, make_study

SMALL = FakeStudy(num_subjects=18, folds=(0, 1), seeds=(0,), fractions=(0.2,), image_size=16)
CLASSES = ("coronal", "noise", "sagittal")
NUM = 20


def audit_page() -> None:
    """What the server runs for this page, without the frame."""
    from scripts.app import audit
    from scripts.app.settings import current_settings

    audit.show(current_settings())


@pytest.fixture(scope="session")
def audited(tmp_path_factory):
    """A study with a small sample."""
    study = make_study(tmp_path_factory.mktemp("audited") / "study", SMALL)
    draw_in_study(study, 12, num_bands=1)
    return study


@pytest.fixture
def study(audited, tmp_path):
    return shutil.copytree(audited, tmp_path / "study")


@pytest.fixture
def export(study):
    return list_exports(study)[0]


@pytest.fixture
def open_page(monkeypatch):
    """Opens the page anew: another visitor, or the same one after the browser was closed."""
    monkeypatch.setattr(audit_reading, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(audit_draw, "COMPARED", (20,))

    def open_with(**settings) -> AppTest:
        use_settings(AppSettings(**settings))
        page = AppTest.from_function(audit_page, default_timeout=60).run()
        assert not page.exception
        return page

    yield open_with
    use_settings(AppSettings())


def labels(page: AppTest) -> list[str]:
    return [button.label for button in page.button]


def press(page: AppTest, begin: str) -> AppTest:
    (button,) = [button for button in page.button if button.label.startswith(begin)]
    button.click().run()
    assert not page.exception
    return page


def begin(page: AppTest, name: str, button: str = "Read it") -> AppTest:
    page.text_input(key="audit.name").set_value(name).run()
    return press(page, button)


def text_of(page: AppTest) -> str:
    """Everything that the browser is sent, but the pixels."""
    parts = [f"{element}" for kind in ("html",) for element in (one.proto.body for one in page.get(kind))]
    for kind in ("markdown", "caption", "info", "warning", "error", "success", "code"):
        parts += [element.value for element in page.get(kind)]
    parts += [element.proto.text for element in page.get("progress")]
    parts += [f"{element.label} {element.key} {element.help}" for element in page.button]
    return re.sub(r"base64,[A-Za-z0-9+/=]+|<style>.*?</style>", "", "\n".join(parts), flags=re.DOTALL)


def shown_code(page: AppTest) -> str:
    return next(button.key.split(".")[2] for button in page.button if button.key.startswith("audit.class."))


def fill(export, name: str, num: int | None = None, label=lambda code: "noise"):
    """Answers that were given before."""
    sheet = sheet_of(export, name)
    for code in export.codes[:num]:
        record_answer(sheet, export.sample, code, label(code))
    return sheet


def finish(page: AppTest, choose=lambda code: 0) -> AppTest:
    """Answer everything that is left; `choose` gives the number of the class."""
    for _ in range(NUM + 1):
        if "Show the result" in labels(page):
            return page
        press(page, CLASSES[choose(shown_code(page))])
    raise AssertionError("no end")


# A whole audit ------------------------------------------------------------------------------------


def test_without_a_study_the_page_says_how_to_name_one(open_page):
    page = open_page()
    assert "synthlabel app --study DIR" in page.info[0].value and not page.button


def test_a_sample_is_drawn_and_read_to_the_end_and_the_numbers_are_the_command_s(open_page, study, tmp_path):
    shutil.rmtree(study / "audits")
    page = open_page(study=study)
    page.text_input(key="audit.name").set_value("Ana").run()
    page.number_input[0].set_value(NUM).run()
    assert any("at most **" in text.value and "20 images take" in text.value for text in page.markdown)
    press(page, "Draw and begin")
    (export,) = list_exports(study)
    assert export.folder.name == "sample-1" and len(read_keys(study)[0]["rows"]) == NUM
    seen = []
    finish(page, lambda code: seen.append(code) or len(seen) % 3)
    assert seen == export.codes  # each once, in the order of the sheet
    assert read_audit(study) is None  # nothing before it is asked for
    press(page, "Show the result")
    on_page = read_audit(study)
    (study / "audit.json").unlink()
    summary = import_audit(study, [export.folder / "labels-Ana.csv"])
    assert read_audit(study) == on_page
    words = text_of(page)
    for (arm, _), estimate in summary.result.readers[0].by_arm.items():
        (said,) = [line for line in words.splitlines() if f"**{arm}**".replace("_", r"\_") in line]
        assert f"**{100 * estimate.value:.1f}\u00a0%**" in said and "at 20 %" in said
        assert f"at most **{100 * estimate.high:.1f}\u00a0%**" in said
        assert f"({estimate.num_errors} wrong of {estimate.num_read} read)" in said
    whole = summary.result.readers[0].error_if_unsure_wrong
    (said,) = [line for line in words.splitlines() if "Of **all** pseudo-labels" in line]
    assert f"at most **{100 * whole.high:.1f}\u00a0%**" in said and whole.num_read == NUM
    confusion = [int(cell) for cell in re.findall(r"<td class=\"\w+\">(\d+)</td>", words)]
    assert confusion == summary.result.readers[0].confusion.ravel().tolist()
    assert f"synthlabel semisup report --outdir {study}" in words
    press(page, "Back to the samples")
    assert "Result of Ana" in labels(page)


def test_after_a_closed_tab_the_reading_goes_on_where_it_stood(open_page, study, export):
    page = begin(open_page(study=study), "Ana")
    for _ in range(3):
        press(page, "noise")
    page = open_page(study=study)  # the first was never closed or paused
    assert [one.proto.text for one in page.get("progress")] == [f"Ana: 3 of {len(export.codes)}"]
    press(page, "Go on as Ana")
    assert shown_code(page) == export.codes[3]
    press(page, "Pause")
    assert "3 answers of Ana are saved" in page.success[0].value
    page = begin(page, "ana", "Read it as a second reader")  # the same name: the same sheet
    assert shown_code(page) == export.codes[3]


def test_a_sheet_begun_by_spreadsheet_is_finished_here(open_page, study, export):
    for code in export.codes[:3]:
        record_answer(export.folder / "labels.csv", export.sample, code, "noise")
    page = press(open_page(study=study), "Go on as the sheet that was handed out")
    press(page, "coronal")
    answers = read_answers(export.folder / "labels.csv", export.sample)
    assert [answers[code].label for code in export.codes[:4]] == [1, 1, 1, 0]


def test_an_export_of_the_command_is_read_on_the_page(open_page, study, tmp_path):
    export_audit(study, tmp_path / "hand-out", num=40)
    settings = AppSettings(study=study, audit=tmp_path / "hand-out")
    check_settings(settings)
    page = open_page(study=study, audit=tmp_path / "hand-out")
    assert any("hand-out" in text.value for text in page.markdown)
    page.text_input(key="audit.name").set_value("Ana").run()
    page.button[0].click().run()
    press(page, "sagittal")
    handed = list_exports(study, tmp_path / "hand-out")[0]
    assert reader_sheets(handed)[0].path == tmp_path / "hand-out" / "labels-Ana.csv"


def test_answers_may_be_none_unsure_or_leaning_with_a_comment(open_page, study, export):
    page = begin(open_page(study=study), "Ana")
    codes = export.codes
    press(page, "None of these")
    press(page, "I cannot tell")
    press(page, "Not sure, but")
    press(page, "noise")
    page.text_input(key=f"audit.comment.{codes[3]}").set_value("half\tcut").run()
    press(page, "sagittal")
    press(page, "Not sure, but")
    press(page, "Not sure, but")  # and not
    press(page, "coronal")
    assert read_answers(sheet_of(export, "Ana"), export.sample) == {
        codes[0]: Answer(NONE_OF_THESE),
        codes[1]: Answer(None, True),
        codes[2]: Answer(1, True),
        codes[3]: Answer(2, False, "half cut"),
        codes[4]: Answer(0),
    }


def test_back_shows_the_answer_and_corrects_it(open_page, study, export):
    page = begin(open_page(study=study), "Ana")
    codes = export.codes
    assert next(button for button in page.button if button.label == "Back").disabled
    page.text_input(key=f"audit.comment.{codes[0]}").set_value("bright").run()
    press(page, "noise")
    press(page, "coronal")
    press(press(page, "Back"), "Back")
    assert shown_code(page) == codes[0]
    assert page.text_input(key=f"audit.comment.{codes[0]}").value == "bright"
    icons = {button.label: button.proto.icon for button in page.button}
    assert icons["noise"] and not icons["coronal"] and not icons["sagittal"]
    press(page, "sagittal")
    assert shown_code(page) == codes[2]  # on to the first without an answer
    assert list(read_answers(sheet_of(export, "Ana"), export.sample).values())[:2] == [
        Answer(2, False, "bright"),
        Answer(0),
    ]
    press(page, "Back")
    press(page, "Onwards")  # nothing changed
    assert shown_code(page) == codes[2] and len(read_answers(sheet_of(export, "Ana"), export.sample)) == 2
    fill(export, "Ana", -1)
    finish(press(page, "Back"))
    press(page, "Back")
    assert shown_code(page) == codes[-1]


def test_a_held_key_answers_no_picture_that_nobody_has_seen(open_page, study, export, monkeypatch):
    page = begin(open_page(study=study), "Ana")
    monkeypatch.setattr(audit_reading, "MIN_SECONDS", 60.0)
    press(page, "noise")
    assert shown_code(page) == export.codes[0] and not sheet_of(export, "Ana").exists()


def test_a_late_click_on_the_last_picture_does_not_answer_this_one(open_page, study, export):
    page = begin(open_page(study=study), "Ana")
    late = next(button for button in page.button if button.label == "noise")
    press(page, "coronal")
    late.click()
    page.run()
    answers = read_answers(sheet_of(export, "Ana"), export.sample)
    assert set(answers) == {export.codes[0]} and shown_code(page) == export.codes[1]


# Blinded ------------------------------------------------------------------------------------------


def test_nothing_tells_what_a_picture_was_taken_for(open_page, study, export):
    """Neither words nor keys nor order; texts are the same for all pictures but the number and the code."""
    key = read_keys(study)[0]
    page = begin(open_page(study=study), "Ana")
    seen = {}
    while "Show the result" not in labels(page):
        code, words = shown_code(page), text_of(page)
        for word in ("pseudo_", "pseudo\\_", "supervised", "confidence", "round", "stratum", *key["runs"]):
            assert word not in words, word
        for name in CLASSES:
            assert words.count(name) == 1  # on its button alone
        plainer = re.sub(r"Image \d+", "Image", words.replace(code, "CODE"))
        seen[code] = re.sub(r" · about .* left", "", plainer)
        press(page, "noise")
    assert list(seen) == export.codes
    first, *others = seen.values()
    assert {text.replace("disabled", "") for text in others} == {first}


def test_the_pictures_of_the_page_are_those_of_the_export_and_carry_nothing_else(open_page, study, export):
    import base64

    page = begin(open_page(study=study), "Ana")
    (html,) = [one.proto.body for one in page.get("html") if "<img" in one.proto.body]
    data = base64.b64decode(re.search(r"base64,([^\"]+)", html).group(1))
    assert data == (export.folder / "images" / f"{export.codes[0]}.png").read_bytes()
    assert 'alt="Image 1"' in html and 'src="data:image/png' in html


def test_brightness_changes_the_picture_and_no_record(open_page, study, export):
    page = begin(open_page(study=study), "Ana")
    page.slider(key="audit.brightness").set_value(150).run()
    page.toggle[0].set_value(False).run()
    (html,) = [one.proto.body for one in page.get("html") if "<img" in one.proto.body]
    assert "brightness(150%)" in html and 'class="pixels"' in html
    assert not sheet_of(export, "Ana").exists()
    press(page, "noise")
    assert "brightness(150%)" in text_of(page)  # it stays for the next


# Two readers, and earlier results -------------------------------------------------------------------


def test_two_readers_get_their_agreement_and_both_are_recorded(open_page, study, export):
    for name, divisor in (("Ana", 1), ("Luis", 2)):

        def chosen(code: str, divisor: int = divisor) -> int:
            return (export.codes.index(code) // divisor) % 3

        fill(export, name, -2, lambda code: CLASSES[chosen(code)])
        page = finish(press(open_page(study=study), f"Go on as {name}"), chosen)
        press(page, "Show the result")
        assert ("Agreement with Ana" in text_of(page)) == (name == "Luis")
    audit = read_audit(study)
    assert len(audit["readers"]) == 2
    (pair,) = audit["agreements"]
    said = next(text.value for text in page.markdown if text.value.startswith("You name the same"))
    assert f"{100 * pair['agreement']:.1f}" in said and f"Kappa {pair['kappa']:.2f}" in said


def test_an_unfinished_second_reader_does_not_touch_the_result(open_page, study, export):
    fill(export, "Ana")
    fill(export, "Luis", 3)
    press(open_page(study=study), "Result of Ana")
    assert len(read_audit(study)["readers"]) == 1


def test_an_early_end_gives_the_result_of_what_was_read(open_page, study, export):
    fill(export, "Ana", 9)
    page = press(open_page(study=study), "Show the result of 9 images")
    assert f"9 of {len(export.codes)} images were read" in text_of(page)
    assert read_audit(study)["readers"][0]["num_answered"] == 9


def test_the_result_of_another_sample_is_replaced_only_when_asked(open_page, study, export):
    draw_in_study(study, 30, num_bands=1)
    other = list_exports(study)[1]
    import_audit(study, [fill(other, "Eva")])
    before = (study / "audit.json").read_bytes()
    fill(export, "Ana")
    page = press(open_page(study=study), "Result of Ana")
    assert "holds the result of another sample" in page.warning[0].value
    assert (study / "audit.json").read_bytes() == before
    press(page, "Replace the earlier result")
    assert read_audit(study)["export"] == export.export and not page.warning
    page.run()
    assert not page.warning


def test_readers_whose_sheets_are_elsewhere_are_forgotten_only_when_asked(open_page, study, export, tmp_path):
    elsewhere = fill(export, "Luis").rename(tmp_path / "luis.csv")
    import_audit(study, [fill(export, "Ana"), elsewhere])
    page = press(open_page(study=study), "Result of Ana")
    assert "readers whose sheets are not here" in page.warning[0].value
    assert len(read_audit(study)["readers"]) == 2


def test_who_has_seen_the_result_corrects_nothing(open_page, study, export):
    fill(export, "Ana")
    page = begin(open_page(study=study), "Ana", "Read it as")
    assert "Back" in labels(page)  # finished, and not looked at yet
    press(page, "Show the result")
    page = begin(open_page(study=study), "Ana", "Read it as")
    assert "Back" not in labels(page) and "Back to the samples" in labels(page)


def test_looking_at_a_result_twice_writes_once(open_page, study, export):
    fill(export, "Ana")
    press(open_page(study=study), "Result of Ana")
    before = (study / "audit.json").stat()
    press(open_page(study=study), "Result of Ana")
    assert (study / "audit.json").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("wanted", "said", "asked"),
    [
        (None, "does not ask for more", ""),
        ({"required": True}, "and this is it: the report has its headline", "asks for an audit before"),
        (
            {"required": True, "max_error": 0.99},
            "The report has its headline.",
            "without a single error that",
        ),
        ({"required": True, "max_error": 0.01}, "can only promise", "without a single error that"),
    ],
)
def test_what_it_means_for_the_report_is_told(open_page, study, export, wanted, said, asked):
    write_json(study / "study.json", {**read_json(study / "study.json"), "audit": wanted})
    key = read_keys(study)[0]
    for row in key["rows"]:
        record_answer(sheet_of(export, "Ana"), export.sample, row["code"], CLASSES[row["predicted"]])
    page = open_page(study=study)
    assert asked in " ".join(info.value for info in page.info).casefold() or asked in text_of(page)
    press(page, "Result of Ana")
    assert said in text_of(page)


# Faults -------------------------------------------------------------------------------------------


def test_a_reader_gives_a_name_first(open_page, study):
    page = press(open_page(study=study), "Read it")
    assert "name or initials" in page.error[0].value and "Read it" in labels(page)
    page = press(open_page(study=study), "Draw and begin")
    assert "name or initials" in page.error[0].value and len(list_exports(study)) == 1


def test_a_study_without_pseudo_labels_is_told(open_page, study):
    shutil.rmtree(study / "audits")
    for path in study.glob("runs/*/ledger.parquet"):
        path.unlink()
    page = open_page(study=study)
    assert "There are no pseudo-labels to read yet" in page.info[0].value
    assert "Draw and begin" not in labels(page)


def test_a_running_study_is_told(open_page, study):
    run = next(
        path for path in study.glob("runs/*/run.json") if read_json(path)["arm"] == "pseudo_gan_full"
    ).parent
    shutil.rmtree(run)
    page = open_page(study=study)
    assert "The study is not finished" in page.warning[0].value and "Draw and begin" in labels(page)


def test_a_study_that_changed_since_the_draw_is_told_before_the_reading(open_page, study):
    ledger = study / "runs" / next(iter(read_keys(study)[0]["ledgers"])) / "ledger.parquet"
    read_ledger(ledger).iloc[::-1].to_parquet(ledger, index=False)
    page = begin(open_page(study=study), "Ana")
    assert "expected the ledger as it was" in page.error[0].value
    assert str(study) not in page.error[0].value  # no folder of this machine


def test_a_damaged_key_is_told(open_page, study, export):
    path = study / "audits" / f"{export.export}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seed": 9}))
    page = open_page(study=study)
    assert f"{export.export}.json: expected the key of an audit" in page.error[0].value.replace("\\", "")


def test_a_sample_without_its_key_is_named_and_others_go_on(open_page, study, export):
    (study / "audits" / f"{export.export}.json").unlink()
    page = open_page(study=study)
    assert "sample-1: this sample cannot be read" in page.warning[0].value
    assert "Draw and begin" in labels(page)


def test_a_damaged_sheet_is_told_with_its_rows(open_page, study, export):
    (export.folder / "labels-Ana.csv").write_text(f"code,label\n{export.codes[0]},banana\n")
    page = open_page(study=study)
    assert "Ana: this sheet cannot be read." in page.error[0].value
    assert "line 2: 'banana' is no class" in page.text[0].value and str(study) not in page.text[0].value


def test_a_sheet_that_is_damaged_while_it_is_read_is_told_and_left_alone(open_page, study, export):
    page = press(begin(open_page(study=study), "Ana"), "noise")
    sheet = sheet_of(export, "Ana")
    sheet.write_bytes(b"\x00\x01 nothing")
    press(page, "noise")
    assert "labels-Ana.csv: expected a CSV table" in page.error[0].value.replace("\\", "")
    assert sheet.read_bytes() == b"\x00\x01 nothing" and "Pause" in labels(page)


def test_a_damaged_picture_is_told(open_page, study, export):
    (export.folder / "images" / f"{export.codes[0]}.png").write_bytes(b"no")
    page = begin(open_page(study=study), "Ana")
    assert "expected the picture as it was exported" in page.error[0].value and "Pause" in labels(page)


@pytest.fixture
def read_only(monkeypatch):
    """Every atomic write of these modules fails as on a read-only disk."""
    import errno
    from contextlib import contextmanager

    @contextmanager
    def refuse(path, **_):
        raise OSError(errno.EROFS, "Read-only file system", str(path))
        yield

    def switch() -> None:
        for module in ("semisup.audit_sheet.replace_file", "extract.atomic.replace_file"):
            monkeypatch.setattr(module, refuse)
        monkeypatch.setattr("semisup.audit_export.replace_folder", refuse)

    assert audit_sheet.replace_file is replace_file
    return switch


def test_a_read_only_study_is_a_sentence_and_nothing_seems_saved(open_page, study, export, read_only):
    page = press(begin(open_page(study=study), "Ana"), "noise")
    read_only()
    press(page, "coronal")
    assert "cannot be read or written (Read-only file system)" in page.error[0].value
    assert shown_code(page) == export.codes[1]  # the picture stays until its answer is on the disk
    assert len(read_answers(sheet_of(export, "Ana"), export.sample)) == 1


def test_a_read_only_study_shows_the_result_and_says_that_it_is_not_recorded(
    open_page, study, export, read_only
):
    fill(export, "Ana")
    read_only()
    page = press(open_page(study=study), "Result of Ana")
    assert "cannot be read or written" in page.error[0].value and "are wrong by this reading" in text_of(page)
    page = begin(open_page(study=study), "Eva", "Draw and begin")
    assert "cannot be read or written" in page.error[0].value


def test_what_is_named_on_the_command_line_is_looked_at_first(study, tmp_path):
    with pytest.raises(StudyError, match="expected a folder that `semisup audit export"):
        check_settings(AppSettings(study=study, audit=tmp_path))
    with pytest.raises(ValueError, match=r"--audit .*: expected its study with it, got none; add --study"):
        check_settings(AppSettings(audit=tmp_path))


# Keys and words -----------------------------------------------------------------------------------


def test_keys_are_the_numbers_of_the_sheet_unless_classes_are_numbers():
    assert class_keys(["a", "b"]) == ["1", "2"] and none_key(["a", "b"]) == "0"
    assert class_keys([f"c{k}" for k in range(11)]) == [*"123456789", None, None]
    assert class_keys(["0", "1"]) == ["0", "1"] and none_key(["0", "1"]) is None
    assert class_keys(["10", "3"]) == [None, "3"] and none_key(["10", "3"]) == "0"


def test_the_keys_stand_on_the_buttons(open_page, study):
    page = begin(open_page(study=study), "Ana")
    keys = {button.label: button.proto.shortcut for button in page.button}
    assert [keys[name] for name in CLASSES] == ["1", "2", "3"]
    assert {"0", "x", "n", "b", "p"} <= set(keys.values())


def test_folders_of_the_machine_are_left_out():
    said = audit_state.without_folders(
        "/home/me/study/audits/a.json: expected 3/4, see `x --dest /mnt/b c/d`"
    )
    assert said == "a.json: expected 3/4, see `x --dest b c/d`"


def test_the_whole_audit_speaks_spanish(open_page, study, export):
    page = open_page(study=study, language="es")
    page.text_input(key="audit.name").set_value("Ana").run()
    press(page, "Leerla")
    assert {"Ninguna, o imagen inservible", "No puedo decirlo", "Atrás", "Pausa"} <= set(labels(page))
    fill(export, "Ana", -1)
    press(page, "noise")
    press(page, "noise")
    words = text_of(press(page, "Ver el resultado"))
    assert "son erróneas según esta lectura" in words and "Qué significa para el informe" in words
    assert not re.search(r"\b(the|are|images|reading)\b", words), words
