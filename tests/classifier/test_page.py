import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from classifier.config import ClassifierConfig
from classifier.errors import ClassifierError
from classifier.evaluation import EvaluationOptions, evaluate_part
from classifier.evaluation_files import put_explanation, read_metrics
from classifier.page import redraw_page, render, write_evaluation_page
from classifier.run import Provenance
from classifier.training import train_classifier
from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.cache import open_images
from extract.split import make_split
from tests.classifier.toys import toy_pixels

CLASSES = ("<b>flat</b> & $x$", 'hori"zontal', "ver/tical one")


class Page(HTMLParser):
    """Tags in order, all addresses, and the text; complains where a tag is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses, self.text, self.open, self.ids = [], "", [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.addresses += [
            value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")
        ]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps, evaluated on its test part: 30 subjects with awkward class names."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHLABEL_CACHE", str(folder / "cache"))
        labels = np.repeat(np.arange(30) % 3, 3)
        pixels = toy_pixels(labels, size=16, seed=1)
        with ArchiveWriter(folder / "toy.zip", classes=CLASSES) as writer:
            for index, label in enumerate(labels):
                writer.add(pixels[index, 0], ImageRecord(
                    label=CLASSES[label], subject=f"p<{index // 3:02d}>", source=f"s&{index % 2}/x.png",
                ))  # fmt: skip
        with open_archive(folder / "toy.zip") as archive:
            split = make_split(archive, num_folds=3, fractions=(1.0,), val_share=0.3, seed=0)
            images = open_images(archive)
            from classifier.data import real_part

            parts = [real_part(archive, images, split, 0, part) for part in ("train", "val")]
            classifier = train_classifier(
                *parts, archive.classes, ClassifierConfig(steps=2, batch_size=16, validate_every=1),
                provenance=Provenance(archive.sha256, split.sha256, 0, 1.0),
            )  # fmt: skip
            classifier.save(folder / "run")
            evaluate_part(classifier, folder / "run", archive, images, split, 0, "test", 1.0)
            yield folder / "run", archive, classifier, images, split


def test_the_page_starts_with_the_verdict_and_asks_nothing_of_the_network(run):
    folder = run[0]
    text = (folder / "evaluation-test.html").read_text()
    page = Page(text)
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    assert "<script" not in text and "@import" not in text and not re.search(r"url\((?!#)", text)
    assert (
        page.text.index("Balanced accuracy")
        < page.text.index("To keep in mind")
        < page.text.index("Confusion")
    )
    for heading in (
        "Thresholds",
        "Rejection",
        "Calibration",
        "Worst mistakes",
        "Training",
        "How to read this",
    ):
        assert heading in page.text


def test_every_link_leads_somewhere_and_no_id_occurs_twice(run):
    page = Page((run[0] / "evaluation-test.html").read_text())
    assert len(set(page.ids)) == len(page.ids)
    links = {address[1:] for address in page.addresses if address.startswith("#")}
    assert links and links <= set(page.ids)


def test_names_are_shown_as_they_are_and_run_nothing(run):
    text = (run[0] / "evaluation-test.html").read_text()
    assert "<b>flat</b>" not in text
    shown = Page(text).text
    for name in (*CLASSES, "p<"):
        assert name in shown
    assert shown.count(CLASSES[0]) > 5 and "x.png" in shown  # in tables, figures and under pictures


def test_the_page_is_redrawn_from_the_files_and_opens_nothing(run, monkeypatch):
    folder, archive = run[:2]
    before, page = read_metrics(folder), (folder / "evaluation-test.html").read_text()
    monkeypatch.setattr("classifier.run.Classifier.predict_logits", None)
    assert redraw_page(folder, "test", archive.path).read_text() == page
    assert read_metrics(folder) == before


def test_without_the_archive_it_has_names_instead_of_pictures(run):
    text = render(run[0], "test")
    assert "data:image" not in text and "without pictures" in text and "img00000" in text


def test_what_explanations_measured_is_shown_and_outlives_an_evaluation(run):
    folder, archive, classifier, images, split = run
    put_explanation(folder, "test", {
        "text": "Heat <outside> the lungs.", "numbers": {"share outside": [0.25, 0.2, 0.31], "count": 7},
        "method": "gradcam",
    })  # fmt: skip
    text = write_evaluation_page(folder, "test", archive).read_text()
    assert "Heat &lt;outside&gt; the lungs." in text and "0.250" in text and "0.200 to 0.310" in text
    evaluate_part(classifier, folder, archive, images, split, 0, "test", 1.0, EvaluationOptions(by=()))
    assert read_metrics(folder)["test"]["explanation"]["method"] == "gradcam"


def test_a_part_that_was_not_evaluated_has_no_page(run, tmp_path):
    with pytest.raises(ClassifierError, match=r"metrics\.json has no part train"):
        write_evaluation_page(run[0], "train")
    with pytest.raises(ClassifierError, match=r"metrics\.json has no part train"):
        put_explanation(run[0], "train", {})


def test_an_evaluation_of_an_earlier_version_says_what_to_do(run, tmp_path):
    for path in run[0].glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = read_metrics(run[0])
    del content["test"]["calibration"]
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(ClassifierError, match="was written by an earlier version"):
        render(tmp_path, "test")


def test_another_archive_gives_no_pictures(run, tmp_path):
    with ArchiveWriter(tmp_path / "other.zip") as writer:
        writer.add(np.zeros((16, 16), np.uint8), ImageRecord(label="x", subject="y"))
    with (
        open_archive(tmp_path / "other.zip") as other,
        pytest.raises(ClassifierError, match="is not the archive"),
    ):
        write_evaluation_page(run[0], "test", other)
