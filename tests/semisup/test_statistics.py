from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, matthews_corrcoef
from statsmodels.stats.multitest import multipletests

from semisup.statistics import (
    METRICS,
    RunCounts,
    SubjectBootstrap,
    accuracy,
    balanced_accuracy,
    class_strata,
    count_predictions,
    holm,
    label_equivalence,
    macro_f1,
    mcc,
    monotone,
    recall_per_class,
)
from semisup.statistics.unseen import unseen_share

# A trial with clustered subjects --------------------------------------------------------------------


def simulate(
    rng: np.random.Generator,
    *,
    num_subjects=40,
    seeds=3,
    folds=1,
    gain=0.0,
    between_trainings=0.15,
    mixed=False,
) -> tuple[list[RunCounts], list[RunCounts]]:
    """Two arms on the same clustered subjects, 10 to 50 images each; `gain` is added to the second's logit.

    Subjects and images are hard for both arms alike; each training has a skill of its own for every class
    and for every subject.
    """
    num_images = rng.integers(10, 51, num_subjects)
    subject = np.repeat(np.arange(num_subjects), num_images)
    labels = rng.integers(0, 3, len(subject)) if mixed else subject % 3
    fold = rng.permutation(num_subjects)[subject] % folds
    ease = 1.0 + rng.normal(0, 1, num_subjects)[subject] + rng.normal(0, 1, len(subject))
    names = np.char.add("s", subject.astype(str))
    arms = []
    for arm in range(2):
        runs = []
        for k in range(folds):
            rows = np.flatnonzero(fold == k)
            for seed in range(seeds):
                skill = rng.normal(0, between_trainings, 3)[labels[rows]]
                taste = rng.normal(0, 0.7, num_subjects)[subject[rows]]
                chance = 1 / (1 + np.exp(-(ease[rows] + gain * arm + skill + taste)))
                right = rng.random(len(rows)) < chance
                predicted = np.where(right, labels[rows], (labels[rows] + 1) % 3)
                runs.append(count_predictions(k, seed, names[rows], labels[rows], predicted, 3))
        arms.append(runs)
    return arms[0], arms[1]


def compare(baseline: Sequence[RunCounts], arm: Sequence[RunCounts], num_draws=1000, seed=0):
    boot = SubjectBootstrap(class_strata(baseline), num_draws=num_draws, seed=seed)
    return boot.difference(boot.draw(arm), boot.draw(baseline))


def test_a_clear_gain_is_found():
    baseline, arm = simulate(np.random.default_rng(0), gain=1.0, folds=3)
    result = compare(baseline, arm)
    assert result.low > 0
    assert result.p_value < 0.01
    assert result.share_above_zero > 0.99


# The bootstrap --------------------------------------------------------------------------------------


def test_draws_equal_a_loop_over_copies_of_subjects():
    baseline, arm = simulate(np.random.default_rng(3), num_subjects=9, seeds=2, folds=2)
    boot = SubjectBootstrap(class_strata(baseline), num_draws=20)
    for metric, score in METRICS.items():
        result = boot.difference(boot.draw(arm), boot.draw(baseline), metric)
        for draw in range(20):
            values = []
            for runs in (arm, baseline):
                confusion = np.zeros((3, 3))
                for fold in (0, 1):
                    for run in runs:
                        if run.fold != fold:
                            continue
                        for subject, counts in zip(run.subjects, run.counts, strict=True):
                            weight = boot.weights[draw, list(boot.subjects).index(subject)]
                            confusion += weight * counts / 2  # two seeds, averaged
                values.append(float(score(confusion)))
            assert result.subject_draws[draw] == pytest.approx(values[0] - values[1], abs=1e-6)


def test_both_arms_see_the_same_draw_so_equal_arms_differ_by_exactly_zero():
    baseline, _ = simulate(np.random.default_rng(0))
    result = compare(baseline, baseline)
    assert (result.value, result.low, result.high) == (0, 0, 0)
    assert result.p_value == 1
    assert result.share_above_zero == 0.5


