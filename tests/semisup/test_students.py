"""Students, kept labels, negative labels and class drift: laws with fakes, and tiny studies end to end."""

import json

import numpy as np
import pandas as pd
import pytest

from extract.errors import SettingsError
from semisup import run_models
from semisup.audit_sample import read_population
from semisup.config import load_study
from semisup.controls import carry_weights, draw_at_random, recorded_rounds
from semisup.ledger import read_ledger
from semisup.plan import make_plan
from semisup.pseudo_config import FixedRule, UncertaintyConfig
from semisup.query import query_study
from semisup.report import write_report
from semisup.rounds import run_rounds
from semisup.select import select_confident
from semisup.stopping import ClassDrift, StopRules, class_drift
from semisup.study import run_study
from semisup.uncertainty import make_asking
from tests.semisup.test_calibrating import run_infos
from tests.semisup.test_controls import ledger as recorded_ledger
from tests.semisup.test_rounds import SURE, UNSURE, VAL_LABELS, Fake, logits_of, measures, validation

FLIPPED = [0.1, 0.9]


def run(pools, **more):
    """Rounds whose models see the pool as `pools` says in turn; what each student was trained on, too."""
    models = [Fake(logits_of(pool), validation(2)) for pool in pools]
    seen = []

    def train_student(selection, round_index):
        seen.append(selection)
        return models[round_index]

    settings = {
        "val_logits": lambda model: model.val,
        "val_labels": VAL_LABELS,
        "pool_logits": lambda model: model.pool,
        "select": lambda evidence: select_confident(evidence.probs, 0.75),
        "train_student": train_student,
        "fit_temperature": None,
        "metrics": measures,
    }
    return run_rounds(models[0], len(models) - 1, **{**settings, **more}), seen


def pairs(selection) -> list[tuple[int, int]]:
    return sorted(zip(selection.indices.tolist(), selection.labels.tolist(), strict=True))


# Kept labels


def test_kept_labels_stay_whatever_later_teachers_say():
    pools = [[SURE, SURE, UNSURE], [UNSURE, FLIPPED, SURE], [FLIPPED] * 3, [SURE] * 3]
    result, seen = run(pools, relabel=False)
    assert [pairs(selection) for selection in seen] == [[(0, 0), (1, 0)], [(0, 0), (1, 0), (2, 0)]]
    assert result.stopped == "nothing new selected in round 3, and labels are kept"
    assert [pairs(selection) for selection in run(pools)[1]][1] == [(1, 1), (2, 0)]  # anew by default


def test_a_kept_label_takes_no_place_under_a_cap():
    pools = [[[0.95, 0.05], SURE, [0.8, 0.2]]] * 3
    _, seen = run(pools, relabel=False, select=lambda evidence: select_confident(evidence.probs, 0.75, 1))
    assert [pairs(selection) for selection in seen] == [[(0, 0)], [(0, 0), (1, 0)]]


def test_a_kept_label_stays_when_the_teacher_becomes_unsure():
    pools = [[SURE, UNSURE], [SURE, SURE], [SURE, SURE]]
    samples = iter([[pools[0], pools[0]], [[SURE, SURE], [[0.6, 0.4], SURE]]])
    val = np.repeat(np.exp(validation(4))[None], 2, axis=0)
    asking = make_asking(
        UncertaintyConfig(method="tta", samples=2, max=0.1),
        False,
        lambda model, made_in, part: np.log(val if part == "val" else np.array(next(samples))),
    )
    _, seen = run(pools, relabel=False, asking=asking)
    assert [pairs(selection) for selection in seen] == [[(0, 0)], [(0, 0), (1, 0)]]


# Negative labels


THREE = [[0.9, 0.06, 0.04], [0.5, 0.48, 0.02], [0.4, 0.35, 0.25], [0.6, 0.03, 0.37], [0.8, 0.19, 0.01]]


