"""What deliberate faults would have claimed, and what is honest in its place: never a result of a study."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from extract.language import Message
from semisup.arms import ARMS
from semisup.folders import HONEST_PREDICTIONS
from semisup.records import FinishedRun, StudyRecords, read_finished
from semisup.statistics import (
    MIN_SEEDS,
    MIN_TEST_SUBJECTS,
    NUM_DRAWS,
    Estimate,
    RunCounts,
    SubjectBootstrap,
    class_strata,
    count_predictions,
)

Interval = tuple[float, float]


@dataclass(frozen=True)
class LeakResult:
    """One fault at one fraction; all in shares."""

    arm: str
    fraction: float
    fault: str
    honest_arm: str  # what it is held against
    claimed: float  # the figure that a project with this fault would print, mean over runs
    honest: Estimate  # of the same, without the fault
    inflation: float  # claimed minus honest
    interval: Interval  # of the inflation, 95 %
    is_paired: bool  # over the same subjects and trainings; else the claim is taken as printed
    num_runs: int
    remarks: tuple[Message, ...]


def summarize_leaks(records: StudyRecords, metric: str, num_draws: int = NUM_DRAWS) -> tuple[LeakResult, ...]:
    """Every fault of a study that has its honest counterpart, in the order of the plan."""
    found = []
    for (arm, fraction), group in groupby(records.leaks, key=lambda run: (run.arm, run.fraction)):
        honest_arm = (records.study.get("held_against") or {}).get(arm)
        partner = {(run.fold, run.seed): run for run in records.select(str(honest_arm), fraction)}
        pairs = [(run, partner[run.fold, run.seed]) for run in group if (run.fold, run.seed) in partner]
        if pairs:
            found.append(_leak_result(arm, str(honest_arm), pairs, metric, num_draws))
    return tuple(found)


Pair = tuple[FinishedRun, FinishedRun]  # with the fault, and the honest run


def _leak_result(arm: str, honest_arm: str, pairs: Sequence[Pair], metric: str, num_draws: int) -> LeakResult:
    runs = [run for run, _ in pairs]
    others = [_twin(run) if arm == "leak_slices" else other.counts for run, other in pairs]
    boot = SubjectBootstrap(class_strata([*(run.counts for run in runs), *others]), num_draws=num_draws)
    leaky_draws, honest_draws = boot.draw([run.counts for run in runs]), boot.draw(others)
    on_test, honest = boot.estimate(leaky_draws, metric), boot.estimate(honest_draws, metric)
    if arm == "leak_validation":  # the claim is a validation figure, of other subjects than the honest one
        claimed = float(np.mean([run.info["claim"]["metrics"][metric] for run in runs]))
        inflation, interval = claimed - on_test.value, (claimed - on_test.high, claimed - on_test.low)
        remarks = _of_validation(runs, honest_arm, honest, metric)
        honest = on_test
    else:
        claimed = on_test.value
        difference = boot.difference(leaky_draws, honest_draws, metric)
        inflation, interval = difference.value, (difference.low, difference.high)
        remarks = []
    if arm == "leak_slices":
        by_subject = boot.draw([_on_images_of(run, other) for run, other in pairs])
        remarks = _of_slices(runs, boot.estimate(by_subject, metric))
    if ARMS[arm].judged_by != "validation":
        remarks.append(_other_choices(runs))
    if honest.num_subjects < MIN_TEST_SUBJECTS or honest.num_seeds < MIN_SEEDS:
        remarks.append(
            Message(
                "Below {seeds} seeds or {subjects} test subjects such an interval cannot be trusted.",
                seeds=MIN_SEEDS,
                subjects=MIN_TEST_SUBJECTS,
            )
        )
    return LeakResult(
        arm=arm,
        fraction=runs[0].fraction,
        fault=str(runs[0].info.get("fault") or ""),
        honest_arm=honest_arm,
        claimed=claimed,
        honest=honest,
        inflation=inflation,
        interval=interval,
        is_paired=arm != "leak_validation",
        num_runs=len(runs),
        remarks=tuple(remarks),
    )


def _of_validation(
    runs: Sequence[FinishedRun], honest_arm: str, honest: Estimate, metric: str
) -> list[Message]:
    real = np.mean([run.info["val_metrics"][metric] for run in runs])
    rounds = [entry for run in runs for entry in run.info["claim"]["by_round"] if entry["round_index"]]
    share = np.mean([entry["num_pseudo_labeled"] / entry["num_judging"] for entry in rounds] or [0.0])
    return [
        Message(
            "{share} % of what judged the rounds were pseudo-labeled images. On the real validation images "
            "alone the same models reach {reached} %.",
            share=f"{100 * share:.0f}",
            reached=round(100 * float(real), 1),
        ),
        Message(
            "The honest figure is that of the same models on the test part; {honest_arm}, chosen by real "
            "validation, reaches {reached} % there.",
            honest_arm=honest_arm,
            reached=round(100 * honest.value, 1),
        ),
    ]


def _of_slices(runs: Sequence[FinishedRun], supervised: Estimate) -> list[Message]:
    claims = [run.info["claim"] for run in runs]
    drawn = np.mean([claim["num_images_of_tested_subjects"] for claim in claims])
    exposed = np.mean([claim["num_tested_images_exposed"] for claim in claims])
    num_tested = np.mean([len(run.files) for run in runs])
    return [
        Message(
            "{drawn} of {labeled} labeled images are of tested subjects; of {tested} tested images {exposed} "
            "are of a subject that was trained on.",
            drawn=round(drawn),
            labeled=runs[0].info["num_labeled_images"],
            tested=round(num_tested),
            exposed=round(exposed),
        ),
        Message(
            "The honest model has the same images but for those, in whose place stand others of the same "
            "class from the training part. Both draw their images from more subjects than the labeled "
            "fraction has: supervised reaches {reached} % on the same tested images.",
            reached=round(100 * supervised.value, 1),
        ),
    ]


def _other_choices(runs: Sequence[FinishedRun]) -> Message:
    others = sum(run.info["best_round"] != run.info["claim"]["honest_best_round"] for run in runs)
    return Message(
        "In {others} of {runs} runs real validation would have chosen another round among the same models.",
        others=others,
        runs=len(runs),
    )


def _twin(run: FinishedRun) -> RunCounts:
    return read_finished(run.folder, run.info, run.probs.shape[1], HONEST_PREDICTIONS).counts


def _on_images_of(run: FinishedRun, other: FinishedRun) -> RunCounts:
    """Another run's predictions on the images that this one was tested on."""
    chosen = np.isin(other.files, run.files)
    predicted = other.probs[chosen].argmax(axis=1)
    return count_predictions(
        other.fold, other.seed, other.subjects[chosen], other.labels[chosen], predicted, other.probs.shape[1]
    )
