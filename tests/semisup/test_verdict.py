from dataclasses import replace

import numpy as np
import pytest

from extract.language import ENGLISH
from semisup.statistics import Estimate, LabelEquivalence
from semisup.verdict import (
    compare_with_rival,
    decide,
    describe_ceiling,
    describe_equivalence,
    describe_kept_rounds,
    explain,
    require_audit,
    unequal_budget,
)

PRIMARY = ("pseudo_gan_full", "supervised", 0.2, "balanced_accuracy")


def estimate(value, low=None, high=None, *, subjects=60, seeds=3):
    low, high = value if low is None else low, value if high is None else high
    draws = np.array([low, value, high])
    return Estimate(value, low, high, 0.5, 0.5, subjects, 900, seeds, draws, draws)


def test_an_interval_above_zero_is_a_gain():
    verdict = decide(estimate(0.031, 0.012, 0.05), *PRIMARY)
    assert verdict.kind == "gain"
    assert verdict.headline == (
        "Gain: at 20 % of the labels, adding pseudo-labels on synthetic images changes balanced accuracy "
        "by +3.1 points against labels alone, 95 % interval [+1.2, +5.0]."
    )


def test_an_interval_that_includes_zero_is_no_gain_and_prints_both_ends():
    verdict = decide(estimate(0.003, -0.008, 0.009), *PRIMARY)
    assert verdict.kind == "no gain"
    assert verdict.headline.startswith("No gain: at 20 % of the labels")
    assert "by +0.3 points" in verdict.headline
    assert "[-0.8, +0.9]" in verdict.headline


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.02), (-0.02, 0.0), (0.0, 0.0)])
def test_an_interval_that_touches_zero_is_no_gain(low, high):
    assert decide(estimate(0.0, low, high), *PRIMARY).kind == "no gain"


def test_an_interval_below_zero_is_harm():
    verdict = decide(estimate(-0.02, -0.04, -0.001), *PRIMARY)
    assert verdict.kind == "harm"
    assert verdict.headline.startswith("Harm: ")


@pytest.mark.parametrize(
    ("seeds", "subjects", "reason"),
    [
        (2, 60, "2 seeds (3 are needed)"),
        (3, 19, "19 test subjects (20 are needed)"),
        (1, 1, "1 seed (3 are needed) and 1 test subject (20 are needed)"),
    ],
)
def test_too_few_seeds_or_subjects_give_a_warning_however_clear_the_gain(seeds, subjects, reason):
    verdict = decide(estimate(0.2, 0.1, 0.3, seeds=seeds, subjects=subjects), *PRIMARY)
    assert verdict.kind == "no headline"
    assert verdict.headline.startswith("Warning: no headline, because the comparison rests on " + reason)
    assert "As a hint and no more" in verdict.headline


def test_three_seeds_and_twenty_subjects_are_enough():
    assert decide(estimate(0.2, 0.1, 0.3, seeds=3, subjects=20), *PRIMARY).kind == "gain"


def test_without_a_pair_of_runs_there_is_no_headline():
    verdict = decide(None, *PRIMARY)
    assert verdict.kind == "no headline"
    assert "has no pair of finished runs" in verdict.headline


def test_no_gain_says_how_small_a_change_could_have_been_seen():
    arm, baseline, _, metric = PRIMARY
    difference = estimate(0.003, -0.02, 0.03)
    text = " ".join(explain(difference, estimate(0.78), estimate(0.783), arm, baseline, metric))
    assert "78.0 % with labels alone and 78.3 % with pseudo-labels on synthetic images" in text
    assert "900 test images of 60 subjects with 3 seeds" in text
    assert "reaches 2.5 points to either side" in text


def test_a_difference_that_no_subject_moves_says_what_its_interval_is():
    arm, baseline, _, metric = PRIMARY
    same = estimate(0.0)
    unseen = replace(estimate(0.0, -0.1, 0.1), subject_draws=np.zeros(3))
    texts = [" ".join(explain(d, estimate(1), estimate(1), arm, baseline, metric)) for d in (same, unseen)]
    assert "both arms end with the same model" in texts[0] and "same model" not in texts[1]
    assert "No subject of the test part moves this difference" in texts[1]
    assert not any("points to either side" in text for text in texts)


