"""From the study file to the rule: what each may be told, what it does, and what it leaves in the plan."""

import json
import pickle

import numpy as np
import pytest

from extract.errors import SettingsError
from semisup.adaptive_thresholds import select_flexmatch, select_freematch
from semisup.alignment import align_to_prior
from semisup.choosing import PoolScores
from semisup.config import load_study
from semisup.curriculum import select_curriculum
from semisup.error_control import select_error_controlled
from semisup.ledger import PoolIdentity, ledger_rows, read_ledger
from semisup.plan import make_plan
from semisup.pseudo_config import RULES
from semisup.random_control import select_at_random
from semisup.rules import RunFacts, labeled_shares, make_rule
from semisup.select import Evidence, select_by_class, select_confident, select_top
from semisup.study import run_study

RNG = np.random.default_rng(0)
POOL = RNG.dirichlet([0.3, 0.3], size=80)
VAL = RNG.dirichlet([0.1, 0.1], size=120)
VAL_LABELS = VAL.argmax(axis=1)
SUBJECTS = np.array([f"s{k // 2}" for k in range(120)])
FACTS = RunFacts(("bar", "disc"), np.array([0.3, 0.7]), SUBJECTS, seed=5)
MINIMAL = {
    "per_class": {"class_thresholds": {"bar": 0.9, "disc": 0.6}},
    "top_k": {"images_per_class": 3},
}


def pseudo_of(write_study, **settings):
    return load_study(write_study(pseudo=settings)).pseudo


def chosen_by(write_study, round_index=1, **settings):
    rule = make_rule(pseudo_of(write_study, **settings), FACTS)
    return rule(Evidence(round_index, POOL, VAL, VAL_LABELS))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, select_confident(POOL, 0.75)),
        ({"rule": "fixed", "threshold": 0.9, "max_per_class": 2}, select_confident(POOL, 0.9, 2)),
        ({"rule": "per_class", **MINIMAL["per_class"]}, select_by_class(POOL, [0.9, 0.6])),
        ({"rule": "top_k", "images_per_class": 9, "max_class_share": 0.1}, select_top(POOL, 9, 0.1)),
        ({"rule": "curriculum", "step_percent": 25, "max_per_class": 4}, select_curriculum(POOL, 1, 25, 4)),
        ({"rule": "flexmatch"}, select_flexmatch(POOL, 0.95)),
        ({"rule": "flexmatch", "threshold": 0.8}, select_flexmatch(POOL, 0.8)),
        ({"rule": "freematch", "max_per_class": 4}, select_freematch(POOL, 4)),
        (
            {"rule": "error_controlled", "epsilon": 0.2, "delta": 0.1, "by_class": True},
            select_error_controlled(POOL, VAL, VAL_LABELS, SUBJECTS, 0.2, 0.1, by_class=True),
        ),
    ],
)
def test_a_study_file_names_a_rule_and_its_parameters(write_study, settings, expected):
    chosen = chosen_by(write_study, **settings)
    assert chosen.indices.tolist() == expected.indices.tolist() and len(chosen)
    assert chosen.thresholds.tolist() == expected.thresholds.tolist()


def test_notes_of_thresholds_by_class_name_the_classes(write_study):
    note = chosen_by(write_study, rule="error_controlled", epsilon=0.2, by_class=True).note
    assert note.startswith("bar: threshold") and "; disc: threshold" in note


def test_the_curriculum_knows_its_round(write_study):
    sizes = [len(chosen_by(write_study, k, rule="curriculum")) for k in (1, 2, 3, 5, 6)]
    assert sizes == [16, 32, 48, 80, 80]


def test_the_random_control_matches_the_fixed_rule_and_draws_anew_each_round(write_study):
    first, second = (chosen_by(write_study, k, rule="random", threshold=0.8) for k in (1, 2))
    like = select_confident(POOL, 0.8)
    assert np.bincount(first.labels).tolist() == np.bincount(like.labels).tolist()
    assert set(first.indices) != set(second.indices)
    assert first.indices.tolist() == chosen_by(write_study, 1, rule="random", threshold=0.8).indices.tolist()
    assert set(first.indices) != set(select_at_random(POOL, like, 1).indices)


