"""Whether the two arms of a comparison had equal budgets, in sentences. Pure functions of the numbers."""

from collections.abc import Sequence

from extract.language import Message, Number, Percent
from semisup.budget import Budget

UNKNOWN = Message("unknown")
MAX_NAMED = 4  # arms named as sharing a generator


def compare_budgets(arm: Budget, baseline: Budget) -> list[Message]:
    """What was equal between two arms and what was not, most important first."""
    sentences = [_steps(arm, baseline)]
    for one, other in ((arm, baseline), (baseline, arm)):
        sentences += [*_models(one, other), *_unlabeled(one, other), *_generators(one, other)]
    if arm.devices != baseline.devices and arm.devices and baseline.devices:
        sentences.append(
            Message(
                "They were not trained on the same devices ({ours}; {theirs}), so their times say nothing "
                "about each other.",
                ours=", ".join(arm.devices),
                theirs=", ".join(baseline.devices),
            )
        )
    return sentences


def _steps(arm: Budget, baseline: Budget) -> Message:
    if arm.steps_per_training != baseline.steps_per_training or len(arm.steps_per_training) != 1:
        return Message(
            "Unequal: a training of {arm} has {ours} optimiser steps and one of {baseline} {theirs}, so the "
            "two are not comparable.",
            arm=arm.arm,
            ours=_listed(arm.steps_per_training),
            baseline=baseline.arm,
            theirs=_listed(baseline.steps_per_training),
        )
    return Message(
        "Equal: every model of {arm} and of {baseline} was trained with {steps} optimiser steps.",
        arm=arm.arm,
        baseline=baseline.arm,
        steps=arm.steps_per_training[0],
    )


def _models(one: Budget, other: Budget) -> list[Message]:
    ours, theirs = (_whole(b.num_models / b.num_runs) for b in (one, other))
    if ours <= theirs:
        return []
    return [
        Message(
            "Unequal: {arm} chooses from {ours} models a run by real validation, {baseline} from {theirs}. "
            "For that it was trained {trainings} times more, {steps} steps in all.",
            arm=one.arm,
            ours=ours,
            baseline=other.arm,
            theirs=theirs,
            trainings=one.trainings,
            steps=one.steps,
        )
    ]


def _unlabeled(one: Budget, other: Budget) -> list[Message]:
    if not one.unlabeled_seen or other.unlabeled_seen:
        return []
    return [
        Message(
            "Unequal: every batch of {arm} holds unlabeled images as well, {number} in all, each in two "
            "views; {baseline} sees none.",
            arm=one.arm,
            number=one.unlabeled_seen,
            baseline=other.arm,
        )
    ]


def _generators(one: Budget, other: Budget) -> list[Message]:
    own = set(one.generators) - set(other.generators)
    if not own:
        return []
    sentences = [
        Message(
            "Unequal: {arm} needs generators as well ({number}): thousands of real images shown to them: "
            "{kimg}, hours of training: {hours}. {baseline} has nothing in place of them.",
            arm=one.arm,
            number=len(own),
            kimg=UNKNOWN if one.gan_kimg is None else round(one.gan_kimg),
            hours=UNKNOWN if one.gan_seconds is None else Number(one.gan_seconds / 3600, 1),
            baseline=other.arm,
        )
    ]
    if one.shares_generators_with:
        names = [
            Message("{arm} ({share})", arm=arm, share=Percent(fraction))
            for arm, fraction in one.shares_generators_with
        ]
        more = ("...",) if len(names) > MAX_NAMED else ()
        sentences.append(
            Message(
                "Generators of {arm} serve other arms as well and were trained once: {names}.",
                arm=one.arm,
                names=(*names[:MAX_NAMED], *more),
            )
        )
    return sentences


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(f"{number:,}" for number in numbers)


def _whole(value: float) -> int | float:
    return round(value) if value == round(value) else round(value, 1)
