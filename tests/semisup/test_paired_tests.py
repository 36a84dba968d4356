"""Tests of single models and over folds, against independent implementations."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.proportion import proportion_confint

from semisup.statistics import clopper_pearson
from semisup.statistics.delong import delong, delong_per_class, placements
from semisup.statistics.mcnemar import mcnemar, subject_decisions
from semisup.statistics.over_seeds import win_share
from semisup.statistics.resampled_t import corrected_resampled_t


def names(number: int) -> np.ndarray:
    return np.char.mod("s%d", np.arange(number))


# McNemar --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_mcnemar_agrees_with_statsmodels(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.random(80) < 0.7, rng.random(80) < 0.85
    table = [
        [(first & second).sum(), (first & ~second).sum()],
        [(~first & second).sum(), (~first & ~second).sum()],
    ]
    found = mcnemar(names(80), first, second)
    assert (found.only_first, found.only_second) == (table[0][1], table[1][0])
    assert found.p_value == pytest.approx(reference_mcnemar(table, exact=True).pvalue)


def test_mcnemar_of_models_that_never_differ_is_one():
    right = np.array([True, False, True])
    assert mcnemar(names(3), right, right).p_value == 1


@pytest.mark.parametrize("test", ["mcnemar", "delong", "delong_per_class"])
def test_several_images_of_a_subject_are_refused(test):
    subjects = np.array(["a", "a", "a", "b", "b", "c"])
    labels, probs = np.array([0, 1, 0, 1, 0, 1]), np.full((6, 2), 0.5)
    run = {
        "mcnemar": lambda: mcnemar(subjects, labels == 0, labels == 1),
        "delong": lambda: delong(subjects, labels == 1, probs[:, 1], probs[:, 1]),
        "delong_per_class": lambda: delong_per_class(subjects, labels, probs, probs),
    }[test]
    with pytest.raises(
        ValueError,
        match=r"needs one case a subject, got up to 3 images from 2 of 3 subjects \(for instance a\)",
    ):
        run()


def test_a_subject_is_decided_by_the_mean_of_its_images():
    subjects = np.array(["b", "a", "a", "b"])
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.4, 0.6]])
    found = subject_decisions(subjects, np.array([0, 0, 0, 0]), probs)
    assert found.subjects.tolist() == ["a", "b"]
    assert found.probs == pytest.approx(np.array([[0.35, 0.65], [0.65, 0.35]]))
    assert found.right.tolist() == [False, True]


def test_a_subject_with_several_classes_cannot_be_decided_as_a_whole():
    with pytest.raises(ValueError, match=r"several classes for 1 of 2 subjects \(for instance a\)"):
        subject_decisions(np.array(["a", "a", "b"]), np.array([0, 1, 1]), np.full((3, 2), 0.5))


# DeLong ---------------------------------------------------------------------------------------------


def scored(seed: int, number: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cases and the scores of two models that agree in part; rounded, so that there are ties."""
    rng = np.random.default_rng(seed)
    is_positive = rng.random(number) < 0.4
    common = rng.normal(0, 1, number) + is_positive
    first, second = (np.round(common + rng.normal(0, 0.7, number), 1) for _ in range(2))
    return is_positive, first, second


def slow_delong(is_positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[list[float], float]:
    """Areas and the variance of their difference, pair by pair as in the paper."""
    areas, v10, v01 = [], [], []
    for scores in (first, second):
        pairs = [
            [1.0 if x > y else 0.5 if x == y else 0.0 for y in scores[~is_positive]]
            for x in scores[is_positive]
        ]
        kernel = np.array(pairs)  # (P, M)
        areas.append(float(kernel.mean()))
        v10.append(kernel.mean(axis=1))
        v01.append(kernel.mean(axis=0))
    covariance = np.cov(v10) / len(v10[0]) + np.cov(v01) / len(v01[0])
    return areas, float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])


@pytest.mark.parametrize("seed", range(4))
def test_delong_agrees_with_the_slow_pairwise_form(seed):
    is_positive, first, second = scored(seed)
    areas, variance = slow_delong(is_positive, first, second)
    found = delong(names(60), is_positive, first, second)
    assert [found.first, found.second] == pytest.approx(areas)
    assert found.first == pytest.approx(roc_auc_score(is_positive, first))
    assert found.variance == pytest.approx(variance)
    assert (found.low + found.high) / 2 == pytest.approx(found.difference)