def test_images_below_the_threshold_are_taught_what_they_are_not():
    _, seen = run([THREE, THREE], negative=0.05)
    assert pairs(seen[0]) == [(0, 0), (4, 0)]
    negatives = seen[0].negatives
    assert negatives.indices.tolist() == [1, 3]
    assert negatives.excluded.tolist() == [[False, False, True], [False, True, False]]
    assert run([THREE, THREE])[1][0].negatives is None


def test_what_a_cap_left_out_does_not_come_back_as_a_negative_label():
    _, seen = run(
        [THREE, THREE], negative=0.05, select=lambda evidence: select_confident(evidence.probs, 0.75, 1)
    )
    assert pairs(seen[0]) == [(0, 0)]
    assert seen[0].negatives.indices.tolist() == [1, 3]  # and not 4


def test_where_nothing_is_selected_nothing_is_taught_what_it_is_not():
    result, seen = run([THREE, THREE], negative=0.05, select=lambda e: select_confident(e.probs, 0.99))
    assert seen == [] and result.unused is not None and result.unused.selection.negatives is None


def test_a_permutation_of_the_pool_permutes_negative_labels():
    order = np.array([3, 0, 4, 2, 1])
    (straight,), (permuted,) = (
        run([pool, pool], negative=0.05)[1] for pool in (THREE, np.array(THREE)[order])
    )

    def by_image(negatives, image):
        rows = zip(negatives.indices, negatives.excluded.tolist(), strict=True)
        return {int(image[row]): excluded for row, excluded in rows}

    assert by_image(straight.negatives, np.arange(5)) == by_image(permuted.negatives, order)


def test_a_class_is_excluded_only_where_its_own_probability_is_certain():
    mean = np.array(THREE[1:4])
    shift = np.array([[0.2, -0.2, 0], [0, 0, 0], [0.02, -0.02, 0.0]])
    samples, val = np.stack([mean + shift, mean - shift]), np.repeat(np.exp(validation(4))[None], 2, axis=0)
    val = np.concatenate([val, np.full((2, 4, 1), 1e-9)], axis=2)
    asking = make_asking(
        UncertaintyConfig(method="tta", samples=2, max=0.01),
        False,
        lambda model, made_in, part: np.log(val if part == "val" else samples),
    )
    pool = [*mean]
    _, seen = run(
        [pool, pool],
        negative=0.05,
        asking=asking,
        select=lambda evidence: select_confident(evidence.probs, 0.3),
    )
    assert pairs(seen[0]) == [(1, 0)]
    assert seen[0].negatives.indices.tolist() == [0]  # unsure of the classes 0 and 1, yet sure that not 2


# Class drift


def test_the_rounds_end_where_the_classes_drift_and_the_reason_names_the_class():
    pools = [[SURE, FLIPPED, UNSURE, UNSURE], [SURE, SURE, SURE, FLIPPED], [SURE] * 4]
    drift = ClassDrift(0.2, np.array([0.5, 0.5]), ("bar", "disc"))
    result, seen = run(pools, stop=StopRules(class_drift=drift))
    assert len(seen) == 1 and len(result.rounds) == 2
    assert result.stopped == (
        "class drift 0.25, more than 0.2: bar is 75% of the pseudo-labels and 50% of the labels in round 2"
    )
    assert len(run(pools, stop=StopRules(class_drift=ClassDrift(0.25, *_half())))[1]) == 2


def _half():
    return np.array([0.5, 0.5]), ("bar", "disc")


def test_class_drift_is_the_total_variation_distance():
    assert class_drift(np.array([1.0, 0]), np.array([0, 1.0])) == 1
    assert class_drift(np.array([0.2, 0.3, 0.5]), np.array([0.3, 0.3, 0.4])) == pytest.approx(0.1)


# Controls


def test_a_control_carries_the_weights_class_by_class():
    rows = recorded_ledger()
    weight = np.where(rows["decision"] == "selected", np.linspace(0.1, 0.9, 10), 0)
    (recorded,) = recorded_rounds(rows.assign(weight=weight))
    assert recorded.weights == pytest.approx(weight[recorded.selected])
    drawn = carry_weights(recorded, draw_at_random(recorded, np.random.default_rng(0)), recorded.weights)
    for label in (0, 1):
        own = recorded.weights[recorded.labels == label]
        assert drawn.weights[drawn.labels == label].tolist() == own.tolist()


