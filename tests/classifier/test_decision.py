import json
from dataclasses import replace

import numpy as np
import pytest

from classifier.decision import REJECTED, DecisionRule, read_decision, write_decision
from classifier.errors import ClassifierError
from extract.file_hash import file_sha256

RULE = DecisionRule(
    classes=("well/fine", "<ill>"),
    thresholds={"youden": {"<ill>": 0.3}, "precision_recall": {"<ill>": 0.6}},
    positive="<ill>",
    reject_confidence=0.55,
    wanted="coverage",
    target=0.9,
    risk=0.1,
    coverage=0.92,
    num_images=40,
    num_subjects=20,
    temperature=1.5,
    operating_points=((1.0, None), (0.8, 0.62)),
)
PROBS = np.array([[0.9, 0.1], [0.65, 0.35], [0.52, 0.48], [0.3, 0.7]])


def test_a_rule_comes_back_as_it_was_written(tmp_path):
    assert read_decision(tmp_path) is None
    for rule in (RULE, replace(RULE, reject_confidence=None, risk=0.0, note="nothing fits")):
        write_decision(rule, tmp_path)
        assert read_decision(tmp_path) == rule


def test_the_most_probable_class_is_decided_where_it_is_sure_enough():
    assert RULE.decide(PROBS).tolist() == [0, 0, REJECTED, 1]
    assert RULE.accepts(PROBS).tolist() == [True, True, False, True]
    assert replace(RULE, reject_confidence=None).decide(PROBS).tolist() == [0, 0, 0, 1]


def test_a_threshold_moves_the_decision_between_two_classes():
    assert RULE.decide(PROBS, "youden").tolist() == [0, 1, REJECTED, 1]
    assert RULE.decide(PROBS, "precision_recall").tolist() == [0, 0, REJECTED, 1]
    assert RULE.reaches(PROBS, "youden")["<ill>"].tolist() == [False, True, True, True]
    assert RULE.reaches(PROBS, "unknown") == {}


def test_thresholds_of_more_classes_decide_nothing():
    rule = replace(RULE, classes=("a", "b", "c"), positive=None, thresholds={"youden": {"a": 0.2}})
    with pytest.raises(ValueError, match="kind must be a threshold of a run with two classes"):
        rule.decide(np.eye(3), "youden")


def test_a_rule_of_other_weights_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    write_decision(replace(RULE, model_sha256=file_sha256(tmp_path / "model.safetensors")), tmp_path)
    assert read_decision(tmp_path) is not None
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ClassifierError, match=r"decision\.json: expected thresholds of the model beside it"):
        read_decision(tmp_path)


@pytest.mark.parametrize(
    "change",
    [lambda c: c.pop("thresholds"), lambda c: c.update(format=9), lambda c: c.update(positive="nobody"),
     lambda c: c["thresholds"].update(youden={"nobody": 0.5}), lambda c: c.update(thresholds=[1])],
)  # fmt: skip
def test_a_damaged_rule_is_one_sentence(tmp_path, change):
    write_decision(RULE, tmp_path)
    content = json.loads((tmp_path / "decision.json").read_text())
    change(content)
    (tmp_path / "decision.json").write_text(json.dumps(content))
    with pytest.raises(ClassifierError, match=r"decision\.json: expected the decision rule of a run"):
        read_decision(tmp_path)
