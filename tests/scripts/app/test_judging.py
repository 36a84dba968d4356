"""What the page says is what the command says: `classifier.judging`, `nearest`, `card` and `sheet`."""

import io
import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from classifier.card import model_card
from classifier.data import ImageTable
from classifier.errors import ClassifierError
from classifier.features import TaskExtractor
from classifier.judging import COLORED_NOTE, is_colored, judge_uploads
from classifier.nearest import nearest_training, training_features, typical_distance
from classifier.predict_run import load_judge
from classifier.sheet import render_sheet
from classifier.sheet_text import SheetText
from classifier.uploads import Upload
from extract.archive import open_archive
from extract.split import read_split
from scripts.app.words import app_language
from scripts.cli import cli
from tests.classifier.uploaded import as_png, png_bytes


@pytest.fixture(scope="module")
def judge(phantom_model):
    return load_judge(phantom_model.run)


def uploads_of(*paths) -> list[Upload]:
    return [Upload(path.name, path.read_bytes()) for path in paths]


def test_pictures_and_volumes_come_out_to_the_bit_as_from_the_command(phantom_model, judge, tmp_path):
    given = [*phantom_model.pictures, phantom_model.volume]
    judged = judge_uploads(judge, phantom_model.run, uploads_of(*given))
    called = CliRunner().invoke(
        cli, ["classifier", "predict", "--model", str(phantom_model.run), *map(str, given), "--out",
              str(tmp_path / "p.csv")]
    )  # fmt: skip
    assert called.exit_code == 0, called.output
    ours = pd.read_csv(io.StringIO(judged.predictions.images.to_csv(index=False)))
    theirs = pd.read_csv(tmp_path / "p.csv")
    pd.testing.assert_frame_equal(ours.drop(columns="input"), theirs.drop(columns="input"), check_exact=True)
    volumes = pd.read_csv(io.StringIO(judged.predictions.volumes.to_csv(index=False)))
    pd.testing.assert_frame_equal(
        volumes.drop(columns="input"), pd.read_csv(tmp_path / "p-volumes.csv").drop(columns="input")
    )
    assert ours["input"].tolist()[:1] == [phantom_model.pictures[0].name]
    assert len(judged.pixels) == judged.num_images and not judged.refused


def test_one_bad_file_does_not_take_the_others_with_it(phantom_model, judge):
    wide = as_png(np.full((20, 40), 90, np.uint8))  # of a model of volumes: nobody said how it fits
    nan = io.BytesIO()
    Image.fromarray(np.full((32, 32), np.nan, np.float32)).save(nan, format="TIFF")
    good = phantom_model.pictures[0]
    judged = judge_uploads(
        judge,
        phantom_model.run,
        [
            Upload("wide.png", wide),
            Upload("program.png", b"\x7fELF" + bytes(100)),
            Upload("nan.tiff", nan.getvalue()),
            Upload("cut.nrrd", phantom_model.volume.read_bytes()[:2000]),
            *uploads_of(good),
        ],
    )
    assert judged.predictions.images["file"].tolist() == [good.name]
    reasons = {item.file: item.reason for item in judged.refused}
    assert set(reasons) == {"wide.png", "program.png", "nan.tiff", "cut.nrrd"}
    assert "40x20 pixels" in reasons["wide.png"]
    assert "expected a whole picture" in reasons["program.png"]
    assert "NaN" in reasons["nan.tiff"] and "cut short" in reasons["cut.nrrd"]
    assert not any("synthlabel-app-" in reason for reason in reasons.values())


def test_two_files_of_one_name_stay_two(phantom_model, judge):
    one, two = (path.read_bytes() for path in phantom_model.pictures[:2])
    judged = judge_uploads(judge, phantom_model.run, [Upload("a.png", one), Upload("a.png", two)])
    assert judged.predictions.images["file"].tolist() == ["a.png", "a.png"]
    assert not np.array_equal(judged.pixels[0], judged.pixels[1])


def test_a_color_picture_is_judged_in_gray_and_the_page_is_told(phantom_model, judge):
    colors = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    judged = judge_uploads(
        judge, phantom_model.run, [Upload("c.png", as_png(colors)), Upload("g.png", png_bytes())]
    )
    assert judged.num_images == 2 and judged.remarks == {"c.png": COLORED_NOTE}
    gray = np.repeat(colors[:, :, :1], 3, axis=2)
    assert is_colored(colors) and not is_colored(gray)


