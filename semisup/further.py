"""What a comparison says beside its interval: over single trainings, over the folds, and in probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from extract.language import Message
from semisup.records import FinishedRun
from semisup.statistics import METRICS, Estimate
from semisup.statistics.delong import delong_per_class
from semisup.statistics.mcnemar import mcnemar, subject_decisions
from semisup.statistics.over_seeds import WinShare, win_share
from semisup.statistics.probabilities import (
    MEASURES,
    ArmInfluence,
    arm_influence,
    estimate_measure,
    measure_difference,
)
from semisup.statistics.resampled_t import MIN_FOLDS, ResampledT, corrected_resampled_t

Cell = tuple[str, float]  # arm, fraction


class Probabilities:
    """The measures of predicted probabilities of all arms, each run measured once."""

    def __init__(self, runs: Mapping[Cell, Sequence[FinishedRun]], strata: Mapping[str, int]) -> None:
        self.runs, self.strata = runs, strata
        self.influence: dict[Cell, dict[str, ArmInfluence]] = {
            cell: {name: arm_influence(own, name, strata) for name in MEASURES} for cell, own in runs.items()
        }

    def estimates(self, cell: Cell) -> dict[str, Estimate]:
        """The measures of one arm, without those that are undefined."""
        found = {name: estimate_measure(one, name, self.strata) for name, one in self.influence[cell].items()}
        return {name: estimate for name, estimate in found.items() if estimate}

    def differences(self, arm: Cell, baseline: Cell) -> dict[str, Estimate]:
        """Their paired differences, `arm` minus `baseline`."""
        pairs = {name: (self.influence[arm][name], self.influence[baseline][name]) for name in MEASURES}
        found = {name: measure_difference(*pair, name, self.strata) for name, pair in pairs.items()}
        return {name: estimate for name, estimate in found.items() if estimate}


@dataclass(frozen=True)
class SeedTests:
    """Two single models of one fold and seed, on cases that are independent."""

    fold: int
    seed: int
    only_arm: int  # cases that only the arm's model has right
    only_baseline: int
    mcnemar_p: float
    delong_p: tuple[float | None, ...]  # by class, one against the others


@dataclass(frozen=True)
class FurtherTests:
    """Of one comparison, where they apply; none of them decides the verdict."""

    win_share: WinShare  # over pairs of trainings: P(A > B)
    over_folds: ResampledT | None  # None with fewer than three folds
    cases: str  # "images" or "subjects", what is tested one by one; "" where neither is independent
    single_models: tuple[SeedTests, ...]
    left_out: tuple[Message, ...]  # why a test is missing


def further_tests(arm: Sequence[FinishedRun], baseline: Sequence[FinishedRun], metric: str) -> FurtherTests:
    """All tests of one comparison that its data allow.

    Args:
        arm, baseline: runs with at least one fold and seed in common.
        metric: one of `METRICS`.
    """
    partner = {(run.fold, run.seed): run for run in baseline}
    pairs = [(run, partner[run.fold, run.seed]) for run in arm if (run.fold, run.seed) in partner]
    score = METRICS[metric]
    values = [[float(score(run.counts.counts.sum(axis=0).astype(float))) for run in pair] for pair in pairs]
    differences = np.array(values)[:, 0] - np.array(values)[:, 1]  # (P,)
    left_out = []
    over_folds, reason = _over_folds(pairs, differences)
    if reason:
        left_out.append(reason)
    cases: str = ""
    single_models: tuple[SeedTests, ...] = ()
    try:
        cases, single_models = _single_models(pairs)
    except ValueError as error:
        left_out.append(Message("McNemar and DeLong: {reason}", reason=error.args[0]))
    return FurtherTests(win_share(differences), over_folds, cases, single_models, tuple(left_out))


Pair = tuple[FinishedRun, FinishedRun]


def _over_folds(pairs: Sequence[Pair], differences: np.ndarray) -> tuple[ResampledT | None, Message | None]:
    """The corrected resampled t, or why there is none."""
    folds = np.array([arm.fold for arm, _ in pairs])
    names = np.unique(folds)
    if len(names) < MIN_FOLDS:
        return None, Message(
            "corrected resampled t: needs {needed} folds, got {found}", needed=MIN_FOLDS, found=len(names)
        )
    trained = [float(baseline.info.get("num_labeled_subjects") or 0) for _, baseline in pairs]
    if not all(trained):
        return None, Message(
            "corrected resampled t: the runs do not say how many subjects they were trained on"
        )
    tested = [len(np.unique(arm.subjects)) for arm, _ in pairs]
    means = np.array([differences[folds == fold].mean() for fold in names])
    return corrected_resampled_t(means, float(np.mean(tested) / np.mean(trained))), None


def _single_models(pairs: Sequence[Pair]) -> tuple[str, tuple[SeedTests, ...]]:
    """Model against model; a ValueError says why not.

    Cases are images where each subject has one, and else subjects, where each is of one class.
    """
    cases = (
        "images" if all(len(np.unique(arm.subjects)) == len(arm.subjects) for arm, _ in pairs) else "subjects"
    )
    found = []
    for arm, baseline in pairs:
        # both are sorted by subject here, so that the cases of the two models correspond
        ours, theirs = (subject_decisions(run.subjects, run.labels, run.probs) for run in (arm, baseline))
        test = mcnemar(ours.subjects, ours.right, theirs.right)
        areas = delong_per_class(ours.subjects, ours.labels, theirs.probs, ours.probs)
        found.append(
            SeedTests(
                arm.fold,
                arm.seed,
                test.only_first,
                test.only_second,
                test.p_value,
                tuple(area.p_value if area else None for area in areas),
            )
        )
    return cases, tuple(found)
