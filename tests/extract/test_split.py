import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.archive import Archive, ArchiveWriter, ImageRecord, open_archive
from extract.errors import ExtractError, SettingsError
from extract.split import Split, check_split, make_split, read_split, write_split
from tests.extract.making import many_subjects, random_pixels, write_archive

FRACTIONS = (0.2, 0.5, 0.7)


def split_of(
    archive: Archive, num_folds: int = 3, fractions=FRACTIONS, val_share: float = 0.15, seed: int = 0
) -> Split:
    return make_split(archive, num_folds=num_folds, fractions=fractions, val_share=val_share, seed=seed)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with write_archive(tmp_path_factory.mktemp("split") / "a.zip", many_subjects(24, "abc" * 2)) as opened:
        yield opened


def test_each_subject_is_tested_once_and_sits_on_one_side(archive):
    split = split_of(archive)
    tested = Counter(subject for fold in split.folds for subject in fold.test)
    assert tested == Counter(set(archive.subjects.tolist()))
    for fold in split.folds:
        sides = Counter([*fold.test, *fold.train, *fold.val[1.0]])
        assert set(sides) == set(tested) and max(sides.values()) == 1


def test_fractions_are_nested_and_about_as_large_as_asked(archive):
    split = split_of(archive)
    assert split.fractions == (0.2, 0.5, 0.7, 1.0)
    for fold in split.folds:
        for small, large in zip(split.fractions, split.fractions[1:], strict=False):
            assert set(fold.labeled[small]) < set(fold.labeled[large])
            assert set(fold.val[small]) <= set(fold.val[large])
        assert fold.labeled[1.0] == fold.train
        for fraction in split.fractions:
            assert abs(len(fold.labeled[fraction]) - fraction * len(fold.train)) <= 0.5


def test_validation_is_never_larger_than_the_labeled_part(archive):
    split = split_of(archive, val_share=0.4)
    for fold in range(3):
        for fraction in split.fractions:
            val, labeled = (len(split.rows(archive, fold, part, fraction)) for part in ("val", "train"))
            assert 0 < val <= labeled


def test_rows_are_the_images_of_the_part(archive):
    split = split_of(archive)
    for fraction in split.fractions:
        parts = [split.rows(archive, 1, part, fraction) for part in ("train", "unlabeled")]
        assert set(archive.subjects[parts[0]]) == set(split.folds[1].labeled[fraction])
        assert sorted(np.concatenate(parts).tolist()) == split.rows(archive, 1, "train").tolist()
    everything = np.concatenate([split.rows(archive, 1, part) for part in ("train", "val", "test")])
    assert sorted(everything.tolist()) == list(range(len(archive)))


def test_a_part_fold_or_fraction_that_is_not_there_is_refused(archive):
    split = split_of(archive)
    with pytest.raises(SettingsError, match="fold must be 0 to 2"):
        split.rows(archive, 3, "test")
    with pytest.raises(SettingsError, match=r"fraction must be one of \[0.2, 0.5, 0.7, 1.0\]"):
        split.rows(archive, 0, "train", 0.3)
    with pytest.raises(SettingsError, match=r"part must be one of.*'exam'"):
        split.rows(archive, 0, "exam")


