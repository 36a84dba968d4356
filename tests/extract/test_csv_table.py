import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.csv_table import read_csv_table
from extract.errors import ExtractError
from extract.subjects import read_file_table, read_subject_table


def written(tmp_path, content: bytes | str):
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_encodings_and_line_ends_make_no_difference(tmp_path, mark, encoding, end):
    lines = [f"id{mark}clase", f"a{mark}Niño sano", f'"b{mark}c"{mark}"""x"""', ""]
    read = read_csv_table(written(tmp_path, end.join(lines).encode(encoding)))
    assert read.frame.columns.tolist() == ["id", "clase"]
    assert read.frame.to_numpy().tolist() == [["a", "Niño sano"], [f"b{mark}c", '"x"']]
    assert read.frame.index.tolist() == [2, 3]
    assert len(read.notes) == (encoding == "cp1252")


def test_a_guessed_encoding_is_told(tmp_path):
    read = read_csv_table(written(tmp_path, "file,who\na,José\n".encode("latin-1")))
    assert read.frame["who"].tolist() == ["José"]
    assert "t.csv is not in UTF-8 and was read as Windows-1252" in read.notes[0]


def test_what_spreadsheets_add_is_passed_over(tmp_path):
    read = read_csv_table(written(tmp_path, "sep=;\n\n id ; x;\na;1;\n\nb;2;;\n"))
    assert read.frame.to_numpy().tolist() == [["a", "1"], ["b", "2"]]
    assert read.frame.columns.tolist() == ["id", "x"] and read.frame.index.tolist() == [4, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", r"got a spreadsheet \(\.xlsx or \.xls\); save it as 'CSV UTF-8'"),
        (b"", "expected a CSV table with a line of column names, got an empty file"),
        (b"a,b\n1,2\n1,2,3\n", r"expected 2 cells in each row \(a, b\), got 3 in line 3"),
        (b"a,b\n1\n", "expected 2 cells in each row .* got 1 in line 2"),
        (b"a,a\n1,2\n", "expected each column once, got a twice"),
        (b"a,b\n\x00,2\n", "got bytes that are no text"),
        (b'a,b\n"1,2\n', "expected a CSV table, got line 2 that is none"),
        (b"\x81\x8d\x8f", "got bytes that are no text"),
    ],
)
def test_what_is_no_table_is_refused_with_the_remedy(tmp_path, content, message):
    with pytest.raises(ExtractError, match=message):
        read_csv_table(written(tmp_path, content))


def test_a_row_without_a_value_is_named_by_its_line(tmp_path):
    with pytest.raises(ExtractError, match="got none for line 3"):
        read_subject_table(written(tmp_path, "file,subject_id\na/x.png,p1\n,\n"))
    with pytest.raises(ExtractError, match=r"in column who of each row, got none for a\.png"):
        read_subject_table(written(tmp_path, "file,who\na.png,\n"), subject_column="who")


def test_a_table_of_ids_finds_files_whatever_their_folder_and_suffix(tmp_path):
    path = written(tmp_path, "id;clase\n0001;1.0\n0002;0.0\nb/0003;2\nc/0004.png;2\n")
    table = read_file_table(path, label_column=("label", "clase"))
    files = ["x/0001.jpg", "0002.png", "b/0003.tif", "c/0004.png"]
    assert table.match(files) == ["0001", "0002", "b/0003", "c/0004.png"]
    assert [table.columns["label"][name] for name in table.match(files)] == ["1", "0", "2", "2"]


def test_an_id_that_two_files_share_is_refused(tmp_path):
    table = read_file_table(written(tmp_path, "id,clase\n1,a\n"), label_column="clase")
    with pytest.raises(
        ExtractError, match=r"one file for the row 1, got a/1\.png and b/1\.png; write their paths"
    ):
        table.match(["a/1.png", "b/1.png"])
    with pytest.raises(ExtractError, match=r"expected a row for 2\.png, got none \(nor for 1 other files\)"):
        table.match(["1.png", "2.png", "3.png"])


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from([b"file", b"id", b",", b";", b'"', b"\n", b"\r", b"\xff", b"\0", b"a"])).map(
        b"".join
    )
)
def test_whatever_bytes_come_they_are_a_table_or_one_sentence(tmp_path, content):
    try:
        read = read_csv_table(written(tmp_path, content))
    except ExtractError as error:
        assert str(error).startswith(str(tmp_path / "t.csv"))
    else:
        assert len(set(read.frame.columns)) == len(read.frame.columns) > 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=4),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_a_spreadsheet_writes_comes_back(tmp_path, rows, mark, encoding):
    text = io.StringIO()
    csv.writer(text, delimiter=mark, quoting=csv.QUOTE_ALL).writerows([("id", "x", "y"), *rows])
    read = read_csv_table(written(tmp_path, text.getvalue().encode(encoding)))
    assert read.frame.to_numpy().tolist() == [[cell.strip() for cell in row] for row in rows]
