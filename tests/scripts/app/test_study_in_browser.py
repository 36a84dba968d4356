"""The page Study in a real browser: from the verdict to the images behind a number.

`make test-browser` runs these; `SYNTHLABEL_SCREENSHOTS=docs/images` also writes the documents' pictures.
"""

import json
import re
import shutil

import pytest

from tests.scripts.app.browsing import in_browser, save_picture, serve, visit_page
from tests.semisup.study_folder import FakeStudy, fail_run, make_study

pytestmark = in_browser


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Larger than elsewhere, because pictures of it are looked at."""
    folder = tmp_path_factory.mktemp("study") / "phantoms"
    return make_study(folder, FakeStudy(folds=(0, 1), fractions=(0.2, 0.5), image_size=64))


@pytest.fixture(scope="module")
def address(finished, tmp_path_factory):
    with serve(["--study", str(finished)], tmp_path_factory.mktemp("served") / "home") as address:
        yield address


@pytest.fixture
def visit(browser, address, request):
    with visit_page(browser, address, "Study", getattr(request, "param", "laptop")) as visit:
        visit.page.get_by_role("heading", name="phantom planes").wait_for()
        yield visit


def go(visit, part):
    visit.page.get_by_role("radio", name=part).click()
    visit.settle()


def click(visit, name, exact=False):
    visit.page.get_by_role("button", name=name, exact=exact).first.click()
    visit.settle()


def overhang(visit) -> int:
    return visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def widths_of_pictures(visit):
    return visit.page.locator(".sl-tile img").evaluate_all("all => all.map(one => one.naturalWidth)")


def test_the_verdict_the_intervals_and_the_curve(visit):
    headline = visit.page.locator(".sl-verdict .headline")
    headline.wait_for()
    assert "95 % interval [" in headline.inner_text()
    assert visit.page.locator("tr.first .sl-interval").count() == 2
    visit.page.locator("img.sl-curve").wait_for()
    assert visit.page.locator("img.sl-curve").evaluate("one => one.naturalWidth") > 300
    save_picture(visit, "app-study.png")
    assert overhang(visit) <= 0


def test_a_number_of_a_round_leads_to_its_images_and_one_from_near(visit):
    go(visit, "Rounds")
    click(visit, re.compile(r"^[\d.,]+ selected"))
    assert len(widths_of_pictures(visit)) == 12 and all(width > 0 for width in widths_of_pictures(visit))
    first = visit.page.locator(".sl-tile img").first.get_attribute("src")
    save_picture(visit, "app-study-round.png")
    visit.page.keyboard.press("n")  # the next page, by the keyboard
    visit.page.wait_for_function(
        "old => document.querySelector('.sl-tile img').getAttribute('src') !== old", arg=first
    )
    visit.settle()
    click(visit, "Look at 14")
    near = visit.page.get_by_role("dialog")
    near.get_by_text("Drawn by the generator").wait_for()
    assert near.locator("img").first.bounding_box()["width"] >= 320
    save_picture(visit, "app-study-image.png")
    visit.page.keyboard.press("Escape")
    near.wait_for(state="detached")


@pytest.mark.parametrize("visit", ["tablet"], indirect=True)
def test_on_a_tablet_nothing_sticks_out_and_spanish_is_spoken(visit):
    visit.page.get_by_text("Español").click()
    visit.page.get_by_role("heading", name="Estudio").wait_for()
    visit.page.locator(".sl-verdict .headline").wait_for()
    visit.page.locator("img.sl-curve").wait_for()
    visit.settle()
    assert overhang(visit) <= 0
    words = visit.page.locator("[data-testid=stMain]").inner_text()
    parts = {"Rondas": "Parte elegida", "Imágenes de prueba": "reconocidas:", "Progreso": "Qué"}
    for part, wait in parts.items():
        go(visit, part)
        visit.page.get_by_text(wait).first.wait_for()
        assert overhang(visit) <= 0
        words += visit.page.locator("[data-testid=stMain]").inner_text()
        if part == "Rondas":
            click(visit, re.compile("no elegidas"))
            assert overhang(visit) <= 0 and len(widths_of_pictures(visit)) == 12
            words += visit.page.locator("[data-testid=stMain]").inner_text()
            save_picture(visit, "app-study-es.png")
    assert not re.search(r"\b(the|of|this|and|images|runs|selected)\b", words), words


def test_the_report_is_read_in_the_page_and_asks_for_nothing(visit, finished):
    go(visit, "Report")
    click(visit, "Make the report")
    assert not (finished / "report.html").exists()
    click(visit, "Write it")
    visit.page.get_by_text("The report was made on").wait_for()
    visit.page.get_by_text("Read it here").click()
    frame = visit.page.frame_locator("iframe")
    frame.locator("h1", has_text="phantom planes").wait_for()
    assert frame.locator("svg").count() >= 3 and frame.get_by_role("link").count() == 0
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Report (HTML)").click()
    assert download.value.suggested_filename == "report.html"


def test_progress_follows_the_folder_by_itself(browser, finished, tmp_path_factory):
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("going") / "phantoms")
    fail_run(folder, "the process was killed, most likely for want of memory; use --jobs 1")
    study = json.loads((folder / "study.json").read_text())
    missing = [run["key"] for run in study["runs"] if run["arm"] == "pseudo_gan_full"][-3:]
    for key in missing:
        shutil.move(folder / "runs" / key, folder.parent / key)
    home = tmp_path_factory.mktemp("served") / "home"
    with (
        serve(["--study", str(folder)], home) as address,
        visit_page(browser, address, "Study") as visit,
    ):
        visit.page.get_by_text("Stopped: 38 of 42 jobs are done").wait_for()
        visit.page.get_by_text("use --jobs 1").wait_for()
        save_picture(visit, "app-study-progress.png")
        shutil.move(folder.parent / missing[0], folder / "runs" / missing[0])
        visit.page.get_by_text("Stopped: 39 of 42 jobs are done").wait_for()  # without a click