def test_synthetic_images_belong_to_no_part(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for number in range(30):
            writer.add(random_pixels(number), ImageRecord(label="a", subject=f"s{number}"))
            writer.add(random_pixels(number, 9), ImageRecord(label="a", origin="synthetic", seed=number))
    with open_archive(tmp_path / "a.zip") as archive:
        split = split_of(archive)
        rows = np.concatenate([split.rows(archive, 0, part) for part in ("train", "val", "test")])
        assert sorted(rows.tolist()) == list(range(0, 60, 2))


def test_a_seed_gives_one_split_and_another_seed_another(archive):
    assert split_of(archive) == split_of(archive)
    assert split_of(archive, seed=1).folds != split_of(archive).folds


def test_other_fractions_leave_the_test_parts_as_they_are(archive):
    assert [fold.test for fold in split_of(archive, fractions=(0.3,)).folds] == [
        f.test for f in split_of(archive).folds
    ]


def test_single_class_subjects_are_spread_in_proportion(tmp_path):
    images = {f"s{k:03d}": "aaabbc"[k % 6] for k in range(120)}
    with write_archive(tmp_path / "a.zip", images) as archive:
        split = split_of(archive, num_folds=4, fractions=(0.2,))
        for fold in split.folds:
            assert Counter(images[s] for s in fold.test) == {"a": 15, "b": 10, "c": 5}
            labeled = Counter(images[s] for s in fold.labeled[0.2])
            assert labeled["a"] > labeled["b"] > labeled["c"] >= 2


def test_a_rare_class_reaches_every_part(tmp_path):
    images = many_subjects(21, "ab") | {f"r{k}": "abc" for k in range(4)}
    with write_archive(tmp_path / "a.zip", images) as archive:
        split = split_of(archive, num_folds=2)
        rare = archive.classes.index("c")
        for fold in range(2):
            for part, fraction in (("test", 1.0), ("val", 0.2), ("train", 0.2)):
                assert rare in archive.labels[split.rows(archive, fold, part, fraction)]


def test_subjects_with_an_identical_picture_stay_together(tmp_path):
    twins = [("s01", "s02"), ("s03", "s07")]
    with write_archive(tmp_path / "a.zip", many_subjects(18), twins) as archive:
        for seed in range(5):
            split = split_of(archive, num_folds=3, seed=seed)
            assert split.linked_subjects == (("s01", "s02"), ("s03", "s07"))
            for fold in split.folds:
                for a, b in twins:
                    for part in (fold.test, fold.train, *fold.val.values(), *fold.labeled.values()):
                        assert (a in part) == (b in part)


def test_chains_of_identical_pictures_join_all_their_subjects(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for number in range(12):
            writer.add(random_pixels(number), ImageRecord(label="a", subject=f"s{number:02d}"))
        for a, b, picture in (("s00", "s04", 90), ("s04", "s09", 91)):
            for subject in (a, b):
                writer.add(random_pixels(picture), ImageRecord(label="a", subject=subject))
    with open_archive(tmp_path / "a.zip") as archive:
        split = split_of(archive)
        assert split.linked_subjects == (("s00", "s04", "s09"),)
        for fold in split.folds:
            sides = [{"s00", "s04", "s09"} & set(part) for part in (fold.test, fold.train, fold.val[1.0])]
            assert sorted(len(side) for side in sides) == [0, 0, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_folds": 1}, "--folds must be at least 2, got 1"),
        ({"val_share": 0.0}, "--val-share must be between 0 and 1, got 0.0"),
        ({"fractions": (0.2, 1.5)}, "--fractions must be above 0 and at most 1, got 1.5"),
    ],
)  # fmt: skip
def test_settings_outside_their_range_are_refused(archive, arguments, message):
    with pytest.raises(SettingsError, match=message):
        split_of(archive, **arguments)


def test_too_few_subjects_are_refused_with_the_numbers(tmp_path):
    with write_archive(tmp_path / "a.zip", many_subjects(6)) as archive:
        with pytest.raises(
            ExtractError, match=r"expected at least 7 subjects for 5 folds.*got 6; use fewer --folds"
        ):
            split_of(archive, num_folds=5)
        with pytest.raises(
            ExtractError, match=r"more subjects at fraction 0\.25 than at 0\.2, got the same 1 of 3"
        ):
            split_of(archive, num_folds=3, fractions=(0.2, 0.25))


def test_a_class_of_too_few_subjects_is_refused_by_name(tmp_path):
    images = many_subjects(12, "a") | {"x0": "b", "x1": "b"}
    archive = write_archive(tmp_path / "a.zip", images)
    with pytest.raises(ExtractError, match=r"every class in the .*part.*none of b.*by class a: 12, b: 2"):
        split_of(archive, num_folds=3)


def test_unlabeled_images_are_refused(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for number in range(10):
            writer.add(random_pixels(number), ImageRecord(label="a" if number else "", subject=f"s{number}"))
    with (
        open_archive(tmp_path / "a.zip") as archive,
        pytest.raises(ExtractError, match="got 1 of 10 without"),
    ):
        split_of(archive)


def test_a_written_split_reads_as_it_was(archive, tmp_path):
    split = split_of(archive)
    write_split(split, tmp_path / "a.split.json")
    again = read_split(tmp_path / "a.split.json", archive)
    assert again.folds == split.folds and again.sha256 == split.sha256
    assert again.path == tmp_path / "a.split.json"


def _edit(split: Split, path: Path, change) -> Path:
    write_split(split, path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def _leak(content) -> None:
    fold = content["folds"][1]
    fold["test"] = sorted({*fold["test"], "s09"})
    fold["train"] = sorted({*fold["train"], "s09"})
    fold["val"] = {
        fraction: [s for s in subjects if s != "s09"] for fraction, subjects in fold["val"].items()
    }


def _grow_val(content) -> None:
    fold = content["folds"][0]
    moved = fold["train"][-6:]
    fold["train"] = [s for s in fold["train"] if s not in moved]
    fold["labeled"] = {
        f: [s for s in v if s not in moved] or fold["train"][:1] for f, v in fold["labeled"].items()
    }
    fold["val"] = {f: sorted([*v, *moved]) for f, v in fold["val"].items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(archive_sha256="0" * 64), "expected a split of .*got one of another archive"),
        (_leak, "fold 1: expected each subject on one side, got s09 in test and train"),
        (lambda c: c["folds"][0]["test"].append("nobody"), "fold 0: expected subjects of .*got 'nobody'"),
        (lambda c: c["folds"].append(c["folds"][0]), "test part of one fold, got s.. in fold 0 and fold 3"),
        (lambda c: c["folds"][2]["labeled"]["0.5"].remove(c["folds"][2]["labeled"]["0.2"][0]),
         "fold 2: labeled at fraction 0.5: expected nested fractions, got s.. outside"),
        (lambda c: c["folds"][2]["labeled"]["0.7"].append(c["folds"][2]["test"][0]), "nested fractions"),
        (lambda c: c["folds"][0]["labeled"].update({"1.0": c["folds"][0]["labeled"]["1.0"][1:]}), "expected"),
        (lambda c: c["folds"][0].update(test=[]), "every class in the test part, got none of a, b, c"),
        (_grow_val, "expected at most as many images for validation as labeled ones at fraction 0.2, got"),
        (lambda c: c["folds"][0].pop("val"), "expected the fields of a split"),
        (lambda c: c["folds"][0]["val"].pop("0.5"), "each fold needs val and labeled at each fraction"),
        (lambda c: c.update(format="other"), "expected the fields of a split.*format 'other'"),
    ],
)  # fmt: skip
def test_planted_faults_are_named(archive, tmp_path, change, message):
    with pytest.raises(ExtractError, match=message):
        read_split(_edit(split_of(archive), tmp_path / "b.split.json", change), archive)


def test_an_identical_picture_on_two_sides_is_refused(tmp_path):
    with write_archive(tmp_path / "a.zip", many_subjects(18), [("s03", "s07")]) as archive:
        split = split_of(archive)

        def part_them(content) -> None:
            fold = next(f for f in content["folds"] if "s07" in f["test"])
            fold["test"].remove("s07")

        path = _edit(split, tmp_path / "b.split.json", part_them)
        read_split(path, archive)  # leaving a subject out is no leak

        def leak(content) -> None:
            fold = next(f for f in content["folds"] if "s07" in f["test"])
            fold["test"].remove("s07")
            fold["train"].append("s07")
            fold["labeled"]["1.0"].append("s07")

        with pytest.raises(
            ExtractError, match=r"identical picture of s03 in test and of s07 in train \(00000/img"
        ):
            read_split(_edit(split, tmp_path / "c.split.json", leak), archive)


def test_what_is_no_split_is_refused(archive, tmp_path):
    with pytest.raises(ExtractError, match="nothing there; make one with"):
        read_split(tmp_path / "none.split.json", archive)
    (tmp_path / "a.split.json").write_text("{")
    with pytest.raises(ExtractError, match="expected a split as JSON"):
        read_split(tmp_path / "a.split.json", archive)
    (tmp_path / "a.split.json").write_text("[]")
    with pytest.raises(ExtractError, match="expected the fields of a split"):
        read_split(tmp_path / "a.split.json", archive)


@given(
    labels=st.lists(st.text("ab", min_size=1, max_size=4), min_size=4, max_size=20),
    num_folds=st.integers(2, 3),
    val_share=st.floats(0.05, 0.6),
    seed=st.integers(0, 5),
    twins=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=3),
)
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_a_split_either_keeps_every_promise_or_is_refused(
    tmp_path_factory, labels, num_folds, val_share, seed, twins
):
    images = {f"s{k:02d}": text for k, text in enumerate(labels)}
    pairs = [(f"s{a:02d}", f"s{b:02d}") for a, b in twins if a < b < len(labels)]
    with write_archive(tmp_path_factory.mktemp("law") / "a.zip", images, pairs) as archive:
        try:
            split = split_of(archive, num_folds, (0.4,), val_share, seed)
        except ExtractError as error:
            assert "use fewer --folds" in str(error)
            return
        check_split(split, archive)
        tested = sorted(subject for fold in split.folds for subject in fold.test)
        assert tested == sorted(images)
