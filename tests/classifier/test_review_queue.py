"""What a reviewer is shown: planted faults stand first, and nothing of validation or test is among it."""

import numpy as np
import pytest

from classifier.decision import DecisionRule
from classifier.errors import ClassifierError
from classifier.job import train_run
from classifier.label_doubts import cross_fitted, label_losses
from classifier.review_queue import (
    MAX_NUM,
    MIN_NUM,
    decision_margins,
    model_findings,
    nearest_others,
    review_num,
    review_queue,
    split_links,
)
from classifier.review_reasons import CONFLICT, DOUBT, DUPLICATE, LOSS, REASONS, THRESHOLD
from classifier.run import load_classifier
from classifier.training_opinions import TrainingOpinions, training_opinions
from extract.archive import ArchiveWriter, ImageRecord, open_archive, read_record
from extract.review_duplicates import TrainingDuplicates, training_duplicates
from extract.split import make_split, read_split, write_split
from tests.classifier.toys import CLASSES, toy_pixels


@pytest.fixture(scope="module")
def opened(planted):
    with open_archive(planted.archive) as archive:
        split = read_split(planted.split, archive)
        yield archive, split


@pytest.fixture(scope="module")
def opinions(planted, opened):
    return training_opinions(planted.run, *opened, 0)


@pytest.fixture(scope="module")
def findings(opinions, opened):
    return model_findings(opinions, split_links(opened[1], opinions.subjects))


def test_planted_label_errors_rank_first(planted, opinions, findings):
    rank = np.argsort(-label_losses(findings.cross_probs, opinions.labels), kind="stable")
    is_wrong = np.isin(opinions.rows, planted.wrong)
    assert is_wrong.sum() == len(planted.wrong) >= 6
    assert is_wrong[rank[: len(planted.wrong)]].mean() >= 0.8  # chance: 0.05
    assert is_wrong[rank[: 2 * len(planted.wrong)]].sum() >= 0.9 * len(planted.wrong)


def test_labels_learned_by_heart_are_doubted_where_the_model_is_sure_of_all():
    """Its last layer shows the labels and nothing else; the pictures still show the classes."""
    rng = np.random.default_rng(0)
    true = np.arange(300) % 3
    labels = true.copy()
    wrong = rng.choice(300, 15, replace=False)
    labels[wrong] = (true[wrong] + 1) % 3
    subjects = np.array([f"s{k // 2}" for k in range(300)])
    pictures = 100 + 20 * rng.normal(size=(300, 256)) + 20 * (np.arange(256) % 3 == true[:, None])
    by_heart = np.eye(3)[labels] * 0.97 + 0.01
    opinions = TrainingOpinions(
        rows=np.arange(300),
        labels=labels,
        subjects=subjects,
        probs=by_heart,
        features=np.eye(3, 8, dtype=np.float32)[labels],
        thumbs=pictures.clip(0, 255).astype(np.uint8),
        is_learned=np.ones(300, bool),
        rule=None,
        model_sha256="",
    )
    assert opinions.reproduced_share == 1
    found = model_findings(opinions)
    assert not len(found.chosen[LOSS])  # the model has no loss anywhere
    assert np.isin(np.argsort(-label_losses(found.cross_probs, labels))[:15], wrong).mean() >= 0.8


def test_a_subjects_own_labels_have_no_say(opinions):
    """Whatever one subject's labels are, its own probabilities stay the same."""
    labels = opinions.labels.copy()
    subject = opinions.subjects[0]
    own = opinions.subjects == subject
    before = _said_without(opinions, labels, own)
    labels[own] = (labels[own] + 1) % 3
    assert np.allclose(_said_without(opinions, labels, own), before)


def _said_without(opinions, labels, own):
    """Two folds with the subject alone in one: what is said of it is said by all others."""
    names = np.where(own, "alone", "others")
    return cross_fitted(opinions.features, labels, names, 3)[own]


def test_one_subject_is_too_few():
    with pytest.raises(ClassifierError, match="at least two subjects"):
        cross_fitted(np.zeros((4, 2)), np.array([0, 1, 0, 1]), np.array(["s"] * 4), 2)


def test_probabilities_sum_to_one_also_where_a_class_is_rare():
    labels = np.array([0] * 9 + [1])
    subjects = np.array([f"s{k}" for k in range(10)])
    features = np.random.default_rng(0).normal(size=(10, 3))
    assert np.allclose(cross_fitted(features, labels, subjects, 3).sum(axis=1), 1)


def test_every_candidate_is_a_training_image_and_stands_once(planted, opened, findings):
    archive, split = opened
    queue = review_queue(archive, findings, training_duplicates(archive, split, 0))
    rows = [item.row for item in queue]
    assert len(set(rows)) == len(rows) and set(rows) <= set(split.rows(archive, 0, "train").tolist())
    assert set(planted.wrong) <= {item.row for item in queue if {DOUBT, LOSS} & set(item.reasons)}
    first = [REASONS.index(item.reasons[0]) for item in queue]
    assert first == sorted(first)
    conflict = [item for item in queue if CONFLICT in item.reasons]
    assert [item.row for item in conflict] == sorted(planted.twins) == rows[:2]
    assert conflict[0].twins == (conflict[1].row,)
    assert all(archive.labels[item.row] == findings.opinions.labels[item.place] for item in queue)


