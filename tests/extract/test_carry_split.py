"""A split carried over to another archive of the same images."""

import dataclasses

import pytest

from extract.archive import ArchiveWriter, open_archive, read_record
from extract.errors import ExtractError
from extract.split import carry_split, make_split, read_split, write_split
from tests.extract.making import many_subjects, random_pixels, write_archive


def copy_without(archive, dest, left_out):
    """The same rows with other pixels, some subjects missing."""
    with ArchiveWriter(dest, classes=archive.classes) as writer:
        for index in range(len(archive)):
            record = read_record(archive.row(index), "test")
            if record.subject not in left_out:
                writer.add(random_pixels(77, index), record)
    return open_archive(dest)


def test_everybody_stays_on_the_same_side(tmp_path):
    archive = write_archive(tmp_path / "a.zip", many_subjects(20), twins=[("s01", "s07")])
    split = make_split(archive, num_folds=3, fractions=(0.5,), val_share=0.2, seed=4)
    copy = copy_without(archive, tmp_path / "b.zip", ())
    carried = carry_split(split, copy)
    assert carried.folds == split.folds and carried.linked_subjects == split.linked_subjects
    assert carried.archive_sha256 == copy.sha256 != split.archive_sha256
    write_split(carried, tmp_path / "b.split.json")
    read = read_split(tmp_path / "b.split.json", copy)
    assert read.sha256 == carried.sha256
    assert dataclasses.replace(read, path=None) == carried
    with pytest.raises(ExtractError):
        read_split(tmp_path / "b.split.json", archive)


def test_subjects_that_are_gone_are_left_out_and_nobody_else_moves(tmp_path):
    archive = write_archive(tmp_path / "a.zip", many_subjects(80))
    split = make_split(archive, num_folds=3, fractions=(0.5,), val_share=0.3, seed=4)
    gone = {split.folds[0].train[0], split.folds[0].test[0]}
    carried = carry_split(split, copy_without(archive, tmp_path / "b.zip", gone))
    for before, after in zip(split.folds, carried.folds, strict=True):
        for part in ("test", "train"):
            kept = tuple(subject for subject in getattr(before, part) if subject not in gone)
            assert getattr(after, part) == kept


def test_a_part_that_has_lost_a_class_is_no_split_any_more(tmp_path):
    images = {f"s{k:02d}": "a" if k % 2 else "b" for k in range(16)}
    archive = write_archive(tmp_path / "a.zip", images)
    split = make_split(archive, num_folds=2, fractions=(), val_share=0.3, seed=0)
    gone = {subject for subject in split.folds[0].test if images[subject] == "a"}
    with pytest.raises(ExtractError, match=r"cannot be carried over to .*make one with"):
        carry_split(split, copy_without(archive, tmp_path / "b.zip", gone))
