import numpy as np
import pytest
from sklearn import metrics as reference

from classifier.bootstrap import draw_subjects
from classifier.curves import (
    GRID,
    MACRO,
    MAX_POINTS,
    class_curves,
    curve_table,
    curves_of_table,
    risk_coverage_curve,
)
from classifier.rejection import aurc
from tests.classifier.test_bootstrap import gathered_draws, scored, tails

CLASSES = ("a", "b", "c")


def find(curves, kind, name):
    return next(curve for curve in curves if (curve.kind, curve.name) == (kind, name))


def test_the_curves_are_those_of_scikit_learn():
    probs, labels, _ = scored(200, 3, 20, seed=1)
    curves = class_curves(probs, labels, CLASSES, None)
    for number, name in enumerate(CLASSES):
        x, y, threshold = reference.roc_curve(labels == number, probs[:, number])
        roc = find(curves, "roc", name)
        np.testing.assert_allclose([roc.x, roc.y, roc.threshold], [x, y, threshold])
        assert roc.area == pytest.approx(reference.roc_auc_score(labels == number, probs[:, number]))
        assert reference.auc(roc.x, roc.y) == pytest.approx(roc.area)
        precision, recall, _ = reference.precision_recall_curve(labels == number, probs[:, number])
        found = find(curves, "precision_recall", name)
        np.testing.assert_allclose(found.x, recall[recall > 0][::-1])
        np.testing.assert_allclose(found.y, precision[recall > 0][::-1])
        assert found.area == pytest.approx(
            reference.average_precision_score(labels == number, probs[:, number])
        )
    assert find(curves, "roc", MACRO).area == pytest.approx(
        reference.roc_auc_score(np.eye(3)[labels], probs, average="macro")
    )


def test_the_mean_curve_is_the_mean_of_the_classes_at_each_false_positive_rate():
    probs, labels, _ = scored(200, 3, 20, seed=2)
    curves = class_curves(probs, labels, CLASSES, None)
    expected = []
    for number in range(3):
        x, y, _ = reference.roc_curve(labels == number, probs[:, number])
        expected.append([np.interp(g, x, y) if g > 0 else y[x == 0].max() for g in GRID])
    np.testing.assert_allclose(find(curves, "roc", MACRO).y, np.mean(expected, axis=0))


def test_the_band_holds_the_curves_of_the_draws():
    probs, labels, subjects = scored(150, 3, 25, seed=3)
    num_draws = 40
    curves = class_curves(probs, labels, CLASSES, draw_subjects(subjects, num_draws=num_draws))
    drawn = []
    for rows in gathered_draws(subjects, num_draws):
        x, y, _ = reference.roc_curve(labels[rows] == 0, probs[rows, 0], drop_intermediate=False)
        drawn.append([np.interp(g, x, y) if g > 0 else y[x == 0].max() for g in GRID])
    low, high = np.percentile(drawn, tails(len({*subjects})), axis=0)
    roc = find(curves, "roc", "a")
    np.testing.assert_allclose(roc.low, np.interp(roc.x, GRID, low), atol=1e-12)
    np.testing.assert_allclose(roc.high, np.interp(roc.x, GRID, high), atol=1e-12)


def test_the_risk_coverage_curve_counts_errors_among_the_surest():
    probs, labels, subjects = scored(120, 3, 25, seed=4)
    confidence, is_wrong = probs.max(axis=1), probs.argmax(axis=1) != labels
    curve = risk_coverage_curve(
        confidence, is_wrong, aurc(confidence, is_wrong), draw_subjects(subjects, num_draws=50)
    )
    for x, y, threshold in zip(curve.x, curve.y, curve.threshold, strict=True):
        is_kept = confidence >= threshold
        assert (x, y) == pytest.approx((is_kept.mean(), is_wrong[is_kept].mean()))
    assert curve.x[-1] == 1 and (curve.low <= curve.high).all()


def test_two_classes_are_drawn_as_one_and_classes_without_images_not_at_all():
    probs, labels, _ = scored(60, 2, 10, seed=5)
    names = {curve.name for curve in class_curves(probs, labels, ("ill", "well"), None, "ill")}
    assert names == {"ill"}
    probs, labels, _ = scored(60, 3, 10, seed=6)
    names = {curve.name for curve in class_curves(probs[labels != 2], labels[labels != 2], CLASSES, None)}
    assert names == {"a", "b", MACRO}
    assert class_curves(probs[labels == 1], labels[labels == 1], CLASSES, None) == []


def test_long_curves_are_thinned_without_leaving_their_course():
    rng = np.random.default_rng(7)
    labels = rng.integers(2, size=5000)
    scores = rng.random(5000) * 0.6 + 0.4 * labels * rng.random(5000)
    curve = class_curves(np.column_stack([1 - scores, scores]), labels, ("no", "yes"), None, "yes")[0]
    x, y, _ = reference.roc_curve(labels, scores)
    assert len(curve.x) <= MAX_POINTS < len(x)
    assert (curve.x[0], curve.x[-1], curve.y[-1]) == (0, 1, 1)
    np.testing.assert_allclose(np.interp(GRID, curve.x, curve.y), np.interp(GRID, x, y), atol=0.01)


def test_curves_come_back_from_their_table():
    probs, labels, subjects = scored(100, 3, 20, seed=8)
    for draws in (None, draw_subjects(subjects, num_draws=20)):
        curves = class_curves(probs, labels, ("a", "<b> & 'c'", "x/y"), draws)
        for before, after in zip(curves, curves_of_table(curve_table(curves)), strict=True):
            assert (before.kind, before.name, before.area) == (after.kind, after.name, after.area)
            np.testing.assert_array_equal(before.x, after.x)
            assert (before.low is None) == (after.low is None) == (draws is None)
