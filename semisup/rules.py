"""From the `pseudo` section of a study to the one function that chooses in each round of a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from extract.errors import SettingsError
from extract.seeds import derive_seed
from semisup.adaptive_thresholds import select_flexmatch, select_freematch
from semisup.alignment import alignment_factors, apply_factors
from semisup.curriculum import select_curriculum
from semisup.error_control import select_error_controlled
from semisup.label_forms import confidence_weights, entropy_weights, with_soft_labels, with_weights
from semisup.pseudo_config import (
    CurriculumRule,
    ErrorControlledRule,
    FixedRule,
    FlexMatchRule,
    FreeMatchRule,
    PerClassRule,
    PseudoConfig,
    RandomRule,
    TopKRule,
)
from semisup.random_control import select_at_random
from semisup.select import Evidence, Rule, Selection, select_by_class, select_confident, select_top


@dataclass(frozen=True)
class RunFacts:
    """What a rule needs to know of its run beside a round's probabilities."""

    classes: tuple[str, ...]
    labeled_shares: np.ndarray  # (C,) share of each class among the labeled images
    val_subjects: np.ndarray  # (V,) whom the held-out real images show
    seed: int  # of the run


def make_rule(pseudo: PseudoConfig, facts: RunFacts) -> Rule:
    """The rule of a study, with distribution alignment before it and the form of the labels after it."""
    choose = _chooser(pseudo, facts)
    form = _label_form(pseudo)

    def select(evidence: Evidence) -> Selection:
        if pseudo.align:
            factors = alignment_factors(evidence.probs, facts.labeled_shares)
            evidence = replace(
                evidence,
                probs=apply_factors(evidence.probs, factors),
                val_probs=apply_factors(evidence.val_probs, factors),
            )
        chosen = form(choose(evidence), evidence.probs)
        return replace(chosen, aligned_probs=evidence.probs) if pseudo.align else chosen

    return select


def check_classes(pseudo: PseudoConfig, classes: Sequence[str]) -> None:
    """Refuse thresholds for other classes than those of the archive.

    Raises:
        SettingsError: if a class has none, or a name is no class.
    """
    if isinstance(pseudo, PerClassRule) and set(pseudo.class_thresholds) != set(classes):
        raise SettingsError(
            f"pseudo.class_thresholds: expected one for each class ({', '.join(classes)}), got "
            f"{', '.join(pseudo.class_thresholds)}"
        )


def _chooser(pseudo: PseudoConfig, facts: RunFacts) -> Rule:
    match pseudo:
        case FixedRule(threshold=threshold, max_per_class=cap):
            return lambda seen: select_confident(seen.probs, threshold, cap)
        case PerClassRule(class_thresholds=by_name, max_per_class=cap):
            thresholds = [by_name[name] for name in facts.classes]
            return lambda seen: select_by_class(seen.probs, thresholds, cap)
        case TopKRule(images_per_class=num_images, max_class_share=share):
            return lambda seen: select_top(seen.probs, num_images, share)
        case CurriculumRule(step_percent=step, max_per_class=cap):
            return lambda seen: select_curriculum(seen.probs, seen.round_index, step, cap)
        case FlexMatchRule(threshold=threshold, max_per_class=cap):
            return lambda seen: select_flexmatch(seen.probs, threshold, cap)
        case FreeMatchRule(max_per_class=cap):
            return lambda seen: select_freematch(seen.probs, cap)
        case ErrorControlledRule():
            return partial(_error_controlled, pseudo, facts)
        case RandomRule(threshold=threshold, max_per_class=cap):
            return lambda seen: select_at_random(
                seen.probs,
                select_confident(seen.probs, threshold, cap),
                derive_seed("random selection", facts.seed, seen.round_index),
            )
    raise AssertionError(f"a rule without its function: {type(pseudo).__name__}")


def _error_controlled(pseudo: ErrorControlledRule, facts: RunFacts, seen: Evidence) -> Selection:
    # The bound is about images that could be selected, so it is taken over such real images alone.
    counts = np.ones(len(seen.val_labels), dtype=bool) if seen.val_is_certain is None else seen.val_is_certain
    return select_error_controlled(
        seen.probs,
        seen.val_probs[counts],
        seen.val_labels[counts],
        facts.val_subjects[counts],
        pseudo.epsilon,
        pseudo.delta,
        by_class=pseudo.by_class,
        max_per_class=pseudo.max_per_class,
        classes=facts.classes,
    )


def _label_form(pseudo: PseudoConfig) -> Callable[[Selection, np.ndarray], Selection]:
    match pseudo.labels, pseudo.weight_by:
        case "soft", _:
            return with_soft_labels
        case "weighted", "confidence":
            return lambda chosen, probs: with_weights(chosen, confidence_weights(probs))
        case "weighted", "entropy":
            return lambda chosen, probs: with_weights(chosen, entropy_weights(probs))
    return lambda chosen, probs: chosen


def labeled_shares(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(C,) share of each class among (N,) expert labels."""
    return np.bincount(labels, minlength=num_classes) / max(len(labels), 1)
