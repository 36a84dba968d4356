"""Tables that people make, and files that other programs have touched."""

import numpy as np
import pytest
from hypothesis import strategies as st

from extract.cache import TRAILER_BYTES, open_images
from extract.cells import from_cell, to_cell
from extract.errors import ExtractError
from extract.file_hash import remembered_sha256
from extract.safe_names import decode_name, encode_name, file_names
from extract.subjects import read_subject_table
from extract.tables import read_table
from tests.extract.fuzzing import EXAMPLES, explore, mutations, refusals
from tests.extract.making import many_subjects, write_archive

TABLE = 'file,subject_id,label\r\na/1.png,p1,a\r\nb/2.png,"p, 2",b\r\nc/3.png,=1+1,"c""d"\r\n'


@EXAMPLES
def test_subject_tables_with_changed_bytes(tmp_path, num_examples):
    path = tmp_path / "subjects.csv"
    originals = [TABLE.encode(code) for code in ("utf-8", "utf-8-sig", "utf-16", "latin-1")]
    originals.append(TABLE.replace(",", ";").encode())

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with refusals():
            table = read_subject_table(path, label_column="label")
            assert all(table.subjects.values())

    explore(check, st.sampled_from(originals).flatmap(mutations) | st.binary(max_size=60), num_examples)


CELLS = [
    "a/1.png",
    "a/1.png ",
    "./a/1.png",
    "p1",
    "",
    " ",
    "=HYPERLINK(1)",
    "\0",
    "\r",
    '"',
    "ä",
    "-1",
    "NaN",
    "a,b",
]


@EXAMPLES
def test_subject_tables_of_any_cells(tmp_path, num_examples):
    path = tmp_path / "subjects.csv"
    cells = st.sampled_from(CELLS) | st.text(max_size=5)
    rows = st.lists(st.lists(cells, max_size=4), max_size=5)
    header = st.lists(
        st.sampled_from(["file", "subject_id", "label", "path", "class", "name", ""]), max_size=4
    )

    def check(case: tuple[list[str], list[list[str]]]) -> None:
        text = "\n".join(",".join(row) for row in [case[0], *case[1]])
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with refusals():
            table = read_subject_table(path, label_column="label")
            assert all(table.subjects.values()) and "" not in table.subjects

    explore(check, st.tuples(header, rows), num_examples)


@EXAMPLES
def test_tables_of_ours_read_as_they_were_or_not_at_all(num_examples):
    def check(text: str) -> None:
        with refusals():
            table = read_table(text, "t.csv")
            assert all(isinstance(cell, str) for column in table.columns for cell in table[column])

    texts = mutations(TABLE.encode()).map(lambda data: data.decode(errors="replace")) | st.text(max_size=40)
    explore(check, texts, num_examples)


@EXAMPLES
def test_a_changed_cache_file_gives_the_pictures_or_is_made_anew(tmp_path, monkeypatch, num_examples):
    """Changes in its header or its length; the pixels have a check of their own (`--check`)."""
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "cache"))
    with write_archive(tmp_path / "a.zip", many_subjects(2)) as archive:
        expected = np.array(open_images(archive))
        path = tmp_path / "cache" / f"{archive.sha256}.npy"
        sound = path.read_bytes()
        start = len(sound) - TRAILER_BYTES - expected.size

        def check(case: tuple[bytes, int]) -> None:
            header, cut = case
            path.write_bytes(header + sound[start : len(sound) - cut])
            assert np.array_equal(open_images(archive), expected)
            assert path.read_bytes() == sound or (header, cut) == (sound[:start], TRAILER_BYTES)

        cuts = st.sampled_from([0, TRAILER_BYTES, 1, 33, len(sound)])
        explore(check, st.tuples(st.just(sound[:start]) | mutations(sound[:start]), cuts), num_examples)


@EXAMPLES
def test_a_changed_memory_of_hashes_is_not_believed(tmp_path, monkeypatch, num_examples):
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("extract.file_hash.MIN_REMEMBERED_BYTES", 1)
    monkeypatch.setattr("extract.file_hash.SETTLED_SEC", -1.0)
    (tmp_path / "big").write_bytes(b"content")
    expected = remembered_sha256(tmp_path / "big")
    (memory,) = (tmp_path / "cache" / "hashes").iterdir()
    sound = memory.read_bytes()
    hash_at = sound.index(expected.encode())

    def check(data: bytes) -> None:
        memory.write_bytes(data)
        assert remembered_sha256(tmp_path / "big") == expected

    # Not inside the hash: whoever can write to the cache folder can write there what he likes.
    explore(check, mutations(sound[:hash_at]).map(lambda data: data + sound[hash_at:]), num_examples)


@EXAMPLES
def test_cells_read_and_written_again_stay_as_they_are(num_examples):
    kinds = st.one_of(
        st.tuples(st.just(str), st.text()),
        st.tuples(st.just(int | None), st.none() | st.integers()),
        st.tuples(st.just(float | None), st.none() | st.floats(allow_nan=False)),
        st.tuples(st.just(tuple[float, ...]), st.lists(st.floats(width=32, allow_nan=False)).map(tuple)),
        st.tuples(st.just(bool), st.booleans()),
    )

    def check(case: tuple[object, object]) -> None:
        kind, value = case
        cell = to_cell(value)
        assert to_cell(from_cell(cell, kind)) == cell and "\n" not in cell and "\r" not in cell

    explore(check, kinds, num_examples)


@EXAMPLES
def test_names_become_file_names_that_differ_everywhere_and_come_back(num_examples):
    def check(names: list[str]) -> None:
        chosen = file_names(names)
        folded = {text.casefold() for text in chosen.values()}
        assert len(folded) == len(names)
        for name, text in chosen.items():
            assert "/" not in text and "\\" not in text and "\0" not in text and text not in (".", "..")
            assert 0 < len(text.encode()) <= 120 and text == text.strip(" ") and not text.startswith(".")
            if text == encode_name(name) and name.isascii():
                assert decode_name(text) == name

    explore(
        check,
        st.lists(st.text(min_size=1, max_size=60).filter(_is_text), max_size=8, unique=True),
        num_examples,
    )


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a table with a header"),
        ("a,b\n1\n", "expected 2 cells in line 2, got 1"),
        ("a,b\n1,2,3\n", "expected 2 cells in line 2, got 3"),
        ("a,a\n1,2\n", "expected each column once, got a"),
        ("a;b\n1;2\n", "got semicolons or tabs"),
        ('a,b\n"1,2\n', "expected a table, got a fault in line"),
        ("a,b\n1,\0\n", "got a NUL byte"),
        ("a,b\n1," + "x" * 5000 + "\n", "expected cells of at most 4096 characters, got 5000 in b"),
    ],
)
def test_tables_that_are_bent_are_refused_with_the_line(text, message):
    with pytest.raises(ExtractError, match=message):
        read_table(text, "t.csv")


def test_a_table_that_a_spreadsheet_has_marked_as_utf8_is_read():
    assert read_table("\ufeffa,b\n1,2\n", "t.csv")["a"].tolist() == ["1"]
