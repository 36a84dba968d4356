"""Reading an audit picture by picture: exports and sheets are found, faults are told, no answer is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from extract.archive import open_archive
from extract.errors import SettingsError
from semisup.audit import import_audit, is_recorded, judge_sheets, lost_readers, read_audit
from semisup.audit_export import export_audit
from semisup.audit_key import find_keys, read_keys
from semisup.audit_reading import (
    answers_so_far,
    check_export,
    draw_in_study,
    list_exports,
    neighbor_code,
    next_unanswered,
    open_export,
    read_picture,
    reader_sheets,
    seconds_left,
    sheet_of,
    unknown_folders,
)
from semisup.audit_sheet import read_answers, record_answer
from semisup.audit_statistics import Answer
from semisup.errors import StudyError
from semisup.ledger import read_ledger
from tests.semisup.study_folder import FakeStudy, make_study

SMALL = FakeStudy(num_subjects=18, folds=(0, 1), seeds=(0,), fractions=(0.2,), image_size=16)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study with a sample of its own."""
    study = make_study(tmp_path_factory.mktemp("reading") / "study", SMALL)
    draw_in_study(study, 24, num_bands=1)
    return study


@pytest.fixture
def study(made, tmp_path):
    return shutil.copytree(made, tmp_path / "study")


@pytest.fixture
def export(study):
    (found,) = list_exports(study)
    return found


def answer_all(export, name, label="noise", num=None):
    sheet = sheet_of(export, name)
    for code in export.codes[:num]:
        record_answer(sheet, export.sample, code, label)
    return sheet


# Exports ------------------------------------------------------------------------------------------


def test_a_sample_of_the_page_is_an_export_of_the_command(study, export, tmp_path):
    assert export.folder == study / "audits" / "sample-1"
    (study / "audits").rename(tmp_path / "before")
    export_audit(study, tmp_path / "hand-out", num=24, num_bands=1)
    drawn = tmp_path / "before" / "sample-1"
    names = sorted(path.relative_to(drawn) for path in drawn.rglob("*"))
    assert names == sorted(p.relative_to(tmp_path / "hand-out") for p in (tmp_path / "hand-out").rglob("*"))
    for name in names:
        if (drawn / name).is_file():
            assert (drawn / name).read_bytes() == (tmp_path / "hand-out" / name).read_bytes()


def test_each_new_sample_is_another_and_none_is_taken_for_another(study, export):
    for number in (2, 3):
        draw_in_study(study, 24, num_bands=1)
        assert [one.folder.name for one in list_exports(study)][-1] == f"sample-{number}"
    found = list_exports(study)
    assert len({one.export for one in found}) == 3 and not unknown_folders(study)
    codes = [set(one.codes) for one in found]
    assert not codes[0] & codes[1] and not codes[1] & codes[2]


def test_exports_of_one_seed_never_share_their_codes(study, export, tmp_path):
    """Or a sheet would be judged by another export's key, in silence."""
    export_audit(study, tmp_path / "more", num=60)
    export_audit(study, tmp_path / "arm", num=24, arms=["pseudo_real"], num_bands=1)
    keys = read_keys(study)
    codes = [{picture["code"] for picture in key["pictures"]} for key in keys]
    assert len(keys) == 3 and not codes[0] & codes[1] | codes[0] & codes[2] | codes[1] & codes[2]


def test_of_keys_that_share_codes_the_closest_is_taken_and_none_where_two_are():
    def key(name, *codes):
        return {"export": name, "rows": [{"code": code} for code in codes]}

    small, large = key("small", "BB", "CC"), key("large", "BB", "CC", "DD")
    assert find_keys([large, small], ["bb", "CC"]) == [small]
    assert find_keys([large, small], ["BB", "CC", "DD"]) == [large]
    assert find_keys([small, key("same", "CC", "BB")], ["BB"])[1]["export"] == "same"
    assert find_keys([large, small], ["ZZ"]) == [] == find_keys([], ["BB"])


def test_a_sheet_of_several_exports_is_refused_unless_the_export_is_named(study, export):
    sheet = answer_all(export, "Ana")
    path = study / "audits" / f"{export.export}.json"
    content = json.loads(path.read_text())
    from semisup.audit_key import write_key

    write_key(study, {**{k: v for k, v in content.items() if k != "seal"}, "export": "000000000000"})
    with pytest.raises(StudyError, match="expected codes of one export, got some that several share"):
        import_audit(study, [sheet])
    assert import_audit(study, [sheet], export=export.export).export == export.export


