import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.split import read_split
from scripts.cli import cli
from tests.extract.altering import alter, people


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["extract", *[str(argument) for argument in arguments]])


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Three sites of eight subjects; the first of HH shows the mirrored picture of the first of IXI."""
    path = tmp_path_factory.mktemp("checks") / "a.zip"
    pictures = people(24, size=32)
    with ArchiveWriter(path) as writer:
        for k, pixels in enumerate(pictures):
            site = ("HH", "IXI", "OAS")[k // 8]
            for label, shown in (("a", pixels), ("b", np.ascontiguousarray(np.roll(pixels, 9, 0)[:, ::-1]))):
                record = ImageRecord(label=label, subject=f"{site}{k % 8}", source=f"{site}/{label}/{k}.png")
                writer.add(shown, record)
        copy = alter(pictures[8], "brightened")
        writer.add(copy, ImageRecord(label="a", subject="HH0", source="HH/a/copy.png"))
    return path


def test_verify_writes_a_page_and_json(data, tmp_path):
    result = run("verify", "--data", data, "--html", tmp_path / "p.html")
    assert result.exit_code == 0 and "note: 1 groups of near duplicates" in said(result)
    assert (tmp_path / "p.html").read_text().startswith("<!DOCTYPE html>")
    again = run("verify", "--data", data, "--html", tmp_path / "p.html")
    assert again.exit_code == 1 and "already exists" in said(again)
    wrong = run("verify", "--data", data, "--html", tmp_path / "p.zip")
    assert wrong.exit_code == 2 and "--html must end in .html" in said(wrong)
    found = json.loads(run("verify", "--data", data, "--json").stdout)
    assert found["near_duplicates"][0]["subjects"] == ["HH0", "IXI0"]
    quick = json.loads(run("verify", "--data", data, "--json", "--no-near").stdout)
    assert quick["near_duplicates"] is None and quick["remarks"][0] == "near duplicates were not looked for"


def test_near_duplicates_are_linked_on_request_and_told_otherwise(data, tmp_path):
    plain, linked = tmp_path / "plain.split.json", tmp_path / "linked.split.json"
    assert run("split", "--data", data, "--dest", plain, "--folds", 3, "--seed", 0).exit_code == 0
    result = run("split", "--data", data, "--dest", linked, "--folds", 3, "--seed", 0, "--link-near")
    assert "share an identical picture or a near duplicate: HH0+IXI0" in said(result)
    with open_archive(data) as archive:
        for fold in read_split(linked, archive).folds:
            for part in (fold.test, fold.train, *fold.val.values(), *fold.labeled.values()):
                assert ("HH0" in part) == ("IXI0" in part)
    told = "1 groups of near duplicates stand on two sides of the split; make it anew with --link-near"
    assert told in said(run("verify", "--data", data, "--split", plain))
    assert told not in said(run("verify", "--data", data, "--split", linked))


def test_a_site_is_held_out_by_the_command(data, tmp_path):
    result = run("split", "--data", data, "--dest", tmp_path / "a.split.json", "--hold-out", "source=IXI")
    assert result.exit_code == 0, result.output
    assert "test (source=IXI) 8 16 8 8" in said(result) and "1 fold of a.zip" in said(result)
    each = run("split", "--data", data, "--dest", tmp_path / "b.split.json", "--hold-out", "source")
    assert each.exit_code == 0 and "test (source=OAS)" in said(each) and "3 folds of a.zip" in said(each)
    linked = ["split", "--data", data, "--dest", tmp_path / "c.split.json", "--hold-out", "source=IXI"]
    refused = run(*linked, "--link-near")
    assert refused.exit_code == 1 and "HH0; --whole-subjects" in said(refused)
    moved = run(*linked, "--link-near", "--whole-subjects")
    assert moved.exit_code == 0 and "note: 1 subjects are tested with images of other values" in said(moved)


def test_a_fixed_test_part_comes_from_a_table(data, tmp_path):
    with open_archive(data) as archive:
        subjects = sorted(set(archive.subjects.tolist()))
    lines = ["subject,part", *(f"{name},{'test' if k < 5 else 'rest'}" for k, name in enumerate(subjects))]
    (tmp_path / "parts.csv").write_text("\n".join(lines))
    arguments = ["split", "--data", data, "--dest", tmp_path / "a.split.json", "--test-column", "part=test"]
    result = run(*arguments, "--table", tmp_path / "parts.csv")
    assert result.exit_code == 0 and "test (part=test) 5" in said(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hold-out", "source=IXI", "--folds", 3], "give --folds, --hold-out or --test-column"),
        (["--hold-out", "source=IXI", "--test-column", "part=test"], "--test-column, not both"),
        (["--test-column", "part"], "--test-column must be COLUMN=VALUE"),
        (["--hold-out", "a=1", "--hold-out", "b=1"], "--hold-out must name one column"),
        (["--whole-subjects"], "--table and --whole-subjects need --hold-out or --test-column"),
        (["--link-near", "--min-likeness", 1], "--min-likeness must be between 0 and 1, got 1"),
    ],
)  # fmt: skip
def test_flags_that_do_not_go_together_end_with_2(data, tmp_path, arguments, message):
    result = run("split", "--data", data, "--dest", tmp_path / "a.split.json", *arguments)
    assert result.exit_code == 2 and message in said(result)
    assert not (tmp_path / "a.split.json").exists()


def test_show_draws_one_class_and_names_those_there_are(data, tmp_path):
    sheet = ["show", "--data", data, "--columns", 4, "--rows", 1]
    assert run(*sheet, "--dest", tmp_path / "a.png", "--class", "a").exit_code == 0
    refused = run(*sheet, "--dest", tmp_path / "b.png", "--class", "z")
    assert refused.exit_code == 2 and "--class must be one of a, b, got z" in said(refused)
