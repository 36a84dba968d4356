"""The file of decisions: nothing is lost, nothing is overwritten, only training images are decided on."""

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract import review_log
from extract.errors import ExtractError, SettingsError
from extract.review_log import FORMAT, read_log, record_decision, undo_decision
from extract.review_rows import Decision, current_decisions, rows_as_csv, standing_rows
from extract.review_scope import find_split
from tests.extract.reviewing import Reviewed, make_reviewed, open_reviewed

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Reviewed:
    return make_reviewed(tmp_path_factory.mktemp("reviewed"))


@pytest.fixture
def data(made) -> Reviewed:
    made.log.unlink(missing_ok=True)
    return made


def other_class(data: Reviewed, image: str) -> str:
    return next(name for name in data.scope.classes if name != data.scope.images[image].label)


def relabel(data: Reviewed, image: str, author: str = "Ann"):
    return record_decision(data.log, data.scope, Decision(image, "relabel", other_class(data, image)), author)


def exclude(data: Reviewed, image: str, author: str = "Ann"):
    return record_decision(data.log, data.scope, Decision(image, "exclude"), author)


def test_what_is_written_is_read_back(data):
    assert read_log(data.log, data.scope).rows == ()
    first, second = data.training[:2]
    relabel(data, first)
    log = record_decision(data.log, data.scope, Decision(second, "keep", "", "high loss", "ab" * 32), "Bea")
    assert read_log(data.log, data.scope) == log
    a, b = log.rows
    assert (a.number, a.author, a.action, a.image) == (1, "Ann", "relabel", first)
    assert (a.old_label, a.new_label) == (data.scope.images[first].label, other_class(data, first))
    assert a.image_sha256 == data.scope.images[first].sha256 and a.time.endswith("+00:00")
    assert (b.number, b.action, b.reason, b.model_sha256) == (2, "keep", "high loss", "ab" * 32)
    header = json.loads(data.log.read_text().splitlines()[0])
    assert header["format"] == FORMAT and header["archive_sha256"] == data.scope.archive_sha256
    assert data.log.name == "data.fold0.review.jsonl"


def test_an_undo_is_a_row_and_brings_back_the_decision_before(data):
    image = data.training[0]
    exclude(data, image)
    relabel(data, image, "Bea")
    assert current_decisions(read_log(data.log, data.scope).rows)[image].action == "relabel"
    log = undo_decision(data.log, data.scope, 2, "Ann")
    assert [row.action for row in log.rows] == ["exclude", "relabel", "undo"]
    assert current_decisions(log.rows)[image].action == "exclude"
    assert current_decisions(undo_decision(data.log, data.scope, 1, "Ann").rows) == {}
    with pytest.raises(ExtractError, match="got row 1; it was undone before"):
        undo_decision(data.log, data.scope, 1, "Ann")
    assert len(read_log(data.log, data.scope).rows) == 4


def test_the_file_only_grows(data):
    before = b""
    for image in data.training[:3]:
        exclude(data, image)
        after = data.log.read_bytes()
        assert after.startswith(before) and len(after) > len(before)
        before = after


def test_validation_and_test_images_are_refused(data):
    for image in (*data.locked, "nobody.png"):
        with pytest.raises(ExtractError, match=r"validation and test images are not reviewed"):
            record_decision(data.log, data.scope, Decision(image, "exclude"), "Ann")
    assert not data.log.exists() and not set(data.training) & set(data.locked)


def test_a_row_on_a_locked_image_is_refused_where_somebody_wrote_it_by_hand(data):
    exclude(data, data.training[0])
    text = data.log.read_text()
    data.log.write_text(text.replace(data.training[0], data.locked[0]))
    with pytest.raises(ExtractError, match=r"line 2 .*expected an image of the training part of fold 0"):
        read_log(data.log, data.scope)


@pytest.mark.parametrize(
    ("decision", "sentence"),
    [
        (Decision("", "relabel", "d"), "expected a new label among a, b, c"),
        (Decision("", "relabel", "a"), "other than 'a', got 'a'"),
        (Decision("", "keep", "b"), "expected no new label beside keep"),
        (Decision("", "delete"), "expected an action among keep, relabel, exclude, undo"),
    ],
)
def test_decisions_that_do_not_fit_are_refused(data, decision, sentence):
    image = next(name for name in data.training if data.scope.images[name].label == "a")
    exclude(data, data.training[1])
    before = data.log.read_bytes()
    with pytest.raises(ExtractError, match=sentence):
        record_decision(
            data.log, data.scope, Decision(image, decision.action, decision.new_label), "Ann"
        )  # fmt: skip
    assert data.log.read_bytes() == before