def test_an_export_that_was_handed_out_can_be_opened_by_its_folder(study, tmp_path):
    export_audit(study, tmp_path / "hand-out", num=40)
    assert open_export(study, tmp_path / "hand-out").folder == tmp_path / "hand-out"
    found = list_exports(study, tmp_path / "hand-out")
    assert [one.folder.name for one in found] == ["hand-out", "sample-1"]
    assert len(list_exports(study, study / "audits" / "sample-1")) == 1  # not twice
    with pytest.raises(StudyError, match=r"expected a folder that `semisup audit export .* wrote"):
        open_export(study, tmp_path)


def test_a_folder_whose_key_is_gone_or_whose_pictures_are_others_is_named(study, export):
    draw_in_study(study, 30, num_bands=1)
    other = list_exports(study)[1]
    for code in export.codes:
        (export.folder / "images" / f"{code}.png").write_bytes(b"another")
    assert unknown_folders(study) == [export.folder]
    (study / "audits" / f"{other.export}.json").unlink()
    assert unknown_folders(study) == [export.folder, other.folder] and list_exports(study) == []


def test_a_changed_key_stops_everything(study, export):
    path = study / "audits" / f"{export.export}.json"
    path.write_text(path.read_text().replace('"predicted": 0', '"predicted": 1'))
    with pytest.raises(StudyError, match="expected the key of an audit as it was written"):
        list_exports(study)


def test_pictures_are_those_of_the_archives_and_damaged_ones_are_told(study, export):
    key = read_keys(study)[0]
    archives = {}
    for path in [study / "planes.zip", *study.glob("pools/*/synthetic.zip")]:
        archive = open_archive(path)
        archives[archive.sha256] = archive
    for picture in key["pictures"]:
        archive = archives[picture["archive_sha256"]]
        wanted = archive.read_image(archive.names.index(picture["image"]))
        assert np.array_equal(read_picture(export, picture["code"]), wanted)
    code = export.codes[3]
    path = export.folder / "images" / f"{code}.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        StudyError, match=rf"{code}\.png: expected the picture as it was exported, got another"
    ):
        read_picture(export, code)
    path.unlink()
    with pytest.raises(StudyError, match=rf"{code}\.png: expected the picture that was exported, got"):
        read_picture(export, code)
    with pytest.raises(
        StudyError, match=f"expected {len(export.codes)} pictures, got {len(export.codes) - 1}"
    ):
        check_export(study, export)


def test_a_study_that_changed_since_the_export_is_told_before_the_reading(study, export):
    check_export(study, export)
    run = next(iter(read_keys(study)[0]["ledgers"]))
    ledger = study / "runs" / run / "ledger.parquet"
    read_ledger(ledger).iloc[::-1].to_parquet(ledger, index=False)
    with pytest.raises(StudyError, match="expected the ledger as it was when the audit was exported"):
        check_export(study, export)


# Sheets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Ana", "labels-Ana.csv"),
        ("  A. Ruiz ", "labels-A-Ruiz.csv"),
        ("José Ñandú", "labels-José-Ñandú.csv"),
        ("../../etc/passwd", "labels-etc-passwd.csv"),
        ("x" * 99, f"labels-{'x' * 40}.csv"),
    ],
)
def test_a_name_gives_a_file_in_the_export_and_nowhere_else(export, name, file):
    assert sheet_of(export, name) == export.folder / file


@pytest.mark.parametrize("name", ["", "  ", "./..", "-_-"])
def test_a_name_without_letters_is_refused(export, name):
    with pytest.raises(SettingsError, match="name: expected letters or digits"):
        sheet_of(export, name)


def test_a_reader_in_other_capitals_is_the_same(export):
    sheet = answer_all(export, "Ana", num=2)
    assert sheet_of(export, "ANA") == sheet


def test_sheets_are_listed_with_how_far_they_are(export):
    assert reader_sheets(export) == []  # nobody has written into the one that was handed out
    answer_all(export, "Luis", num=5)
    answer_all(export, "ana")
    record_answer(export.folder / "labels.csv", export.sample, export.codes[0], "noise")
    (export.folder / "labels-bad.csv").write_text("code,label\nZZZZZZ,banana\n")
    found = [(sheet.reader, sheet.num_answered, sheet.is_complete) for sheet in reader_sheets(export)]
    total = len(export.codes)
    assert found == [("", 1, False), ("ana", total, True), ("bad", 0, False), ("Luis", 5, False)]
    assert "unknown code 'ZZZZZZ'" in reader_sheets(export)[2].problem


