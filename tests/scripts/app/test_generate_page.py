"""The page Generate by Streamlit's own test harness: its logic, without a browser."""

import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("streamlit", reason='needs the extra: pip install "synthlabel[app]"')

from streamlit.testing.v1 import AppTest

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from gan.generate import generate_archive
from gan.recipes import Recipe
from gan.studio import BATCH
from scripts.app import generate_tiles, networks
from scripts.app.generate_selection import selection_archive
from scripts.app.generate_state import CHOSEN, CLASS, FIRST, MIX_A, MIX_B, OPENED, PSI, SEED, VIEW
from scripts.app.models import at_work
from scripts.app.networks import NUM_SHOWN, begin_comparison, begin_network
from scripts.app.settings import AppSettings, use_settings
from scripts.app.words import LANGUAGE_KEY

ROOT = Path(__file__).parents[3]
PATIENCE = 120
FIRST_CLASS = "coronal"


def generate_page() -> None:
    """What the server runs for this page, without the frame."""
    from scripts.app import generate
    from scripts.app.settings import current_settings

    generate.show(current_settings())


@pytest.fixture
def open_page():
    """Opens the page anew, with everything in the background done."""

    def open_with(language: str = "en", **settings) -> AppTest:
        chosen = AppSettings(**settings)
        use_settings(chosen)
        if chosen.network is not None and begin_network(chosen.network).exception(PATIENCE) is None:
            job = begin_comparison(chosen)
            if job.result.exception(PATIENCE) is None:
                job.rule.result(PATIENCE)
        page = AppTest.from_function(generate_page, default_timeout=60)
        page.session_state[LANGUAGE_KEY] = language
        return run(page)

    yield open_with
    use_settings(AppSettings())


def run(page: AppTest) -> AppTest:
    page.run()
    assert not page.exception
    return page


def press(page: AppTest, label: str) -> AppTest:
    (button,) = [button for button in page.button if button.label == label]
    button.click().run()
    assert not page.exception
    return page


def words_of(page: AppTest) -> str:
    said = [
        element.value
        for kind in (page.info, page.warning, page.error, page.success, page.caption)
        for element in kind
    ]
    return " ".join([*said, *(element.proto.body for element in page.get("html"))])


@pytest.fixture
def shown(monkeypatch) -> list[np.ndarray]:
    """Every picture that is drawn, as its pixels."""
    drawn: list[np.ndarray] = []
    real = generate_tiles.encode_png

    def noting(pixels: np.ndarray) -> bytes:
        drawn.append(pixels)
        return real(pixels)

    monkeypatch.setattr(generate_tiles, "encode_png", noting)
    return drawn


def made(network: Path, seeds, dest: Path, **settings) -> np.ndarray:
    generate_archive(network, seeds, dest, batch_size=BATCH, **settings)
    with open_archive(dest) as archive:
        return np.stack([archive.read_image(row)[0] for row in range(len(archive))])


def test_without_a_network_the_page_says_how_to_name_one(open_page):
    page = open_page()
    assert "synthlabel app --network RUN" in page.info[0].value and not page.button


def test_the_first_page_of_images_is_that_of_gan_generate_to_the_bit(
    open_page, phantom_network, shown, tmp_path
):
    page = open_page(network=phantom_network.run)
    assert [box.label for box in page.checkbox] == [f"Seed {seed}" for seed in range(NUM_SHOWN)]
    expected = made(phantom_network.snapshot, range(NUM_SHOWN), tmp_path / "a.zip", class_name=FIRST_CLASS)
    np.testing.assert_array_equal(np.stack(shown), expected)


def test_psi_and_class_draw_the_same_seeds_again(open_page, phantom_network, shown, tmp_path):
    page = open_page(network=phantom_network.run)
    shown.clear()
    page.slider(key=PSI).set_value(0.5)
    page.selectbox(key=CLASS).set_value("sagittal")
    run(page)
    expected = made(
        phantom_network.snapshot,
        range(NUM_SHOWN),
        tmp_path / "a.zip",
        class_name="sagittal",
        truncation_psi=0.5,
    )
    np.testing.assert_array_equal(np.stack(shown), expected)
    assert [box.label for box in page.checkbox] == [f"Seed {seed}" for seed in range(NUM_SHOWN)]


