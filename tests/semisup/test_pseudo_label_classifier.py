"""The scikit-learn estimator: its laws, the conventions it keeps, and whom it keeps apart."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils.estimator_checks import check_estimator

from classifier.calibration import fit_temperature, scale_logits
from extract.errors import SettingsError
from semisup import GroupsWarning, PseudoLabelClassifier
from semisup.pseudo_config import FixedRule, FreeMatchRule

pytestmark = pytest.mark.filterwarnings("ignore::semisup.fit_data.GroupsWarning")
MINUS_ONE = (
    "-1 marks a row without a label, as in scikit-learn's own semi-supervised classifiers, which this "
)
MINUS_ONE += "check leaves out by name"


@pytest.fixture(scope="module")
def digits():
    """120 labeled and 300 unlabeled digits, and 300 others to test on."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:720]
    x, y = x[order] / 16, y[order]
    return x[:120], y[:120], x[120:420], x[420:], y[420:]


def logistic(**settings):
    return LogisticRegression(max_iter=300, **settings)


def unseen(estimator=None, **settings):
    """Without a validation part: what remains is plain self-training."""
    settings = {"calibrate": False, "validation": None, "random_state": 0, **settings}
    return PseudoLabelClassifier(logistic() if estimator is None else estimator, **settings)


@pytest.mark.parametrize(
    "base", [logistic(), RandomForestClassifier(5, random_state=1)], ids=["lr", "forest"]
)
def test_zero_rounds_are_the_base_estimator_on_the_labeled_rows(digits, base):
    x, y, pool, test, _ = digits
    found = unseen(base, rounds=0).fit(x, y, X_unlabeled=pool)
    plain = clone(base).fit(x, y)
    assert (found.predict_proba(test) == plain.predict_proba(test)).all()
    assert (found.predict(test) == plain.predict(test)).all()
    assert (found.best_round_, found.n_iter_, found.termination_condition_) == (0, 0, "max_iter")
    assert (found.transduction_ == np.append(y, np.full(300, -1))).all()


def test_zero_rounds_with_validation_are_the_base_estimator_on_the_rest_tempered(digits):
    x, y, pool, test, _ = digits
    found = PseudoLabelClassifier(logistic(), rounds=0, random_state=0).fit(x, y, X_unlabeled=pool)
    held = found.held_out_[:120]
    assert 20 <= held.sum() <= 30 and not found.held_out_[120:].any()
    plain = logistic().fit(x[~held], y[~held])
    temperature = fit_temperature(plain.predict_log_proba(x[held]), y[held])
    assert found.temperature_ == pytest.approx(temperature)
    expected = scale_logits(plain.predict_log_proba(test), temperature)
    assert found.predict_proba(test) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rounds", [1, 3])
def test_one_round_is_scikit_learns_self_training(digits, rounds):
    """Later rounds differ by design: there a label stays for good, here each round selects anew."""
    x, y, pool, test, _ = digits
    theirs = SelfTrainingClassifier(logistic(), threshold=0.8, max_iter=1)
    theirs.fit(np.concatenate([x, pool]), np.append(y, np.full(300, -1)))
    ours = unseen(rule=FixedRule(threshold=0.8), rounds=rounds, pseudo_share=1.0)
    ours.fit(np.concatenate([x, pool]), np.append(y, np.full(300, -1)))
    if rounds == 1:
        assert 0 < (theirs.labeled_iter_ == 1).sum() < 300
        assert (ours.transduction_ == theirs.transduction_).all()
        assert (ours.labeled_iter_ == theirs.labeled_iter_).all()
        assert ours.termination_condition_ == theirs.termination_condition_ == "max_iter"
        assert ours.predict_proba(test) == pytest.approx(theirs.predict_proba(test), abs=1e-3)
    else:
        assert (ours.labeled_iter_ >= 1).sum() > (theirs.labeled_iter_ == 1).sum()


def test_where_nothing_is_sure_enough_both_say_no_change(digits):
    x, y, pool, *_ = digits
    theirs = SelfTrainingClassifier(logistic(), threshold=0.9999).fit(
        np.concatenate([x, pool]), np.append(y, np.full(300, -1))
    )
    ours = unseen(rule=FixedRule(threshold=0.9999)).fit(x, y, X_unlabeled=pool)
    assert ours.termination_condition_ == theirs.termination_condition_ == "no_change"
    assert "nothing selected in round 1" in ours.stopped_
    assert (ours.transduction_ == theirs.transduction_).all()


