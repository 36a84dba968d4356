"""The error of pseudo-labels from a stratified sample: against other implementations and by simulation."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.proportion import proportion_confint

from semisup.audit_sample import allocate
from semisup.audit_statistics import (
    BOUND,
    COUNTED,
    EXACT,
    NONE_OF_THESE,
    Answer,
    AuditSample,
    Stratum,
    agreement,
    audit_result,
    chernoff_upper,
    clopper_pearson,
    cohen_kappa,
    stratified_interval,
)

SIZES = np.array([4000, 900, 60, 2500, 30, 700, 12, 1500])


@pytest.mark.parametrize(("errors", "num"), [(0, 1), (0, 200), (7, 200), (100, 200), (199, 200), (200, 200)])
def test_clopper_pearson_agrees_with_statsmodels(errors, num):
    assert clopper_pearson(errors, num) == pytest.approx(proportion_confint(errors, num, method="beta"))


def test_a_simple_random_sample_gets_exactly_clopper_pearson():
    for sizes in (np.array([5000]), np.array([5000, 2500])):  # one stratum, or an equal chance in each
        num_read = sizes // 50
        errors = np.arange(1, len(sizes) + 1)
        value, low, high, method = stratified_interval(errors, num_read, sizes)
        assert method == EXACT
        assert value == pytest.approx(errors.sum() / num_read.sum())
        expected = proportion_confint(errors.sum(), num_read.sum(), method="beta")
        assert (low, high) == pytest.approx(expected)


def test_without_errors_the_bound_of_one_stratum_is_clopper_pearsons():
    for num in (1, 30, 500):
        bound = chernoff_upper(np.array([0]), np.array([num]), np.array([1.0]), 0.025)
        assert bound == pytest.approx(clopper_pearson(0, num)[1], abs=1e-6)


@pytest.mark.parametrize("errors", [1, 5, 30, 80])
def test_the_bound_is_never_below_clopper_pearson_and_not_far_above_it(errors):
    exact = clopper_pearson(errors, 100)[1]
    bound = chernoff_upper(np.array([errors]), np.array([100]), np.array([1.0]), 0.025)
    assert exact <= bound <= exact + 0.04


def test_the_bound_agrees_with_a_search_over_all_ways_the_errors_might_lie():
    """Two strata on a fine grid: the same bound by brute force over p and L."""
    errors, num_read, weights = np.array([1, 0]), np.array([20, 5]), np.array([0.3, 0.7])
    a, tail = weights / num_read, 0.025
    slopes = np.exp(np.linspace(-2, 7, 600))
    first, second = (p.ravel() for p in np.meshgrid(np.linspace(0, 1, 301), np.linspace(0, 1, 301)))
    p = np.stack([first, second])  # (2, G)
    log_tail = np.full(p.shape[1], np.inf)
    for slope in slopes:
        inner = 1 - p * -np.expm1(-slope * a)[:, None]
        with np.errstate(divide="ignore"):
            log_tail = np.minimum(log_tail, slope * (a @ errors) + num_read @ np.log(inner))
    allowed = (weights @ p)[log_tail >= np.log(tail)]
    assert chernoff_upper(errors, num_read, weights, tail) == pytest.approx(allowed.max(), abs=0.006)


def test_the_value_weights_each_stratum_by_its_size():
    errors, num_read, sizes = np.array([1, 3]), np.array([10, 10]), np.array([900, 100])
    value, low, high, method = stratified_interval(errors, num_read, sizes)
    assert value == pytest.approx(0.9 * 0.1 + 0.1 * 0.3)
    assert low < value < high and method == BOUND


def test_strata_that_were_read_whole_leave_nothing_to_chance():
    value, low, high, method = stratified_interval(np.array([2, 1]), np.array([10, 4]), np.array([10, 4]))
    assert value == low == high == pytest.approx(3 / 14) and method == COUNTED
    _, low, high, _ = stratified_interval(np.array([2, 0]), np.array([50, 40]), np.array([50, 50]))
    assert low == pytest.approx(0.5 * 2 / 50)
    assert high == pytest.approx(0.5 * 2 / 50 + 0.5 * clopper_pearson(0, 40)[1])


def test_a_stratum_that_nobody_read_may_be_all_right_or_all_wrong():
    value, low, high, _ = stratified_interval(np.array([1, 0]), np.array([20, 0]), np.array([800, 200]))
    inner = clopper_pearson(1, 20)
    assert value == pytest.approx(1 / 20)  # of what was read
    assert (low, high) == pytest.approx((0.8 * inner[0], 0.8 * inner[1] + 0.2))
    assert stratified_interval(np.zeros(2, int), np.zeros(2, int), np.array([5, 5]))[1:3] == (0.0, 1.0)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="0 <= errors <= num_read <= sizes"):
        stratified_interval(np.array([3]), np.array([2]), np.array([9]))


def coverage(rng, rates, num, trials):
    """How often the interval holds the true share, drawing anew from one population: misses by side."""
    errors = rng.binomial(SIZES, rates)
    truth = errors.sum() / SIZES.sum()
    counts = allocate(SIZES, num)
    below = above = 0
    seen: dict[tuple[int, ...], tuple[float, float]] = {}
    for _ in range(trials):
        found = rng.hypergeometric(errors, SIZES - errors, counts)
        key = tuple(found.tolist())
        if key not in seen:
            _, low, high, _ = stratified_interval(found, counts, SIZES)
            seen[key] = low, high
        below += seen[key][0] > truth
        above += seen[key][1] < truth
    return below / trials, above / trials


@pytest.mark.parametrize(
    "rates",
    [
        np.full(8, 0.005),
        np.array([0.002, 0.002, 0.3, 0.002, 0.5, 0.002, 0.5, 0.002]),
        np.array([0.06, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),  # all errors where each draw weighs most
    ],
)
def test_the_interval_holds_the_truth_in_95_of_100_audits(rates):
    below, above = coverage(np.random.default_rng(1), rates, num=80, trials=150)
    assert below <= 0.05 and above <= 0.05  # 0.025 each is allowed; at most three standard errors more


@pytest.mark.slow
def test_the_interval_holds_the_truth_for_many_populations():
    rng = np.random.default_rng(2)
    for _ in range(25):
        rates = rng.beta(0.3, 4, size=len(SIZES))
        below, above = coverage(rng, rates, num=int(rng.integers(20, 200)), trials=400)
        assert below <= 0.025 + 0.02 and above <= 0.025 + 0.02


def test_the_usual_normal_interval_fails_where_this_one_holds():
    """Few errors, unequal weights: the reason for the bound, so that nobody goes back."""
    rng = np.random.default_rng(3)
    rates = np.array([0.004, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    errors = rng.binomial(SIZES, rates)
    counts, weights = allocate(SIZES, 80), SIZES / SIZES.sum()
    truth = errors.sum() / SIZES.sum()
    misses = 0
    for _ in range(300):
        share = rng.hypergeometric(errors, SIZES - errors, counts) / counts
        half = 1.96 * np.sqrt((weights**2 * share * (1 - share) / counts).sum())
        misses += abs((weights * share).sum() - truth) > half
    assert misses / 300 > 0.5
    assert max(coverage(rng, rates, 80, 100)) <= 0.05


def test_a_power_allocation_gives_each_stratum_one_and_none_more_than_it_has():
    counts = allocate(SIZES, 100)
    assert counts.sum() == 100 and (counts >= 1).all() and (counts <= SIZES).all()
    assert counts[0] / counts[1] == pytest.approx(np.sqrt(4000 / 900), rel=0.15)
    assert allocate(np.array([3, 2]), 50).tolist() == [3, 2]
    assert allocate(SIZES, 8).tolist() == [1] * 8


def test_kappa_agrees_with_scikit_learn_and_statsmodels():
    rng = np.random.default_rng(0)
    for size in (5, 60):
        first = rng.integers(-1, 3, size)
        second = np.where(rng.random(size) < 0.7, first, rng.integers(-1, 3, size))
        kappa = cohen_kappa(first, second)
        assert kappa == pytest.approx(cohen_kappa_score(first, second))
        table = np.zeros((4, 4))
        np.add.at(table, (first + 1, second + 1), 1)
        assert kappa == pytest.approx(cohens_kappa(table).kappa)
    assert np.isnan(cohen_kappa([1, 1], [1, 1])) and np.isnan(cohen_kappa([], []))


def two_strata(num=10):
    """One arm, two classes, `num` drawn of 100 and of 300; picture names a0..., b0...."""
    strata = (Stratum("pseudo_real", 0.2, 0, 0, 100, num), Stratum("pseudo_real", 0.2, 1, 1, 300, num))
    codes = np.array([f"{letter}{i}" for letter in "AB" for i in range(num)])
    stratum = np.repeat([0, 1], num)
    return AuditSample(("bar", "disc"), strata, codes, stratum, stratum.copy())


def test_answers_become_errors_by_class_band_and_arm():
    sample = two_strata()
    answers = {code: Answer(int(label)) for code, label in zip(sample.codes, sample.predicted, strict=True)}
    answers["A0"], answers["A1"] = Answer(1), Answer(NONE_OF_THESE)
    reader = audit_result(sample, {"ana": answers}).readers[0]
    assert reader.error.value == pytest.approx(0.25 * 0.2)
    assert (reader.num_answered, reader.num_none, reader.num_unsure) == (20, 1, 0)
    assert [e.num_errors for e in reader.by_class] == [2, 0]
    assert (reader.by_class[0].low, reader.by_class[0].high) == pytest.approx(clopper_pearson(2, 10))
    assert [e.value for e in reader.by_band] == pytest.approx([0.2, 0.0])
    assert reader.by_arm["pseudo_real", 0.2] == reader.error_if_unsure_wrong == reader.error
    assert reader.confusion.tolist() == [[8, 1, 1], [0, 10, 0]]


def test_who_is_unsure_is_counted_and_can_only_make_it_worse():
    sample = two_strata()
    answers = {code: Answer(int(label)) for code, label in zip(sample.codes, sample.predicted, strict=True)}
    answers["B0"] = Answer(None, unsure=True)  # names no class: no evidence, or an error
    answers["B1"] = Answer(1, unsure=True)  # leans to what the model said
    reader = audit_result(sample, {"ana": answers}).readers[0]
    assert reader.num_unsure == 2
    assert (reader.error.num_read, reader.error.num_errors) == (19, 0)
    strict = reader.error_if_unsure_wrong
    assert (strict.num_read, strict.num_errors) == (20, 2)
    assert strict.value == pytest.approx(0.75 * 0.2)
    assert reader.by_arm["pseudo_real", 0.2] == strict


def test_a_part_of_the_answers_gives_a_wider_interval():
    sample = two_strata(40)
    answers = {code: Answer(int(label)) for code, label in zip(sample.codes, sample.predicted, strict=True)}
    whole = audit_result(sample, {"ana": answers}).readers[0]
    part = audit_result(sample, {"ana": {c: a for c, a in answers.items() if int(c[1:]) < 10}}).readers[0]
    assert part.num_answered == 20
    assert part.error.high > whole.error.high > 0 == part.error.low


def test_a_picture_that_was_drawn_twice_counts_for_both_pseudo_labels():
    strata = (Stratum("pseudo_real", 0.2, 0, 0, 50, 2), Stratum("pseudo_real", 0.2, 1, 0, 50, 1))
    codes = np.array(["AA", "BB", "AA"])
    sample = AuditSample(("bar", "disc"), strata, codes, np.array([0, 0, 1]), np.array([0, 0, 1]))
    reader = audit_result(sample, {"ana": {"AA": Answer(0), "BB": Answer(0)}}).readers[0]
    assert reader.num_pictures == 2 and reader.error.num_read == 3
    assert [e.num_errors for e in reader.by_class] == [0, 1]


def test_two_readers_are_compared_where_both_named_a_class():
    first = {"A": Answer(0), "B": Answer(1), "C": Answer(None, True), "D": Answer(0), "E": Answer(1)}
    second = {"A": Answer(0), "B": Answer(0), "C": Answer(1), "D": Answer(0), "F": Answer(1)}
    found = agreement("ana", first, "luis", second)
    assert found.num_pictures == 3 and found.agreement == pytest.approx(2 / 3)
    assert found.kappa == pytest.approx(cohen_kappa_score([0, 1, 0], [0, 0, 0]))
    assert agreement("ana", {}, "luis", second).num_pictures == 0