def test_seeds_are_leafed_through_typed_and_surprising(open_page, phantom_network):
    page = press(open_page(network=phantom_network.run), "On")
    assert page.checkbox[0].label == f"Seed {NUM_SHOWN}"
    page = press(press(page, "Back"), "Back")  # not below 0
    assert page.checkbox[0].label == "Seed 0"
    page.number_input(key=FIRST).set_value(4242).run()
    assert page.checkbox[1].label == "Seed 4243"
    page = press(page, "Surprise me")
    assert page.checkbox[0].label != "Seed 4242"
    page.number_input(key=FIRST).set_value(2**32 - 3).run()
    assert not page.exception and page.checkbox[-1].label == f"Seed {2**32 - 1}" and len(page.checkbox) == 3


def test_one_image_stands_beside_real_ones_of_the_training_part(open_page, phantom_network):
    from gan.snapshot import read_snapshot

    page = press(open_page(network=phantom_network.run), "Look closer: Seed 3")
    assert page.session_state[VIEW] == "one" and page.session_state[OPENED].seed == 3
    captions = [image.proto.imgs[0].caption.replace("\\", "") for image in page.get("image")]
    assert captions[0] == "Seed 3" and captions[1].startswith("the nearest real image: ")
    seen = read_snapshot(phantom_network.snapshot).subjects
    assert len(captions) == 5 and all(any(name in text for name in seen) for text in captions[1:])
    assert "people that the network learned from" in words_of(page) and "no proof of copying" in words_of(
        page
    )
    assert "other people, who are not shown" in words_of(page)  # the rule is worked out
    page = press(page, "Next")
    assert page.session_state[OPENED].seed == 4
    page.number_input(key=SEED).set_value(77).run()
    assert page.session_state[OPENED].seed == 77 and page.get("image")[0].proto.imgs[0].caption == "Seed 77"


def test_a_copy_is_marked_in_the_grid_and_beside_its_original(open_page, phantom_network, monkeypatch):
    """A generator that has learned its training images by heart: it is made to give one of them."""
    settings = AppSettings(network=phantom_network.run)
    comparison = begin_comparison(settings).result.result(PATIENCE)
    original = comparison.look(
        begin_network(phantom_network.run).result(PATIENCE).images([Recipe(0, class_name=FIRST_CLASS)])
    )
    pixels = comparison.pixels(original[0].nearest[0])
    real = networks.OpenNetwork.images

    def learned_by_heart(self, recipes):
        images = real(self, recipes).copy()
        for place, recipe in enumerate(recipes):
            if recipe.seed == 5:
                images[place] = pixels
        return images

    monkeypatch.setattr(networks.OpenNetwork, "images", learned_by_heart)
    monkeypatch.setattr(networks, "_comparisons", {})
    page = open_page(network=phantom_network.run)
    marks = [
        element
        for element in page.get("html")
        if "sl-mark" in element.proto.body and "span" in element.proto.body
    ]
    assert marks and all("like a real one" in mark.proto.body for mark in marks)
    page.checkbox[5].set_value(True).run()
    assert any("suspiciously like real ones" in warning.value for warning in page.warning)
    page = press(page, "Look closer: Seed 5")
    assert "looks like a copy of a real image" in page.error[0].value


