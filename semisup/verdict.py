"""The comparison in words: gain, no gain, harm, or no headline. Pure functions of the numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from semisup.statistics import MIN_SEEDS, MIN_TEST_SUBJECTS, Estimate, LabelEquivalence

Kind = Literal["gain", "no gain", "harm", "no headline"]

ARM_PHRASES = {
    "supervised": "labels alone",
    "supervised_full": "all labels",
    "pseudo_real": "pseudo-labels on real images",
    "pseudo_gan_full": "pseudo-labels on synthetic images",
}
METRIC_PHRASES = {"balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "macro_f1": "macro-F1"}


@dataclass(frozen=True)
class Verdict:
    """What a study says, most important first."""

    kind: Kind
    headline: str
    details: tuple[str, ...] = ()


def arm_phrase(arm: str) -> str:
    """What an arm adds, in words; its own name where there are none."""
    return ARM_PHRASES.get(arm, arm)


def percent(fraction: float) -> str:
    """0.2 -> "20 %"."""
    return f"{100 * fraction:.3g} %"


def points(share: float) -> str:
    """0.0312 -> "+3.1" (percentage points); what rounds to zero has no minus sign."""
    rounded = round(100 * share, 1)
    return f"{rounded:+.1f}" if rounded else "0.0"


def interval(estimate: Estimate) -> str:
    """ "[-0.8, +0.9]", in points."""
    return f"[{points(estimate.low)}, {points(estimate.high)}]"


def classify(difference: Estimate) -> Kind:
    """Gain, no gain or harm: by which side of zero the whole interval lies on."""
    if difference.low > 0:
        return "gain"
    if difference.high < 0:
        return "harm"
    return "no gain"


def missing_for_headline(difference: Estimate) -> list[str]:
    """Why a comparison is too small for a headline; empty where it is not."""
    reasons = []
    if difference.num_seeds < MIN_SEEDS:
        reasons.append(f"{_count(difference.num_seeds, 'seed')} ({MIN_SEEDS} are needed)")
    if difference.num_subjects < MIN_TEST_SUBJECTS:
        reasons.append(f"{_count(difference.num_subjects, 'test subject')} ({MIN_TEST_SUBJECTS} are needed)")
    return reasons


def decide(difference: Estimate | None, arm: str, baseline: str, fraction: float, metric: str) -> Verdict:
    """The headline of the one comparison that was named before the first run.

    Args:
        difference: `arm` minus `baseline`; None if a run of either is missing at this fraction.
    """
    if difference is None:
        return Verdict(
            "no headline",
            f"Warning: no headline, because the comparison named in the plan ({arm} with {baseline} at "
            f"{percent(fraction)} of the labels) has no pair of finished runs.",
        )
    words = METRIC_PHRASES.get(metric, metric)
    sentence = f"at {percent(fraction)} of the labels, {_changed(difference, arm, baseline, words)}."
    reasons = missing_for_headline(difference)
    if reasons:
        return Verdict(
            "no headline",
            f"Warning: no headline, because the comparison rests on {' and '.join(reasons)}. "
            f"As a hint and no more: {sentence}",
        )
    kind = classify(difference)
    return Verdict(kind, f"{kind.capitalize()}: {sentence}")


def require_audit(verdict: Verdict, max_error: float | None, bound: float | None, num_unread: int) -> Verdict:
    """The verdict of a study whose plan says that an expert comes first.

    Args:
        max_error: share of wrong pseudo-labels that the plan allows; None = any.
        bound: upper limit of that share in the primary arm, by the audit; None = there is no audit of it.
        num_unread: finished runs of the primary arm that the audit did not draw from.
    """
    if bound is None:
        reason = (
            "the plan requires that an expert reads a sample of its pseudo-labels first "
            "(`semisup audit export`), and this audit is still to come"
        )
    elif num_unread:
        reason = (
            f"the audit by an expert, which the plan requires, did not draw from {_count(num_unread, 'run')} "
            "of the arm; export and read anew"
        )
    elif max_error is not None and bound > max_error:
        reason = (
            f"the audit by an expert can only say that at most {percent(bound)} of the pseudo-labels are "
            f"wrong, and the plan allows {percent(max_error)}"
        )
    else:
        return verdict
    hint = verdict.headline.removeprefix("Warning: no headline, because ")
    if verdict.kind != "no headline":
        hint = f"As a hint and no more: {verdict.headline.partition(': ')[2]}"
    elif hint != verdict.headline:
        hint = f"Besides, {hint}"
    return Verdict("no headline", f"Warning: no headline, because {reason}. {hint}", verdict.details)


def describe_audit_bound(bound: float, num_read: int) -> str:
    """What the audit says about the primary arm."""
    return (
        f"An expert who did not know what they had been taken for read {_count(num_read, 'pseudo-label')} of "
        f"this arm: at most {percent(bound)} of all are wrong (upper 95 % limit, unsure counted as wrong)."
    )


def _changed(difference: Estimate, arm: str, baseline: str, words: str) -> str:
    return (
        f"adding {arm_phrase(arm)} changes {words} by {points(difference.value)} points against "
        f"{arm_phrase(baseline)}, 95 % interval {interval(difference)}"
    )


def explain(
    difference: Estimate, baseline_value: Estimate, arm_value: Estimate, arm: str, baseline: str, metric: str
) -> list[str]:
    """What the headline rests on, and what a study of this size could have seen."""
    words = METRIC_PHRASES.get(metric, metric)
    sentences = [
        f"{words[0].upper()}{words[1:]} is {100 * baseline_value.value:.1f} % with {arm_phrase(baseline)} "
        f"and {100 * arm_value.value:.1f} % with {arm_phrase(arm)}, "
        f"on {_count(difference.num_images, 'test image')} of "
        f"{_count(difference.num_subjects, 'subject')} with {_count(difference.num_seeds, 'seed')}."
    ]
    half_width = (difference.high - difference.low) / 2
    if half_width == 0:
        sentences.append("Both arms score exactly the same for every subject.")
    elif classify(difference) == "no gain":
        sentences.append(
            f"The interval reaches {100 * half_width:.1f} points to either side: a smaller change than about "
            "that cannot be told from chance with this many subjects and seeds."
        )
    return sentences


def compare_with_rival(difference: Estimate | None, arm: str, rival: str, fraction: float) -> str | None:
    """Whether synthetic images do more than the real images whose labels were withheld, in the same loop."""
    if difference is None:
        return None
    result = {
        "gain": f"{arm} is better than its rival without a GAN, {rival}",
        "harm": f"{arm} is worse than its rival without a GAN, {rival}",
        "no gain": f"{arm} is not better than its rival without a GAN, {rival}",
    }[classify(difference)]
    return (
        f"At {percent(fraction)} of the labels {result}: {points(difference.value)} points, 95 % interval "
        f"{interval(difference)}."
    )


def describe_ceiling(ceiling: Estimate | None, baseline: Estimate, difference: Estimate) -> str | None:
    """How much there was to win: what the same classifier reaches with every label."""
    if ceiling is None:
        return None
    room = ceiling.value - baseline.value
    sentence = f"With all labels the same classifier reaches {100 * ceiling.value:.1f} %"
    if room <= 0.005:
        return (
            f"{sentence}: there was no room to improve, so this study cannot tell whether pseudo-labels help."
        )
    won = {
        "gain": f"{100 * difference.value / room:.0f} % of it was won",
        "no gain": "that any of it was won is not shown",
        "harm": "none of it was won",
    }[classify(difference)]
    return f"{sentence}, so {100 * room:.1f} points were there to win; {won}."


def describe_equivalence(equivalence: LabelEquivalence | None, arm: str, fraction: float) -> str | None:
    """ "20 % of the labels with ... performs like 31 % of the labels alone [24 %, 48 %]"."""
    if equivalence is None:
        return None
    found, bounds = equivalence.describe()
    return (
        f"Label equivalence: {percent(fraction)} of the labels with {arm_phrase(arm)} performs like {found} "
        f"of the labels alone, 95 % interval {bounds}."
    )


def describe_kept_rounds(best_rounds: Sequence[int], arm: str) -> str | None:
    """How often real validation preferred the model without pseudo-labels."""
    dropped = sum(best == 0 for best in best_rounds)
    if not dropped:
        return None
    return (
        f"In {dropped} of {_count(len(best_rounds), 'run')} of {arm}, real validation preferred round 0, "
        "the model without pseudo-labels, and that was kept."
    )


def alarm_sentence(arm: str, num_alarms: int, num_rounds: int, largest: float) -> str:
    """The alarm for a threshold that nearly everything passes."""
    return (
        f"{arm} pseudo-labeled nearly its whole pool (up to {percent(largest)}) in {num_alarms} of "
        f"{_count(num_rounds, 'round')} over all runs. A threshold that nearly everything passes "
        "is no selection."
    )


def unequal_budget(steps: Mapping[str, int]) -> str | None:
    """A warning where arms were trained with different numbers of optimiser steps."""
    if len(set(steps.values())) <= 1:
        return None
    listed = ", ".join(f"{arm} {count:,}" for arm, count in steps.items())
    return f"Arms were not trained equally long, so they are not comparable: steps a training are {listed}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