def test_the_rival_without_a_gan_is_named():
    found = [
        compare_with_rival(estimate(value, low, high), "pseudo_gan_full", "pseudo_real", 0.2)
        for value, low, high in [(0.02, 0.01, 0.03), (0.0, -0.01, 0.01), (-0.02, -0.03, -0.01)]
    ]
    assert [text.split(" than ")[0].split(" is ")[1] for text in found] == ["better", "not better", "worse"]
    assert compare_with_rival(None, "pseudo_gan_full", "pseudo_real", 0.2) is None


def test_the_ceiling_says_how_much_there_was_to_win():
    gain, no_gain = estimate(0.025, 0.01, 0.04), estimate(0.025, -0.01, 0.06)
    assert describe_ceiling(estimate(0.9), estimate(0.8), gain) == (
        "With all labels the same classifier reaches 90.0 %, so 10.0 points were there to win; "
        "25 % of it was won."
    )
    assert describe_ceiling(estimate(0.9), estimate(0.8), no_gain).endswith(
        "that any of it was won is not shown."
    )
    assert describe_ceiling(estimate(0.9), estimate(0.8), estimate(-0.02)).endswith("none of it was won.")
    assert "no room to improve" in describe_ceiling(estimate(0.8), estimate(0.8), gain)
    assert describe_ceiling(None, estimate(0.8), gain) is None


def test_label_equivalence_is_a_sentence():
    found = LabelEquivalence(0.312, -np.inf, 0.48, 0.2, 1.0)
    assert describe_equivalence(found, "pseudo_gan_full", 0.2) == (
        "Label equivalence: 20 % of the labels with pseudo-labels on synthetic images performs like 31 % of "
        "the labels alone, 95 % interval [less than 20 %, 48 %]."
    )


def test_dropped_pseudo_labels_are_counted():
    assert "In 2 of 3 runs of pseudo_real" in describe_kept_rounds([0, 1, 0], "pseudo_real")
    assert describe_kept_rounds([1, 2], "pseudo_real") is None


def test_unequal_training_is_a_warning():
    assert unequal_budget({"a": 200, "b": 200}) is None
    assert "a 200, b 1,000" in unequal_budget({"a": 200, "b": 1000})


def test_what_rounds_to_zero_has_no_sign():
    assert [ENGLISH.points(value) for value in (0.0004, -0.0004, 0.0312, -0.008)] == [
        "0.0",
        "0.0",
        "+3.1",
        "-0.8",
    ]


def test_a_plan_that_requires_an_audit_has_no_headline_before_it():
    gain = decide(estimate(0.031, 0.012, 0.05), *PRIMARY)
    waiting = require_audit(gain, 0.1, None, 0)
    assert waiting.kind == "no headline"
    assert waiting.headline.startswith(
        "Warning: no headline, because the plan requires that an expert reads a sample of its "
        "pseudo-labels first"
    )
    assert waiting.headline.endswith(
        "As a hint and no more: at 20 % of the labels, adding pseudo-labels on synthetic images changes "
        "balanced accuracy by +3.1 points against labels alone, 95 % interval [+1.2, +5.0]."
    )
    assert require_audit(gain, 0.1, 0.12, 0).headline.startswith(
        "Warning: no headline, because the audit by an expert can only say that at most 12 % of the "
        "pseudo-labels are wrong, and the plan allows 10 %."
    )
    assert "did not draw from 2 runs of the arm" in require_audit(gain, 0.1, 0.05, 2).headline
    assert require_audit(gain, 0.1, 0.1, 0) == gain == require_audit(gain, None, 0.9, 0)


def test_other_reasons_for_no_headline_stand_beside_the_audit():
    small = decide(estimate(0.2, 0.1, 0.3, seeds=2), *PRIMARY)
    headline = require_audit(small, None, None, 0).headline
    assert "this audit is still to come. Besides, the comparison rests on 2 seeds (3 are needed)." in headline