def test_neighbours_are_of_the_training_part_and_really_the_nearest(phantom_model, judge):
    training = training_features(judge, phantom_model.archive)
    with open_archive(phantom_model.archive) as archive:
        fold = read_split(phantom_model.split, archive).folds[0]
        pixels = archive.read_image(int(training.rows[3]))
        every = np.stack([archive.read_image(int(row)) for row in training.rows])
    assert set(training.subjects) == set(fold.train) and not set(training.subjects) & set(fold.test)
    found = nearest_training(judge, pixels, training, phantom_model.archive, num=4, per_subject=10**6)
    features = TaskExtractor(judge, "").features(every)
    order = np.argsort([np.sqrt(((row - features[3]) ** 2).sum()) for row in features], kind="stable")
    assert [item.row for item in found] == training.rows[order[:4]].tolist()
    assert found[0].distance < 1e-3 and found[0].row == training.rows[3]
    alone = nearest_training(judge, pixels, training, phantom_model.archive, num=10)
    assert len({item.subject for item in alone}) == len(alone) == len(fold.train)


def test_typical_distance_is_the_root_mean_square_over_pairs():
    features = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    squares = [((a - b) ** 2).sum() for a in features for b in features]
    assert typical_distance(features) == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-5)
    assert typical_distance(np.ones((4, 3), np.float32)) == 1.0


def test_neighbours_need_the_archive_of_the_training(phantom_model, judge, tmp_path):
    other = tmp_path / "other.zip"
    shutil.copy(phantom_model.archive, other)
    with open(other, "ab") as handle:
        handle.write(b"\n")
    with pytest.raises(ClassifierError, match="expected the archive that the model was trained on"):
        training_features(judge, other)


def test_the_card_says_what_the_files_say(phantom_model):
    card = model_card(phantom_model.run)
    described = json.loads((phantom_model.run / "model.json").read_text())
    measured = json.loads((phantom_model.run / "metrics.json").read_text())["val"]
    assert card.classes == tuple(described["classes"]) and card.arch == described["arch"]
    assert card.num_train_subjects == len(described["subjects"]["train"]) and card.fold == 0
    assert card.parts[0].part == "val" and not card.has_test
    figures = {figure.name: figure.value for figure in card.parts[0].figures}
    assert figures["balanced accuracy"] == measured["metrics"]["balanced_accuracy"]
    assert card.rule is not None and card.made_from == "slices of volumes"


class Page(HTMLParser):
    """What a page would ask for, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("name", ["en", "es"])
def test_the_sheet_needs_nothing_else_and_escapes_names(phantom_model, judge, name):
    evil = "<script>alert(1)</script>.png"
    uploads = [*uploads_of(phantom_model.pictures[0], phantom_model.volume), Upload("bad.png", b"x")]
    uploads.append(Upload(evil, png_bytes()))
    judged = judge_uploads(judge, phantom_model.run, uploads)
    text = SheetText("2026-01-02 03:04", [("Model", "tiny & small")], language=app_language(name))
    html = render_sheet(judged, judge, text)
    page = Page(html)
    assert page.addresses and all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "<script" not in html and "tiny &amp; small" in html and f'lang="{name}"' in html
    words = " ".join(" ".join(page.words).split())
    assert ("For research only." if name == "en" else "Solo para investigación.") in words
    assert "bad.png" in words and "2026-01-02 03:04" in words
    share = judged.probabilities(0)[judged.predictions.images["class"].iloc[0]]
    assert app_language(name).number(100 * share, 1) in words


def test_grad_cam_of_the_sheet_is_that_of_the_package(phantom_model, judge):
    import base64

    from classifier.explain import explain_images, overlay
    from classifier.explain_pictures import enlarged

    judged = judge_uploads(judge, phantom_model.run, uploads_of(phantom_model.pictures[0]))
    html = render_sheet(judged, judge, SheetText("now", [], opacity=0.3))
    images = ImageTable(judged.pixels[0][None])
    heat = explain_images(judge, images)[0]
    wanted = np.asarray(
        enlarged(overlay(judge.preprocessing.prepare(judged.pixels[0][None])[0], heat, 0.3), 192)
    )
    drawn = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1]))).convert("RGB"))
        for address in Page(html).addresses
    ]
    assert any(np.array_equal(picture, wanted) for picture in drawn)
