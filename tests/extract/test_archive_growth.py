"""Manifests with fewer columns than today's, and with more."""

import csv
import io
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

import extract.archive
import extract.archive_lists
from extract.archive import ArchiveWriter, ImageRecord, open_archive, read_record
from extract.archive_lists import BASIC_COLUMNS, COLUMNS
from extract.errors import ExtractError
from tests.extract.making import many_subjects, random_pixels, rewrite_zip, write_archive


@dataclass(frozen=True)
class LaterRecord(ImageRecord):
    """The record of a version to come, with three columns more."""

    later_side: str = ""
    later_width: int | None = None
    later_affine: tuple[float, ...] = ()


@pytest.fixture
def later(monkeypatch) -> None:
    columns = (*COLUMNS, "later_side", "later_width", "later_affine")
    for module in (extract.archive, extract.archive_lists):
        monkeypatch.setattr(module, "COLUMNS", columns)
    monkeypatch.setattr(extract.archive, "ImageRecord", LaterRecord)
    extract.archive._field_kinds.cache_clear()
    yield
    extract.archive._field_kinds.cache_clear()


def read_header(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as opened:
        return next(csv.reader(io.StringIO(opened.read("manifest.csv").decode())))


def test_every_column_has_a_field_and_the_first_are_as_ever():
    assert COLUMNS[: len(BASIC_COLUMNS)] == BASIC_COLUMNS
    names = {field.name for field in fields(ImageRecord)}
    assert {"class_name" if column == "class" else column for column in COLUMNS} == names | {"file", "sha256"}


def test_columns_that_no_image_fills_are_not_written(tmp_path):
    write_archive(tmp_path / "a.zip", many_subjects(2))
    assert read_header(tmp_path / "a.zip") == list(BASIC_COLUMNS)


def test_an_archive_written_before_a_column_was_added_reads_with_empty_cells(tmp_path, later):
    with ArchiveWriter(tmp_path / "old.zip") as writer:
        writer.add(random_pixels(1), LaterRecord(label="a", subject="s"))
    assert read_header(tmp_path / "old.zip") == list(BASIC_COLUMNS)
    with open_archive(tmp_path / "old.zip") as archive:
        assert archive.manifest["later_side"].tolist() == [""]
        assert read_record(archive.row(0), "x") == LaterRecord(label="a", subject="s")


def test_an_added_column_is_written_and_read_by_the_type_of_its_field(tmp_path, later):
    records = [
        LaterRecord(label="a", subject="s", later_side="left", later_width=7, later_affine=(0.1, -2.0, 1e-9)),
        LaterRecord(label="a", subject="s"),
    ]
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for number, record in enumerate(records):
            writer.add(random_pixels(number), record)
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.manifest["later_affine"].tolist() == ["0.1 -2 1e-09", ""]
        assert [read_record(archive.row(index), "x") for index in range(2)] == records


def test_columns_of_a_later_version_or_of_ones_own_are_kept_and_change_nothing(tmp_path):
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    with zipfile.ZipFile(path) as opened:
        rows = list(csv.reader(io.StringIO(opened.read("manifest.csv").decode())))
    table = io.StringIO()
    csv.writer(table).writerows([["scanner", *rows[0]], *(["S1", *row] for row in rows[1:])])
    with open_archive(rewrite_zip(path, tmp_path / "b.zip", {"manifest.csv": table.getvalue()})) as archive:
        assert list(archive.manifest.columns) == [*COLUMNS, "scanner"]
        assert archive.row(0)["scanner"] == "S1" and archive.labels.tolist() == [0, 1, 2] * 3
        assert read_record(archive.row(0), "x") == ImageRecord(label="a", subject="s00")


def test_a_cell_that_is_no_number_is_named_when_it_is_needed(tmp_path):
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    with zipfile.ZipFile(path) as opened:
        text = opened.read("manifest.csv").decode().replace(",a,s00,,,,", ",a,s00,,,steep,", 1)
    with (
        open_archive(rewrite_zip(path, tmp_path / "b.zip", {"manifest.csv": text})) as archive,
        pytest.raises(ExtractError, match=r"expected a value for angle_deg in manifest\.csv, got 'steep'"),
    ):
        read_record(archive.row(0), "b.zip")


def test_a_file_name_that_no_text_can_hold_is_kept_in_escapes(tmp_path):
    source = "bad\udcff\nname\r.png"
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        writer.add(random_pixels(1), ImageRecord(label="a", subject="s", source=source))
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.row(0)["source"] == r"bad\udcff\nname\r.png"


@pytest.mark.parametrize("name", ["a\nb", "a\0", "bad\udcff", "x" * 256])
def test_classes_and_subjects_that_no_table_can_hold_are_refused(tmp_path, name):
    for record in (ImageRecord(label=name, subject="s"), ImageRecord(label="a", subject=name)):
        with (
            pytest.raises(ExtractError, match="of at most 255 characters, no line break"),
            ArchiveWriter(tmp_path / "a.zip") as writer,
        ):
            writer.add(random_pixels(1), record)
    assert list(tmp_path.iterdir()) == []
