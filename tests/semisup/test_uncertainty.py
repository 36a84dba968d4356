"""Teachers that are asked several times: laws with fakes, and tiny studies end to end."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from extract.errors import SettingsError
from semisup import run_models
from semisup.config import load_study
from semisup.ledger import read_ledger
from semisup.plan import make_plan
from semisup.pseudo_config import FixedRule, UncertaintyConfig
from semisup.rounds import run_rounds
from semisup.rules import RunFacts, make_rule
from semisup.select import Evidence, select_confident
from semisup.study import run_study
from semisup.uncertainty import form_opinion, make_asking
from tests.semisup.test_calibrating import run_infos
from tests.semisup.test_rounds import SURE, UNSURE, VAL_LABELS, Fake, logits_of, measures, validation


def test_one_sample_is_the_plain_prediction():
    logits = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32)
    opinion = form_opinion(logits)
    assert opinion.logits is not None and np.array_equal(opinion.logits, logits[0])
    assert not opinion.uncertainty.any() and not opinion.by_class.any()


def test_the_opinion_is_the_mean_of_probabilities_and_std_that_of_the_predicted_class():
    logits = np.random.default_rng(0).normal(size=(7, 20, 3)) * 2
    probs = softmax(logits, axis=2)
    opinion = form_opinion(logits)
    np.testing.assert_allclose(softmax(opinion.logits, axis=1), probs.mean(axis=0), rtol=1e-12)
    predicted = probs.mean(axis=0).argmax(axis=1)
    by_hand = [np.std([probs[s, n, predicted[n]] for s in range(7)]) for n in range(20)]
    np.testing.assert_allclose(opinion.uncertainty, by_hand, rtol=1e-12)
    np.testing.assert_allclose(opinion.by_class, probs.std(axis=0), rtol=1e-12)


def test_mutual_information_is_that_of_the_sample_and_the_class():
    logits = np.random.default_rng(1).normal(size=(4, 6, 3)) * 3
    probs = softmax(logits, axis=2)
    joint = probs / 4  # the sample is drawn evenly
    by_hand = [
        sum(
            joint[s, n, c] * np.log(joint[s, n, c] / (joint[:, n, c].sum() / 4))
            for s in range(4)
            for c in range(3)
        )
        for n in range(6)
    ]
    np.testing.assert_allclose(form_opinion(logits, "mutual_information").uncertainty, by_hand, rtol=1e-9)


def test_samples_that_agree_leave_nothing_uncertain():
    logits = np.repeat(np.random.default_rng(0).normal(size=(1, 5, 3)), 4, axis=0)
    for measure in ("std", "mutual_information"):
        np.testing.assert_allclose(form_opinion(logits, measure).uncertainty, 0, atol=1e-12)
    np.testing.assert_allclose(
        softmax(form_opinion(logits).logits, axis=1), softmax(logits[0], axis=1), rtol=1e-12
    )


def ask_rounds(pool_samples, val_samples, config, *, weigh=False, fit_temperature=None, threshold=0.75):
    """One round whose teacher gives these (S, N, 2) probabilities; what the student was trained on, too."""
    seen = []
    teacher, student = Fake(logits_of([SURE]), validation(2)), Fake(logits_of([SURE]), validation(3))

    def train_student(selection, round_index):
        seen.append(selection)
        return student

    samples = {"pool": pool_samples, "val": val_samples}
    result = run_rounds(
        teacher,
        1,
        val_logits=lambda model: model.val,
        val_labels=VAL_LABELS,
        pool_logits=lambda model: np.log(np.asarray(pool_samples[0])),
        select=lambda evidence: select_confident(evidence.probs, threshold),
        train_student=train_student,
        fit_temperature=fit_temperature,
        metrics=measures,
        asking=make_asking(config, weigh, lambda model, made_in, part: logits_of(samples[part])),
    )
    return result, seen


AGREED, SPLIT = [[0.9, 0.1], [0.9, 0.1]], [[0.99, 0.01], [0.61, 0.39]]  # of one image; means 0.9 and 0.8
POOL = np.swapaxes(np.array([AGREED, SPLIT, [[0.6, 0.4]] * 2]), 0, 1)  # (2, 3, 2)
VAL = np.repeat(softmax(validation(4), axis=1)[None], 2, axis=0)


def test_images_above_the_maximum_are_held_back_by_a_decision_of_their_own():
    result, seen = ask_rounds(POOL, VAL, UncertaintyConfig(method="tta", samples=2, max=0.1))
    assert seen[0].indices.tolist() == [0]
    scores = result.rounds[1].scores
    assert scores.doubt.is_certain.tolist() == [True, False, True]
    assert scores.doubt.uncertainty == pytest.approx([0, 0.19, 0])
    _, everybody = ask_rounds(POOL, VAL, UncertaintyConfig(method="tta", samples=2))
    assert everybody[0].indices.tolist() == [0, 1]


def test_the_rule_meets_calibrated_means_with_a_temperature_of_such_means():
    given = []

    def fit(logits, labels):
        given.append(softmax(logits, axis=1))
        return 2.0

    result, _ = ask_rounds(
        POOL, VAL[:, ::-1], UncertaintyConfig(method="tta", samples=2), fit_temperature=fit, threshold=0.5
    )
    asked = [probs for probs in given if np.allclose(probs, VAL[:, ::-1].mean(axis=0))]
    assert len(asked) == 1  # beside the fits of the models' own predictions
    means = POOL.mean(axis=0)
    assert result.rounds[1].scores.doubt.temperature == 2.0
    np.testing.assert_allclose(result.rounds[1].scores.raw_probs, means)
    np.testing.assert_allclose(
        result.rounds[1].scores.probs, softmax(np.log(means) / 2, axis=1)
    )  # calibrated after averaging


def test_one_sample_gives_the_rounds_of_a_teacher_that_is_asked_once():
    config = UncertaintyConfig(method="tta", samples=1, max=0.01)
    result, seen = ask_rounds(POOL[:1], softmax(validation(2), axis=1)[None], config)
    assert seen[0].indices.tolist() == [1, 0]
    np.testing.assert_allclose(result.rounds[1].scores.probs, POOL[0])


def test_weights_fall_with_uncertainty():
    config = UncertaintyConfig(method="tta", samples=2, scale=0.19)
    _, seen = ask_rounds(POOL, VAL, config, weigh=True)
    assert seen[0].indices.tolist() == [0, 1]
    assert seen[0].weights == pytest.approx([1, np.exp(-1)])


def test_where_everything_is_uncertain_nothing_is_selected_and_the_reason_stands():
    result, seen = ask_rounds(
        POOL[:, 1:2], VAL, UncertaintyConfig(method="tta", samples=2, max=0.1), threshold=0.1
    )
    assert seen == []
    assert (
        result.stopped == "nothing selected in round 1: the teacher is too unsure of every image of the pool"
    )


def test_the_error_bound_is_taken_over_real_images_that_are_certain_themselves():
    rng = np.random.default_rng(0)
    num = 200
    val_labels, val_subjects = rng.integers(0, 2, num), np.array([f"s{n}" for n in range(num)])
    is_wrong = np.arange(num) < 60  # these are the uncertain ones
    told = np.where(is_wrong, 1 - val_labels, val_labels)
    val_probs = np.where(np.eye(2)[told] > 0, 0.9, 0.1)
    probs = np.array([SURE, SURE, UNSURE])
    pseudo = load_rule("error_controlled", epsilon=0.1)
    select = make_rule(pseudo, RunFacts(("bar", "disc"), np.array([0.5, 0.5]), val_subjects, 0))
    blind = Evidence(1, probs, val_probs, val_labels)
    assert len(select(blind)) == 0
    assert len(select(Evidence(1, probs, val_probs, val_labels, ~is_wrong))) > 0


def load_rule(rule, **settings):
    from pydantic import TypeAdapter

    from semisup.pseudo_config import PseudoSection

    return TypeAdapter(PseudoSection).validate_python({"rule": rule, **settings})


def study(write_study, **pseudo):
    return write_study(
        arms=["supervised", "pseudo_real"],
        classifier={
            "steps": 8, "batch_size": 16, "validate_every": 8, "augment": False, "device": "cpu",
            "dropout": 0.2,
        },
        pseudo={"threshold": 0.5, "rounds": 2, **pseudo},
    )  # fmt: skip


def results(folder):
    found = run_infos(folder)["pseudo_real"]
    run = folder / "runs" / found["key"]
    return found, read_ledger(run / "ledger.parquet"), pd.read_parquet(run / "predictions.parquet")


def test_a_study_asks_views_and_says_so_in_the_ledger(write_study, tmp_path):
    path = study(write_study, uncertainty={"method": "tta", "samples": 3, "max": 0.0015})
    run_study(path, tmp_path / "out", jobs=1)
    info, ledger, _ = results(tmp_path / "out")
    assert set(ledger["uncertainty_method"]) == {"tta, std of 3"}
    held_back = ledger["uncertainty"] > 0.0015
    assert held_back.any() and (~held_back).any()
    assert set(ledger.loc[held_back, "decision"]) == {"too uncertain"}
    assert (ledger.loc[held_back, "weight"] == 0).all()
    assert not (ledger.loc[~held_back, "decision"] == "too uncertain").any()
    assert info["trainings_here"] == len(info["rounds"]) - 1


def test_one_view_leaves_the_study_as_it_is_without(write_study, tmp_path):
    kept = []
    for number, settings in enumerate(
        (None, {"method": "tta", "samples": 1}, {"method": "mc_dropout", "samples": 1})
    ):
        path = study(write_study, **({"uncertainty": settings} if settings else {}))
        run_study(path, tmp_path / str(number), jobs=1)
        kept.append(results(tmp_path / str(number)))
    for _, ledger, predictions in kept[1:]:
        pd.testing.assert_frame_equal(predictions, kept[0][2], check_exact=True)
        same = ["image", "decision", "weight", "p_0", "p_1"]
        pd.testing.assert_frame_equal(ledger[same], kept[0][1][same], check_exact=True)


def test_dropout_weighs_pseudo_labels_down(write_study, tmp_path):
    path = study(
        write_study,
        labels="weighted", weight_by="uncertainty",
        uncertainty={"method": "mc_dropout", "samples": 4, "scale": 0.05},
    )  # fmt: skip
    run_study(path, tmp_path / "out", jobs=1)
    info, ledger, _ = results(tmp_path / "out")
    chosen = ledger[(ledger["decision"] == "selected") & (ledger["round_index"] == 1)]
    weight = info["rounds"][1]["pseudo_weight"]
    assert chosen["uncertainty"].max() > 0
    np.testing.assert_allclose(chosen["weight"], weight * np.exp(-chosen["uncertainty"] / 0.05), rtol=1e-5)


def test_an_ensemble_trains_further_teachers_on_the_images_of_each_round(write_study, tmp_path, monkeypatch):
    seen = []
    train = run_models.train_classifier

    def spy(images, val, classes, config, **more):
        seen.append((images.is_pseudo.sum(), len(images), config.seed))
        return train(images, val, classes, config, **more)

    monkeypatch.setattr(run_models, "train_classifier", spy)
    path = study(write_study, uncertainty={"method": "ensemble", "samples": 2})
    plan = make_plan(load_study(path))
    run = next(run for run in plan.runs if run.arm == "pseudo_real")
    assert (plan.trainings_of(run), plan.num_trainings) == (4, 5)
    run_study(path, tmp_path / "out", jobs=1)
    info, ledger, _ = results(tmp_path / "out")
    assert (info["trainings_here"], info["trainings"]) == (4, 5)
    supervised, member, student, second_member, second_student = seen
    assert member[:2] == supervised[:2] and second_member[:2] == student[:2]
    assert member[2] == second_member[2] != supervised[2] == student[2] == second_student[2]
    assert ledger["uncertainty"].gt(0).all() and set(ledger["uncertainty_method"]) == {"ensemble, std of 2"}
    run_study(path, tmp_path / "again", jobs=1)
    pd.testing.assert_frame_equal(results(tmp_path / "again")[1], ledger, check_exact=True)


def test_an_ensemble_has_three_members_where_nothing_is_said():
    assert UncertaintyConfig(method="ensemble").samples == 3
    assert UncertaintyConfig(method="tta").samples == 8
    assert UncertaintyConfig.model_validate({"method": "ensemble", "samples": 5}).samples == 5


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"uncertainty": {"method": "mc_dropout"}}, "mc_dropout needs a network with dropout, and classifier"),
    ({"labels": "weighted", "weight_by": "uncertainty"}, "weight_by: uncertainty needs to know it"),
    ({"uncertainty": {"method": "tta", "sample": 3}},
     r"pseudo.uncertainty.sample: unknown setting; did you mean 'samples'\?; allowed here: method, samples"),
    ({"uncertainty": {"method": "bayes"}}, "pseudo.uncertainty.method: expected 'tta', 'mc_dropout' or"),
    ({"uncertainty": {"method": "tta", "samples": 0}}, "uncertainty.samples: expected at least 1, got 0"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused_in_a_sentence(write_study, settings, sentence):
    with pytest.raises(SettingsError, match=sentence):
        load_study(write_study(pseudo=settings))


def test_no_uncertainty_leaves_the_settings_as_they_were():
    assert "uncertainty" not in FixedRule().model_dump()