def test_alignment_comes_before_the_rule_and_treats_validation_alike(write_study):
    aligned = align_to_prior(POOL, FACTS.labeled_shares)
    chosen = chosen_by(write_study, align=True)
    assert chosen.indices.tolist() == select_confident(aligned, 0.75).indices.tolist()
    assert np.allclose(chosen.aligned_probs, aligned)
    factors = FACTS.labeled_shares / POOL.mean(axis=0)
    val = VAL * factors / (VAL * factors).sum(axis=1, keepdims=True)
    expected = select_error_controlled(aligned, val, VAL_LABELS, SUBJECTS, 0.2)
    chosen = chosen_by(write_study, align=True, rule="error_controlled", epsilon=0.2)
    assert chosen.thresholds.tolist() == expected.thresholds.tolist()
    assert chosen.indices.tolist() == expected.indices.tolist()


def test_labels_take_the_form_that_is_asked_for(write_study):
    assert chosen_by(write_study).soft_labels is None and chosen_by(write_study).weights is None
    soft = chosen_by(write_study, labels="soft")
    assert np.allclose(soft.soft_labels, POOL[soft.indices])
    weighted = chosen_by(write_study, labels="weighted")
    assert weighted.weights.tolist() == weighted.confidence.tolist()
    by_entropy = chosen_by(write_study, labels="weighted", weight_by="entropy")
    assert (by_entropy.weights < weighted.weights).all()


def test_shares_of_the_labels_are_counted_for_all_classes():
    assert labeled_shares(np.array([0, 0, 2, 2]), 4).tolist() == [0.5, 0, 0.5, 0]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"rule": "eror_controlled"},
            "pseudo.rule: 'eror_controlled' is no rule; did you mean 'error_controlled'",
        ),
        ({"rule": 3}, "'3' is no rule; known rules: fixed, per_class, top_k, curriculum, flexmatch"),
        (
            {"rule": "top_k", "images_per_class": 3, "threshold": 0.9},
            "pseudo.threshold: goes with rule fixed or flexmatch or random, and the rule here is top_k; "
            "allowed here: rule, images_per_class, max_class_share, rounds",
        ),
        ({"epsilon": 0.1}, "pseudo.epsilon: goes with rule error_controlled, and the rule here is fixed"),
        ({"rule": "top_k", "max_per_class": 3, "images_per_class": 3}, "max_per_class: goes with rule fixed"),
        ({"rule": "top_k"}, "pseudo.images_per_class: this setting is required and missing"),
        ({"rule": "per_class"}, "pseudo.class_thresholds: this setting is required and missing"),
        ({"rule": "per_class", "class_thresholds": {"bar": 2}}, "class_thresholds.bar: expected at most 1"),
        ({"rule": "error_controlled", "epsilon": 1}, "pseudo.epsilon: expected less than 1, got 1"),
        ({"rule": "error_controlled", "delta": 0}, "pseudo.delta: expected more than 0, got 0"),
        ({"rule": "error_controlled", "epsilom": 0.2}, "epsilom: unknown setting; did you mean 'epsilon'?"),
        ({"rule": "curriculum", "step_percent": 101}, "step_percent: expected at most 100, got 101"),
        ({"labels": "softer"}, "pseudo.labels: expected 'hard', 'soft' or 'weighted', got 'softer'"),
        ({"weight_by": "entropy"}, "pseudo: weight_by goes with labels: weighted, and labels is hard"),
        ({"rule": "freematch", "align": 7}, "pseudo.align: expected true or false, got 7"),
    ],
)
def test_a_wrong_setting_is_answered_in_a_sentence(write_study, settings, sentence):
    with pytest.raises(SettingsError) as caught:
        load_study(write_study(pseudo=settings))
    assert sentence in str(caught.value)
    assert "more:" not in str(caught.value)


def test_a_section_that_is_no_section_is_refused(write_study):
    with pytest.raises(SettingsError, match=r"pseudo: expected settings such as \{key: value\}, got 3"):
        load_study(write_study(pseudo=3))


def test_thresholds_are_for_the_classes_of_the_archive(write_study):
    settings = {"rule": "per_class", "class_thresholds": {"bar": 0.9, "disk": 0.6}}
    with pytest.raises(
        SettingsError, match=r"class_thresholds: expected one for each class \(bar, disc\), got"
    ):
        make_plan(load_study(write_study(pseudo=settings)))