def test_a_recorded_round_has_the_labels_that_were_kept():
    rows = recorded_ledger()
    told = np.where(rows["decision"] == "selected", 1 - rows["predicted"], -1)
    (recorded,) = recorded_rounds(rows.assign(pseudo_label=told))
    assert recorded.labels.tolist() == [0, 1, 1, 0, 1]


# Studies


def trained_by(monkeypatch):
    calls = []
    train = run_models.train_classifier

    def spy(images, val, classes, config, **more):
        calls.append((images, more))
        return train(images, val, classes, config, **more)

    monkeypatch.setattr(run_models, "train_classifier", spy)
    return calls


def ledger_of(folder, arm="pseudo_real"):
    info = run_infos(folder)[arm]
    return info, read_ledger(folder / "runs" / info["key"] / "ledger.parquet")


def test_a_warm_student_with_ramp_and_quota_and_its_control(write_study, tmp_path, monkeypatch):
    calls = trained_by(monkeypatch)
    arms = ["supervised", "pseudo_real", "shuffled_labels", "duplicated_real"]
    pseudo = {
        "threshold": 0.5, "rounds": 2, "student": "warm", "ramp": 0.5, "quota": 0.25, "labels": "weighted",
    }  # fmt: skip
    path = write_study(arms=arms, pseudo=pseudo, controls_of="pseudo_real")
    run_study(path, tmp_path / "out", jobs=1)
    (_, teacher), (images, first), (_, second), *controls = calls
    assert teacher["mix"] is None and teacher["start"] is None
    assert (first["mix"].ramp, first["mix"].quota) == (0.5, 0.25)
    assert first["start"] is not None and second["start"] is not first["start"]
    assert (images.weights[~images.is_pseudo] == 1).all()  # as they are, and once: the batches are mixed
    assert (~images.is_pseudo).sum() == len(calls[0][0])
    assert len(controls) == 4 and all(more["mix"] == first["mix"] for _, more in controls)
    info, ledger = ledger_of(tmp_path / "out")
    assert (info["rounds"][1]["labeled_repeats"], info["rounds"][1]["pseudo_weight"]) == (1, 1.0)
    chosen = ledger[ledger["decision"] == "selected"]
    np.testing.assert_allclose(chosen["weight"], chosen["confidence"], rtol=1e-6)
    _, shuffled = ledger_of(tmp_path / "out", "shuffled_labels")
    assert shuffled["weight"].tolist() == ledger["weight"].tolist()
    again = [images for images, _ in controls[2:]]
    for repeated in again:
        added = np.sort(repeated.weights[repeated.is_pseudo])
        assert any(
            np.allclose(added, np.sort(chosen.loc[chosen["round_index"] == r, "weight"])) for r in (1, 2)
        )