def test_delong_agrees_with_the_bootstrap():
    is_positive, first, second = scored(5, number=300)
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(600):
        rows = np.concatenate(
            [rng.choice(np.flatnonzero(kind), kind.sum()) for kind in (is_positive, ~is_positive)]
        )
        areas = [placements(scores[rows], is_positive[rows])[0].mean() for scores in (first, second)]
        differences.append(areas[1] - areas[0])
    found = delong(names(300), is_positive, first, second)
    assert np.std(differences) == pytest.approx(found.variance**0.5, rel=0.12)


def test_delong_by_class_is_one_against_the_rest_and_skips_a_class_with_too_few_cases():
    rng = np.random.default_rng(2)
    labels = np.array([0] * 20 + [1] * 20 + [2])
    probs = rng.dirichlet(np.ones(3), (2, 41))
    found = delong_per_class(names(41), labels, probs[0], probs[1])
    assert found[0] == delong(names(41), labels == 0, probs[0][:, 0], probs[1][:, 0])
    assert found[2] is None


def test_delong_of_one_model_with_itself_finds_nothing():
    is_positive, first, _ = scored(1)
    found = delong(names(60), is_positive, first, first)
    assert (found.difference, found.p_value) == (0, 1)


def test_delong_needs_two_cases_of_either_kind():
    with pytest.raises(ValueError, match="two or more cases of either kind, got 1 positive and 4 negative"):
        delong(names(5), np.array([True, False, False, False, False]), np.arange(5.0), np.arange(5.0))


# Over folds and seeds -------------------------------------------------------------------------------


def test_the_corrected_t_is_the_formula_on_a_worked_example():
    # mean 2, variance 2.5, J = 5, ratio 1/4: error sqrt(2.5 * 0.45) = 1.0607, t = 1.8856 with df 4
    found = corrected_resampled_t(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), 0.25)
    assert found.value == 2
    assert found.high - found.value == pytest.approx(2.7764 * 1.06066, rel=1e-4)
    assert found.p_value == pytest.approx(0.1324, abs=2e-4)


def test_the_correction_widens_the_plain_t():
    values = np.array([0.01, 0.03, 0.02])
    plain = values.std(ddof=1) / 3**0.5 * 4.3027
    assert corrected_resampled_t(values, 0.5).high - 0.02 == pytest.approx(plain * 2.5**0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("values", "ratio", "message"),
    [([0.1], 0.5, "two or more folds, got 1"), ([0.1, 0.2], 0.0, "test_to_train must be above 0, got 0")],
)
def test_a_resampled_t_without_folds_or_ratio_is_refused(values, ratio, message):
    with pytest.raises(ValueError, match=message):
        corrected_resampled_t(np.array(values), ratio)


def test_wins_over_seeds_count_ties_by_half_and_three_of_three_show_nothing():
    found = win_share(np.array([0.1, 0.0, -0.2, 0.3]))
    assert (found.value, found.num_pairs) == (0.625, 4)
    three, six = win_share(np.full(3, 0.1)), win_share(np.full(6, 0.1))
    assert (three.value, three.high, three.kind) == (1, 1, "not shown")
    assert three.low == pytest.approx(0.025 ** (1 / 3))
    assert six.kind == "shown and meaningful"
    assert win_share(np.repeat([0.1, -0.1], [70, 30])).kind == "shown but small"


def test_wins_over_no_pair_are_refused():
    with pytest.raises(ValueError, match="at least one pair of trainings"):
        win_share(np.array([]))


@pytest.mark.parametrize(("successes", "trials"), [(0, 12), (3, 12), (12, 12), (1, 1), (140, 300)])
def test_clopper_pearson_agrees_with_statsmodels(successes, trials):
    expected = proportion_confint(successes, trials, alpha=0.05, method="beta")
    assert clopper_pearson(successes, trials) == pytest.approx(expected)


def test_a_share_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"successes must lie in 0\.\.trials"):
        clopper_pearson(3, 2)
