import json
from pathlib import Path

import numpy as np
import pytest

from extract.archive import Archive, ArchiveWriter, ImageRecord, open_archive
from extract.errors import ExtractError, SettingsError
from extract.held_out import HeldOut, parse_column_values, site_of
from extract.split import Split, make_split, read_split, write_split
from extract.split_table import table_text, tabulate_split
from tests.extract.making import random_pixels

SITES = {"IXI": 8, "OAS": 7, "HH": 9}


def write(path: Path, extra: list[tuple[int, str, str, str]] = ()) -> Archive:
    """Three sites told by the sources, each subject with both classes; `extra` images as given."""
    with ArchiveWriter(path, overwrite=True) as writer:
        number = 0
        for site, count in SITES.items():
            for k in range(count):
                for label in "ab":
                    record = ImageRecord(label=label, subject=f"{site}{k}", source=f"{site}{k}-T1.nrrd")
                    writer.add(random_pixels(number), record)
                    number += 1
        for picture, label, subject, source in extra:
            writer.add(random_pixels(picture), ImageRecord(label=label, subject=subject, source=source))
    return open_archive(path)


def held(archive: Archive, column: str = "source", values: tuple[str, ...] = (), **settings) -> Split:
    return make_split(
        archive, fractions=(0.5,), val_share=0.2, seed=0, held_out=HeldOut(column, values), **settings
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with write(tmp_path_factory.mktemp("sites") / "a.zip") as opened:
        yield opened


def of_site(site: str) -> set[str]:
    return {f"{site}{k}" for k in range(SITES[site])}


def test_the_site_is_the_test_part_and_nowhere_else(archive):
    split = held(archive, values=("IXI",))
    (fold,) = split.folds
    assert set(fold.test) == of_site("IXI")
    assert set(fold.train) | set(fold.val[1.0]) == of_site("OAS") | of_site("HH")


def test_without_a_value_each_site_is_tested_in_turn(archive):
    split = held(archive)
    assert split.held_out is not None and split.held_out.values == ("HH", "IXI", "OAS")
    assert [set(fold.test) for fold in split.folds] == [of_site(s) for s in ("HH", "IXI", "OAS")]


def test_several_values_make_a_fold_each_and_a_pattern_joins_sites(archive):
    two = held(archive, values=("IXI", "OAS"))
    assert [set(fold.test) for fold in two.folds] == [of_site("IXI"), of_site("OAS")]
    (fold,) = held(archive, values=("[IO]*",)).folds
    assert set(fold.test) == of_site("IXI") | of_site("OAS")


def test_a_written_split_reads_as_it_was_and_says_what_was_held_out(archive, tmp_path):
    split = held(archive, values=("IXI",))
    write_split(split, tmp_path / "a.split.json")
    again = read_split(tmp_path / "a.split.json", archive)
    assert again.folds == split.folds and again.held_out == split.held_out and again.sha256 == split.sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["folds"][0]["test"].remove("IXI3") or c["folds"][0]["train"].append("IXI3")
         or c["folds"][0]["labeled"]["1.0"].append("IXI3"),
         "expected source=IXI in the test part and nowhere else, got IXI3 in training or validation"),
        (lambda c: c["held_out"].update(values=["OAS"]), "expected source=OAS in the test part"),
        (lambda c: c["held_out"].update(values=["IXI", "HH"]), "expected one fold for each value of source"),
        (lambda c: c["held_out"].pop("column"), "expected the fields of a split.*column"),
        (lambda c: c["held_out"].update(column="hospital"), "expected the column hospital in the manifest"),
    ],
)  # fmt: skip
def test_planted_faults_in_a_held_out_split_are_named(archive, tmp_path, change, message):
    path = tmp_path / "b.split.json"
    write_split(held(archive, values=("IXI",)), path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ExtractError, match=message):
        read_split(path, archive)