@pytest.mark.parametrize("rule", ["fixed", "random", {"rule": "top_k", "images_per_class": 7}])
def test_a_permuted_pool_gives_the_permuted_result_to_the_bit(digits, rule):
    x, y, pool, test, _ = digits
    base = RandomForestClassifier(7)  # many ties in confidence
    one = PseudoLabelClassifier(base, rule=rule, random_state=1).fit(x, y, X_unlabeled=pool)
    order = np.random.default_rng(5).permutation(300)
    other = PseudoLabelClassifier(base, rule=rule, random_state=1).fit(x, y, X_unlabeled=pool[order])
    assert (one.transduction_[120:][order] == other.transduction_[120:]).all()
    assert (one.labeled_iter_[120:][order] == other.labeled_iter_[120:]).all()
    assert (one.predict_proba(test) == other.predict_proba(test)).all()
    assert one.rounds_ == other.rounds_


def test_minus_one_in_y_is_the_same_as_x_unlabeled(digits):
    x, y, pool, test, _ = digits
    apart = PseudoLabelClassifier(logistic(), random_state=2).fit(x, y, X_unlabeled=pool)
    mixed = PseudoLabelClassifier(logistic(), random_state=2).fit(
        np.concatenate([x, pool]), np.append(y, np.full(300, -1))
    )
    half = PseudoLabelClassifier(logistic(), random_state=2).fit(
        np.concatenate([x, pool[:50]]), np.append(y, np.full(50, -1)), X_unlabeled=pool[50:]
    )
    for other in (mixed, half):
        assert (apart.transduction_ == other.transduction_).all()
        assert (apart.predict_proba(test) == other.predict_proba(test)).all()


def test_the_best_round_on_held_out_rows_is_kept_and_may_be_the_first(digits):
    x, y, pool, *_ = digits
    seen = set()
    for seed in range(4):
        found = PseudoLabelClassifier(logistic(), rounds=2, random_state=seed).fit(x, y, X_unlabeled=pool)
        key = [(r["val_balanced_accuracy"], -r["val_nll"], -r["round_index"]) for r in found.rounds_]
        assert found.best_round_ == key.index(max(key))
        seen.add(found.best_round_)
        labeled = found.labeled_iter_[120:]
        assert labeled.max() <= found.best_round_
        assert (labeled >= 1).sum() == found.rounds_[found.best_round_]["num_selected"]
    assert 0 in seen


def test_labels_that_a_round_takes_back_are_not_in_the_result(digits):
    x, y, pool, *_ = digits
    found = unseen(rule=FixedRule(threshold=0.6), rounds=3).fit(x, y, X_unlabeled=pool)
    iterations = found.labeled_iter_[120:]
    assert ((iterations == -1) == (found.transduction_[120:] == -1)).all()
    assert {1, 2, 3} <= set(iterations)
    assert (iterations >= 1).sum() == found.rounds_[3]["num_selected"]
    assert (iterations == 1).sum() <= found.rounds_[1]["num_selected"]


def test_people_never_stand_on_both_sides_labeled_or_not(digits):
    x, y, pool, *_ = digits
    people, others = np.arange(120) % 30, np.arange(300) % 40  # the pool shows all of the labeled people, too
    found = PseudoLabelClassifier(logistic(), random_state=0)
    found.fit(x, y, people, X_unlabeled=pool, groups_unlabeled=others)
    everybody = np.append(people, others)
    judges = set(everybody[found.held_out_])
    assert judges and not judges & set(everybody[~found.held_out_])
    assert (found.transduction_[120:][found.held_out_[120:]] == -1).all()
    assert found.rounds_[1]["pool_size"] == 300 - found.held_out_[120:].sum() < 300


def test_without_groups_there_is_a_warning_and_with_them_there_is_none(digits):
    x, y, pool, *_ = digits
    with pytest.warns(GroupsWarning, match="every row is taken for a person of its own"):
        PseudoLabelClassifier(logistic(), rounds=1).fit(x, y, X_unlabeled=pool)
    with warnings.catch_warnings():
        warnings.simplefilter("error", GroupsWarning)
        PseudoLabelClassifier(logistic(), rounds=1).fit(x, y, range(120), X_unlabeled=pool)
        unseen(rounds=1).fit(x, y, X_unlabeled=pool)