def test_every_draw_has_all_classes_even_a_class_of_two_subjects():
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    run = count_predictions(0, 0, np.arange(8).astype(str), labels, labels, 2)
    boot = SubjectBootstrap(class_strata([run]), num_draws=200)
    assert (boot.draw([run]).drawn[0, 0].sum(axis=2) > 0).all()


def test_a_draw_has_the_weight_of_all_subjects_of_a_stratum():
    boot = SubjectBootstrap({"a": 0, "b": 0, "c": 0, "d": 1, "e": 1}, num_draws=100)
    assert boot.weights[:, :3].sum(axis=1) == pytest.approx(3)
    assert boot.weights[:, 3:].sum(axis=1) == pytest.approx(2)
    assert boot.weights.std() > 0


def test_lone_subjects_share_a_stratum_and_the_last_one_joins_the_largest():
    def one_run(labels_by_subject):
        pairs = [(s, label) for s, labels in labels_by_subject.items() for label in labels]
        subjects, labels = zip(*pairs, strict=True)
        return count_predictions(0, 0, np.array(subjects), np.array(labels), np.array(labels), 3)

    strata = class_strata([one_run({"a": [0], "b": [0], "c": [1], "d": [1], "e": [0, 1], "f": [2]})])
    assert strata["a"] == strata["b"] != strata["c"] == strata["d"]
    assert strata["e"] == strata["f"] not in (strata["a"], strata["c"])
    strata = class_strata([one_run({"a": [0], "b": [0], "c": [0], "d": [1], "e": [1], "f": [2]})])
    assert strata["f"] == strata["a"]


def test_seeds_that_disagree_widen_the_interval():
    rng = np.random.default_rng(2)
    steady = compare(*simulate(rng, between_trainings=0.0, num_subjects=60))
    shaky = compare(*simulate(rng, between_trainings=1.5, num_subjects=60))
    assert shaky.high - shaky.low > 2 * (steady.high - steady.low)


def test_only_folds_and_seeds_that_both_arms_have_are_compared():
    baseline, arm = simulate(np.random.default_rng(4), folds=2)
    without = [run for run in arm if (run.fold, run.seed) != (1, 2)]
    result = compare(baseline, without)
    kept = [run for run in baseline if (run.fold, run.seed) != (1, 2)]
    assert result.value == pytest.approx(compare(kept, without).value)
    assert result.num_seeds == 2


def test_arms_without_a_run_in_common_are_refused():
    baseline, arm = simulate(np.random.default_rng(4), folds=2, seeds=1)
    boot = SubjectBootstrap(class_strata(baseline), num_draws=10)
    with pytest.raises(ValueError, match="no fold and seed in common"):
        boot.difference(boot.draw(arm[:1]), boot.draw(baseline[1:]))


def test_the_interval_excludes_zero_exactly_when_the_p_value_is_below_5_percent():
    rng = np.random.default_rng(9)
    for gain in np.linspace(0, 0.6, 13):
        result = compare(*simulate(rng, gain=float(gain)), num_draws=2000)
        if abs(result.p_value - 0.05) > 0.004:
            assert (result.p_value < 0.05) == (result.low > 0 or result.high < 0)


def test_the_interval_of_one_arm_stays_within_0_and_1():
    labels = np.repeat([0, 1], 12)
    predicted = labels.copy()
    predicted[0] = 1
    run = count_predictions(0, 0, np.arange(24).astype(str), labels, predicted, 2)
    boot = SubjectBootstrap(class_strata([run]), num_draws=500)
    result = boot.estimate(boot.draw([run]))
    assert result.value == pytest.approx((11 / 12 + 1) / 2)
    # one error among the 12 subjects of a class: their exact interval alone would reach down to 81 %
    assert 0.7 < result.low < 0.85 < result.value < result.high <= 1


