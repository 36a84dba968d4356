import numpy as np
import pytest
from sklearn import metrics as reference

from classifier.errors import ClassifierError
from classifier.evaluate import (
    METRICS,
    class_report,
    classification_metrics,
    confusion_matrix,
    expected_calibration_error,
    missing_classes,
    refuse_seen_subjects,
    subject_intervals,
)


def predictions(num_images: int, num_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_images)
    scores = rng.dirichlet(np.ones(num_classes), num_images) + 0.4 * np.eye(num_classes)[labels]
    probs = np.round(scores / scores.sum(axis=1, keepdims=True), 2) + 1e-3  # rounding makes ties
    return probs / probs.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_the_metrics_are_those_of_scikit_learn(num_classes):
    probs, labels = predictions(200, num_classes, seed=num_classes)
    measured = classification_metrics(probs, labels, num_classes)
    predicted, truth = probs.argmax(axis=1), np.eye(num_classes)[labels]
    expected = {
        "accuracy": reference.accuracy_score(labels, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
        "macro_f1": reference.f1_score(labels, predicted, average="macro"),
        "mcc": reference.matthews_corrcoef(labels, predicted),
        "auroc": reference.roc_auc_score(truth, probs, average="macro"),
        "auprc": reference.average_precision_score(truth, probs, average="macro"),
        "nll": reference.log_loss(labels, probs, labels=range(num_classes)),
    }
    assert tuple(measured) == METRICS
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, abs=1e-9), name


def test_brier_and_calibration_error_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    labels = np.array([0, 1, 0, 1])
    measured = classification_metrics(probs, labels, 2)
    assert measured["brier"] == pytest.approx(2 * (0.01 + 0.81 + 0.16 + 0.09) / 4)
    # Bins: two at 0.9 (one right), one at 0.6 and one at 0.7 (both right).
    assert measured["ece"] == pytest.approx((2 * abs(0.5 - 0.9) + 0.4 + 0.3) / 4)


def test_a_perfectly_calibrated_coin_has_no_calibration_error():
    assert expected_calibration_error(np.full((10, 2), 0.5), np.arange(10) % 2) == 0


def test_a_class_without_images_leaves_the_means_to_the_others_and_is_named():
    probs, labels = predictions(60, 3, seed=1)
    keep = labels != 2
    measured = classification_metrics(probs[keep], labels[keep], 3)
    recalls = [(probs[labels == c].argmax(axis=1) == c).mean() for c in (0, 1)]
    assert measured["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert np.isfinite(measured["auroc"])
    assert missing_classes(labels[keep], ["a", "b", "c"]) == ["c"]


def test_areas_are_undefined_where_one_class_is_all_there_is():
    measured = classification_metrics(np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 0]), 2)
    assert np.isnan(measured["auroc"]) and np.isnan(measured["auprc"])
    assert measured["balanced_accuracy"] == 0.5 and measured["mcc"] == 0.0


def test_the_confusion_matrix_has_truth_down_and_prediction_across():
    assert confusion_matrix(np.array([1, 1, 0]), np.array([0, 1, 0]), 2).tolist() == [[1, 1], [0, 1]]


def test_each_class_gets_its_own_line():
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    report = class_report(probs, np.array([0, 0, 1, 1]), ("ill", "well"))
    assert report["ill"] == {
        "num_images": 2, "sensitivity": 0.5, "specificity": 0.5, "precision": 0.5, "auroc": 0.5,
    }  # fmt: skip


def test_probabilities_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        classification_metrics(np.ones((2, 2)), np.array([0, 1]), 2)


def test_images_of_one_subject_widen_the_interval():
    probs, labels = predictions(20, 2, seed=4)
    probs, labels = np.repeat(probs, 10, axis=0), np.repeat(labels, 10)
    settings = {"num_draws": 200, "seed": 1}
    by_subject = subject_intervals(probs, labels, np.repeat(np.arange(20).astype(str), 10), 2, **settings)
    by_image = subject_intervals(probs, labels, np.full(200, ""), 2, **settings)
    accuracy = classification_metrics(probs, labels, 2)["accuracy"]
    assert by_subject["accuracy"][0] < accuracy < by_subject["accuracy"][1]
    assert np.diff(by_subject["accuracy"]) > 2 * np.diff(by_image["accuracy"])


def test_one_subject_gives_no_interval_rather_than_one_of_zero_width():
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    assert subject_intervals(probs, np.array([0, 1, 1]), np.full(3, "one"), 2) == {}


def test_subjects_seen_in_training_are_named():
    with pytest.raises(ClassifierError, match=r"trained on 2 of the subjects .* \(p2, p3\)"):
        refuse_seen_subjects(["p1", "p3", "p2", ""], ["p2", "p3", ""], "the model")
    refuse_seen_subjects(["p1", ""], ["p2", ""], "the model")
