"""How often the intervals of a study contain the truth, over simulated studies whose truth is known.

    python -m benchmarks.interval_coverage --out benchmarks/results/interval_coverage.json
    python -m benchmarks.interval_coverage --trials 200 --only few subjects

Subjects are clustered (10 to 50 images each), classes are imbalanced (60, 25, 15 %), and each study is drawn
anew: subjects, images and trainings. `gain` is 0 except where it is named: the second arm is then the first
with other seeds, and a difference called real is a false alarm. The truth of the single measures comes from
simulated populations. Beside ours stands the interval of many papers: one training, every image on its own.

The parts of the variance (`--parts`) need no images: normal parts are drawn in given shares, and the width of
`semisup.statistics.sources` is compared with its two rivals.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from benchmarks.machine import processor, write_result
from semisup.statistics import (
    Estimate,
    SubjectBootstrap,
    balanced_accuracy,
    class_strata,
    label_equivalence,
    recall_per_class,
)
from semisup.statistics.calibration import NUM_BINS, calibration
from semisup.statistics.delong import delong
from semisup.statistics.probabilities import (
    arm_influence,
    estimate_measure,
    macro_auroc,
    measure_difference,
    nll,
)
from semisup.statistics.simulated import SimulatedRun, SimulatedStudy, simulate
from semisup.statistics.sources import UPPER, Sources

USUAL = SimulatedStudy()
SCENARIOS = {
    "usual": USUAL,
    "planted gain": replace(USUAL, gain=0.5),
    "seeds do not matter": replace(USUAL, training_sd=0.0),
    "seeds vary much": replace(USUAL, training_sd=0.4),
    "seeds vary more than subjects": replace(USUAL, training_sd=1.0),
    "five seeds": replace(USUAL, seeds=5, training_sd=0.4),
    "few subjects": replace(USUAL, num_subjects=24),
    "few subjects, mixed classes": replace(USUAL, num_subjects=24, mixed=True),
    "few subjects, few errors": replace(USUAL, num_subjects=24, mixed=True, margin=4.0),
    "three folds": replace(USUAL, num_subjects=60, folds=3),
    "three folds, mixed classes": replace(USUAL, num_subjects=60, folds=3, mixed=True),
    "many subjects": replace(USUAL, num_subjects=120),
}
FRACTIONS, CURVE_GAINS = (0.2, 0.5, 1.0), (0.0, 0.6, 1.2)  # of the label-equivalence scenario


@dataclass(frozen=True)
class Truth:
    """What the measures of a scenario are for ever so many subjects and trainings."""

    difference: float
    balanced_accuracy: float
    auroc: float
    nll: float
    ece: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2000, help="simulated studies a scenario")
    parser.add_argument("--draws", type=int, default=500, help="bootstrap draws a study")
    parser.add_argument("--only", nargs="+", help="words of one scenario's name")
    parser.add_argument(
        "--parts", type=int, default=20_000, help="trials a row of the variance table; 0: none"
    )
    parser.add_argument("--out", type=Path, help="JSON file; printed where there is none")
    options = parser.parse_args()
    chosen = [name for name in SCENARIOS if not options.only or name == " ".join(options.only)]
    result: dict[str, Any] = {
        "machine": {"cpu": processor(), "python": platform.python_version(), "numpy": np.__version__,
                    "load_at_start": round(os.getloadavg()[0], 1)},
        "command": f"python -m benchmarks.interval_coverage --trials {options.trials} "
                   f"--draws {options.draws} --parts {options.parts}",
        "trials": options.trials,
        "monte_carlo_error_of_95_percent": round(100 * (0.95 * 0.05 / options.trials) ** 0.5, 2),
        "percent_covered": {},
    }  # fmt: skip
    if options.parts:
        result["percent_covered_by_parts_of_the_variance"] = parts_table(options.parts)
    for name in chosen:
        started = time.perf_counter()
        result["percent_covered"][name] = {
            measure: round(100 * share, 1)
            for measure, share in coverage(SCENARIOS[name], options.trials, options.draws).items()
        }
        print(
            f"{name}: {result['percent_covered'][name]} ({time.perf_counter() - started:.0f} s)", flush=True
        )
        write_result(options.out, result)
    if not options.only:
        share = equivalence_coverage(options.trials, options.draws)
        result["percent_covered"]["label equivalence"] = {"label_equivalence": round(100 * share, 1)}
        write_result(options.out, result)


# Whole studies --------------------------------------------------------------------------------------


def coverage(study: SimulatedStudy, trials: int, draws: int = 500, seed: int = 1) -> dict[str, float]:
    """Share of simulated studies whose interval contains the truth, by measure.

    Returns:
        `difference` (of balanced accuracies), `balanced_accuracy`, `auroc`, `auroc_difference` (0 gain
        alone), `nll`, `ece`; `subjects_alone`, the bootstrap without the trainings; and `naive`,
        `naive_delong`, which count every image of one training as independent.
    """
    truth = true_values(study)
    rng = np.random.default_rng(seed)
    rows = [judge(*simulate(rng, study), truth, draws, seed=trial) for trial in range(trials)]
    null_alone = ("auroc_difference", "naive_delong") if study.gain else ()  # their truth is 0 without a gain
    names = [name for name in rows[0] if name not in null_alone]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


def judge(
    baseline: Sequence[SimulatedRun], arm: Sequence[SimulatedRun], truth: Truth, draws: int, seed: int
) -> dict[str, bool]:
    """Whether each interval of one simulated study contains the truth."""
    counts = [run.counts for run in baseline]
    strata = class_strata(counts)
    boot = SubjectBootstrap(strata, num_draws=draws, seed=seed)
    drawn, arm_drawn = boot.draw(counts), boot.draw([run.counts for run in arm])
    difference = boot.difference(arm_drawn, drawn)
    auroc, arm_auroc = (arm_influence(runs, "auroc", strata) for runs in (baseline, arm))
    found = {
        "difference": covers(difference, truth.difference),
        "balanced_accuracy": covers(boot.estimate(drawn), truth.balanced_accuracy),
        "auroc": covers(estimate_measure(auroc, "auroc", strata), truth.auroc),
        "auroc_difference": covers(measure_difference(arm_auroc, auroc, "auroc", strata), 0.0),
        "nll": covers(estimate_measure(arm_influence(baseline, "nll", strata), "nll", strata), truth.nll),
    }
    ece = calibration(baseline, boot)
    low, high = np.quantile(difference.subject_draws, [1 - UPPER, UPPER])
    found |= {
        "ece": ece.low <= truth.ece <= ece.high,
        "subjects_alone": bool(low <= truth.difference <= high),
    }
    low, high = naive_interval(baseline[0], arm[0])
    first, second = baseline[0], arm[0]
    every_image = np.arange(len(first.labels)).astype(str)
    test = delong(every_image, first.labels == 0, first.probs[:, 0], second.probs[:, 0])
    return found | {"naive": low <= truth.difference <= high, "naive_delong": test.p_value >= 0.05}


def covers(estimate: Estimate | None, truth: float) -> bool:
    """Whether there is an interval that contains the truth."""
    return estimate is not None and estimate.low <= truth <= estimate.high


def naive_interval(baseline: SimulatedRun, arm: SimulatedRun) -> tuple[float, float]:
    """What many papers do: one seed, every image on its own (normal approximation, the images unpaired)."""
    difference, variance = 0.0, 0.0
    for sign, run in ((1, arm), (-1, baseline)):
        confusion = run.counts.counts.sum(axis=0).astype(float)
        recall, totals = recall_per_class(confusion), confusion.sum(axis=1)
        difference += sign * recall.mean()
        variance += float((recall * (1 - recall) / totals).sum()) / len(recall) ** 2
    return difference - 1.96 * variance**0.5, difference + 1.96 * variance**0.5


def true_values(study: SimulatedStudy, seed: int = 5, repeats: int = 150) -> Truth:
    """The measures' means over populations: 4,000 subjects with one image each, many trainings."""
    rng = np.random.default_rng(seed)
    population = replace(study, images=(1, 1), folds=1)
    scores, aurocs, nlls = [], [], []
    for _ in range(repeats):
        arms = simulate(rng, replace(population, num_subjects=4000, seeds=1))
        scores.append([float(balanced_accuracy(runs[0].counts.counts.sum(axis=0))) for runs in arms])
        alike = arms if study.gain == 0 else arms[:1]  # both arms are samples of one truth
        aurocs += [macro_auroc(runs[0].probs, runs[0].labels)[0] for runs in alike]
        nlls += [nll(runs[0].probs, runs[0].labels)[0] for runs in alike]
    means = np.mean(scores, axis=0)
    large = replace(population, num_subjects=15_000, seeds=1)  # ECE is biased where a bin has few images
    eces = []
    for _ in range(max(1, repeats // 2)):
        arms = simulate(rng, large)
        eces += [_ece(runs[0]) for runs in (arms if study.gain == 0 else arms[:1])]
    return Truth(
        difference=float(means[1] - means[0]) if study.gain else 0.0,
        balanced_accuracy=float(means[0] if study.gain else means.mean()),
        auroc=float(np.mean(aurocs)),
        nll=float(np.mean(nlls)),
        ece=float(np.mean(eces)),
    )


def _ece(run: SimulatedRun) -> float:
    confidence = run.probs.max(axis=1)
    gap = confidence - (run.probs.argmax(axis=1) == run.labels)
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    return float(np.abs(np.bincount(bins, gap, minlength=NUM_BINS)).sum() / len(gap))


# Label equivalence ----------------------------------------------------------------------------------


def equivalence_coverage(trials: int, draws: int = 500, seed: int = 3) -> float:
    """Share of studies whose label equivalence contains the truth, an arm that equals a point of the curve.

    The curve has a margin that rises with the share of labels; the arm at 20 % has the margin of 50 %, so the
    truth is 50 %.
    """
    rng = np.random.default_rng(seed)
    hits = 0
    for trial in range(trials):
        state = rng.integers(2**63)
        curve_runs = []
        for gain in CURVE_GAINS:  # the same subjects and images for each point, other trainings
            curve_runs.append(_second_arm(int(state), gain, len(curve_runs)))
        arm = _second_arm(int(state), CURVE_GAINS[1], len(curve_runs))
        strata = class_strata([run.counts for run in arm])
        boot = SubjectBootstrap(strata, num_draws=draws, seed=trial)
        drawn = [boot.draw([run.counts for run in runs]) for runs in curve_runs]
        points = [boot.estimate(one) for one in drawn]
        difference = boot.difference(boot.draw([run.counts for run in arm]), drawn[0])
        found = label_equivalence(
            FRACTIONS,
            np.array([point.value for point in points]),
            np.stack([point.subject_draws for point in points], axis=1),
            points[0].value + difference.value,
            points[0].subject_draws + difference.draws,
        )
        hits += found.low <= FRACTIONS[1] <= found.high
    return hits / trials


def _second_arm(state: int, gain: float, number: int) -> list[SimulatedRun]:
    """The second arm of the study that `state` makes, its trainings drawn anew for every number."""
    return simulate(
        np.random.default_rng(state), replace(USUAL, gain=gain), np.random.default_rng([state, number])
    )[1]


# Parts of the variance ------------------------------------------------------------------------------


def parts_table(trials: int, seed: int = 0) -> list[dict[str, float]]:
    """Coverage of three widths for normal parts: Satterthwaite's t, each part with its own t, and ours."""
    rng = np.random.default_rng(seed)
    rows = []
    for n, num_seeds, folds in ((39, 3, 1), (24, 3, 1), (39, 3, 3), (39, 5, 1)):
        for training, subject, both in (
            (0, 0, 1), (0, 1, 1), (0, 1, 0.3), (0.1, 0.3, 0.7), (0.15, 1, 0.3), (0.3, 1, 0.3), (0.6, 1, 0.3),
            (1, 1, 0.3), (1, 0.3, 0.3), (0.2, 0, 1),
        ):  # fmt: skip
            row = {"num_subjects": n, "seeds": num_seeds, "folds": folds}
            row |= {"training_sd": training, "subject_sd": subject, "subject_by_training_sd": both}
            rows.append(row | _parts(rng, trials, n, num_seeds, folds, training, subject, both))
    return rows


def _parts(
    rng: np.random.Generator,
    trials: int,
    n: int,
    num_seeds: int,
    folds: int,
    training: float,
    subject: float,
    both: float,
) -> dict[str, float]:
    own = n // folds
    value, seed_variance, shared, of_subjects = np.zeros((4, trials))
    for _ in range(folds):
        single = (
            rng.normal(0, training, (trials, num_seeds))
            + rng.normal(0, subject / own**0.5, (trials, 1))
            + rng.normal(0, both / own**0.5, (trials, num_seeds))
        )
        value += single.mean(axis=1) / folds
        seed_variance += single.var(axis=1, ddof=1) / num_seeds / folds**2
        shared_df = (own - 1) * (num_seeds - 1)
        shared += both**2 / own / num_seeds * rng.chisquare(shared_df, trials) / shared_df / folds**2
        known = subject**2 / own + both**2 / own / num_seeds
        of_subjects += known * rng.chisquare(own - 1, trials) / (own - 1) / folds**2
    seed_df, df = folds * (num_seeds - 1), n - folds
    alone = np.maximum(0, of_subjects - shared)
    total = seed_variance + alone
    pooled_df = total**2 / (seed_variance**2 / seed_df + alone**2 / df)
    widths: dict[str, Callable[[], np.ndarray]] = {
        "satterthwaite": lambda: stdtrit(pooled_df, UPPER) * np.sqrt(total),
        "own_t_each": lambda: np.sqrt(
            stdtrit(seed_df, UPPER) ** 2 * seed_variance + stdtrit(df, UPPER) ** 2 * alone
        ),
        "ours": lambda: np.array(
            [
                Sources(*parts, seed_df=seed_df).half_width
                for parts in zip(of_subjects, [df] * trials, shared, seed_variance, strict=True)
            ]
        ),
    }
    return {name: round(100 * float((np.abs(value) <= width()).mean()), 1) for name, width in widths.items()}


if __name__ == "__main__":
    main()
