"""Figures as files: stable names, the same bytes, text as text, and the numbers beside each."""

import csv
import io

import cv2
import numpy as np
import pytest

from semisup.arms import ARMS
from semisup.figure_files import figure_files
from semisup.figures import SPARE_STYLES, STYLES, arm_style
from semisup.records import read_records
from semisup.summary import summarize
from tests.semisup.study_folder import FakeStudy, make_study

FEW = FakeStudy(
    num_subjects=24, images_per_subject=3, folds=(0,), fractions=(0.2, 0.5), pool_size=20, has_images=False
)
NAMES = ("confusion", "differences", "label-curve", "reliability")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = make_study(tmp_path_factory.mktemp("figures"), FEW)
    records = read_records(study)
    return records, summarize(records, 200)


@pytest.fixture(scope="module")
def files(study):
    return figure_files(*study)


def test_every_figure_is_there_as_svg_png_and_csv(files):
    assert sorted(files) == sorted(
        f"figures/{name}.{kind}" for name in NAMES for kind in ("csv", "png", "svg")
    )


def test_the_same_study_gives_the_same_bytes(study, files):
    assert figure_files(*study) == files


def test_svgs_keep_their_text_and_name_no_date(files):
    for name in NAMES:
        text = files[f"figures/{name}.svg"].decode()
        assert "<text" in text and "<dc:date>" not in text
    assert "pseudo_gan_full" in files["figures/label-curve.svg"].decode()


def test_pngs_have_300_dots_an_inch_on_white(files):
    for name in NAMES:
        picture = cv2.imdecode(np.frombuffer(files[f"figures/{name}.png"], np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[1] == 2160  # 7.2 inches
        assert (picture[0, 0] == 255).all()


def test_nothing_is_cut_off_at_the_right_edge(files):
    for name in NAMES:
        picture = cv2.imdecode(np.frombuffer(files[f"figures/{name}.png"], np.uint8), cv2.IMREAD_COLOR)
        assert (picture[:, -3:] == 255).all(), name


def test_the_numbers_of_a_figure_are_those_of_the_summary(study, files):
    _, summary = study
    rows = list(csv.DictReader(io.StringIO(files["figures/label-curve.csv"].decode())))
    assert [(row["arm"], float(row["fraction"])) for row in rows] == [
        (r.arm, r.fraction) for r in summary.arms
    ]
    assert float(rows[0]["value"]) == summary.arms[0].estimates["balanced_accuracy"].value
    rows = list(csv.DictReader(io.StringIO(files["figures/confusion.csv"].decode())))
    share = {(row["arm"], row["true_class"]): 0.0 for row in rows}
    for row in rows:
        share[row["arm"], row["true_class"]] += float(row["percent"])
    assert all(value == pytest.approx(100) for value in share.values())


def test_figures_in_spanish_have_names_of_their_own(study):
    from semisup.report import report_language

    spanish = figure_files(*study, report_language("es"))
    assert "figures/label-curve.es.svg" in spanish and "figures/label-curve.svg" not in spanish
    assert "exactitud equilibrada" in spanish["figures/label-curve.es.svg"].decode()


def test_no_two_arms_look_alike():
    styles = [arm_style(name) for name in ARMS if not ARMS[name].is_leak]
    assert len(set(styles)) == len(styles)
    assert not set(SPARE_STYLES) & set(STYLES.values())


def test_markers_alone_tell_arms_apart_in_gray():
    markers = [marker for _, marker in STYLES.values()]
    assert len(set(markers)) == len(markers)
