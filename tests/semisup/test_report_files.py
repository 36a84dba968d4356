"""The files of a report: whole, replaced when made anew, and nobody else's touched."""

import pytest

from semisup.report_files import LIST, write_files


def texts(folder) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LIST
    }


def test_what_was_made_before_is_replaced_and_what_is_not_made_any_more_is_removed(tmp_path):
    write_files(tmp_path, {"figures/a.svg": b"1", "tables/b.csv": b"1", "results.csv": b"1"})
    write_files(tmp_path, {"figures/a.svg": b"2", "results.csv": b"2"})
    assert texts(tmp_path) == {"figures/a.svg": "2", "results.csv": "2"}
    assert not (tmp_path / "tables").exists()


def test_files_of_others_stay(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.svg").write_text("mine")
    (tmp_path / "claim.md").write_text("there before")
    places = write_files(tmp_path, {"figures/a.svg": b"1", "claim.md": b"ours"})
    assert places["claim.md"] == tmp_path / "claim.new.md"
    write_files(tmp_path, {"claim.md": b"ours"})
    assert texts(tmp_path) == {
        "claim.md": "there before", "claim.new.md": "ours", "figures/mine.svg": "mine",
    }  # fmt: skip


def test_an_edited_file_is_left_alone_and_only_news_is_put_beside_it(tmp_path):
    write_files(tmp_path, {"claim.md": b"first"})
    (tmp_path / "claim.md").write_text("edited")
    assert write_files(tmp_path, {"claim.md": b"first"}) == {}
    assert texts(tmp_path) == {"claim.md": "edited"}
    write_files(tmp_path, {"claim.md": b"second"})
    assert texts(tmp_path) == {"claim.md": "edited", "claim.new.md": "second"}
    (tmp_path / "claim.new.md").unlink()  # taken over by hand
    write_files(tmp_path, {"claim.md": b"second"})
    assert texts(tmp_path) == {"claim.md": "edited"}


def test_an_edited_copy_beside_it_is_somebodys_too(tmp_path):
    write_files(tmp_path, {"claim.md": b"first"})
    (tmp_path / "claim.md").write_text("edited")
    write_files(tmp_path, {"claim.md": b"second"})
    (tmp_path / "claim.new.md").write_text("edited as well")
    write_files(tmp_path, {"claim.md": b"third"})
    assert texts(tmp_path) == {
        "claim.md": "edited", "claim.new.md": "edited as well", "claim.new2.md": "third",
    }  # fmt: skip


def test_undoing_the_edit_gives_the_file_back(tmp_path):
    write_files(tmp_path, {"claim.md": b"first"})
    (tmp_path / "claim.md").write_text("edited")
    write_files(tmp_path, {"claim.md": b"second"})
    (tmp_path / "claim.md").write_text("first")
    write_files(tmp_path, {"claim.md": b"third"})
    assert texts(tmp_path) == {"claim.md": "third"}


def test_pages_and_results_are_ours_whatever_was_done_to_them(tmp_path):
    for name in ("report.html", "report.es.html", "results.json", "results.csv"):
        (tmp_path / name).write_text("opened and saved by a spreadsheet")
        assert write_files(tmp_path, {name: b"new"})[name] == tmp_path / name
        assert (tmp_path / name).read_text() == "new"


def test_reports_in_two_languages_leave_each_others_files(tmp_path):
    write_files(tmp_path, {"report.md": b"en", "tables/a.csv": b"1"})
    write_files(tmp_path, {"report.es.md": b"es", "tables/a.csv": b"2"}, "report-files.es.json")
    write_files(tmp_path, {"report.md": b"en", "tables/a.csv": b"3"})
    found = texts(tmp_path)
    assert (found["report.md"], found["report.es.md"], found["tables/a.csv"]) == ("en", "es", "3")
    assert "tables/a.new.csv" not in found


def test_a_report_killed_between_two_files_is_finished_by_the_next(tmp_path, monkeypatch):
    import semisup.report_files as module

    write_files(tmp_path, {"a.md": b"1", "b.md": b"1"})
    replace_file, calls = module.replace_file, []

    def dies(path):
        calls.append(path.name)
        if calls.count("b.md"):
            raise KeyboardInterrupt
        return replace_file(path)

    monkeypatch.setattr(module, "replace_file", dies)
    with pytest.raises(KeyboardInterrupt):
        write_files(tmp_path, {"a.md": b"2", "b.md": b"2"})
    assert texts(tmp_path) == {"a.md": "2", "b.md": "1"}
    monkeypatch.setattr(module, "replace_file", replace_file)
    write_files(tmp_path, {"a.md": b"3", "b.md": b"3"})
    assert texts(tmp_path) == {"a.md": "3", "b.md": "3"}


def test_a_list_that_points_outside_is_not_followed(tmp_path):
    outside = tmp_path / "precious.txt"
    outside.write_text("x")
    folder = tmp_path / "study"
    folder.mkdir()
    import hashlib
    import json

    digest = hashlib.sha256(b"x").hexdigest()
    content = {"format": "synthlabel-report-files-1", "files": {"../precious.txt": [digest]}}
    (folder / LIST).write_text(json.dumps(content))
    write_files(folder, {"a.md": b"1"})
    assert outside.exists()
