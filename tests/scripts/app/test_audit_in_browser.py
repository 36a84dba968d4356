"""The page Audit in a real browser: twenty images to the end by keyboard, in Spanish, on a tablet, blinded.

`make test-browser` runs these; `SYNTHLABEL_SCREENSHOTS=docs/images` also writes the documents' pictures.
"""

import re
import shutil

import pytest

from semisup.audit import read_audit
from semisup.audit_key import read_keys
from semisup.audit_reading import draw_in_study, list_exports, sheet_of
from semisup.audit_sheet import read_answers, record_answer
from tests.scripts.app.browsing import SCREENS, Visit, in_browser, save_picture, serve, visit_page
from tests.semisup.study_folder import FakeStudy, make_study

pytestmark = in_browser

PICTURE = ".sl-audit-picture img"
PHANTOMS = FakeStudy(num_subjects=18, folds=(0, 1), seeds=(0,), fractions=(0.2,), image_size=64)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("audited") / "study", PHANTOMS)


@pytest.fixture(scope="module")
def study(made, tmp_path_factory):
    return shutil.copytree(made, tmp_path_factory.mktemp("browser-audit") / "study")


@pytest.fixture(scope="module")
def address(study, tmp_path_factory):
    with serve(["--study", str(study)], tmp_path_factory.mktemp("served") / "home") as address:
        yield address


@pytest.fixture
def visit(browser, address, request):
    """The page Audit as a visitor gets there, from the first page."""
    with visit_page(browser, address, "Audit", getattr(request, "param", "laptop")) as visit:
        visit.page.get_by_role("heading", name="Audit", exact=True).wait_for()
        yield visit


def name_reader(visit: Visit, name: str) -> None:
    field = visit.page.get_by_test_id("stTextInputField")
    field.fill(name)
    field.press("Enter")
    visit.settle()


def source(visit: Visit) -> str:
    picture = visit.page.locator(PICTURE)
    picture.wait_for()
    return picture.get_attribute("src") or ""


def press_on(visit: Visit, key: str) -> None:
    """Press a key once the picture has been looked at, and wait for what follows it."""
    before = source(visit)
    visit.page.wait_for_timeout(350)
    visit.page.keyboard.press(key)
    visit.page.wait_for_function(
        "([query, old]) => document.querySelector(query)?.getAttribute('src') !== old", arg=[PICTURE, before]
    )


def nothing_sticks_out(visit: Visit) -> bool:
    width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return visit.page.evaluate(width) <= 0


def test_twenty_images_are_audited_to_the_end_by_keyboard(visit, study):
    name_reader(visit, "Ana")
    number = visit.page.get_by_role("spinbutton", name="Number of images")
    number.fill("20")
    number.press("Enter")
    visit.page.get_by_text("20 images take about").wait_for()
    visit.page.get_by_role("button", name="Draw and begin").click()
    source(visit)
    (export,) = list_exports(study)
    sheet = sheet_of(export, "Ana")
    total = len(export.codes)
    visit.settle()
    box = visit.page.locator(PICTURE).bounding_box()
    assert min(box["width"], box["height"]) >= 320
    chosen = visit.page.get_by_role("radio", checked=True)
    assert [one.inner_text() for one in chosen.all()] == ["English"]
    for button in ("coronal", "sagittal", "None of these", "I cannot tell", "Pause"):
        place = visit.page.get_by_role("button", name=button).bounding_box()
        assert place["y"] + place["height"] <= SCREENS["laptop"][1], button  # without scrolling
    save_picture(visit, "app-audit.png")

    visit.page.get_by_label("Comment").fill("1 or 2, 3 lines")  # digits that are no answers
    visit.page.keyboard.press("Enter")
    visit.settle()
    assert not sheet.exists()
    visit.page.locator(PICTURE).click()  # out of the field
    taken_for = dict(zip(export.sample.codes.tolist(), export.sample.predicted.tolist(), strict=True))

    def key_for(k: int) -> str:
        """Agrees with the pseudo-label but for every ninth picture."""
        return str(1 + (taken_for[export.codes[k]] + (k % 9 == 4)) % 3)

    press_on(visit, key_for(0))
    for k in range(1, total):
        if k == 10:
            press_on(visit, "b")
            visit.page.get_by_role("button", name="Onwards").wait_for()
            press_on(visit, key_for(9))  # said again, and on
            visit.settle()
            content = visit.page.content()
        if k < total - 1:
            press_on(visit, key_for(k))
    visit.page.wait_for_timeout(350)
    visit.page.keyboard.press("0")
    visit.page.get_by_text(f"All {total} images have an answer").wait_for()
    answers = read_answers(sheet, export.sample)
    assert len(answers) == total and answers[export.codes[0]].comment == "1 or 2, 3 lines"
    assert answers[export.codes[-1]].label == -1
    runs = read_keys(study)[0]["runs"]
    for word in ("pseudo_", "supervised", "confidence", "stratum", *runs):
        assert word not in content, word

    assert read_audit(study) is None
    visit.page.keyboard.press("Enter")
    visit.page.get_by_text("Recorded in the study").wait_for()
    (reader,) = read_audit(study)["readers"]
    words = visit.page.locator("[data-testid=stMain]").inner_text()
    for entry in reader["by_arm"]:
        assert f"at most {100 * entry['high']:.1f}\u00a0%" in words
    assert nothing_sticks_out(visit)
    command = visit.page.locator("[data-testid=stCode] code")
    command.wait_for()
    command.evaluate("it => it.textContent = 'synthlabel semisup report --outdir study'")  # no test's folder
    save_picture(visit, "app-audit-result.png")


