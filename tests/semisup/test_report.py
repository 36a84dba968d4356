import hashlib
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from extract.language import ENGLISH
from semisup.examples import Shelf, describe_data, find_examples
from semisup.folders import read_json
from semisup.records import read_records
from semisup.report import write_report
from tests.semisup.study_folder import FakeStudy, fail_run, make_study

SMALL = FakeStudy(
    num_subjects=24,
    images_per_subject=3,
    folds=(0,),
    fractions=(0.2, 0.5),
    pool_size=40,
    image_size=16,
)
VOID = {"meta", "link", "img", "br", "hr", "input", "area", "base", "col", "embed", "source", "track", "wbr"}
SECTIONS = [
    "verdict", "primary", "arms", "curve", "equivalence", "rounds", "classes", "confusion", "reliability",
    "samples", "data", "checks", "budget", "claim", "failures", "repeat", "files", "howto",
]  # fmt: skip


class Page(HTMLParser):
    """Checks that every element is closed in order; collects ids, addresses and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data


def read_page(study) -> tuple[str, Page]:
    text = write_report(study).path.read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"), SMALL)


@pytest.fixture(scope="module")
def page(study):
    return read_page(study)


def test_the_page_is_well_formed_and_has_every_section_once(page):
    text, parsed = page
    assert text.startswith("<!DOCTYPE html>")
    assert parsed.open == []
    for section in SECTIONS:
        assert parsed.ids.count(section) == 1, section
    assert len(parsed.tags) > 500
    inner = [address[1:] for address in parsed.addresses if address.startswith("#")]
    assert set(inner) <= set(parsed.ids)


def test_every_section_is_in_the_contents_and_in_their_order(page):
    text = page[0]
    listed = re.findall(r'<li><a href="#(\w+)">', text)
    assert listed == [section for section in SECTIONS if section != "verdict"]
    places = [text.index(f'id="{section}"') for section in listed]
    assert places == sorted(places)


def test_the_primary_comparison_has_its_own_p_value(page, study):
    _, parsed = page
    primary = next(c for c in read_json(study / "results.json")["comparisons"] if c["is_primary"])
    shown = re.sub(r"\s+", " ", parsed.text.partition("Primary comparison")[2][:900])
    assert f"p {primary['difference']['p_value']:.3f}" in shown


def test_what_is_mailed_does_not_say_where_files_lie(study):
    known = read_json(study / "study.json")
    folder = str(study.parent)
    (study / "study.json").write_text(
        json.dumps({
            **known,
            "data": f"{folder}/data.zip",
            "gan": {"network": {"0": f"{folder}/net.safetensors"}},
            "classifier": {**known.get("classifier", {}), "weights": f"{folder}/body.safetensors"},
        })
    )  # fmt: skip
    try:
        write_report(study)
        found = read_json(study / "results.json")["study"]
        assert found["data"] == "data.zip" and found["gan"]["network"] == {"0": "net.safetensors"}
        assert found["classifier"]["weights"] == "body.safetensors"
        assert folder not in json.dumps(found)
    finally:
        (study / "study.json").write_text(json.dumps(known))
        write_report(study)


def test_every_number_in_a_table_is_one_of_results_json(page, study):
    known = written_numbers(read_json(study / "results.json"))
    text = re.sub(r"<(style|script)>.*?</\1>", "", page[0], flags=re.DOTALL)
    cells = [re.sub(r"<[^>]+>", " ", cell) for cell in re.findall(r'<td class="n"[^>]*>(.*?)</td>', text)]
    assert len(cells) > 100
    for cell in cells:
        for number in re.findall(r"[-+]?\d[\d,]*(?:\.\d+)?", cell.replace("2 ×", "")):
            assert number in known or number.lstrip("-+") in known, cell


def written_numbers(content) -> set[str]:
    """Every number of results.json as any of the report's ways of writing would show it."""
    found = set()
    for value in leaves(content):
        if isinstance(value, str):
            found |= set(re.findall(r"[-+]?\d[\d,]*(?:\.\d+)?", value))
            continue
        for text in (
            ENGLISH.count(value), ENGLISH.share(value), ENGLISH.points(value), f"{100 * value:.0f}",
            ENGLISH.p_value(value), ENGLISH.number(value), ENGLISH.duration(value), ENGLISH.percent(value),
        ):  # fmt: skip
            found |= set(re.findall(r"[-+]?\d[\d,]*(?:\.\d+)?", text))
    return found


