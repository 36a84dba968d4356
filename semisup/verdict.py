"""The comparison in words: gain, no gain, harm, or no headline. Pure functions of the numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from extract.language import ENGLISH, Language, Message
from semisup.statistics import MIN_SEEDS, MIN_TEST_SUBJECTS, Estimate, LabelEquivalence

Kind = Literal["gain", "no gain", "harm", "no headline"]

ARM_PHRASES = {
    "supervised": Message("labels alone"),
    "supervised_full": Message("all labels"),
    "pseudo_real": Message("pseudo-labels on real images"),
    "pseudo_gan_full": Message("pseudo-labels on synthetic images"),
}
METRIC_PHRASES = {
    "balanced_accuracy": Message("balanced accuracy"),
    "accuracy": Message("accuracy"),
    "macro_f1": Message("macro-F1"),
}


@dataclass(frozen=True)
class Verdict:
    """What a study says, most important first."""

    kind: Kind
    headline: str
    details: tuple[str, ...] = ()
    hint: str = field(default="", repr=False)  # the headline as it goes on behind another reason for none


def arm_phrase(arm: str, language: Language = ENGLISH) -> str:
    """What an arm adds, in words; its own name where there are none."""
    return language.text(ARM_PHRASES[arm]) if arm in ARM_PHRASES else arm


def metric_phrase(metric: str, language: Language = ENGLISH) -> str:
    """A metric in words; its own name where there are none."""
    return language.text(METRIC_PHRASES[metric]) if metric in METRIC_PHRASES else metric


def points_interval(estimate: Estimate, language: Language = ENGLISH) -> str:
    """ "[-0.8, +0.9]", in points."""
    return language.interval(language.points(estimate.low), language.points(estimate.high))


def classify(difference: Estimate) -> Kind:
    """Gain, no gain or harm: by which side of zero the whole interval lies on."""
    if difference.low > 0:
        return "gain"
    if difference.high < 0:
        return "harm"
    return "no gain"


def missing_for_headline(difference: Estimate, language: Language = ENGLISH) -> list[str]:
    """Why a comparison is too small for a headline; empty where it is not."""
    reasons = []
    if difference.num_seeds < MIN_SEEDS:
        reasons.append(
            language.plural(
                "{number} seed ({needed} are needed)",
                "{number} seeds ({needed} are needed)",
                difference.num_seeds,
                needed=MIN_SEEDS,
            )
        )
    if difference.num_subjects < MIN_TEST_SUBJECTS:
        reasons.append(
            language.plural(
                "{number} test subject ({needed} are needed)",
                "{number} test subjects ({needed} are needed)",
                difference.num_subjects,
                needed=MIN_TEST_SUBJECTS,
            )
        )
    return reasons


def decide(
    difference: Estimate | None,
    arm: str,
    baseline: str,
    fraction: float,
    metric: str,
    language: Language = ENGLISH,
) -> Verdict:
    """The headline of the one comparison that was named before the first run.

    Args:
        difference: `arm` minus `baseline`; None if a run of either is missing at this fraction.
    """
    if difference is None:
        reason = language.text(
            "the comparison named in the plan ({arm} with {baseline} at {fraction} of the labels) has no "
            "pair of finished runs.",
            arm=arm,
            baseline=baseline,
            fraction=language.percent(fraction),
        )
        return _no_headline(reason, language)
    sentence = language.text(
        "at {fraction} of the labels, adding {arm} changes {metric} by {change} points against {baseline}, "
        "95 % interval {interval}.",
        fraction=language.percent(fraction),
        arm=arm_phrase(arm, language),
        metric=metric_phrase(metric, language),
        change=language.points(difference.value),
        baseline=arm_phrase(baseline, language),
        interval=points_interval(difference, language),
    )
    reasons = missing_for_headline(difference, language)
    if reasons:
        listed = reasons[0]
        if len(reasons) > 1:
            listed = language.text("{first} and {second}", first=reasons[0], second=reasons[1])
        reason = language.text(
            "the comparison rests on {reasons}. As a hint and no more: {sentence}",
            reasons=listed,
            sentence=sentence,
        )
        return _no_headline(reason, language)
    match classify(difference):
        case "gain":
            return Verdict("gain", language.text("Gain: {sentence}", sentence=sentence), hint=sentence)
        case "harm":
            return Verdict("harm", language.text("Harm: {sentence}", sentence=sentence), hint=sentence)
        case kind:
            return Verdict(kind, language.text("No gain: {sentence}", sentence=sentence), hint=sentence)


def _no_headline(reason: str, language: Language) -> Verdict:
    headline = language.text("Warning: no headline, because {reason}", reason=reason)
    return Verdict("no headline", headline, hint=reason)


def require_audit(
    verdict: Verdict,
    max_error: float | None,
    bound: float | None,
    num_unread: int,
    language: Language = ENGLISH,
) -> Verdict:
    """The verdict of a study whose plan says that an expert comes first.

    Args:
        max_error: share of wrong pseudo-labels that the plan allows; None = any.
        bound: upper limit of that share in the primary arm, by the audit; None = there is no audit of it.
        num_unread: finished runs of the primary arm that the audit did not draw from.
    """
    if bound is None:
        reason = language.text(
            "the plan requires that an expert reads a sample of its pseudo-labels first "
            "(`semisup audit export`), and this audit is still to come"
        )
    elif num_unread:
        reason = language.plural(
            "the audit by an expert, which the plan requires, did not draw from {number} run of the arm; "
            "export and read anew",
            "the audit by an expert, which the plan requires, did not draw from {number} runs of the arm; "
            "export and read anew",
            num_unread,
        )
    elif max_error is not None and bound > max_error:
        reason = language.text(
            "the audit by an expert can only say that at most {bound} of the pseudo-labels are wrong, and "
            "the plan allows {allowed}",
            bound=language.percent(bound),
            allowed=language.percent(max_error),
        )
    else:
        return verdict
    if verdict.kind == "no headline":
        both = language.text("{reason}. Besides, {other}", reason=reason, other=verdict.hint)
    else:
        both = language.text(
            "{reason}. As a hint and no more: {sentence}", reason=reason, sentence=verdict.hint
        )
    headline = language.text("Warning: no headline, because {reason}", reason=both)
    return Verdict("no headline", headline, verdict.details, both)


def describe_audit_bound(bound: float, num_read: int, language: Language = ENGLISH) -> str:
    """What the audit says about the primary arm."""
    return language.plural(
        "An expert who did not know what they had been taken for read {number} pseudo-label of this arm: at "
        "most {bound} of all are wrong (upper 95 % limit, unsure counted as wrong).",
        "An expert who did not know what they had been taken for read {number} pseudo-labels of this arm: at "
        "most {bound} of all are wrong (upper 95 % limit, unsure counted as wrong).",
        num_read,
        bound=language.percent(bound),
    )


def explain(
    difference: Estimate,
    baseline_value: Estimate,
    arm_value: Estimate,
    arm: str,
    baseline: str,
    metric: str,
    language: Language = ENGLISH,
) -> list[str]:
    """What the headline rests on, and what a study of this size could have seen."""
    words = metric_phrase(metric, language)
    sentences = [
        language.text(
            "{metric} is {baseline_value} % with {baseline} and {arm_value} % with {arm}, on {images} of "
            "{subjects} with {seeds}.",
            metric=words[0].upper() + words[1:],
            baseline_value=language.share(baseline_value.value),
            baseline=arm_phrase(baseline, language),
            arm_value=language.share(arm_value.value),
            arm=arm_phrase(arm, language),
            images=language.plural("{number} test image", "{number} test images", difference.num_images),
            subjects=language.plural("{number} subject", "{number} subjects", difference.num_subjects),
            seeds=language.plural("{number} seed", "{number} seeds", difference.num_seeds),
        )
    ]
    half_width = (difference.high - difference.low) / 2
    if half_width == 0:
        sentences.append(
            language.text("In every run both arms end with the same model: there is nothing to tell apart.")
        )
    elif difference.is_constant:
        sentences.append(
            language.text(
                "No subject of the test part moves this difference: the interval is what so few subjects of "
                "the rarest class cannot exclude."
            )
        )
    elif classify(difference) == "no gain":
        sentences.append(
            language.text(
                "The interval reaches {reach} points to either side: a smaller change than about that cannot "
                "be told from chance with this many subjects and seeds.",
                reach=language.share(half_width),
            )
        )
    return sentences


def compare_with_rival(
    difference: Estimate | None, arm: str, rival: str, fraction: float, language: Language = ENGLISH
) -> str | None:
    """Whether synthetic images do more than the real images whose labels were withheld, in the same loop."""
    if difference is None:
        return None
    sentence = {
        "gain": Message(
            "At {fraction} of the labels {arm} is better than its rival without a GAN, {rival}: {change} "
            "points, 95 % interval {interval}."
        ),
        "harm": Message(
            "At {fraction} of the labels {arm} is worse than its rival without a GAN, {rival}: {change} "
            "points, 95 % interval {interval}."
        ),
        "no gain": Message(
            "At {fraction} of the labels {arm} is not better than its rival without a GAN, {rival}: {change} "
            "points, 95 % interval {interval}."
        ),
    }[classify(difference)]
    return language.text(
        sentence,
        fraction=language.percent(fraction),
        arm=arm,
        rival=rival,
        change=language.points(difference.value),
        interval=points_interval(difference, language),
    )


def describe_ceiling(
    ceiling: Estimate | None, baseline: Estimate, difference: Estimate, language: Language = ENGLISH
) -> str | None:
    """How much there was to win: what the same classifier reaches with every label."""
    if ceiling is None:
        return None
    room = ceiling.value - baseline.value
    reached = language.share(ceiling.value)
    if room <= 0.005:
        return language.text(
            "With all labels the same classifier reaches {reached} %: there was no room to improve, so this "
            "study cannot tell whether pseudo-labels help.",
            reached=reached,
        )
    sentence = {
        "gain": Message(
            "With all labels the same classifier reaches {reached} %, so {room} points were there to win; "
            "{won} % of it was won."
        ),
        "no gain": Message(
            "With all labels the same classifier reaches {reached} %, so {room} points were there to win; "
            "that any of it was won is not shown."
        ),
        "harm": Message(
            "With all labels the same classifier reaches {reached} %, so {room} points were there to win; "
            "none of it was won."
        ),
    }[classify(difference)]
    won = language.number(100 * difference.value / room, 0)
    return language.text(sentence, reached=reached, room=language.share(room), won=won)


def describe_equivalence(
    equivalence: LabelEquivalence | None, arm: str, fraction: float, language: Language = ENGLISH
) -> str | None:
    """ "20 % of the labels with ... performs like 31 % of the labels alone [24 %, 48 %]"."""
    if equivalence is None:
        return None
    found, bounds = equivalence.describe(language)
    return language.text(
        "Label equivalence: {fraction} of the labels with {arm} performs like {found} of the labels alone, "
        "95 % interval {interval}.",
        fraction=language.percent(fraction),
        arm=arm_phrase(arm, language),
        found=found,
        interval=bounds,
    )


def describe_kept_rounds(best_rounds: Sequence[int], arm: str, language: Language = ENGLISH) -> str | None:
    """How often real validation preferred the model without pseudo-labels."""
    dropped = sum(best == 0 for best in best_rounds)
    if not dropped:
        return None
    return language.plural(
        "In {dropped} of {number} run of {arm}, real validation preferred round 0, the model without "
        "pseudo-labels, and that was kept.",
        "In {dropped} of {number} runs of {arm}, real validation preferred round 0, the model without "
        "pseudo-labels, and that was kept.",
        len(best_rounds),
        dropped=dropped,
        arm=arm,
    )


def alarm_sentence(
    arm: str, num_alarms: int, num_rounds: int, largest: float, language: Language = ENGLISH
) -> str:
    """The alarm for a threshold that nearly everything passes."""
    return language.plural(
        "{arm} pseudo-labeled nearly its whole pool (up to {largest}) in {num_alarms} of {number} round over "
        "all runs. A threshold that nearly everything passes is no selection.",
        "{arm} pseudo-labeled nearly its whole pool (up to {largest}) in {num_alarms} of {number} rounds "
        "over all runs. A threshold that nearly everything passes is no selection.",
        num_rounds,
        arm=arm,
        largest=language.percent(largest),
        num_alarms=num_alarms,
    )


def unequal_budget(steps: Mapping[str, int], language: Language = ENGLISH) -> str | None:
    """A warning where arms were trained with different numbers of optimiser steps."""
    if len(set(steps.values())) <= 1:
        return None
    listed = ", ".join(f"{arm} {language.count(count)}" for arm, count in steps.items())
    return language.text(
        "Arms were not trained equally long, so they are not comparable: steps a training are {steps}.",
        steps=listed,
    )
