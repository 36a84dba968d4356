"""Whether the two arms of a comparison had equal budgets, in sentences. Pure functions of the numbers."""

from collections.abc import Sequence

from semisup.budget import Budget
from semisup.verdict import percent


def compare_budgets(arm: Budget, baseline: Budget) -> list[str]:
    """What was equal between two arms and what was not, most important first."""
    sentences = [_steps(arm, baseline)]
    for one, other in ((arm, baseline), (baseline, arm)):
        sentences += [text for text in (_models(one, other), _generators(one, other)) if text]
        if one.unlabeled_seen and not other.unlabeled_seen:
            sentences.append(
                f"Each batch of {one.arm} holds unlabeled images besides: {one.unlabeled_seen:,} in all, each in two "
                f"views, which {other.arm} does not see."
            )
    if arm.devices != baseline.devices and arm.devices and baseline.devices:
        sentences.append(
            f"The two were not trained on the same devices ({', '.join(arm.devices)}; "
            f"{', '.join(baseline.devices)}), so their times say nothing about each other."
        )
    return sentences


def _steps(arm: Budget, baseline: Budget) -> str:
    if arm.steps_per_training != baseline.steps_per_training or len(arm.steps_per_training) != 1:
        ours, theirs = (", ".join(f"{n:,}" for n in b.steps_per_training) for b in (arm, baseline))
        return (
            f"Unequal: a training of {arm.arm} has {ours} optimiser steps and one of {baseline.arm} {theirs}, so "
            "the two are not comparable."
        )
    return (
        f"Equal: every model of {arm.arm} and of {baseline.arm} was trained with "
        f"{arm.steps_per_training[0]:,} optimiser steps."
    )


def _models(one: Budget, other: Budget) -> str | None:
    ours, theirs = one.num_models / one.num_runs, other.num_models / other.num_runs
    if ours <= theirs:
        return None
    return (
        f"Unequal: {one.arm} chooses from {_number(ours)} models a run by real validation, {other.arm} from "
        f"{_number(theirs)}; it took {_count(one.trainings, 'training')} of its own for that, {one.steps:,} steps in "
        "all."
    )


def _generators(one: Budget, other: Budget) -> str | None:
    if not set(one.generators) - set(other.generators):
        return None
    kimg = "an unknown number of" if one.gan_kimg is None else f"{one.gan_kimg:,.0f} thousand"
    hours = "an unknown time" if one.gan_seconds is None else f"{one.gan_seconds / 3600:.1f} hours"
    shared = ""
    if one.shares_generators_with:
        names = [f"{arm} at {percent(fraction)}" for arm, fraction in one.shares_generators_with]
        shared = f", shared with {_join(names)}"
    return (
        f"Unequal: {one.arm} needs {_count(len(one.generators), 'generator')} besides, trained on {kimg} images in "
        f"{hours}{shared}; {other.arm} has nothing in place of it."
    )


def _join(names: Sequence[str], most: int = 4) -> str:
    shown = list(names[:most])
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
