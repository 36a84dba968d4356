"""The CLAIM checklist: all items, answered as far as the files tell, and left to the author beyond that."""

import pytest

from semisup.claim_items import SUBJECTS
from semisup.examples import Shelf
from semisup.findings import find
from semisup.records import read_records
from semisup.report import write_report
from semisup.summary import summarize
from tests.semisup.study_folder import FakeStudy, make_study

SMALL = FakeStudy(
    num_subjects=24, images_per_subject=3, folds=(0,), fractions=(0.2, 0.5), pool_size=40, image_size=16
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("claim"), SMALL)


@pytest.fixture(scope="module")
def items(study):
    records = read_records(study)
    with Shelf(records) as shelf:
        return {item.number: item for item in find(records, summarize(records, 50), shelf).claim}


def test_the_items_are_the_44_of_the_update_in_their_order(items):
    assert list(items) == list(range(1, 45)) == [subject.number for subject in SUBJECTS]


def test_every_item_has_an_answer_or_a_hint_for_the_author(items):
    for item in items.values():
        assert item.answers or item.hint, item.number
        assert (item.state == "author") == (not item.answers)
        assert (item.state == "answered") == (item.hint is None)


def test_what_the_software_cannot_know_is_left_to_the_author(items):
    left = {number for number, item in items.items() if item.state == "author"}
    # 8 and 34 are answered where the archive says what it left out, and where study.yaml is there.
    assert left == {2, 3, 5, 6, 8, 11, 13, 15, 16, 18, 34, 41, 44}


def test_answers_are_those_of_the_study(items):
    def said(number: int) -> str:
        return "; ".join(items[number].answers)

    assert "pseudo_gan_full against supervised at 20 % of the labels, by balanced accuracy" in said(4)
    assert "72 images of 24 subjects" in said(7)
    assert "subjects: 24, on two sides: 0" in said(20)
    assert "near duplicates: not searched for" in said(20)
    assert "resnet10t" in said(22)
    assert "torch 2.13.0" in said(23)
    assert "threshold 0.75" in said(25)
    assert "none: all parts come from the same archive" in said(33)
    assert "near duplicates" in said(40)  # what is unknown is a limit


def test_the_checklist_beside_the_page_is_not_overwritten_once_edited(study):
    write_report(study)
    path = study / "claim.md"
    path.write_text(path.read_text() + "mine\n")
    assert write_report(study).beside == ()  # the author has seen all of it
    assert path.read_text().endswith("mine\n")


def test_tables_of_the_checklist_have_a_row_an_item(study):
    write_report(study)
    rows = [line for line in (study / "claim.md").read_text().splitlines() if line.startswith("| ")]
    numbers = [line.split("|")[1].strip() for line in rows if line.split("|")[1].strip().isdigit()]
    assert numbers == [str(n) for n in range(1, 45)]
    assert all(len(line.replace(r"\|", "").split("|")) == 7 for line in rows)
