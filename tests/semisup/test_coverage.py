"""The proof that intervals hold: over simulated studies with clustered subjects whose truth is known.

The short form runs with every change; the long one (-m slow) takes minutes, and
`benchmarks/interval_coverage.py` makes the table of docs/reading-the-report.md. With n trials the Monte Carlo
error of a coverage of 95 % is sqrt(0.95 * 0.05 / n): 1.4 points with 250 trials, 0.6 with 1,500. Bounds are
95 +- 1.5 points and two and a half such errors.
"""

import functools

import numpy as np
import pytest

from benchmarks.interval_coverage import (
    SCENARIOS,
    USUAL,
    coverage,
    covers,
    equivalence_coverage,
    naive_interval,
)
from semisup.statistics import SubjectBootstrap, class_strata
from semisup.statistics.power import Expectation, detectable_difference
from semisup.statistics.simulated import simulate

NUM_SHORT, NUM_LONG = 250, 1500


def bounds(num_trials: int) -> tuple[float, float]:
    error = 2.5 * (0.95 * 0.05 / num_trials) ** 0.5
    return 0.935 - error, 0.965 + error


@functools.cache
def same_arm_twice() -> tuple[float, float, float]:
    """Share of A/A comparisons not called different: by us, by subjects alone, and naively."""
    rng = np.random.default_rng(11)
    found = []
    for trial in range(NUM_SHORT):
        baseline, arm = simulate(rng, USUAL)
        counts = [run.counts for run in baseline]
        boot = SubjectBootstrap(class_strata(counts), num_draws=300, seed=trial)
        result = boot.difference(boot.draw([run.counts for run in arm]), boot.draw(counts))
        low, high = naive_interval(baseline[0], arm[0])
        found.append((covers(result, 0.0), result.p_value > 0.05, low <= 0 <= high))
    ours, by_p, naive = np.mean(found, axis=0)
    return float(ours), float(by_p), float(naive)


def test_one_arm_trained_twice_is_called_different_about_one_time_in_twenty():
    ours, by_p, _ = same_arm_twice()
    low, high = bounds(NUM_SHORT)
    assert low <= ours <= high
    assert abs(by_p - ours) <= 0.02


def test_counting_every_image_calls_the_same_arm_different_far_more_often():
    assert same_arm_twice()[2] < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_intervals_hold_their_level_over_many_kinds_of_studies(name):
    found = coverage(SCENARIOS[name], NUM_LONG)
    low, high = bounds(NUM_LONG)
    assert low <= found["difference"] <= high
    for measure in ("balanced_accuracy", "auroc", "nll"):
        # the rare class has three subjects a fold in "three folds": see the table for what is measured there
        assert found[measure] >= low - 0.01, measure
    assert found["ece"] >= low
    assert found["naive"] < 0.88


@pytest.mark.slow
def test_the_interval_of_label_equivalence_contains_the_truth():
    assert equivalence_coverage(NUM_LONG) >= bounds(NUM_LONG)[0]


@pytest.mark.slow
def test_the_difference_said_to_be_detectable_is_found_about_80_times_in_100():
    """Normal parts with the variances that the formula assumes, judged by the interval's own width."""
    from semisup.statistics.sources import Sources

    rng = np.random.default_rng(0)
    expected = Expectation(accuracy=0.8, agreement=0.5, intra_subject=0.2, between_seeds=0.01)
    n, m, num_seeds, trials = 60, 20, 3, 20_000
    gain = detectable_difference(n, m, num_seeds, expected)
    image = 2 * 0.8 * 0.2 * 0.5
    of_subject = rng.normal(0, (image * 0.2) ** 0.5, (trials, n, 1))
    of_images = rng.normal(0, (image * 0.8 / m) ** 0.5, (trials, n, num_seeds))
    of_trainings = rng.normal(0, 2**0.5 * 0.01, (trials, 1, num_seeds))
    found = 0
    for one in gain + of_subject + of_images + of_trainings:  # (n, S)
        values, by_subject = one.mean(axis=0), one.mean(axis=1)
        apart = one - by_subject[:, None]
        shared = (apart - apart.mean(axis=0)).var(axis=0).sum() / (num_seeds - 1) / (n - 1) / num_seeds
        sources = Sources(
            by_subject.var(ddof=1) / n, n - 2, shared, values.var(ddof=1) / num_seeds, num_seeds - 1
        )
        found += values.mean() > sources.half_width
    assert found / trials == pytest.approx(0.8, abs=0.06)