def test_a_validation_part_of_ones_own_judges_and_trains_nothing(digits):
    x, y, pool, test, truth = digits
    own = PseudoLabelClassifier(logistic(), validation=(test, truth), rounds=1, random_state=0)
    own.fit(x, y, X_unlabeled=pool)
    assert not own.held_out_.any()
    plain = logistic().fit(x, y)
    recalls = [(plain.predict(test) == truth)[truth == k].mean() for k in range(10)]
    assert own.rounds_[0]["val_balanced_accuracy"] == pytest.approx(np.mean(recalls))
    shared = PseudoLabelClassifier(logistic(), validation=(test, truth, np.arange(300) + 119))
    with pytest.raises(ValueError, match=r"1 of its groups are among the groups to train on as well \(119\)"):
        shared.fit(x, y, np.arange(120))


def test_random_state_decides_all_chance(digits):
    x, y, pool, test, _ = digits
    probs = [
        PseudoLabelClassifier(RandomForestClassifier(5), rounds=1, random_state=seed)
        .fit(x, y, X_unlabeled=pool)
        .predict_proba(test)
        for seed in (3, 3, 4)
    ]
    assert (probs[0] == probs[1]).all() and (probs[0] != probs[2]).any()


def test_weights_and_repeats_bring_pseudo_labels_to_the_same_share(digits):
    x, y, pool, *_ = digits
    weighted = unseen(rounds=1, rule=FixedRule(threshold=0.3)).fit(x, y, X_unlabeled=pool).rounds_[1]
    assert weighted["num_selected"] > 200 and weighted["labeled_repeats"] == 1
    assert weighted["pseudo_weight"] * weighted["num_selected"] == pytest.approx(120)
    repeated = unseen(KNeighborsClassifier(), rounds=1, rule=FixedRule(threshold=0.3))
    record = repeated.fit(x, y, X_unlabeled=pool).rounds_[1]
    assert record["pseudo_weight"] == 1 and record["labeled_repeats"] == round(record["num_selected"] / 120)
    assert repeated.estimator_.n_samples_fit_ == 120 * record["labeled_repeats"] + record["num_selected"]


class Recorder(ClassifierMixin, BaseEstimator):
    """Notes what it is fitted on; its probabilities are always the same three."""

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        self.given_ = X, y, sample_weight
        return self

    def predict_proba(self, X):
        return np.tile([0.5, 0.3, 0.2], (len(X), 1))


def test_a_soft_label_is_each_class_with_its_probability_as_weight():
    x, y = np.arange(5.0)[:, None], np.array(["a", "b", "c", -1, -1], dtype=object)
    soft = unseen(Recorder(), rule={"labels": "soft", "threshold": 0.4}, rounds=1, pseudo_share=1).fit(x, y)
    rows, labels, weights = soft.estimator_.given_
    assert labels.tolist() == ["a", "b", "c"] + ["a", "b", "c"] * 2
    assert weights == pytest.approx([1, 1, 1] + [0.5, 0.3, 0.2] * 2)
    assert sorted(rows[3:, 0].tolist()) == [3, 3, 3, 4, 4, 4]
    sure = unseen(Recorder(), rule={"labels": "weighted", "threshold": 0.4}, rounds=1, pseudo_share=1).fit(
        x, y
    )
    assert sure.estimator_.given_[2] == pytest.approx([1, 1, 1, 0.5, 0.5])
    assert sure.transduction_.tolist() == ["a", "b", "c", "a", "a"]


def test_classes_may_be_words_and_x_unlabeled_goes_with_them():
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    found = PseudoLabelClassifier(logistic(), random_state=0).fit(x[::3], names[::3], X_unlabeled=x[1::3])
    assert found.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert set(found.transduction_[50:]) <= {"setosa", "versicolor", "virginica", -1}
    assert found.score(x[2::3], names[2::3]) > 0.85


def test_rules_by_name_object_and_mapping_are_the_same(digits):
    x, y, pool, test, _ = digits
    rules = ("freematch", {"rule": "freematch"}, FreeMatchRule(rule="freematch"))
    probs = [unseen(rule=rule).fit(x, y, X_unlabeled=pool).predict_proba(test) for rule in rules]
    assert (probs[0] == probs[1]).all() and (probs[0] == probs[2]).all()