@pytest.mark.parametrize("author", ["", "  ", "=1+1", "@me", "A\nB", "x" * 81])
def test_an_author_has_a_name(data, author):
    with pytest.raises(SettingsError, match="author must be a name of 1 to 80 characters"):
        exclude(data, data.training[0], author)
    assert not data.log.exists()


def test_spaces_around_a_name_do_not_count(data):
    assert exclude(data, data.training[0], " José Ñ. ").rows[0].author == "José Ñ."


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"action": "exclude"', '"action": "exclud'),
        ('"number": 2', '"number": 3'),
        ('"number": 2', '"number": true'),
        ('"old_label": ', '"old_label": "c", "extra": '),
        ('"author": "Ann"', '"author": " Ann"'),
        ('"time": "2', '"time": "x'),
        ("+00:00", ""),
    ],
)
def test_a_hand_edit_that_breaks_a_row_is_refused_with_its_line_and_left_alone(data, old, new):
    for image in data.training[:2]:
        exclude(data, image)
    lines = data.log.read_text().splitlines(keepends=True)
    assert old in lines[2]
    data.log.write_text("".join([*lines[:2], lines[2].replace(old, new)]))
    broken = data.log.read_bytes()
    for attempt in (
        lambda: read_log(data.log, data.scope),
        lambda: exclude(data, data.training[2]),
        lambda: undo_decision(data.log, data.scope, 1, "Ann"),
    ):
        with pytest.raises(ExtractError, match=r"line 3 is not as it was written: .*it is left as it is"):
            attempt()
    assert data.log.read_bytes() == broken


def test_a_label_changed_by_hand_does_not_fit_the_archive(data):
    exclude(data, data.training[0])
    own = data.scope.images[data.training[0]].label
    data.log.write_text(data.log.read_text().replace(f'"old_label": "{own}"', '"old_label": "z"'))
    with pytest.raises(ExtractError, match="expected the archive's label"):
        read_log(data.log, data.scope)


def test_another_archive_split_or_fold_under_the_name_is_refused(data, tmp_path):
    exclude(data, data.training[0])
    other = make_reviewed(tmp_path, num_subjects=27)
    shutil.copy(data.log, other.log)
    with pytest.raises(ExtractError, match=r"expected decisions on this archive .*on another one"):
        exclude(other, other.training[0])
    text = data.log.read_text()
    other.log.write_text(text.replace(data.scope.archive_sha256, other.scope.archive_sha256))
    with pytest.raises(ExtractError, match=r"expected decisions on this split .*on another one"):
        read_log(other.log, other.scope)
    fold1 = open_reviewed(data.archive, data.split, fold=1)
    assert fold1.log != data.log
    shutil.copy(data.log, fold1.log)
    with pytest.raises(ExtractError, match="expected decisions on fold 1, got those on fold 0"):
        read_log(fold1.log, fold1.scope)
    fold1.log.unlink()


@pytest.mark.parametrize("content", ["", "notes of mine\n", '{"format": "synthlabel-review-9"}\n', "[]\n"])
def test_another_file_under_the_name_is_refused_and_left_alone(data, content):
    data.log.write_text(content)
    with pytest.raises(ExtractError, match=r"move .*away to begin anew"):
        exclude(data, data.training[0])
    assert data.log.read_text() == content


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_row_that_was_cut_off_does_not_count_and_is_replaced(data, share):
    exclude(data, data.training[0])
    whole = data.log.read_bytes()
    exclude(data, data.training[1])
    row = data.log.read_bytes()[len(whole) :]
    data.log.write_bytes(whole + row[: max(1, int(share * len(row)) - 1)])
    log = read_log(data.log, data.scope)
    assert log.cut_line == 3 and len(log.rows) == 1
    log = exclude(data, data.training[2], "Bea")
    assert [row.image for row in log.rows] == [data.training[0], data.training[2]]
    assert read_log(data.log, data.scope) == log and not log.cut_line


def test_a_last_row_without_its_line_end_counts(data):
    exclude(data, data.training[0])
    data.log.write_bytes(data.log.read_bytes().rstrip(b"\n"))  # as editors leave it
    assert len(read_log(data.log, data.scope).rows) == 1
    assert len(exclude(data, data.training[1]).rows) == 2
    assert len(read_log(data.log, data.scope).rows) == 2