def test_the_default_rule_leaves_plans_of_the_first_release_as_they_are(write_study):
    first = {"threshold": 0.75, "rounds": 2, "calibrate": True, "max_per_class": None, "pseudo_share": 0.5}
    for more in ({}, {"rule": "fixed"}, {"labels": "hard", "align": False}):
        settings = {"gates": [], **more}
        assert pseudo_of(write_study, **settings).model_dump() == first
        config = load_study(write_study(pseudo=settings))
        assert config.model_dump(mode="json", exclude={"data"})["pseudo"] == first


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_stands_in_the_plan_and_survives_a_worker_process(write_study, rule):
    pseudo = pseudo_of(write_study, rule=rule, labels="weighted", align=True, **MINIMAL.get(rule, {}))
    written = json.loads(json.dumps(pseudo.model_dump(mode="json")))
    assert written.pop("rule", "fixed") == rule
    assert written["labels"] == "weighted" and written["align"] is True
    assert pickle.loads(pickle.dumps(pseudo)) == pseudo
    assert callable(make_rule(pseudo, FACTS))


def test_the_ledger_says_which_threshold_held_for_each_image_and_what_it_weighs(write_study):
    pool = np.array([[0.95, 0.05], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]])
    rule = make_rule(
        pseudo_of(write_study, rule="per_class", labels="weighted", **MINIMAL["per_class"]), FACTS
    )
    scores = PoolScores(pool, pool, rule(Evidence(1, pool, VAL, VAL_LABELS)))
    names = np.array(list("abcd"))
    identity = PoolIdentity("archive", names, names, names, np.zeros(4, dtype=int), np.zeros(4))
    table = ledger_rows(
        identity,
        scores,
        round_index=1,
        teacher_sha256="t",
        rule="per_class",
        threshold=scores.selection.thresholds,
        weight=0.5,
    )
    assert table["threshold"].tolist() == [0.9, 0.9, 0.6, 0.6]
    assert table["decision"].tolist() == ["selected", "below threshold", "selected", "below threshold"]
    assert table["weight"].tolist() == pytest.approx([0.475, 0, 0.35, 0])


def test_a_study_with_a_rule_records_it(write_study, tmp_path):
    arms = ["supervised", "pseudo_real"]
    pseudo = {"rule": "error_controlled", "epsilon": 0.01, "rounds": 1, "labels": "soft", "align": True}
    run_study(write_study(pseudo=pseudo, arms=arms), tmp_path / "none", jobs=1)
    [info] = [info for info in infos(tmp_path / "none") if info["arm"] == "pseudo_real"]
    assert info["stopped"].startswith(
        "nothing selected in round 1: no threshold can be vouched for: an error of 0.01 takes 299 held-out "
    )
    ledger = read_ledger(tmp_path / "none" / "runs" / info["key"] / "ledger.parquet")
    assert set(ledger["rule"]) == {"error_controlled"} and ledger["threshold"].isna().all()
    assert (ledger["decision"] == "below threshold").all() and (ledger["weight"] == 0).all()
    assert np.allclose(ledger[["aligned_p_0", "aligned_p_1"]].max(axis=1), ledger["confidence"])

    pseudo = {"rule": "top_k", "images_per_class": 4, "rounds": 1, "labels": "soft"}
    run_study(write_study(pseudo=pseudo, arms=arms), tmp_path / "soft", jobs=1)
    [info] = [info for info in infos(tmp_path / "soft") if info["arm"] == "pseudo_real"]
    last = info["rounds"][-1]
    assert last["per_class_selected"] == [4, 4] and last["rule"] == "top_k"
    ledger = read_ledger(tmp_path / "soft" / "runs" / info["key"] / "ledger.parquet")
    chosen = ledger[ledger["decision"] == "selected"]
    by_class = chosen.groupby("predicted")["confidence"].min()
    assert last["thresholds"] == pytest.approx(by_class.tolist()) and len(chosen) == 8


def infos(study_dir):
    return [json.loads(path.read_text()) for path in sorted(study_dir.glob("runs/*/run.json"))]
