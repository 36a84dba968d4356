import json

import numpy as np
import pytest

from classifier.bootstrap import draw_subjects
from classifier.data import ImageTable, LabeledImages
from classifier.decision import DecisionRule
from classifier.evaluation import Scored, measure
from classifier.verdict import confusions, judge, percent
from extract.json_values import json_value

CLASSES = ("well", "ill")


def report_of(probs, labels, subjects, classes=CLASSES, confidence=0.7, note="", **more):
    """What metrics.json says of such predictions, as it is read back."""
    probs, labels = np.asarray(probs, float), np.asarray(labels)
    data = LabeledImages(
        ImageTable(np.zeros((len(labels), 1, 2, 2), np.uint8)), labels, np.asarray(subjects, dtype=str),
        np.full(len(labels), "real"), np.zeros(len(labels), bool),
    )  # fmt: skip
    positive = classes[-1] if len(classes) == 2 else None
    rule = DecisionRule(
        tuple(classes), {"youden": {classes[-1]: 0.4}}, positive, confidence,
        "coverage", 0.9, 0.1, 0.9, 50, 30, note=note, operating_points=((0.5, 0.8),),
    )  # fmt: skip
    scored = Scored(data, np.log(np.maximum(probs, 1e-30)), probs)
    report = measure(scored, tuple(classes), draw_subjects(data.subjects), rule)
    full = {**report, "openings": 1, "near_duplicates_linked": True, "subgroups": [], **more}
    return json.loads(json.dumps(json_value(full)))


def good_report(num_subjects=60, **more):
    labels = np.arange(num_subjects) % 2
    right = np.where(np.arange(num_subjects) % 6 == 0, 0.2, 0.85)
    probs = np.where(labels[:, None] == [0, 1], right[:, None], 1 - right[:, None])
    return report_of(probs, labels, [f"p{k}" for k in range(num_subjects)], **more)


def test_the_headline_says_how_good_how_sure_and_on_whom():
    verdict = judge(good_report(), "test", CLASSES)
    assert verdict.headline.startswith("Balanced accuracy 83.3 % (95 % interval ")
    assert verdict.headline.endswith("on 60 images of 60 test subjects; guessing gives 50 %.")
    assert verdict.is_good and verdict.warnings == ()


def test_few_subjects_get_no_praise():
    verdict = judge(good_report(12), "test", CLASSES)
    assert "12 test subjects, too few to rely on it" in verdict.headline and not verdict.is_good
    assert verdict.warnings[0].startswith("12 subjects only")


def test_guessing_is_called_guessing():
    labels = np.arange(60) % 2
    probs = np.where((np.arange(60) // 2 % 2)[:, None] == [0, 1], 0.6, 0.4)
    verdict = judge(report_of(probs, labels, [f"p{k}" for k in range(60)]), "test", CLASSES)
    assert (
        "not shown to be better than guessing, which gives 50 %" in verdict.headline and not verdict.is_good
    )


def test_the_mistakes_are_named_with_their_counts():
    text = " ".join(judge(good_report(), "test", CLASSES).details)
    assert "well was taken for ill in 33 % (10 of 30 images)" in text
    assert "ill was taken for well" not in text
    assert confusions([[1, 3, 0], [0, 5, 1], [0, 0, 0]], "abc") == [("a", "b", 3, 4), ("b", "c", 1, 6)]


def test_rejection_is_told_with_what_it_saves():
    text = " ".join(judge(good_report(confidence=0.84), "test", CLASSES).details)
    assert (
        "Leaving images below a confidence of 0.840 (chosen on validation) to a person: 83 % are decided"
        in text
    )
    text = " ".join(judge(good_report(confidence=None, note="nothing fits"), "test", CLASSES).details)
    assert "Rejecting: nothing fits." in text


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.999, "too sure of itself, by 16.6 points"), (0.55, "less sure than it could be")],
)
def test_calibration_is_judged_in_words(probability, words):
    labels = np.arange(600) % 2
    is_right = np.arange(600) % 6 != 0
    confidence = np.where(is_right == (labels == 0), probability, 1 - probability)
    report = report_of(np.stack([confidence, 1 - confidence], axis=1), labels, [f"p{k}" for k in range(600)])
    assert any(words in text for text in judge(report, "test", CLASSES).details)


def test_validation_is_called_what_it_is():
    verdict = judge(good_report(chosen_here=True), "val", CLASSES)
    assert "of 60 validation subjects" in verdict.headline
    assert "expect less on the test part" in " ".join(verdict.details)
    assert "(chosen on these very images)" in " ".join(verdict.details)
    larger = judge(good_report(chosen_here=False), "val", CLASSES)  # than the one that chose
    assert "(chosen on validation)" in " ".join(larger.details)


def test_warnings_name_what_weakens_the_numbers():
    report = good_report(openings=3, near_duplicates_linked=False)
    warnings = " ".join(judge(report, "test", CLASSES).warnings)
    assert "opened 3 times with this run" in warnings and "near duplicates" in warnings
    assert "opened" not in " ".join(judge(report, "val", CLASSES).warnings)
    labels = np.arange(60) % 2
    probs = np.column_stack([np.full((60, 2), 0.4), np.full(60, 0.2)])
    report = report_of(probs, labels, [""] * 60, classes=("a", "b", "never"))
    warnings = " ".join(judge(report, "test", ("a", "b", "never")).warnings)
    assert "No image of never in this part" in warnings and "Some images have no subject" in warnings


def test_one_class_alone_and_one_subject_alone_are_no_verdict():
    probs = [[0.9, 0.1], [0.4, 0.6]]
    assert "of one class alone" in judge(report_of(probs, [0, 0], ["p", "q"]), "test", CLASSES).headline
    alone = judge(report_of(probs, [0, 1], ["p", "p"]), "test", CLASSES)
    assert "one subject gives no interval" in alone.headline


def test_groups_apart_from_the_rest_are_named_unless_they_are_small():
    line = {"column": "site", "value": "north", "difference": -0.1, "difference_low": -0.2,
            "difference_high": -0.02, "warning": ""}  # fmt: skip
    told = " ".join(judge(good_report(subgroups=[line]), "test", CLASSES).details)
    assert "site north (-10.0 points, -20.0 to -2.0)" in told
    quiet = good_report(subgroups=[{**line, "warning": "few subjects"}, {**line, "difference_high": 0.1}])
    assert "site north" not in " ".join(judge(quiet, "test", CLASSES).details)


def test_what_is_undefined_is_a_dash():
    assert percent(None) == percent(float("nan")) == "–" and percent(0.745) == "74.5 %"