@given(st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_are_refused_or_change_nothing_that_counts(written, choose):
    data, whole, rows = written
    place = choose.draw(st.integers(0, len(whole) - 1))
    byte = choose.draw(st.integers(0, 255))
    kind = choose.draw(st.sampled_from(["replace", "insert", "remove", "cut"]))
    damaged = {
        "replace": whole[:place] + bytes([byte]) + whole[place + 1 :],
        "insert": whole[:place] + bytes([byte]) + whole[place:],
        "remove": whole[:place] + whole[place + 1 :],
        "cut": whole[:place],
    }[kind]
    data.log.write_bytes(damaged)
    try:
        found = read_log(data.log, data.scope)
    except ExtractError:
        return  # by a sentence, never by anything else
    # A name, a time or a reason may have been changed; what was decided on which image may not.
    kept = [(row.number, row.image, row.action, row.new_label) for row in found.rows]
    assert kept == [(row.number, row.image, row.action, row.new_label) for row in rows][: len(kept)]


@pytest.fixture
def written(data):
    """A log of four rows, its bytes and its rows."""
    for image in data.training[:3]:
        exclude(data, image)
    log = undo_decision(data.log, data.scope, 2, "Ann")
    return data, data.log.read_bytes(), log.rows


def test_many_writers_lose_nothing(data):
    images = data.training[:20]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda image: exclude(data, image), images))
    log = read_log(data.log, data.scope)
    assert sorted(row.image for row in log.rows) == sorted(images)
    assert [row.number for row in log.rows] == list(range(1, 21))


WRITING = """
import sys
from pathlib import Path
from extract import review_log
from extract.review_rows import Decision
from tests.extract.reviewing import open_reviewed
data = open_reviewed(Path(sys.argv[1]), Path(sys.argv[2]))
print("ready", flush=True)
for image in data.training[int(sys.argv[3])::2]:
    review_log.record_decision(data.log, data.scope, Decision(image, "exclude"), sys.argv[4])
    print(image, flush=True)
"""


def test_two_processes_of_which_one_is_killed_leave_every_row_that_was_told(data):
    command = [sys.executable, "-c", WRITING, str(data.archive), str(data.split)]
    both = [
        subprocess.Popen([*command, start, name], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for start, name in (("0", "Ann"), ("1", "Bea"))
    ]
    told = [both[0].stdout.readline() for _ in range(6)][1:]
    both[0].send_signal(signal.SIGKILL)
    told += both[0].communicate()[0].splitlines(keepends=True)
    said = both[1].communicate()[0].splitlines()
    assert both[0].returncode == -signal.SIGKILL and both[1].returncode == 0
    decided = set(current_decisions(read_log(data.log, data.scope).rows))
    assert {name.strip() for name in told} | set(said[1:]) <= decided
    assert not list(data.log.parent.glob(".*.part"))


def test_a_full_disk_leaves_the_file_as_it_was(data, monkeypatch):
    exclude(data, data.training[0])
    before = data.log.read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(review_log.os, "fsync", fail)
    with pytest.raises(ExtractError, match=r"could not be written beside the archive: No space left"):
        exclude(data, data.training[1])
    assert data.log.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_a_sentence(data, monkeypatch):
    def refuse(path, text):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(review_log, "create_file", refuse)
    with pytest.raises(ExtractError, match="Permission denied; make the folder writable"):
        exclude(data, data.training[0])


def test_the_table_says_what_stands(data):
    exclude(data, data.training[0])
    relabel(data, data.training[1])
    log = undo_decision(data.log, data.scope, 1, "Bea")
    rows = list(csv.DictReader(io.StringIO(rows_as_csv(log.rows))))
    assert [row["stands"] for row in rows] == ["no", "yes", ""]
    assert rows[2]["undoes"] == "1" and rows[1]["new_label"] == other_class(data, data.training[1])
    assert [row.number for row in standing_rows(log.rows)] == [2]


def test_the_only_split_beside_an_archive_is_found(tmp_path):
    archive = tmp_path / "chest.zip"
    with pytest.raises(ExtractError, match=r"got none; name it with --split"):
        find_split(archive)
    (tmp_path / "other.split.json").touch()
    (tmp_path / "chest.split.json").touch()
    assert find_split(archive) == tmp_path / "chest.split.json"
    (tmp_path / "chest.sites.split.json").touch()
    with pytest.raises(ExtractError, match=r"chest.sites.split.json and chest.split.json; name it"):
        find_split(archive)
