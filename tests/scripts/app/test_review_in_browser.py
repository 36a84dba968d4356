"""The page Review in a real browser: labels are corrected by keyboard, and nothing else changes."""

import json
import re
from contextlib import contextmanager

import pytest

from extract.archive import open_archive
from extract.review_log import log_path
from tests.scripts.app.browsing import in_browser, save_picture, serve, visit_page
from tests.scripts.app.planted_phantoms import PlantedPhantoms, make_planted_phantoms

pytestmark = in_browser


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> PlantedPhantoms:
    return make_planted_phantoms(tmp_path_factory.mktemp("planted-phantoms"))


@pytest.fixture(scope="module")
def address(planted, tmp_path_factory):
    # The split is the one beside the archive.
    arguments = ["--model", str(planted.run), "--archive", str(planted.archive)]
    with serve(arguments, tmp_path_factory.mktemp("served") / "home") as address:
        yield address


@pytest.fixture(autouse=True)
def _nothing_decided(planted):
    log_path(planted.archive, 0).unlink(missing_ok=True)


@contextmanager
def visit_review(browser, address, screen="laptop"):
    with visit_page(browser, address, "Review", screen) as visit:
        visit.page.locator(".sl-picture img").wait_for()
        visit.page.get_by_text("Looking for pictures that are there twice").wait_for(state="detached")
        visit.settle()
        yield visit


def give_name(visit, name="Ann"):
    visit.page.get_by_label("Your name").fill(name)
    visit.page.get_by_label("Your name").press("Enter")
    visit.page.get_by_role("button", name=name).wait_for()
    visit.settle()


def shown(visit) -> str:
    """Name of the image that is looked at."""
    return visit.page.locator(".sl-picture figcaption").inner_text().split(",")[0]


def press(visit, key: str) -> str:
    """Hit a key; returns the name of the image that it was for, when the next one is there."""
    before = shown(visit)
    visit.page.keyboard.press(key)
    visit.page.wait_for_function(
        "old => !document.querySelector('.sl-picture figcaption').innerText.startsWith(old + ',')", arg=before
    )
    visit.page.wait_for_timeout(350)  # as long as a decision takes at least
    visit.page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    return before


def rows_of(planted) -> list[dict]:
    header, *rows = map(json.loads, log_path(planted.archive, 0).read_text().splitlines())
    assert header["archive"] == "planes.zip"
    return rows


def test_three_labels_are_corrected_by_keyboard_and_one_is_undone(browser, address, planted):
    before = planted.archive.read_bytes()
    with open_archive(planted.archive) as archive:
        classes, label_of = archive.classes, dict(zip(archive.names, archive.manifest["label"], strict=True))
    expected = []
    with visit_review(browser, address) as visit:
        give_name(visit)
        visit.page.get_by_text("Why they are shown").wait_for()
        for number in range(3):
            if number == 2:  # after the conflict: the most doubtful label
                save_picture(visit, "app-review.png")
            label = label_of[shown(visit)]
            new = "coronal" if label == "sagittal" else "sagittal"
            image = press(visit, str(classes.index(new) + 1))
            expected.append(("relabel", image, label, new))
        assert visit.page.get_by_text(re.compile(r"^3 of \d+ decided$")).is_visible()
        press(visit, "u")
        visit.page.get_by_text(re.compile(r"^2 of \d+ decided$")).wait_for()
        assert shown(visit) == expected[2][1]
    rows = rows_of(planted)
    assert [
        (row["action"], row["image"], row["old_label"], row.get("new_label")) for row in rows[:3]
    ] == expected
    assert len(rows) == 4 and (rows[3]["action"], rows[3]["undoes"]) == ("undo", 3)
    assert {row["author"] for row in rows} == {"Ann"}
    assert planted.archive.read_bytes() == before


def test_what_was_planted_comes_first(browser, address, planted):
    """A conflict of two pictures, then the wrong labels, all of them."""
    with open_archive(planted.archive) as archive:
        wrong = {archive.names[row] for row in planted.wrong}
    with visit_review(browser, address) as visit:
        give_name(visit)
        visit.page.get_by_text("The same picture also stands under").wait_for()
        visit.page.get_by_text("The same picture also stands under").wait_for()
        first = [press(visit, "k") for _ in range(2)]
        shown_once = visit.page.get_by_text(re.compile(r"^2 of (\d+) decided$")).inner_text()
        num = int(shown_once.split()[2])
        seen = [press(visit, "k") for _ in range(num - 3)]
        seen.append(shown(visit))
        visit.page.keyboard.press("k")
        visit.page.get_by_text(f"All {num} are decided").wait_for()
    assert len({*first, *seen}) == num and wrong <= set(seen[: 2 * len(wrong)])
    assert {row["reason"].split(",")[0] for row in rows_of(planted)[:2]} == {"label conflict"}


def test_a_name_may_hold_the_letters_of_the_keys(browser, address, planted):
    with visit_review(browser, address) as visit:
        before = shown(visit)
        field = visit.page.get_by_label("Your name")
        field.press_sequentially("Kux 12")
        field.press("Enter")
        visit.page.get_by_role("button", name="Kux 12").wait_for()
        visit.settle()
        assert shown(visit) == before
        press(visit, "ArrowRight")
        assert shown(visit) != before
        press(visit, "ArrowLeft")
        assert shown(visit) == before
    assert not log_path(planted.archive, 0).exists()


def test_on_a_tablet_nothing_sticks_out_and_the_decision_is_in_sight(browser, address, planted):
    with visit_review(browser, address, "tablet") as visit:
        give_name(visit)
        wide = visit.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0
        for name in ("Keep", "Exclude", "Next"):
            box = visit.page.get_by_role("button", name=name).bounding_box()
            assert box["y"] + box["height"] < 1180
        picture = visit.page.locator(".sl-picture img").bounding_box()
        assert picture["width"] >= 320 and visit.page.locator(".sl-picture img").get_attribute("alt")
        save_picture(visit, "app-review-tablet.png")


def test_the_page_speaks_spanish(browser, address, planted):
    with visit_review(browser, address) as visit:
        visit.page.get_by_text("Español").click()
        visit.page.get_by_role("button", name="Dejar").wait_for()
        visit.page.get_by_label("Su nombre").fill("Ana")
        visit.page.get_by_label("Su nombre").press("Enter")
        visit.page.get_by_role("button", name="Ana").wait_for()
        visit.settle()
        press(visit, "x")
        visit.page.get_by_text("Decisiones (1)").click()
        visit.page.get_by_role("button", name="Deshacer esta").wait_for()
        visit.page.get_by_text("Adónde van las decisiones ...").click()
        visit.page.get_by_text("nunca se muestran aquí").wait_for()
        words = visit.page.locator("[data-testid=stMain]").inner_text()
        assert not re.search(r"\b(the|of|this|images|label|keep)\b", words.replace("--", "")), words
        save_picture(visit, "app-review-es.png")