def test_the_error_controlled_rule_counts_the_people_of_the_validation_part(digits):
    x, y, pool, *_ = digits
    rule = {"rule": "error_controlled", "epsilon": 0.2, "delta": 0.1}
    many, few = (
        PseudoLabelClassifier(logistic(), rule=rule, validation=0.5, random_state=0).fit(
            x, y, people, X_unlabeled=pool
        )
        for people in (np.arange(120), np.arange(120) // 6)
    )
    assert many.rounds_[1]["num_selected"] > 0
    assert few.termination_condition_ == "no_change" and few.n_iter_ == 0  # ten people cannot vouch for it


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "fxed"}, "rule: fxed is no rule; known rules: fixed, per_class"),
        ({"rule": {"thresh": 0.9}}, "rule: fixed has no setting 'thresh'; it has threshold, "),
        ({"rule": "top_k"}, "rule: its setting images_per_class is required and missing"),
        ({"rule": {"rounds": 3}}, "rounds is a setting of the classifier itself; give it as rounds="),
        ({"rule": FixedRule(calibrate=False)}, "calibrate is a setting of the classifier itself"),
        ({"rule": 3}, "rule: expected a rule's name or its settings, got 3"),
        ({"rounds": -1}, "rounds: input should be greater than or equal to 0, got -1"),
        ({"pseudo_share": 0}, "pseudo_share: input should be greater than 0, got 0"),
        ({"validation": 1.0}, "validation: expected a share between 0 and 1, got 1.0"),
        ({"validation": "own"}, "validation: expected a share such as 0.2, or"),
        ({"validation": None}, "calibrate needs held-out rows, and validation is None"),
        (
            {"validation": None, "calibrate": False, "rule": "error_controlled"},
            "rule: error_controlled needs held-out rows",
        ),
        (
            {"rule": {"rule": "per_class", "class_thresholds": {"0": 0.9}}},
            "class_thresholds: expected one for each class",
        ),
    ],
)
def test_settings_that_cannot_be_are_answered_in_a_sentence(digits, settings, message):
    x, y, pool, *_ = digits
    with pytest.raises(SettingsError) as caught:
        PseudoLabelClassifier(logistic(), **settings).fit(x, y, X_unlabeled=pool)
    assert message in str(caught.value)


def test_labels_that_need_weights_are_refused_where_there_are_none(digits):
    x, y, pool, *_ = digits
    base = make_pipeline(StandardScaler(), logistic())
    with pytest.raises(SettingsError, match=r"the fit of Pipeline takes none; .*a pipeline belongs around"):
        unseen(base, rule={"labels": "soft"}).fit(x, y, X_unlabeled=pool)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.full(120, -1)}, "every entry of y is -1"),
        ({"y": np.where(np.arange(120) < 60, 7, -1)}, "two or more classes, got 1 class"),
        ({"groups": np.arange(7)}, r"groups: expected one entry a row \(120\), got shape \(7,\)"),
        ({"X_unlabeled": np.zeros((3, 5))}, "X has 5 features, but PseudoLabelClassifier is expecting 64"),
        ({"groups_unlabeled": np.arange(300)}, "groups_unlabeled: expected groups and X_unlabeled with it"),
    ],
)
def test_rows_that_do_not_fit_are_refused(digits, change, message):
    x, y, pool, *_ = digits
    with pytest.raises(ValueError, match=message):
        PseudoLabelClassifier(logistic()).fit(**{"X": x, "y": y, "X_unlabeled": pool, **change})


def test_without_unlabeled_rows_the_labeled_ones_are_all(digits):
    x, y, *_ = digits
    found = PseudoLabelClassifier(logistic(), random_state=0).fit(x, y)
    assert (found.termination_condition_, found.n_iter_) == ("all_labeled", 0)
    assert (found.transduction_ == y).all() and (found.labeled_iter_ == 0).all()


@pytest.mark.parametrize("rounds", [2, 3, 6])
def test_with_kept_labels_any_number_of_rounds_is_scikit_learns_own(digits, rounds):
    x, y, pool, test, _ = digits
    rule = {"rule": "fixed", "threshold": 0.9, "relabel": False}
    ours = unseen(rule=rule, rounds=rounds, pseudo_share=1.0).fit(x, y, X_unlabeled=pool)
    theirs = SelfTrainingClassifier(logistic(), threshold=0.9, max_iter=rounds).fit(
        np.concatenate([x, pool]), np.concatenate([y, np.full(len(pool), -1)])
    )
    assert (ours.transduction_ == theirs.transduction_).all()
    assert (ours.labeled_iter_ == theirs.labeled_iter_).all()
    assert len(set(ours.labeled_iter_.tolist())) > 3  # labels came in more than one round
    assert (ours.predict(test) == theirs.predict(test)).all()


