"""`synthlabel extract review`: lists decisions, and writes the archive that follows from them."""

import pytest
from click.testing import CliRunner, Result

from extract.archive import open_archive
from extract.review_log import record_decision, undo_decision
from extract.review_rows import Decision
from scripts.cli import cli
from tests.extract.reviewing import Reviewed, make_reviewed


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["extract", *[str(argument) for argument in arguments]])


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture
def data(tmp_path) -> Reviewed:
    data = make_reviewed(tmp_path)
    image = next(name for name in data.training if data.scope.images[name].label == "a")
    for decision in (
        Decision(image, "relabel", "b"),
        Decision(data.training[5], "exclude"),
        Decision(data.training[6], "keep"),
    ):
        record_decision(data.log, data.scope, decision, "Ann")
    undo_decision(data.log, data.scope, 3, "Bea")
    return data


def test_decisions_are_listed_and_nothing_is_written(data):
    before = sorted(path.name for path in data.archive.parent.iterdir())
    result = run("review", "--data", data.archive)
    assert result.exit_code == 0
    assert "a -> b by Ann" in said(result) and "keep by Ann (undone)" in said(result)
    assert "undo 3 by Bea" in said(result)
    assert "0 to keep, 1 to relabel, 1 to exclude (fold 0 of data.split.json)" in said(result)
    assert sorted(path.name for path in data.archive.parent.iterdir()) == before


def test_the_new_archive_and_its_split_are_written_and_sound(data, tmp_path):
    result = run("review", "--data", data.archive, "--dest", tmp_path / "new.zip")
    assert result.exit_code == 0, result.output
    assert "new.zip: 71 images, 1 relabeled, 1 left out" in said(result)
    assert "new.split.json: fold 0 of data.split.json as fold 0" in said(result)
    checked = run("verify", "--data", tmp_path / "new.zip", "--split", tmp_path / "new.split.json")
    assert checked.exit_code == 0 and "new.split.json: 1 folds are sound" in said(checked)
    again = run("review", "--data", data.archive, "--dest", tmp_path / "new.zip")
    assert again.exit_code == 1 and "pass --overwrite" in said(again)


def test_splitting_a_reviewed_archive_anew_is_warned_of(data, tmp_path):
    run("review", "--data", data.archive, "--dest", tmp_path / "new.zip")
    arguments = ("--folds", 3, "--fractions", 0.5, "--val-share", 0.2)
    result = run("split", "--data", tmp_path / "new.zip", "--dest", tmp_path / "b.split.json", *arguments)
    assert result.exit_code == 0 and "were excluded or relabeled in a review" in said(result)
    plain = run("split", "--data", data.archive, "--dest", tmp_path / "c.split.json", *arguments)
    assert plain.exit_code == 0 and "in a review" not in said(plain)


def test_what_does_not_fit_is_a_sentence(data, tmp_path):
    wrong = run("review", "--data", data.archive, "--dest", tmp_path / "new.json")
    assert wrong.exit_code == 2 and "--dest must end in .zip" in said(wrong)
    missing = run("review", "--data", tmp_path / "nowhere.zip")
    assert missing.exit_code == 2 and "which is not there" in said(missing)
    fold = run("review", "--data", data.archive, "--fold", 7)
    assert fold.exit_code == 2 and "fold must be 0 to 2" in said(fold)
    nothing = run("review", "--data", data.archive, "--fold", 1, "--dest", tmp_path / "new.zip")
    assert nothing.exit_code == 1 and "expected images to relabel or exclude, got none" in said(nothing)
    data.log.write_text(data.log.read_text().replace('"Ann"', '"Ann", "x": 1'))
    broken = run("review", "--data", data.archive)
    assert broken.exit_code == 1 and "line 2 is not as it was written: unknown field 'x'" in said(broken)


def test_a_row_that_was_cut_off_is_told(data):
    data.log.write_bytes(data.log.read_bytes() + b'{"number": 5')
    assert "note: line 6 was cut off" in said(run("review", "--data", data.archive))


def test_the_archive_that_was_reviewed_stays(data):
    before = data.archive.read_bytes()
    result = run("review", "--data", data.archive, "--dest", data.archive, "--overwrite")
    assert result.exit_code == 2 and "this is what was reviewed" in said(result)
    with open_archive(data.archive) as archive:
        assert len(archive) == 72
    assert data.archive.read_bytes() == before
