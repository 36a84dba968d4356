import json

import numpy as np

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.png import encode_png
from extract.split import make_split, write_split
from extract.verify import verify_archive
from tests.extract.making import many_subjects, random_pixels, rewrite_zip, write_archive


def test_a_sound_archive_is_counted_by_class_and_subject(tmp_path):
    with write_archive(tmp_path / "a.zip", {"x": "aaab", "y": "a", "z": "bb"}) as archive:
        found = verify_archive(archive)
    assert found.errors == () and found.warnings == ()
    lines = [
        (line.name, line.num_images, line.num_subjects, line.min_images, line.max_images)
        for line in found.counts
    ]
    assert lines == [("a", 4, 2, 1, 3), ("b", 3, 2, 1, 2)]
    assert (found.num_images, found.num_subjects) == (7, 3)


def test_exchanged_and_odd_pictures_are_named(tmp_path):
    path = write_archive(tmp_path / "a.zip", many_subjects(3)).path
    forged = rewrite_zip(path, tmp_path / "b.zip", {"00000/img00000004.png": encode_png(random_pixels(99))})
    with open_archive(forged) as archive:
        errors = verify_archive(archive).errors
    assert errors == ("1 pictures differ from the SHA-256 in manifest.csv: 00000/img00000004.png",)


def test_duplicates_are_counted_and_conflicting_labels_are_errors(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for subject, label, picture in (
            ("x", "a", 1),
            ("y", "a", 1),
            ("x", "a", 2),
            ("y", "b", 2),
            ("y", "b", 3),
        ):
            writer.add(random_pixels(picture), ImageRecord(label=label, subject=subject))
    with open_archive(tmp_path / "a.zip") as archive:
        found = verify_archive(archive)
    assert found.num_duplicate_groups == 2
    assert "2 groups of identical pictures, 2 of them across subjects" in found.warnings[0]
    assert found.errors == (
        "identical pictures with different labels: 00000/img00000002.png (a), 00000/img00000003.png (b)",
    )


def test_blank_duplicates_are_pointed_out(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for subject in "xyz":
            writer.add(np.zeros((8, 8), np.uint8), ImageRecord(label="a", subject=subject))
    with open_archive(tmp_path / "a.zip") as archive:
        assert any("one gray level" in warning for warning in verify_archive(archive).warnings)


def test_unlabeled_images_have_their_own_line(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        writer.add(random_pixels(1), ImageRecord(label="a", subject="x"))
        writer.add(random_pixels(2), ImageRecord(subject="x"))
    with open_archive(tmp_path / "a.zip") as archive:
        assert [line.name for line in verify_archive(archive).counts] == ["a", "(unlabeled)"]


def test_a_split_is_checked_as_well(tmp_path):
    with write_archive(tmp_path / "a.zip", many_subjects(12)) as archive:
        path = tmp_path / "a.split.json"
        write_split(make_split(archive, num_folds=3, fractions=(0.5,), val_share=0.2, seed=0), path)
        found = verify_archive(archive, path)
        assert found.errors == () and found.split is not None and len(found.split.folds) == 3
        content = json.loads(path.read_text())
        content["folds"][0]["train"].append(content["folds"][0]["test"][0])
        path.write_text(json.dumps(content))
        (error,) = verify_archive(archive, path).errors
        assert "expected each subject on one side" in error