def leaves(content):
    if isinstance(content, dict):
        for value in content.values():
            yield from leaves(value)
    elif isinstance(content, list):
        for value in content:
            yield from leaves(value)
        yield len(content)
    elif content is not None and not isinstance(content, bool):
        yield content


def test_tables_in_markdown_have_as_many_cells_in_every_row_and_hold_hostile_names(tmp_path):
    names = ("<script>alert(1)</script>", "a|b", "[x](http://example.org)")
    study = make_study(tmp_path, FakeStudy(**{**vars(SMALL), "classes": names}))
    write_report(study)
    text = (study / "report.md").read_text()
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) >= 7
    for table in tables:
        rows = [re.sub(r"\\.", "", row).count("|") for row in table.splitlines()]
        assert len(set(rows)) == 1, table
        assert re.fullmatch(r"\|(?:-+:?\|)+", table.splitlines()[1]), table
    assert "<script" not in re.sub(r"\\<", "", text)
    assert r"a\|b" in text and r"[x\](http" in text
    for heading in re.finditer(r"^#+ .*\n(.*)", text, flags=re.MULTILINE):
        assert heading[1] == "", heading[0]


def test_failed_and_missing_runs_are_named_in_page_and_markdown(tmp_path):
    study = make_study(tmp_path, FakeStudy(**{**vars(SMALL), "has_images": False}))
    fail_run(study, "out of memory in round 2")
    first = next(iter(sorted(study.glob("runs/*"))))
    for path in first.iterdir():
        path.unlink()
    _, parsed = read_page(study)
    for text in (parsed.text, (study / "report.md").read_text().replace("\\", "")):
        assert "out of memory in round 2" in text
        assert "pseudo_real at 50 %, fold 0, seed 2" in text
        assert "supervised at 20 %, fold 0, seed 0" in re.sub(r"\s+", " ", text.partition("not there yet")[2])


def test_the_study_file_and_its_hash_are_in_the_page(tmp_path):
    study = make_study(tmp_path, FakeStudy(**{**vars(SMALL), "has_images": False}))
    (study / "study.yaml").write_text("name: phantom planes  # <b>before</b> the first run\n")
    _, parsed = read_page(study)
    assert "name: phantom planes  # <b>before</b> the first run" in parsed.text
    assert hashlib.sha256((study / "study.yaml").read_bytes()).hexdigest() in parsed.text
    assert "synthlabel semisup run --study study.yaml --outdir study" in parsed.text


def test_runs_of_several_versions_are_told_apart(tmp_path):
    study = make_study(tmp_path, FakeStudy(**{**vars(SMALL), "has_images": False}))
    for number, path in enumerate(sorted(study.glob("runs/*/run.json"))):
        info = json.loads(path.read_text())
        info["versions"] = {"torch": "2.12.0" if number < 2 else "2.13.0"}
        path.write_text(json.dumps(info))
    _, parsed = read_page(study)
    shown = re.sub(r"\s+", " ", parsed.text)
    assert "torch 2.12.0 (2 runs)" in shown
    assert "not all made with the same versions" in shown


def test_the_verdict_comes_before_every_number(page, study):
    text, parsed = page
    headline = write_report(study).verdict
    shown = parsed.text.replace("\u00a0", " ")
    assert headline in re.sub(r"\s+", " ", shown)
    assert text.index('id="verdict"') < text.index("<table")
    assert headline.startswith("Warning: no headline")  # eight test subjects


def test_the_page_asks_for_nothing_outside(page):
    text, parsed = page
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in parsed.addresses)
    assert not {"script", "link", "iframe", "object"} & set(parsed.tags)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_examples_of_every_class_and_of_what_was_passed_over_are_shown(page):
    _, parsed = page
    assert parsed.tags.count("img") > 2 * 24
    assert "passed over" in parsed.text
    assert "pseudo_gan_full at 20 %, fold 0, seed 0" in parsed.text
    assert "24 of 40 synthetic images" in parsed.text


def test_the_data_sheet_counts_subjects_of_every_part(page):
    _, parsed = page
    assert "72 images of 24 subjects, 16 × 16 pixels, gray" in re.sub(r"\s+", " ", parsed.text)
    assert "validation (all labels)" in parsed.text