def test_a_held_key_answers_nothing_unseen_and_what_is_sent_is_blinded(visit, address, study):
    """What goes over the wire while pictures are read, to the byte."""
    draw_in_study(study, 24, num_bands=1)
    export = list_exports(study)[-1]
    frames: list[bytes] = []

    def watch(wire):
        wire.on(
            "framereceived", lambda data: frames.append(data if isinstance(data, bytes) else data.encode())
        )

    visit.page.on("websocket", watch)
    visit.page.goto(address)
    visit.page.get_by_role("link", name="Audit").click()
    visit.page.get_by_role("heading", name="Audit", exact=True).wait_for()
    name_reader(visit, "Luis")
    visit.page.get_by_role("button", name="Read it", exact=True).click()
    source(visit)
    visit.settle()
    visit.page.wait_for_timeout(400)
    frames.clear()
    sheet = sheet_of(export, "Luis")
    for _ in range(8):
        visit.page.keyboard.down("1")  # as a held key repeats
        visit.page.wait_for_timeout(30)
    visit.page.keyboard.up("1")
    visit.settle()
    assert len(read_answers(sheet, export.sample)) <= 2
    for _ in range(6):
        press_on(visit, "3")
    visit.settle()
    sent = b"".join(frames)
    assert len(sent) > 10_000 and b"data:image/png;base64" in sent
    key = read_keys(study)
    for word in ("pseudo_", "supervised", "confidence", "stratum", *key[-1]["runs"], *key[0]["runs"]):
        assert word.encode() not in sent, word


@pytest.mark.parametrize("visit", ["tablet"], indirect=True)
def test_on_a_tablet_in_spanish_an_audit_goes_on_after_a_pause(visit, study):
    export = list_exports(study)[0]
    taken_for = dict(zip(export.sample.codes.tolist(), export.sample.predicted.tolist(), strict=True))
    left = [code for code in export.codes if taken_for[code] != 1][-2:]  # that show more than noise
    for code in export.codes:
        if code not in left:
            record_answer(sheet_of(export, "Eva"), export.sample, code, "noise")
    visit.page.get_by_text("Español").click()
    visit.page.get_by_role("heading", name="Auditar").wait_for()
    assert nothing_sticks_out(visit)
    visit.page.get_by_role("button", name="Seguir como Eva").click()
    visit.page.locator(PICTURE).wait_for()
    visit.settle()
    assert nothing_sticks_out(visit)
    box = visit.page.locator(PICTURE).bounding_box()
    assert min(box["width"], box["height"]) >= 320
    words = visit.page.locator("[data-testid=stMain]").inner_text()
    assert not re.search(r"\b(the|of|image|none|cannot)\b", words), words
    save_picture(visit, "app-audit-tablet.png")
    press_on(visit, "1")
    visit.page.get_by_role("button", name="Pausa").click()
    visit.page.get_by_text("Respuestas guardadas de Eva").wait_for()
    visit.page.get_by_role("button", name="Seguir como Eva").click()
    visit.page.locator(PICTURE).wait_for()
    visit.page.wait_for_timeout(350)
    visit.page.keyboard.press("x")
    visit.page.get_by_role("button", name="Ver el resultado").click()
    visit.page.get_by_text("son erróneas según").first.wait_for()
    visit.settle()
    assert nothing_sticks_out(visit)
    assert len(read_answers(sheet_of(export, "Eva"), export.sample)) == len(export.codes)