def test_an_arm_without_errors_has_the_interval_of_errors_that_did_not_show():
    labels = np.repeat([0, 1], [20, 6])
    run = count_predictions(0, 0, np.arange(26).astype(str), labels, labels, 2)
    boot = SubjectBootstrap(class_strata([run]), num_draws=100)
    rarest = 0.025 ** (1 / 6)
    lowest = {"balanced_accuracy": (1 + rarest) / 2, "accuracy": 0.025 ** (1 / 26), "mcc": 2 * rarest - 1}
    for metric in METRICS:
        result = boot.estimate(boot.draw([run]), metric)
        assert (result.value, result.high) == (1, 1)
        assert result.low == pytest.approx(lowest.get(metric, rarest))


def test_a_class_that_is_never_found_leaves_room_on_both_sides():
    labels = np.repeat([0, 1], [20, 6])
    run = count_predictions(0, 0, np.arange(26).astype(str), labels, np.zeros(26, int), 2)
    boot = SubjectBootstrap(class_strata([run]), num_draws=100)
    result = boot.estimate(boot.draw([run]))  # recalls of 1 and 0: no draw is any different
    below, above = (1 - 0.025 ** (1 / n) for n in (20, 6))
    assert (result.value, result.low, result.high) == pytest.approx((0.5, 0.5 - below / 2, 0.5 + above / 2))


def test_two_perfect_models_are_equal_as_far_as_so_few_subjects_can_tell():
    labels = np.repeat([0, 1], [20, 6])

    def perfect(model, seed=0):
        return count_predictions(0, seed, np.arange(26).astype(str), labels, labels, 2, model)

    boot = SubjectBootstrap(class_strata([perfect("a")]), num_draws=1000)
    first, same, other = (boot.draw([perfect(model)]) for model in ("a", "a", "b"))
    found = boot.difference(first, same)
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    share = (1 - 0.025 ** (1 / 6)) / 2
    found = boot.difference(first, other)
    assert (found.value, found.low, found.high) == pytest.approx((0, -share, share), abs=0.005)
    assert found.p_value > 0.99 and boot.difference(first, other, "mcc").high > share
    one_of_two = boot.difference(
        boot.draw([perfect("a"), perfect("c", 1)]), boot.draw([perfect("b"), perfect("c", 1)])
    )
    assert one_of_two.high == pytest.approx(share / 2, abs=0.005)  # the other seed's model is the same


@pytest.mark.parametrize("num_subjects", [(12,), (20, 6), (10, 10), (35, 13, 20, 6)])
def test_bounds_of_what_was_not_seen_are_the_largest_shares_that_remain_possible(num_subjects):
    n = np.array(num_subjects, float)
    weights = np.full(len(n), 1 / len(n))
    bound = unseen_share(n, weights)
    rng = np.random.default_rng(0)
    shares = 1 - 0.025 ** (rng.dirichlet(np.full(len(n), 0.3), 20_000) / n)  # all on the edge of the possible
    found = shares @ weights
    assert found.max() <= bound + 1e-9 and found.max() > bound - 0.01
    assert (1 - shares.max(axis=1)).min() >= 0


def test_a_subject_of_several_classes_is_one_subject():
    names, labels = np.repeat(np.arange(9).astype(str), 3), np.tile([0, 1, 2], 9)
    run = count_predictions(0, 0, names, labels, labels, 3)
    boot = SubjectBootstrap(class_strata([run]), num_draws=50)
    assert boot.estimate(boot.draw([run])).low == pytest.approx(0.025 ** (1 / 9))


def test_a_single_subject_and_a_single_seed_give_a_value_without_a_crash():
    run = count_predictions(0, 0, np.array(["a", "a"]), np.array([0, 1]), np.array([0, 0]), 2)
    boot = SubjectBootstrap(class_strata([run]), num_draws=50)
    result = boot.estimate(boot.draw([run]))
    assert (result.value, result.low, result.high) == pytest.approx((0.5, 0.5 * 0.025**2, 1 - 0.5 * 0.025**2))
    assert (result.num_subjects, result.num_seeds, result.num_images) == (1, 1, 2)