def test_a_sheet_begun_in_a_spreadsheet_goes_on_with_its_separator(export):
    sheet = export.folder / "labels.csv"
    rows = "".join(f"{code};{'noise' if k < 3 else ''};;\r\n" for k, code in enumerate(export.codes))
    sheet.write_bytes(("code;label;unsure;comment\r\n" + rows).encode("cp1252"))
    record_answer(sheet, export.sample, export.codes[3], "coronal", comment="a; b")
    assert sheet.read_bytes().startswith(b"\xef\xbb\xbfcode;label;unsure;comment")
    answers = answers_so_far(export, sheet)
    assert list(answers) == export.codes[:4] and answers[export.codes[3]] == Answer(0, False, "a; b")


def test_nothing_is_answered_before_a_sheet_is_begun(export):
    assert answers_so_far(export, sheet_of(export, "Ana")) == {}
    assert answers_so_far(export, export.folder / "labels.csv") == {}


def test_answers_of_several_windows_are_all_kept(export):
    """Reading and writing the sheet is one step: without the lock about half would be lost."""
    sheet = sheet_of(export, "Ana")
    parts = [export.codes[k::4] for k in range(4)]
    threads = [
        threading.Thread(
            target=lambda part=part: [record_answer(sheet, export.sample, c, "noise") for c in part]
        )
        for part in parts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read_answers(sheet, export.sample)) == set(export.codes)


def test_a_kill_at_any_moment_leaves_a_whole_sheet(export, study):
    sheet = sheet_of(export, "Ana")
    script = (
        "import sys, itertools; from pathlib import Path\n"
        "from semisup.audit_reading import list_exports\n"
        "from semisup.audit_sheet import record_answer\n"
        "(export,) = list_exports(Path(sys.argv[1])); sheet = Path(sys.argv[2])\n"
        "print('ready', flush=True)\n"
        "for code in itertools.cycle(export.codes): record_answer(sheet, export.sample, code, 'noise')\n"
    )
    for delay in (0.05, 0.12):
        writer = subprocess.Popen(
            [sys.executable, "-c", script, str(study), str(sheet)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        answers = read_answers(sheet, export.sample)
        assert answers and set(answers.values()) == {Answer(1)}
    record_answer(sheet, export.sample, export.codes[0], "coronal")
    assert not list(export.folder.glob(".*.part"))  # what was left over is cleared away


# What comes next ----------------------------------------------------------------------------------


def test_the_next_picture_is_the_first_without_an_answer():
    codes = ["BB", "CC", "DD"]
    assert next_unanswered(codes, {}) == "BB" and next_unanswered(codes, {"BB", "DD"}) == "CC"
    assert next_unanswered(codes, set(codes)) is None


def test_going_back_and_forth_visits_what_was_answered():
    codes, answered = ["BB", "CC", "DD", "FF"], {"BB", "DD"}
    assert neighbor_code(codes, None, -1, answered) == "DD"
    assert neighbor_code(codes, "FF", -1, answered) == "DD"
    assert neighbor_code(codes, "DD", -1, answered) == "BB"
    assert neighbor_code(codes, "BB", -1, answered) is None
    assert neighbor_code(codes, "BB", 1, answered) == "DD" and neighbor_code(codes, "DD", 1, answered) is None


def test_the_time_left_follows_the_usual_pace_and_forgives_a_pause():
    assert seconds_left([4.0, 5.0], 10) is None
    assert seconds_left([4.0, 5.0, 6.0], 10) == 50.0
    assert seconds_left([4.0, 5.0, 3600.0, 6.0, 5.0], 10) == 50.0


# The result ---------------------------------------------------------------------------------------


def test_judging_writes_nothing_and_says_what_the_import_does(study, export):
    sheet = answer_all(export, "Ana")
    judged = judge_sheets(study, [sheet], export=export.export)
    assert read_audit(study) is None and not is_recorded(study, judged)
    assert import_audit(study, [sheet]).result.readers[0].error == judged.result.readers[0].error
    assert is_recorded(study, judged)
    record_answer(sheet, export.sample, export.codes[0], "", unsure=True)
    assert not is_recorded(study, judge_sheets(study, [sheet]))


def test_readers_whom_an_import_would_forget_are_counted(study, export, tmp_path):
    ana, luis = answer_all(export, "Ana", num=6), answer_all(export, "Luis", num=4)

    def answers(*sheets):
        return list(judge_sheets(study, sheets).answers.values())

    assert lost_readers(study, export.export, answers(ana)) == 0
    import_audit(study, [ana, luis])
    assert lost_readers(study, export.export, answers(ana, luis)) == 0
    assert lost_readers(study, export.export, answers(ana)) == 1
    answer_all(export, "Ana", label="coronal")  # goes on, and says otherwise
    assert lost_readers(study, export.export, answers(ana, luis)) == 0
    assert lost_readers(study, "another", answers(ana)) == 2