def test_negative_labels_and_kept_labels_are_in_the_ledger(write_study, tmp_path, monkeypatch):
    calls = trained_by(monkeypatch)
    pseudo = {
        "rule": "top_k", "images_per_class": 3, "rounds": 2, "negative": 0.49, "relabel": False,
    }  # fmt: skip
    run_study(write_study(arms=["supervised", "pseudo_real"], pseudo=pseudo), tmp_path / "out", jobs=1)
    info, ledger = ledger_of(tmp_path / "out")
    first, second = (ledger[ledger["round_index"] == r].reset_index(drop=True) for r in (1, 2))
    negative = first["decision"] == "negative"
    assert negative.sum() == info["rounds"][1]["num_negative"] > 0
    assert (first.loc[negative, "excluded"] == (1 - first.loc[negative, "predicted"]).astype(str)).all()
    assert first.loc[negative, "weight"].unique().tolist() == first.loc[
        first["decision"] == "selected", "weight"
    ].unique().tolist()  # fmt: skip
    images = calls[1][0]
    assert images.is_negative.sum() == negative.sum() and (images.labels[images.is_negative] == -1).all()
    kept = first["pseudo_label"] >= 0
    assert kept.sum() == info["rounds"][1]["num_selected"]
    assert (second.loc[kept, "pseudo_label"] == first.loc[kept, "pseudo_label"]).all()
    assert (second.loc[kept, "decision"] == "selected").all()
    assert info["rounds"][2]["num_selected"] > kept.sum()
    study = json.loads((tmp_path / "out" / "study.json").read_text())
    audited = read_population(tmp_path / "out", study).rows  # an expert judges the labels in force
    in_force = ledger.loc[ledger["decision"] == "selected", "pseudo_label"]
    assert audited["predicted"].tolist() == in_force.tolist()
    sql = "SELECT excluded, count(*) AS n FROM ledger WHERE decision = 'negative' GROUP BY ALL"
    asked = query_study(tmp_path / "out", sql)
    assert asked["n"].sum() == (ledger["decision"] == "negative").sum()
    assert set(asked["excluded"]) <= {"0", "1"}
    assert write_report(tmp_path / "out").path.exists()


def test_a_study_ends_where_its_classes_drift(write_study, tmp_path):
    pseudo = {"threshold": 0.01, "rounds": 1, "stop_class_drift": 0.001}
    run_study(write_study(arms=["supervised", "pseudo_real"], pseudo=pseudo), tmp_path / "out", jobs=1)
    info = run_infos(tmp_path / "out")["pseudo_real"]
    assert info["stopped"].startswith("class drift 0.") and info["best_round"] == 0
    assert ("bar is" in info["stopped"]) or ("disc is" in info["stopped"])


def test_every_new_setting_at_its_default_leaves_the_keys_as_they_are(write_study):
    defaults = {
        "negative": None, "student": "fresh", "ramp": None, "quota": None, "relabel": True,
        "stop_class_drift": None, "uncertainty": None, "calibration_share": 0,
    }  # fmt: skip
    given = [{"threshold": 0.6}, {"threshold": 0.6, **defaults}]
    keys = [[job.key for job in make_plan(load_study(write_study(pseudo=pseudo))).runs] for pseudo in given]
    assert keys[0] == keys[1]
    assert set(FixedRule().model_dump()) & set(defaults) == set()


@pytest.mark.parametrize(("arms", "pseudo", "sentence"), [
    ([], {"quota": 0.5, "pseudo_share": 0.5}, "pseudo: quota and pseudo_share both say how much"),
    ([], {"negative": 0.05, "labels": "soft"}, "pseudo: negative goes with labels: hard or weighted"),
    ([], {"ramp": 1.5}, "pseudo.ramp: expected at most 1, got 1.5"),
    ([], {"quota": 1.0}, "pseudo.quota: expected less than 1, got 1.0"),
    ([], {"student": "hot"}, "pseudo.student: expected 'fresh' or 'warm', got 'hot'"),
    (["shuffled_labels"], {"negative": 0.05}, "'shuffled_labels' repeats what images are, and pseudo"),
    (["random_selection"], {"relabel": False}, "'random_selection' draws anew in each round, and"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused_in_a_sentence(write_study, arms, pseudo, sentence):
    path = write_study(arms=["supervised", "pseudo_real", *arms], pseudo=pseudo)
    with pytest.raises(SettingsError, match=sentence):
        load_study(path)


def test_a_warm_study_repeats_to_the_bit(write_study, tmp_path):
    pseudo = {"threshold": 0.5, "rounds": 1, "student": "warm", "ramp": 0.4, "negative": 0.4}
    path = write_study(arms=["supervised", "pseudo_real"], pseudo=pseudo)
    tables = []
    for name in ("first", "again"):
        run_study(path, tmp_path / name, jobs=1)
        run_dir = tmp_path / name / "runs" / run_infos(tmp_path / name)["pseudo_real"]["key"]
        tables.append(pd.read_parquet(run_dir / "predictions.parquet"))
    pd.testing.assert_frame_equal(*tables, check_exact=True)
