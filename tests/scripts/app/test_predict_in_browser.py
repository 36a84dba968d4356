"""The page Predict in a real browser: what a visitor sees and does, and what the browser asks for.

`make test-browser` runs these; `SYNTHLABEL_SCREENSHOTS=docs/images` also writes the documents' pictures.
"""

import re
import shutil
import socket

import numpy as np
import pytest

from tests.scripts.app.browsing import PATIENCE_MS, SCREENS, in_browser, save_picture, serve, visit_page
from tests.scripts.app.phantom_model import PhantomModel, make_phantom_model

pytestmark = in_browser


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> PhantomModel:
    """Larger than elsewhere, because pictures of it are looked at."""
    return make_phantom_model(tmp_path_factory.mktemp("browser"), size=64, num_subjects=12, steps=80)


@pytest.fixture(scope="module")
def address(model, tmp_path_factory):
    arguments = ["--model", str(model.run), "--archive", str(model.archive)]
    with serve(arguments, tmp_path_factory.mktemp("served") / "home") as address:
        yield address


@pytest.fixture
def visit(browser, address, request):
    with visit_page(browser, address, "Predict", getattr(request, "param", "laptop")) as visit:
        yield visit


def test_a_picture_is_judged_and_explained(visit, model):
    visit.give(model.pictures[0])
    assert visit.decision() in ("sagittal", "coronal", "noise", "not sure")
    assert visit.page.get_by_role("meter").count() == 3
    shares = [float(meter.get_attribute("aria-valuenow")) for meter in visit.page.get_by_role("meter").all()]
    assert sum(shares) == pytest.approx(100, abs=0.3)
    visit.page.get_by_text("Grad-CAM: bright is what speaks for").wait_for()
    visit.page.get_by_text("From the model's training part alone").wait_for()
    visit.settle()
    pictures = visit.page.locator("[data-testid=stImage] img")
    assert pictures.count() >= 2 + 2
    assert all(width > 0 for width in pictures.evaluate_all("all => all.map(one => one.naturalWidth)"))
    save_picture(visit, "app-predict.png")


def test_the_opacity_changes_the_overlay_alone(visit, model):
    visit.give(model.pictures[0])
    visit.decision()
    visit.settle()
    pictures = visit.page.locator("[data-testid=stImage] img")
    before = [pictures.nth(k).get_attribute("src") for k in range(2)]
    slider = visit.page.locator("input[type=range][aria-label='Opacity of the heat map']")
    slider.focus()
    visit.page.keyboard.press("Home")  # by the keyboard
    visit.page.wait_for_function(
        "old => document.querySelectorAll('[data-testid=stImage] img')[1].getAttribute('src') !== old",
        arg=before[1],
    )
    visit.settle()
    assert pictures.nth(0).get_attribute("src") == before[0]


@pytest.mark.parametrize("visit", SCREENS, indirect=True)
def test_a_volume_is_leafed_through(visit, model, request):
    visit.give(model.volume)
    visit.decision()
    visit.settle()
    first = visit.page.locator("[data-testid=stImage] img").first.get_attribute("src")
    slider = visit.page.locator("input[type=range][aria-label=Slice]")
    slider.focus()
    visit.page.keyboard.press("ArrowRight")
    visit.page.wait_for_function(
        "old => document.querySelector('[data-testid=stImage] img').getAttribute('src') !== old", arg=first
    )
    visit.settle()
    wide = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0  # nothing sticks out
    if request.node.callspec.params["visit"] == "tablet":
        save_picture(visit, "app-predict-volume.png")


def test_the_page_speaks_spanish(visit, model):
    visit.page.get_by_text("Español").click()
    visit.page.get_by_role("heading", name="Predecir").wait_for()
    visit.give(model.pictures[0])
    visit.decision()
    visit.page.get_by_text("Grad-CAM: lo brillante habla a favor de").wait_for()
    visit.page.get_by_text("Solo para investigación.").wait_for()
    visit.settle()
    words = visit.page.locator("[data-testid=stMain]").inner_text()
    assert not re.search(r"\b(the|of|this|model|images)\b", words), words
    save_picture(visit, "app-predict-es.png")


def test_a_broken_file_is_a_sentence(visit, model, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(model.pictures[0].read_bytes()[:200])
    program = tmp_path / "program.png"
    program.write_bytes(b"MZ\x90" + np.random.default_rng(0).bytes(5000))
    visit.give(broken, program, model.pictures[0])
    fault = visit.page.locator("[data-testid=stAlert]").first
    fault.wait_for()
    assert visit.decision()
    assert "2 files could not be used" in fault.inner_text() and "broken.png: expected" in fault.inner_text()
    words = visit.page.locator("body").inner_text()
    assert "Traceback" not in words and "/tmp" not in words
    save_picture(visit, "app-refused.png")


def test_the_table_and_the_sheet_come_as_files(visit, model, tmp_path):
    visit.give(model.volume)
    visit.decision()
    visit.settle()
    for button, name, begin in (
        ("Table (CSV)", "predictions.csv", b"input,file,"),
        ("Sheet with pictures (HTML)", "predictions.html", b"<!DOCTYPE html>"),
    ):
        with visit.page.expect_download() as download:
            visit.page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(begin)
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 10


def test_removing_all_files_brings_the_first_page_back(visit, model):
    visit.give(*model.pictures)
    visit.decision()
    visit.page.get_by_role("button", name="Remove all files").click()
    visit.page.locator(".sl-decision").wait_for(state="detached")
    visit.page.get_by_text("Drop images above").wait_for()


def test_a_hundred_files_at_once_are_judged(visit, model, tmp_path):
    files = []
    for number in range(100):
        files.append(tmp_path / f"n{number:03d}.png")
        shutil.copy(model.pictures[number % len(model.pictures)], files[-1])
    visit.give(*files)
    visit.page.get_by_text("All results as a table (100)").wait_for(timeout=4 * PATIENCE_MS)
    assert visit.page.get_by_text("could not be used").count() == 0


def test_a_page_elsewhere_may_not_speak_to_this_one(address):
    port = int(address.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(
            b"GET /_stcore/stream HTTP/1.1\r\nHost: evil.example\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\nOrigin: http://evil.example\r\n\r\n"
        )
        assert wire.recv(100).split(b" ")[1] == b"403"