def test_it_stops_where_classes_drift(digits):
    x, y, pool, *_ = digits
    found = unseen(rule={"rule": "fixed", "threshold": 0.9, "stop_class_drift": 0.05})
    found.fit(x, y, X_unlabeled=pool)
    assert (found.termination_condition_, found.n_iter_) == ("class_drift", 0)
    assert found.stopped_.startswith("class drift 0.")


def test_it_stops_for_want_of_gain_and_of_change(digits):
    x, y, pool, *_ = digits
    gain = PseudoLabelClassifier(logistic(), rounds=9, stop_without_gain=1, random_state=0)
    assert gain.fit(x, y, X_unlabeled=pool).termination_condition_ == "no_gain"
    change = unseen(rounds=9, stop_flip_rate=0.05).fit(x, y, X_unlabeled=pool)
    assert change.termination_condition_ == "no_change" and 0 < change.n_iter_ < 9


def test_it_is_cloned_pickled_searched_and_piped_like_any_other(digits):
    x, y, pool, test, truth = digits
    rule = FixedRule(threshold=0.8, max_per_class=20)
    original = PseudoLabelClassifier(logistic(C=0.5), rule=rule, validation=0.3, random_state=1)
    for copy in (clone(original), pickle.loads(pickle.dumps(original))):
        assert copy.get_params(deep=False).keys() == original.get_params(deep=False).keys()
        assert (copy.rule, copy.validation, copy.estimator.C) == (rule, 0.3, 0.5)
    copy = clone(original).set_params(estimator__C=2.0, rounds=1)
    assert (copy.estimator.C, copy.rounds, original.estimator.C) == (2.0, 1, 0.5)
    labels = np.append(y, np.full(300, -1))
    piped = make_pipeline(StandardScaler(), original).fit(np.concatenate([x, pool]), labels)
    again = pickle.loads(pickle.dumps(piped))
    assert (again.predict(test) == piped.predict(test)).all() and piped.score(test, truth) > 0.8
    search = GridSearchCV(original, {"rule": [FixedRule(threshold=t) for t in (0.6, 0.9)]}, cv=2)
    assert search.fit(x, y).best_params_["rule"].threshold in (0.6, 0.9)


def test_missing_values_pass_where_the_estimator_takes_them(digits):
    x, y, pool, *_ = digits
    holes = np.where(np.random.default_rng(0).random(x.shape) < 0.05, np.nan, x)
    base = HistGradientBoostingClassifier(max_iter=3)
    assert PseudoLabelClassifier(base, rounds=1).fit(holes[:, :6], y, X_unlabeled=pool[:, :6]).rounds_
    with pytest.raises(ValueError, match="contains NaN"):
        PseudoLabelClassifier(logistic()).fit(holes, y)


def test_scikit_learns_own_checks_pass():
    results = check_estimator(
        PseudoLabelClassifier(LogisticRegression(), random_state=0),
        expected_failed_checks={"check_classifiers_classes": MINUS_ONE},
        on_skip=None,
    )
    assert sum(result["status"] == "passed" for result in results) > 40
    assert [r["check_name"] for r in results if r["status"] == "xfail"] == ["check_classifiers_classes"]


def test_the_packages_stay_light_until_the_classes_are_asked_for():
    code = "import sys, semisup, classifier; print([m for m in ('torch', 'sklearn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    code = "import sys; from semisup import PseudoLabelClassifier; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_rows_held_out_for_calibration_alone_do_not_choose_the_round(digits):
    x, y, pool, *_ = digits
    both = PseudoLabelClassifier(logistic(), validation=0.5, rounds=0, random_state=0)
    apart = clone(both).set_params(calibration_share=0.5)
    both.fit(x, y, range(120), X_unlabeled=pool)
    apart.fit(x, y, range(120), X_unlabeled=pool)
    assert (both.held_out_ == apart.held_out_).all()
    assert (both.estimator_.coef_ == apart.estimator_.coef_).all()
    assert both.temperature_ != apart.temperature_
    assert both.rounds_[0]["val_nll"] != apart.rounds_[0]["val_nll"]
    assert both.rounds_[0]["ece_after_is_cross_fitted"] and apart.rounds_[0]["ece_after_is_cross_fitted"]
    with pytest.raises(SettingsError, match=r"held out of this data.*show no"):
        clone(apart).set_params(validation=0.1).fit(x, y, range(120), X_unlabeled=pool)