def test_images_are_ticked_and_saved_as_an_archive(open_page, phantom_network, tmp_path):
    page = open_page(network=phantom_network.run)
    for place in (2, 7):
        page.checkbox[place].set_value(True).run()
    page.checkbox[7].set_value(False).run()
    page.slider(key=PSI).set_value(0.5).run()
    assert not page.checkbox[2].value  # another psi, another image
    page.checkbox[2].set_value(True).run()
    page = press(press(page, "Look closer: Seed 9"), "Choose")
    assert page.button(key="generate-choose").label == "Chosen"
    chosen = list(page.session_state[CHOSEN])
    assert [(recipe.seed, recipe.truncation_psi) for recipe in chosen] == [(2, 1.0), (2, 0.5), (9, 0.5)]
    network = begin_network(phantom_network.run).result(PATIENCE)
    (tmp_path / "got.zip").write_bytes(selection_archive(network, chosen))
    with open_archive(tmp_path / "got.zip") as archive:
        assert archive.manifest["seed"].tolist() == ["2", "2", "9"]
        assert set(archive.manifest["snapshot_sha256"]) == {network.card.snapshot_sha256}
        assert archive.manifest["class"].tolist() == [FIRST_CLASS] * 3
        np.testing.assert_array_equal(archive.read_image(1), network.images([chosen[1]])[0])
    page = press(page, "Clear")
    assert not page.session_state[CHOSEN] and "Tick images" in words_of(page)


def test_a_tick_that_is_gone_changes_nothing(open_page, phantom_network):
    """A browser may send the values of controls that are no longer there; they must not choose images."""
    page = open_page(network=phantom_network.run)
    page.checkbox[4].set_value(True).run()
    page = press(page, "Look closer: Seed 4")
    before = dict(page.session_state[CHOSEN])
    page = press(page, "Chosen")  # let go here, while the box of the grid may still say otherwise
    assert before and not page.session_state[CHOSEN]
    page.session_state[VIEW] = "several"
    assert not any(box.value for box in run(page).checkbox)


def test_a_selection_has_a_bound_and_says_so(open_page, phantom_network, monkeypatch):
    monkeypatch.setattr("scripts.app.generate_state.MOST_CHOSEN", 5)
    page = press(open_page(network=phantom_network.run), "Choose all")
    assert len(page.session_state[CHOSEN]) == 5
    assert any("At most 5 images" in warning.value for warning in page.warning)


def test_two_seeds_are_mixed_and_walked_between(open_page, phantom_network, shown, tmp_path):
    from gan.mix import mix_styles

    page = press(press(open_page(network=phantom_network.run), "Look closer: Seed 6"), "Mix it")
    assert (page.session_state[MIX_A], page.session_state[MIX_B]) == (6, 1)
    shown.clear()
    page.pills[0].set_value(["coarse"]).run()
    assert not page.exception
    mix_styles(phantom_network.snapshot, [6], [1], tmp_path, styles=range(4), class_name=FIRST_CLASS)
    with Image.open(tmp_path / "6-1.png") as picture:
        expected = np.asarray(picture).astype(int)
    assert min(np.abs(pixels - expected).max() for pixels in shown) <= 1
    assert page.checkbox[0].label == "A" and page.checkbox[-1].label == "B"
    page = press(page, "Choose the mix")
    (mixed,) = page.session_state[CHOSEN]
    assert (mixed.seed, mixed.second_seed, mixed.second_styles) == (6, 1, (0, 1, 2, 3))
    page.segmented_control[-1].set_value("walk").run()
    assert [box.label for box in page.checkbox] == ["A", "20 %", "40 %", "60 %", "80 %", "B"]
    page = press(page, "Swap A and B")
    assert (page.session_state[MIX_A], page.session_state[MIX_B]) == (1, 6)
    page = press(page, "Look closer: 40 %")
    assert page.session_state[OPENED].walk_share == 0.4
    assert page.get("image")[0].proto.imgs[0].caption == "40 % of the way from 1 to 6"


def test_the_card_tells_whom_it_learned_from_and_what_it_is_not_for(open_page, phantom_network):
    words = words_of(open_page(network=phantom_network.run))
    for part in (
        "32 x 32, gray",
        "coronal, noise, sagittal",
        "slices.zip, people: ",
        "training part of fold 0",
        "never measured",
        "none was found beside this network",
        "Mark the images as synthetic",
    ):
        assert part in words, part