def test_without_a_model_there_are_duplicates_alone(planted, opened):
    archive, split = opened
    assert review_queue(archive, None, None) == ()
    queue = review_queue(archive, None, training_duplicates(archive, split, 0))
    assert {reason for item in queue for reason in item.reasons} == {CONFLICT}
    assert all(item.place is None for item in queue)


def test_of_pictures_with_one_label_the_first_may_stay(opened):
    archive, _ = opened
    same = tuple(np.flatnonzero(archive.labels == archive.labels[0])[:3].tolist())
    queue = review_queue(archive, None, TrainingDuplicates((same,), {}, ()))
    assert [(item.row, item.reasons) for item in queue] == [(row, (DUPLICATE,)) for row in same[1:]]
    assert queue[0].twins == (same[0], same[2])


def test_the_margin_is_what_changes_the_decision():
    probs = np.array([[0.9, 0.1, 0.0], [0.5, 0.4, 0.1], [0.72, 0.2, 0.08], [0.4, 0.35, 0.25]])
    assert decision_margins(probs, None) == pytest.approx([0.4, 0.05, 0.26, 0.025])
    rule = DecisionRule(("a", "b", "c"), {}, None, 0.7, "risk", 0.05, 0.04, 0.8, 50, 10)
    assert decision_margins(probs, rule) == pytest.approx([0.2, 0.2, 0.02, 0.3])


def test_nothing_far_from_the_limit_is_shown_for_being_near(opinions, findings):
    for place in findings.chosen[THRESHOLD]:
        assert findings.margins[place] < 0.1
    for reason, places in findings.chosen.items():
        assert len(places) <= review_num(len(opinions.rows)), reason
    assert (review_num(10), review_num(10**6)) == (MIN_NUM, MAX_NUM)


def test_neighbours_are_of_other_people_one_each(opinions):
    near = nearest_others(opinions, 0, 5)
    subjects = opinions.subjects[near].tolist()
    assert len(set(subjects)) == 5 and opinions.subjects[0] not in subjects
    distance = np.linalg.norm(opinions.features[near] - opinions.features[0], axis=1)
    assert (np.diff(distance) >= 0).all()


def test_a_model_of_another_fold_is_refused(planted, opened):
    archive, split = opened
    with pytest.raises(ClassifierError, match=r"expected a model of fold 1 .*seen subjects of its test"):
        training_opinions(planted.run, archive, split, 1)


def test_a_model_of_another_archive_is_refused(planted, opened, tmp_path):
    archive, _ = opened
    with ArchiveWriter(tmp_path / "b.zip", classes=archive.classes) as writer:
        for row in range(len(archive)):
            record = read_record(archive.row(row), "test")
            writer.add_png(archive.read_png(row), archive.image_shape[1:], record)
        writer.describe(note="another one")
    with open_archive(tmp_path / "b.zip") as other:
        split = make_split(other, num_folds=3, fractions=(1.0,), val_share=0.2, seed=0)
        with pytest.raises(ClassifierError, match="expected the archive that the model was trained on"):
            training_opinions(planted.run, other, split, 0)


def test_who_was_not_trained_with_is_told_apart(planted, opened, tmp_path):
    archive, _ = opened
    config = load_classifier(planted.run).config
    run = tmp_path / "run"
    half = make_split(archive, num_folds=3, fractions=(0.5,), val_share=0.2, seed=0)
    write_split(half, tmp_path / "half.split.json")
    train_run(planted.archive, tmp_path / "half.split.json", 0, 0.5, config, run)
    found = training_opinions(run, archive, half, 0)
    assert 0.3 < found.is_learned.mean() < 0.7
    assert set(found.subjects[found.is_learned]) == set(half.folds[0].labeled[0.5])


def test_copies_across_parts_are_told_and_locked(tmp_path):
    labels = np.arange(24) % 3
    pixels = toy_pixels(labels, 32, seed=0)
    path = tmp_path / "a.zip"
    with ArchiveWriter(path) as writer:
        for index, label in enumerate(labels):
            writer.add(pixels[index, 0], ImageRecord(label=CLASSES[label], subject=f"s{index:02d}"))
    with open_archive(path) as archive:
        split = make_split(archive, num_folds=3, fractions=(1.0,), val_share=0.2, seed=0)
        parts = {part: split.rows(archive, 0, part).tolist() for part in ("train", "val", "test")}
    # Saved again a little brighter: no identical picture, which a split would refuse.
    inside = parts["train"][:2]
    across = parts["train"][2], parts["test"][0]
    pixels[inside[1]] = np.clip(pixels[inside[0]].astype(int) + 4, 0, 255)
    pixels[across[1]] = np.clip(pixels[across[0]].astype(int) + 4, 0, 255)
    with ArchiveWriter(path, overwrite=True) as writer:
        for index, label in enumerate(labels):
            writer.add(pixels[index, 0], ImageRecord(label=CLASSES[label], subject=f"s{index:02d}"))
    with open_archive(path) as archive:
        found = training_duplicates(archive, split, 0)
        assert found.groups == (tuple(sorted(inside)),) and found.locked == ((across[0],),)
        assert found.likeness[tuple(sorted(inside))] > 0.93
        assert across[0] not in {item.row for item in review_queue(archive, None, found)}
