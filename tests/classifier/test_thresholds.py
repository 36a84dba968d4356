import numpy as np
import pytest
from sklearn import metrics as reference

from classifier.bootstrap import draw_subjects
from classifier.thresholds import (
    break_even,
    choose_thresholds,
    positive_class,
    share_interval,
    threshold_report,
    youden,
)
from tests.classifier.test_bootstrap import gathered_draws, scored, tails


def binary_scores(seed: int, digits: int = 6):
    rng = np.random.default_rng(seed)
    is_positive = rng.random(80) < 0.3
    return np.round(0.5 * rng.random(80) + 0.3 * is_positive, digits), is_positive


def test_youden_is_where_sensitivity_plus_specificity_is_largest():
    for seed in range(5):
        scores, is_positive = binary_scores(seed, digits=1 + seed)
        gain = {
            score: (scores[is_positive] >= score).mean() + (scores[~is_positive] < score).mean()
            for score in scores
        }
        assert gain[youden(scores, is_positive)] == pytest.approx(max(gain.values()))


def test_at_break_even_precision_equals_recall():
    for seed in range(5):
        scores, is_positive = binary_scores(seed)
        called = scores >= break_even(scores, is_positive)
        precision, recall = (
            score(is_positive, called) for score in (reference.precision_score, reference.recall_score)
        )
        assert precision == pytest.approx(recall) and 0 < recall < 1


def test_a_threshold_lies_halfway_to_the_next_score_so_that_rounding_moves_no_image():
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.0, 1.0]])
    chosen = choose_thresholds(probs, np.array([0, 0, 1, 1]), ("no", "yes"), "yes")
    assert chosen == {"youden": {"yes": pytest.approx(0.6)}, "precision_recall": {"yes": pytest.approx(0.6)}}


def test_certain_probabilities_give_thresholds_between_them():
    probs, labels = np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 2, 2])
    for by_class in choose_thresholds(probs, labels, ("a", "b", "c"), None).values():
        assert by_class == {"a": 0.5, "b": 0.5, "c": 0.5}


def test_a_class_that_validation_does_not_have_gets_no_threshold():
    probs, labels, _ = scored(60, 3, 10, seed=1)
    chosen = choose_thresholds(probs[labels != 1], labels[labels != 1], ("a", "b", "c"), None)
    assert set(chosen["youden"]) == set(chosen["precision_recall"]) == {"a", "c"}
    assert choose_thresholds(probs[labels == 1], labels[labels == 1], ("a", "b", "c"), None)["youden"] == {}


@pytest.mark.parametrize(
    ("classes", "positive"),
    [(("NORMAL", "PNEUMONIA"), "PNEUMONIA"), (("lesion", "Normal"), "lesion"), (("a", "b"), "b"),
     (("a", "b", "c"), None)],
)  # fmt: skip
def test_the_positive_class_is_the_one_that_is_looked_for(classes, positive):
    assert positive_class(classes) == positive
    if positive:
        assert positive_class(classes, classes[0]) == classes[0]


def test_a_positive_class_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"--positive must be one of two classes \(a, b\), got c"):
        positive_class(("a", "b"), "c")
    with pytest.raises(ValueError, match="--positive must be one of two classes"):
        positive_class(("a", "b", "c"), "c")


def test_the_report_says_what_a_threshold_does_on_other_images():
    probs, labels, subjects = scored(90, 3, 15, seed=2)
    report = threshold_report(
        probs, labels, ("a", "b", "c"), {"youden": {"b": 0.4}}, draw_subjects(subjects, num_draws=100)
    )
    line = report["youden"]["b"]
    called = probs[:, 1] >= 0.4
    assert line["sensitivity"] == pytest.approx(reference.recall_score(labels == 1, called))
    assert line["specificity"] == pytest.approx(reference.recall_score(labels != 1, ~called))
    assert line["precision"] == pytest.approx(reference.precision_score(labels == 1, called))
    low, high = line["sensitivity_95"]
    assert low < line["sensitivity"] < high


def test_intervals_of_shares_are_those_of_the_repeated_images():
    probs, labels, subjects = scored(90, 2, 15, seed=3)
    right, among = probs.argmax(axis=1) == labels, labels == 1
    drawn = [right[rows][among[rows]].mean() for rows in gathered_draws(subjects, 60)]
    found = share_interval(right, among, draw_subjects(subjects, num_draws=60))
    assert found == pytest.approx(tuple(np.percentile(drawn, tails(len({*subjects[among]})))))
