import numpy as np
import pytest

from classifier.subject_level import combine_by_subject, subject_table

PROBS = np.array([[0.6, 0.4], [0.9, 0.1], [0.0, 1.0], [0.3, 0.7], [0.2, 0.8]])
LABELS = np.array([0, 0, 0, 1, 1])
SUBJECTS = np.array(["p1", "p1", "p1", "p2", "p3"])


def test_the_mean_of_the_probabilities_decides_a_subject():
    scores = combine_by_subject(PROBS, LABELS, SUBJECTS)
    assert scores.names.tolist() == ["p1", "p2", "p3"] and scores.labels.tolist() == [0, 1, 1]
    assert scores.num_images.tolist() == [3, 1, 1] and scores.is_usable
    np.testing.assert_allclose(scores.probs, [[0.5, 0.5], [0.3, 0.7], [0.2, 0.8]])


def test_the_mean_of_the_logarithms_lets_a_certain_image_outvote_the_others():
    scores = combine_by_subject(PROBS[[0, 1, 3, 4]], LABELS[[0, 1, 3, 4]], SUBJECTS[[0, 1, 3, 4]], "log")
    expected = np.sqrt([0.6 * 0.9, 0.4 * 0.1])
    np.testing.assert_allclose(scores.probs[0], expected / expected.sum())
    certain = combine_by_subject(PROBS, LABELS, SUBJECTS, "log")
    assert certain.probs[0, 1] > 0.999 and np.isfinite(certain.probs).all()


def test_subjects_with_images_of_several_classes_get_no_decision_where_that_is_usual():
    scores = combine_by_subject(PROBS, np.array([0, 1, 0, 1, 1]), SUBJECTS)
    assert not scores.is_usable
    assert "1 of 3 subjects have images of several classes" in scores.reason


def test_few_such_subjects_are_left_out_and_named():
    subjects = np.array([f"p{number // 2:02d}" for number in range(40)])
    labels = np.arange(40) // 2 % 2
    labels[7] = 1 - labels[7]
    scores = combine_by_subject(np.full((40, 2), 0.5), labels, subjects)
    assert scores.is_usable and scores.left_out == ("p03",) and len(scores.names) == 19


def test_one_image_a_subject_needs_no_second_table():
    scores = combine_by_subject(PROBS, LABELS, np.array(["a", "b", "c", "", ""]))
    assert "every subject has one image" in scores.reason and len(scores.names) == 5


def test_the_table_has_a_row_for_every_subject():
    labels = np.array([0, 0, 0, 1, 0])
    subjects = np.array(["p1", "p1", "p1", "p2", "p2"])
    table = subject_table(
        PROBS, labels, subjects, ("a/b", "<c>"), combine_by_subject(PROBS, labels, subjects)
    )
    assert table["subject"].tolist() == ["p1", "p2"] and table["num_images"].tolist() == [3, 2]
    assert table["num_right"].tolist() == [2, 1]
    assert table["predicted"].tolist()[0] == "a/b" and table["predicted"].isna().tolist() == [False, True]


def test_another_way_to_combine_is_refused():
    with pytest.raises(ValueError, match="combine must be one of mean, log, got 'max'"):
        combine_by_subject(PROBS, LABELS, SUBJECTS, "max")
