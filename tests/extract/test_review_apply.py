"""A new archive and split from decisions: what was decided and nothing else, and no leak."""

import json
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.errors import ExtractError, SettingsError
from extract.held_out import HeldOut
from extract.review_apply import apply_review, read_review
from extract.review_log import record_decision, undo_decision
from extract.review_rows import Decision
from extract.split import make_split, read_split, write_split
from tests.extract.making import many_subjects, random_pixels, write_archive
from tests.extract.reviewing import Reviewed, make_reviewed, open_reviewed


@pytest.fixture
def data(tmp_path) -> Reviewed:
    return make_reviewed(tmp_path)


def apply(data: Reviewed, name: str = "new", fold: int = 0, **options):
    folder = data.archive.parent
    return apply_review(
        data.archive, data.split, fold, folder / f"{name}.zip", folder / f"{name}.split.json", **options
    )


def decide(data: Reviewed, image: str, action: str, label: str = ""):
    return record_decision(data.log, data.scope, Decision(image, action, label), "Ann")


def table_of(path):
    """Subject, label and bytes of each image, in order."""
    with open_archive(path) as archive:
        return [
            (str(archive.subjects[row]), archive.manifest["label"].iat[row], archive.read_png(row))
            for row in range(len(archive))
        ]


def test_the_new_archive_is_what_was_decided_and_nothing_else(data):
    gone, changed, kept, undone = data.training[:4]
    before = data.archive.read_bytes(), data.split.read_bytes()
    new = "b" if data.scope.images[changed].label != "b" else "c"
    decide(data, gone, "exclude")
    decide(data, changed, "relabel", new)
    decide(data, kept, "keep")
    log = decide(data, undone, "exclude")
    log = undo_decision(data.log, data.scope, len(log.rows), "Ann")
    summary = apply(data)
    assert (summary.num_excluded, summary.num_relabeled, summary.num_kept) == (1, 1, 1)
    expected = table_of(data.archive)
    row = data.scope.images[changed].row
    expected[row] = (expected[row][0], new, expected[row][2])
    del expected[data.scope.images[gone].row]
    assert table_of(summary.dest) == expected
    assert (data.archive.read_bytes(), data.split.read_bytes()) == before
    with zipfile.ZipFile(summary.dest) as opened:
        (review,) = json.loads(opened.read("preparation.json"))["settings"]["reviewed"]
    assert review["decisions_sha256"] == log.sha256 and review["fold"] == 0
    assert review["archive_sha256"] == data.scope.archive_sha256
    assert (review["num_keep"], review["num_relabel"], review["num_exclude"]) == (1, 1, 1)