def test_a_network_that_cannot_be_used_is_a_sentence(open_page, phantom_network, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(phantom_network.snapshot)
    name = next(name for name in tensors if name.startswith("G_ema."))
    tensors[name][:] = float("nan")
    import json

    from gan.snapshot import HEADER_KEY, read_header

    header = read_header(phantom_network.snapshot, "synthlabel-snapshot-1", "x")
    save_file(tensors, tmp_path / "nan.safetensors", {HEADER_KEY: json.dumps(header)})
    page = open_page(network=tmp_path / "nan.safetensors")
    assert "expected finite weights" in page.error[0].value and not page.checkbox


def test_until_the_network_is_loaded_the_page_says_so(monkeypatch, phantom_network):
    from concurrent.futures import Future

    monkeypatch.setattr(networks, "_networks", {phantom_network.run: Future()})
    use_settings(AppSettings(network=phantom_network.run))
    page = run(AppTest.from_function(generate_page, default_timeout=60))
    assert "being loaded" in page.info[0].value and not page.checkbox
    use_settings(AppSettings())


def test_a_recorded_archive_that_is_damaged_is_told_without_its_place(open_page, phantom_network, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(phantom_network.run, run_dir)
    options = run_dir / "training_options.json"
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "slices.zip").write_bytes(b"no zip")
    options.write_text(
        options.read_text().replace(f"{phantom_network.archive}", f"{tmp_path}/secret/slices.zip")
    )
    page = press(open_page(network=run_dir), "Look closer: Seed 0")
    said = page.info[0].value.replace("\\", "")
    assert said.startswith("slices.zip: ") and "secret" not in said


def test_an_archive_of_other_images_costs_the_neighbours_alone(open_page, phantom_network, tmp_path):
    with ArchiveWriter(tmp_path / "small.zip") as writer:
        writer.add(np.zeros((16, 16), np.uint8), ImageRecord(subject="a"))
    page = press(
        open_page(network=phantom_network.run, archive=tmp_path / "small.zip"), "Look closer: Seed 0"
    )
    assert "expected images of shape" in page.info[0].value.replace("\\", "")
    assert len(page.get("image")) == 1


def test_the_page_stays_with_the_network_it_began_with(open_page, phantom_network, shown, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(phantom_network.run, run_dir)
    page = open_page(network=run_dir)
    first = np.stack(shown)
    newer = run_dir / "network-snapshot-999999.safetensors"
    newer.write_bytes(b"half")
    shown.clear()
    run(page)
    np.testing.assert_array_equal(np.stack(shown), first)


def test_one_visitor_at_a_time_uses_the_network(open_page, phantom_network, monkeypatch):
    network = begin_network(phantom_network.run).result(PATIENCE)
    held = []
    real = network.studio.images

    def noting(recipes):
        held.append(at_work._is_owned())
        return real(recipes)

    monkeypatch.setattr(network.studio, "images", noting)
    page = open_page(network=phantom_network.run)
    press(page, "Look closer: Seed 2")
    selection_archive(network, [Recipe(2, class_name=FIRST_CLASS)])
    assert held and all(held)


def test_spanish(open_page, phantom_network):
    page = open_page("es", network=phantom_network.run)
    assert page.checkbox[0].label == "Semilla 0" and "Marque imágenes" in words_of(page)
    page = press(page, "Mirar de cerca: Semilla 2")
    assert "no prueba que sea una copia" in words_of(page)


def test_nothing_is_left_of_a_download(phantom_network, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    network = begin_network(phantom_network.run).result(PATIENCE)
    data = selection_archive(network, [Recipe(1, class_name=FIRST_CLASS)])
    assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None and not list(tmp_path.iterdir())


def test_drawing_the_page_for_the_first_time_does_not_import_torch():
    """The whole application, Generate included, before any model was asked for."""
    code = (
        "import sys; from streamlit.testing.v1 import AppTest; from scripts.app import server; "
        "page = AppTest.from_file(str(server.SCRIPT), default_timeout=60).run(); "
        "from scripts.app import generate; assert not page.exception; assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