def test_a_table_of_subjects_can_decide_the_test_part(archive, tmp_path):
    subjects = sorted(set(archive.subjects.tolist()))
    lines = [f"{name},{'test' if k % 4 == 0 else 'train'}" for k, name in enumerate(subjects)]
    table = tmp_path / "parts.csv"
    table.write_text("\n".join(["subject,part", *lines]))
    split = held(archive, "part", ("test",), table=table)
    assert split.folds[0].test == tuple(subjects[::4])
    assert split.held_out is not None and split.held_out.table == "parts.csv"
    write_split(split, tmp_path / "a.split.json")
    table.unlink()  # a split is whole without the table
    assert read_split(tmp_path / "a.split.json", archive).folds == split.folds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,part\nIXI0,test\n", "expected a row for each subject, got none for HH0"),
        ("subject,section\nIXI0,test\n", "expected the column part, got subject, section"),
        ("name,part\nIXI0,test\n", "expected one of the columns subject_id, subject"),
        ("subject,part\nIXI0,test\nIXI0,train\n", "expected one part for IXI0, got 'test' and 'train'"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused(archive, tmp_path, text, message):
    (tmp_path / "parts.csv").write_text(text)
    with pytest.raises(ExtractError, match=message):
        held(archive, "part", ("test",), table=tmp_path / "parts.csv")


def test_a_subject_of_two_sites_is_refused_or_tested_whole(tmp_path):
    with write(tmp_path / "a.zip", [(900, "a", "HH0", "IXI99-T1.nrrd")]) as archive:
        with pytest.raises(ExtractError, match=r"got 1 that stand on both: HH0; --whole-subjects tests"):
            held(archive, values=("IXI",))
        split = held(archive, values=("IXI",), whole_subjects=True)
        assert set(split.folds[0].test) == of_site("IXI") | {"HH0"}
        assert split.held_out is not None and split.held_out.moved_subjects == ("HH0",)
        with pytest.raises(ExtractError, match=r"in the test part of one value.*HH0"):
            held(archive, whole_subjects=True)


def test_subjects_linked_across_sites_move_together(tmp_path):
    with write(
        tmp_path / "a.zip", [(900, "a", "HH0", "HH0.nrrd"), (900, "a", "IXI0", "IXI0.nrrd")]
    ) as archive:
        with pytest.raises(ExtractError, match=r"linked by a picture in common.*HH0"):
            held(archive, values=("IXI",))
        split = held(archive, values=("IXI",), whole_subjects=True)
        assert set(split.folds[0].test) == of_site("IXI") | {"HH0"}
        write_split(split, tmp_path / "a.split.json")
        assert read_split(tmp_path / "a.split.json", archive).folds == split.folds


def test_what_cannot_be_held_out_is_refused_with_what_there_is(archive):
    with pytest.raises(
        ExtractError, match=r"expected images with source=UCL, got none; there are HH0-T1\.nrrd"
    ):
        held(archive, values=("UCL",))
    with pytest.raises(ExtractError, match=r"expected the column hospital in the manifest.*--table"):
        held(archive, "hospital", ("A",))
    with pytest.raises(ExtractError, match=r"expected 2 to 20 different values of subject .*got 24"):
        held(archive, "subject")
    with pytest.raises(ExtractError, match=r"expected 2 to 20 different values of origin .*got 1"):
        held(archive, "origin")
    with pytest.raises(ExtractError, match="share no image, got 16 images of IXI that another value has"):
        held(archive, values=("IX*", "IXI"))


def test_a_site_without_a_class_is_refused_by_name(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for k in range(16):
            site = "x" if k < 4 else "y"
            for label in "a" if site == "x" else "ab":
                record = ImageRecord(label=label, subject=f"s{k}", source=f"{site}/{label}/{k}.png")
                writer.add(random_pixels(k, ord(label)), record)
    with open_archive(tmp_path / "a.zip") as archive:
        told = r"with source=x as the test part.*every class in the test part, got none of b"
        with pytest.raises(ExtractError, match=told):
            held(archive, values=("x",))


def test_a_place_is_a_folder_beside_the_class_or_the_beginning_of_the_name():
    assert site_of("IXI132-HH-1415.nrrd", "noise") == "IXI"
    assert site_of("HH/glioma/3.png", "glioma") == "HH"
    assert site_of("glioma/Te-gl_0001.jpg", "glioma") == "Te-gl"


@pytest.mark.parametrize("settings", [("a=1", "b=2"), ("=1",), ("a", "a=1"), ("a=",), ("a=1", "a=1")])
def test_columns_and_values_that_do_not_go_together_are_refused(settings):
    with pytest.raises(SettingsError, match="--hold-out must"):
        parse_column_values(settings, "--hold-out")


def test_the_table_counts_what_rows_gives(archive):
    split = held(archive, values=("IXI",))
    lines = tabulate_split(split, archive)
    by_name = {line.part: line for line in lines}
    for name, part, fraction in (
        ("test (source=IXI)", "test", 1.0), ("training", "train", 1.0), ("labeled at 50 %", "train", 0.5),
        ("validation", "val", 1.0), ("used at 50 %", "val", 0.5),
    ):  # fmt: skip
        rows = split.rows(archive, 0, part, fraction)
        assert by_name[name].num_images == len(rows) == sum(by_name[name].per_class)
        assert by_name[name].num_subjects == len(set(archive.subjects[rows]))
        assert by_name[name].per_class == tuple(np.bincount(archive.labels[rows], minlength=2))
    text = table_text(lines, archive.classes)
    assert text.splitlines()[0].split() == ["fold", "0", "subjects", "images", "a", "b"]
    assert text.splitlines()[1].split() == ["test", "(source=IXI)", "8", "16", "8", "8"]
    assert len({len(line) for line in text.splitlines()}) == 1  # columns stand under each other
