"""The page Generate in a real browser: leaf, look closer, mix, choose, take an archive home.

For the documents' pictures `SYNTHLABEL_PICTURE_NETWORK` names a run that has learned for longer, of phantoms
as well: one of a `synthlabel demo`.
"""

import os
import re
from pathlib import Path

import pytest

from extract.archive import open_archive
from gan.snapshot import read_snapshot
from tests.scripts.app.browsing import in_browser, save_picture, serve, visit_page

pytestmark = in_browser


@pytest.fixture(scope="module")
def network(phantom_network) -> Path:
    return Path(os.environ.get("SYNTHLABEL_PICTURE_NETWORK", phantom_network.run))


@pytest.fixture(scope="module")
def address(network, tmp_path_factory):
    with serve(["--network", str(network)], tmp_path_factory.mktemp("served") / "home") as address:
        yield address


@pytest.fixture
def visit(browser, address, request):
    """The page by its link, everything worked out."""
    with visit_page(browser, address, "Generate", getattr(request, "param", "laptop")) as visit:
        visit.page.get_by_role("heading", name="Generate", exact=True).wait_for()
        visit.page.locator("[class*=st-key-generate-tile-page-11] img").wait_for()
        visit.page.get_by_text("once:").wait_for(state="detached")
        visit.page.get_by_text("worked out:").wait_for(state="detached")
        visit.settle()
        yield visit


def look_closer(visit, seed: int) -> None:
    visit.page.get_by_role("button", name=f"Look closer: Seed {seed}", exact=True).click()
    visit.page.locator(".st-key-generate-large img").wait_for()
    visit.page.locator(".st-key-generate-nearest img").wait_for()
    visit.settle()


def sources(visit, tiles: str) -> list[str]:
    return visit.page.locator(f"[class*=st-key-generate-{tiles}] img").evaluate_all(
        "all => all.map(one => one.src)"
    )


def sticks_out(visit) -> int:
    return visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_seeds_are_leafed_through_by_key_and_psi_draws_them_again(visit):
    first = sources(visit, "tile-page")
    assert len(set(first)) == 12
    visit.page.keyboard.press("ArrowRight")
    visit.page.get_by_text("Seed 12", exact=True).wait_for()
    visit.settle()
    assert not set(first) & set(sources(visit, "tile-page"))
    visit.page.keyboard.press("ArrowLeft")
    visit.page.get_by_text("Seed 0", exact=True).wait_for()
    visit.settle()
    assert sources(visit, "tile-page") == first  # the same seeds, the same images
    slider = visit.page.locator("input[type=range][aria-label^='Variety']")
    slider.focus()
    visit.page.keyboard.press("Home")  # psi 0: the average image
    visit.page.wait_for_function(
        "() => new Set([...document.querySelectorAll('[class*=st-key-generate-tile-page] img')]"
        ".map(one => one.src)).size === 1"
    )


def test_from_the_grid_to_one_to_a_mix_to_an_archive(visit, network, tmp_path):
    visit.page.locator("[class*=st-key-generate-tick-page-3] label").click()
    visit.page.get_by_text("Chosen: 1").wait_for()
    visit.settle()
    save_picture(visit, "app-generate.png")
    look_closer(visit, 5)
    assert visit.page.get_by_text("the nearest real image").count() >= 1
    assert (
        visit.page.get_by_text("real images of different people are to each other").count()
        + visit.page.get_by_text("Look at both before you use it").count()
        + visit.page.get_by_text("looks like a copy").count()
        == 1
    )
    sides = visit.page.locator(".st-key-generate-large img, .st-key-generate-nearest img").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().width)"
    )
    assert min(sides) >= 320
    save_picture(visit, "app-generate-nearest.png")
    visit.page.keyboard.press("s")
    visit.page.get_by_text("Chosen: 2").wait_for()
    visit.page.get_by_role("button", name="Mix it").click()
    visit.page.locator(".st-key-generate-mixed img").wait_for()
    visit.settle()
    visit.page.keyboard.press("s")
    visit.page.get_by_text("Chosen: 3").wait_for()
    visit.settle()
    save_picture(visit, "app-generate-mix.png")
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Save as archive").click()
    assert download.value.suggested_filename == "selection.zip"
    download.value.save_as(tmp_path / "selection.zip")
    with open_archive(tmp_path / "selection.zip") as archive:
        manifest = archive.manifest
        assert manifest["seed"].tolist() == ["3", "5", "5"] and not archive.is_real.any()
        assert manifest["second_seed"].tolist() == ["", "", "1"]
        assert set(manifest["snapshot_sha256"]) == {read_snapshot(network).sha256}
    visit.page.get_by_text("Chosen: 3").click()
    visit.page.get_by_role("button", name="Remove").first.click()
    visit.page.get_by_text("Chosen: 2").wait_for()


@pytest.mark.parametrize("visit", ["tablet"], indirect=True)
def test_nothing_sticks_out_on_a_tablet(visit):
    assert sticks_out(visit) <= 0
    look_closer(visit, 2)
    assert sticks_out(visit) <= 0
    save_picture(visit, "app-generate-tablet.png")
    visit.page.get_by_text("Mix two").click()
    visit.page.locator(".st-key-generate-mixed img").wait_for()
    visit.settle()
    assert sticks_out(visit) <= 0


def test_the_page_speaks_spanish(visit):
    visit.page.get_by_text("Español").click()
    visit.page.get_by_role("heading", name="Generar").wait_for()
    visit.settle()
    words = []
    for view in ("Imágenes", "Una imagen", "Mezclar dos"):
        visit.page.locator("[class*=st-key-generate-view]").get_by_text(view, exact=True).click()
        visit.settle()
        words.append(visit.page.locator("[data-testid=stMain]").inner_text())
    visit.page.get_by_text("Sobre esta red").click()
    visit.page.get_by_text("No sirve para").wait_for()
    words.append(visit.page.locator("[data-testid=stMain]").inner_text())
    for text in words:
        assert not re.search(r"\b(the|of|this|images|seed|chosen)\b", text, re.IGNORECASE), text
    visit.page.get_by_role("link", name="Predecir").click()  # another page speaks it, too
    visit.page.get_by_role("heading", name="Predecir", exact=True).wait_for()