def test_the_new_split_has_the_reviewed_fold_alone_and_nobody_changes_sides(data):
    subject_images = [name for name in data.training if data.scope.images[name].row // 3 == _first(data)]
    for image in subject_images:  # the whole subject goes
        decide(data, image, "exclude")
    summary = apply(data)
    with open_archive(data.archive) as old, open_archive(summary.dest) as new:
        before, after = read_split(data.split, old), read_split(summary.split, new)
        gone = set(old.subjects.tolist()) - set(new.subjects.tolist())
    assert summary.num_left_subjects == len(gone) == 1 and len(after.folds) == 1
    old_fold, fold = before.folds[0], after.folds[0]
    assert fold.test == old_fold.test and fold.val == old_fold.val
    assert set(fold.train) == set(old_fold.train) - gone
    for fraction in after.fractions:
        assert set(fold.labeled[fraction]) == set(old_fold.labeled[fraction]) - gone


def _first(data: Reviewed) -> int:
    return data.scope.images[data.training[0]].row // 3


def test_another_fold_has_decisions_of_its_own(data):
    decide(data, data.training[0], "exclude")
    with pytest.raises(ExtractError, match=r"data.fold1.review.jsonl: expected images to relabel or exclude"):
        apply(data, fold=1)
    other = open_reviewed(data.archive, data.split, fold=1)
    tested_there = next(name for name in data.training if name in other.locked)
    with pytest.raises(ExtractError, match="validation and test images are not reviewed"):
        decide(other, tested_there, "exclude")


def test_the_split_must_be_of_the_archive_and_the_one_that_was_reviewed(data, tmp_path):
    decide(data, data.training[0], "exclude")
    with open_archive(data.archive) as archive:
        write_split(
            make_split(archive, num_folds=3, fractions=(0.5,), val_share=0.2, seed=1),
            tmp_path / "b.split.json",
        )
    with pytest.raises(ExtractError, match="expected decisions on this split"):
        apply_review(
            data.archive, tmp_path / "b.split.json", 0, tmp_path / "n.zip", tmp_path / "n.split.json"
        )
    write_archive(tmp_path / "c.zip", many_subjects(25)).close()
    with pytest.raises(ExtractError, match="got one of another archive"):
        apply_review(tmp_path / "c.zip", data.split, 0, tmp_path / "n.zip", tmp_path / "n.split.json")
    assert not (tmp_path / "n.zip").exists()


def test_a_part_that_loses_a_class_is_refused_and_nothing_is_written(data):
    for name in data.training:
        if data.scope.images[name].label == "a":
            decide(data, name, "relabel", "b")
    with pytest.raises(ExtractError, match=r"no sound split any more .*got none of a.*nothing was written"):
        apply(data)
    beside = sorted(path.name for path in data.archive.parent.iterdir())
    assert beside == ["data.fold0.review.jsonl", "data.split.json", "data.zip"]


def test_nothing_that_stands_is_replaced_unasked_and_the_source_never(data):
    decide(data, data.training[0], "exclude")
    apply(data)
    with pytest.raises(ExtractError, match="already exists and is left alone"):
        apply(data)
    apply(data, overwrite=True)
    for name in ("data", "new"):
        dest = data.archive.with_name(f"{name}.zip")
        with pytest.raises(SettingsError, match="this is what was reviewed"):
            apply_review(data.archive, data.split, 0, dest, data.split, overwrite=True)


def test_a_review_of_a_reviewed_archive_names_both(data):
    decide(data, data.training[0], "exclude")
    first = apply(data)
    again = open_reviewed(first.dest, first.split)
    decide(again, again.training[0], "exclude")
    second = apply(again, "newer")
    with open_archive(second.dest) as archive:
        assert len(archive.preparation["reviewed"]) == 2
        assert archive.preparation["reviewed"][1]["archive_sha256"] == again.scope.archive_sha256


def test_a_site_that_is_held_out_stays_held_out(tmp_path):
    path = tmp_path / "sites.zip"
    with ArchiveWriter(path) as writer:
        for number in range(30):
            for k, label in enumerate("ab"):
                record = ImageRecord(label=label, subject=f"s{number:02d}", part=("x", "y", "z")[number % 3])
                writer.add(random_pixels(number, k), record)
    with open_archive(path) as archive:
        held = HeldOut("part", ("x", "y", "z"))
        split = make_split(archive, fractions=(0.5,), val_share=0.2, seed=0, held_out=held)
        write_split(split, tmp_path / "sites.split.json")
    data = open_reviewed(path, tmp_path / "sites.split.json", fold=1)
    decide(data, data.training[0], "exclude")
    summary = apply(data, fold=1)
    with open_archive(summary.dest) as archive:
        after = read_split(summary.split, archive)
    assert after.held_out.values == ("y",) and after.folds[0].test == split.folds[1].test


def test_decisions_are_read_with_what_may_be_decided(data):
    decide(data, data.training[0], "exclude")
    scope, log = read_review(data.archive, data.split, 0)
    assert scope == data.scope and len(log.rows) == 1
    with pytest.raises(SettingsError, match="fold must be 0 to 2"):
        read_review(data.archive, data.split, 3)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Reviewed:
    return make_reviewed(tmp_path_factory.mktemp("shared"))


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["keep", "exclude", "a", "b", "undo"]))))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_decisions_gives_what_its_fold_says(shared, steps):
    shared.log.unlink(missing_ok=True)
    expected: dict[str, list[str]] = {}  # decisions on an image, the last one holds
    where: list[tuple[int, str]] = []
    for number, what in steps:
        image = shared.training[number]
        if what == "undo":
            if where:
                row, undone = where.pop()
                undo_decision(shared.log, shared.scope, row, "Ann")
                expected[undone].pop()
            continue
        if what == shared.scope.images[image].label:
            continue
        is_label = what in shared.scope.classes
        log = decide(shared, image, "relabel" if is_label else what, what if is_label else "")
        where.append((len(log.rows), image))
        expected.setdefault(image, []).append(what)
    last = {image: decided[-1] for image, decided in expected.items() if decided}
    table = []
    with open_archive(shared.archive) as archive:
        for row, name in enumerate(archive.names):
            decided = last.get(name, "keep")
            if decided != "exclude":
                old = archive.manifest["label"].iat[row]
                table.append((str(archive.subjects[row]), old if decided == "keep" else decided))
    if all(decided == "keep" for decided in last.values()):
        with pytest.raises(ExtractError, match="expected images to relabel or exclude, got none"):
            apply(shared, overwrite=True)
        return
    assert [row[:2] for row in table_of(apply(shared, overwrite=True).dest)] == table
