"""The width of an interval, and the parts of the variance that it is made of."""

import numpy as np
import pytest
from scipy.stats import t

from extract.errors import SettingsError
from semisup.statistics.power import Expectation, describe_detectable, detectable_difference
from semisup.statistics.sources import Sources
from semisup.statistics.strata import effective_df, stratified_variance


def test_subjects_alone_give_students_t():
    assert Sources(0.04, 19).half_width == pytest.approx(0.2 * t.ppf(0.975, 19))


def test_seeds_alone_give_students_t_of_few_degrees_of_freedom():
    assert Sources(0.0, 19, 0.0, 0.04, 2).half_width == pytest.approx(0.2 * t.ppf(0.975, 2))


def test_the_width_lies_between_satterthwaite_and_each_part_with_its_own_t():
    width = Sources(0.05, 30, 0.01, 0.03, 2).half_width
    total, df = 0.07, 0.07**2 / (0.03**2 / 2 + 0.04**2 / 30)
    pooled = total**0.5 * t.ppf(0.975, df)
    apart = (0.03 * t.ppf(0.975, 2) ** 2 + 0.04 * t.ppf(0.975, 30) ** 2) ** 0.5
    assert pooled < width < apart
    assert width**2 == pytest.approx((pooled**2 + apart**2) / 2)


def test_seeds_that_happen_to_agree_do_not_make_the_interval_vanish():
    alone = Sources(0.05, 30).half_width
    assert Sources(0.05, 30, 0.05, 1e-9, 2).half_width == pytest.approx(alone / 2)


def test_variance_within_strata_is_that_of_their_means():
    rng = np.random.default_rng(0)
    values, stratum = rng.normal(0, 1, 12), np.repeat([0, 1, 2], 4)
    expected = sum(values[stratum == h].var(ddof=1) / 4 for h in range(3)) / 9  # of the mean of three means
    assert stratified_variance(values / 12, stratum) == pytest.approx(expected)
    assert stratified_variance(values / 12, stratum, np.full(12, 7)) == pytest.approx(expected)


def test_variance_of_a_weighted_mean_is_unbiased_with_unequal_subjects():
    rng = np.random.default_rng(1)
    sizes = np.array([10, 20, 50, 12, 30])
    share = sizes / sizes.sum()
    raised, plain = [], []
    for _ in range(4000):
        values = rng.normal(0, 1, 5)
        influence = share * (values - share @ values)
        raised.append(stratified_variance(influence, np.zeros(5, int), sizes))
        plain.append(stratified_variance(influence, np.zeros(5, int)))
    truth = float((share**2).sum())
    assert np.mean(raised) == pytest.approx(truth, rel=0.04)
    assert np.mean(plain) < 0.95 * truth


def test_degrees_of_freedom_are_few_where_a_rare_class_has_the_variance():
    stratum = np.array([0] * 30 + [1] * 4)
    alike = np.tile([1.0, -1.0], 17)
    rare = np.where(stratum == 1, alike, 0.01 * alike)
    assert effective_df(rare, stratum) == pytest.approx(3, abs=0.01)
    assert effective_df(alike, stratum) > 15
    assert effective_df(np.zeros(34), stratum) == 32


# What a study could show ----------------------------------------------------------------------------


def test_one_seed_without_training_luck_is_the_design_effect():
    expected = Expectation(accuracy=0.8, agreement=0.5, intra_subject=0.1, between_seeds=0.0)
    variance = 2 * 0.8 * 0.2 * 0.5 / (50 * 20) * (1 + 19 * 0.1)
    found = detectable_difference(50, 20, 1, expected)
    assert found == pytest.approx((t.ppf(0.975, 48) + t.ppf(0.8, 48)) * variance**0.5, rel=1e-3)


def test_more_subjects_images_seeds_or_folds_show_smaller_differences():
    usual = detectable_difference(40, 20, 3)
    assert detectable_difference(80, 20, 3) < usual
    assert detectable_difference(40, 40, 3) < usual
    assert detectable_difference(40, 20, 5) < usual
    assert detectable_difference(40, 20, 3, num_folds=3) < usual
    assert detectable_difference(40, 20, 3, power=0.9) > usual


def test_images_of_subjects_that_are_all_alike_add_nothing():
    alike = Expectation(intra_subject=1.0)
    assert detectable_difference(40, 50, 3, alike) == pytest.approx(detectable_difference(40, 10, 3, alike))


def test_too_few_subjects_show_nothing_and_say_so():
    assert detectable_difference(2, 10, 3) == np.inf
    assert "too few for any interval" in describe_detectable(np.inf, 2, 3)
    assert describe_detectable(0.0312, 60, 3) == (
        "with 60 test subjects and 3 seeds a true difference of about 3.1 points would be found in 80 of 100 "
        "such studies, a smaller one more rarely"
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: detectable_difference(0, 10, 3), "num_subjects must be 1 or more, got 0"),
        (lambda: detectable_difference(10, 10, 3, power=1), "power must lie between 0 and 1"),
        (lambda: Expectation(accuracy=1.0), "accuracy must lie between 0 and 1, got 1.0"),
        (lambda: Expectation(intra_subject=-0.1), "intra_subject must lie between 0 and 1"),
    ],
)
def test_impossible_sizes_are_refused(call, message):
    with pytest.raises(SettingsError, match=message):
        call()