def test_hostile_names_are_shown_as_text(tmp_path):
    names = ("<script>alert(1)</script>", '$x_1$ & "quoted"', "zebra")
    study = make_study(tmp_path, FakeStudy(**{**vars(SMALL), "classes": names}))
    content = json.loads((study / "study.json").read_text())
    content["name"] = "<img src=x onerror=alert(2)>"
    content["command"] = ["synthlabel", "--name", "<b>bold</b>"]
    (study / "study.json").write_text(json.dumps(content))
    fail_run(study, "<iframe src='http://example.org'>")
    _, parsed = read_page(study)
    assert not {"script", "iframe", "b"} & set(parsed.tags)
    assert all(address.startswith(("#", "data:image/png")) for address in parsed.addresses)
    assert "<script>alert(1)</script>" in parsed.text
    assert "<iframe src='http://example.org'>" in parsed.text
    assert "<img src=x onerror=alert(2)>" in parsed.text


def test_without_archives_the_report_says_so_and_still_renders(tmp_path):
    _, parsed = read_page(make_study(tmp_path, FakeStudy(**{**vars(SMALL), "has_images": False})))
    assert parsed.text.count("There are no pictures:") == 3
    assert "There is no complete data sheet:" in parsed.text
    assert "planes.zip" in parsed.text


def test_an_archive_that_was_replaced_is_not_shown(tmp_path):
    study = make_study(tmp_path, SMALL)
    (study / "planes.zip").write_bytes((study / "pools" / "pool0" / "synthetic.zip").read_bytes())
    records = read_records(study)
    with Shelf(records) as shelf:
        examples = find_examples(records, records.select("pseudo_real", 0.2), shelf)
        assert examples.rounds == ()
        assert "expected the archive that the study used" in examples.problem
        assert "expected the archive that the study used" in describe_data(records, shelf).problem
        assert find_examples(records, records.select("pseudo_gan_full", 0.2), shelf).rounds


def test_a_wrong_pseudo_label_on_a_real_image_is_marked(study):
    records = read_records(study)
    with Shelf(records) as shelf:
        rounds = find_examples(records, records.select("pseudo_real", 0.2), shelf).rounds
    shown = [picture for one in rounds for row in one.rows for picture in row.pictures]
    assert any(picture.is_wrong for picture in shown)
    assert all(("(is " in picture.caption) == picture.is_wrong for picture in shown)


def test_a_study_too_small_for_a_headline_says_so_first(tmp_path):
    few = FakeStudy(
        num_subjects=12, images_per_subject=3, folds=(0,), seeds=(0,), fractions=(0.2,), has_images=False
    )
    study = make_study(tmp_path, few)
    assert write_report(study).verdict.startswith(
        "Warning: no headline, because the comparison rests on 1 seed"
    )
    assert 'class="verdict no-headline"' in (study / "report.html").read_text()


def test_a_study_without_any_finished_run_still_has_a_report(tmp_path):
    study = make_study(tmp_path, FakeStudy(**{**vars(SMALL), "has_images": False}))
    for path in study.glob("runs/*/*"):
        path.unlink()
    _, parsed = read_page(study)
    assert "has no pair of finished runs" in parsed.text
    assert parsed.open == []


def test_many_classes_are_listed_in_one_cell(tmp_path):
    names = tuple(f"a rather long class name {k}" for k in range(7))
    study = make_study(tmp_path, FakeStudy(**{**vars(SMALL), "classes": names, "has_images": False}))
    _, parsed = read_page(study)
    assert "by class" in parsed.text


def test_writing_twice_gives_the_same_bytes(page, study):
    assert write_report(study).path.read_text(encoding="utf-8") == page[0]


def test_rounds_say_who_was_too_uncertain_and_whose_calibration_flatters(tmp_path):
    study = make_study(tmp_path, FakeStudy(**{**vars(SMALL), "has_images": False}))
    flatters = "of the very images that gave the temperature"
    before = " ".join(read_page(study)[0].split())
    assert not any(words in before for words in ("too<br>uncertain", "taught what<br>", flatters))
    for path in study.glob("runs/*/run.json"):
        info = read_json(path)
        for entry in info["rounds"]:
            entry["ece_after_is_cross_fitted"] = False
            if entry["round_index"] > 0:
                entry.update(num_uncertain=7, num_negative=5)
        path.write_text(json.dumps(info))
    text, _ = read_page(study)
    rounds = text[text.index('id="rounds"') : text.index('id="classes"')]
    assert "too<br>uncertain" in rounds and "taught what<br>they are not" in rounds
    assert re.search(r'<td class="n">7</td>\s*<td class="n">5</td>', rounds)
    table = pd.read_csv(study / "tables" / "rounds.csv")
    later = table["round"] > 0
    assert (table.loc[later, "num_uncertain"] == 7).all() and table.loc[~later, "num_negative"].isna().all()
    assert " ".join(rounds.split()).count(flatters) == 1
    assert (table["ece_after_on_its_own_images_in_runs"] == table["num_runs"]).all()