def test_labels_that_are_no_class_are_refused():
    with pytest.raises(ValueError, match=r"labels must lie in 0..1, got -1..0"):
        count_predictions(0, 0, np.array(["a", "b"]), np.array([-1, 0]), np.array([0, 0]), 2)


# Metrics and corrections ----------------------------------------------------------------------------


def test_metrics_of_confusion_matrices_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    confusion = np.zeros((4, 4))
    np.add.at(confusion, (labels, predicted), 1)
    assert accuracy(confusion) == pytest.approx(accuracy_score(labels, predicted))
    assert balanced_accuracy(confusion) == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert macro_f1(confusion) == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert mcc(confusion) == pytest.approx(matthews_corrcoef(labels, predicted))


def test_a_class_that_is_absent_does_not_count():
    confusion = np.array([[8, 2, 0], [0, 10, 0], [0, 0, 0]])
    assert balanced_accuracy(confusion) == pytest.approx(0.9)
    assert np.isnan(recall_per_class(confusion)[2])


@pytest.mark.parametrize(
    "p_values", [[0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.9], [0.2], [0.03, 0.001, 0.03, 1.0]]
)
def test_holm_agrees_with_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_holm_of_nothing_is_nothing():
    assert holm([]).shape == (0,)


# Label equivalence ----------------------------------------------------------------------------------

FRACTIONS = [0.2, 0.5, 0.7, 1.0]


def planted(value: float, noise: float = 0.0, num_draws: int = 400):
    """A curve straight in log labels, 70 % at 0.2 and 90 % at 1.0; curve and arm share some noise."""
    curve = 0.9 + 0.2 * np.log(FRACTIONS) / np.log(5)
    shift = np.random.default_rng(0).normal(0, noise, (num_draws, 1))
    own = np.random.default_rng(1).normal(0, noise, num_draws)
    return label_equivalence(FRACTIONS, curve, curve + shift, value, value + shift[:, 0] + own)


def test_label_equivalence_finds_a_planted_fraction():
    result = planted(0.9 + 0.2 * np.log(0.35) / np.log(5), noise=0.01)
    assert result.fraction == pytest.approx(0.35)
    assert 0.2 < result.low < 0.35 < result.high < 0.5


def test_an_arm_equal_to_the_curve_needs_as_many_labels_as_it_has():
    assert planted(0.7).fraction == pytest.approx(0.2)
    assert planted(0.9).fraction == pytest.approx(1.0)
    assert planted(0.7).describe() == ("20 %", "[20 %, 20 %]")


def test_what_lies_off_the_curve_is_said_to_be_below_or_above_it():
    assert planted(0.6).describe() == ("less than 20 %", "[less than 20 %, less than 20 %]")
    assert planted(0.95).describe()[0] == "more than 100 %"
    low, high = planted(0.7, noise=0.02).low, planted(0.89, noise=0.02).high
    assert low == -np.inf
    assert high == np.inf


def test_a_flat_stretch_counts_the_fewest_labels():
    curve = np.array([0.7, 0.8, 0.8, 0.9])
    result = label_equivalence(FRACTIONS, curve, np.tile(curve, (5, 1)), 0.8, np.full(5, 0.8))
    assert result.fraction == pytest.approx(0.5)


def test_monotone_is_isotonic_regression():
    curves = np.random.default_rng(0).normal(0, 1, (50, 5)) + np.arange(5) * 0.5
    expected = [IsotonicRegression().fit_transform(np.arange(5), row) for row in curves]
    assert monotone(curves) == pytest.approx(np.array(expected))


def test_label_equivalence_needs_a_curve():
    with pytest.raises(ValueError, match=r"two or more increasing fractions, got \[0.2\]"):
        label_equivalence([0.2], np.array([0.7]), np.full((5, 1), 0.7), 0.7, np.full(5, 0.7))
