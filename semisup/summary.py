"""All numbers of a study in one record: what the report shows and the result files keep."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from extract.language import ENGLISH, Language, Percent
from extract.progress import Progress, no_progress
from semisup.arms import ARMS
from semisup.audit import strictest_bound
from semisup.budget import Budget, measure_budget
from semisup.further import FurtherTests, Probabilities, further_tests
from semisup.gate_counts import GateCount, count_gates, gate_warning
from semisup.generators import Generator, read_generators
from semisup.leak_summary import LeakResult, summarize_leaks
from semisup.per_class import ClassResult, class_results
from semisup.records import FinishedRun, StudyRecords
from semisup.statistics import (
    METRICS,
    NUM_DRAWS,
    ArmDraws,
    Estimate,
    LabelEquivalence,
    SubjectBootstrap,
    class_strata,
    holm,
    label_equivalence,
    recall_per_class,
)
from semisup.statistics.calibration import Calibration, calibration
from semisup.verdict import (
    Verdict,
    alarm_sentence,
    compare_with_rival,
    decide,
    describe_audit_bound,
    describe_ceiling,
    describe_equivalence,
    describe_kept_rounds,
    explain,
    require_audit,
    unequal_budget,
)

BASELINE, CEILING, RIVAL = "supervised", "supervised_full", "pseudo_real"
MEAN_METRICS = ("auroc", "mcc", "ece", "nll")  # of the runs' own records, the mean over runs
CONTROLS = frozenset(name for name, arm in ARMS.items() if arm.is_control)
Cell = tuple[str, float]  # arm, fraction


@dataclass(frozen=True)
class ArmResult:
    """One arm at one fraction."""

    arm: str
    fraction: float
    estimates: dict[str, Estimate]  # by metric
    measures: dict[str, Estimate]  # of the probabilities, by name; without those that are undefined
    calibration: Calibration  # ECE with its interval
    means: dict[str, float]  # test metrics as the runs recorded them, mean over runs
    recall: tuple[float, ...]  # sensitivity by class
    confusion: np.ndarray  # (C, C) images, seeds averaged, folds pooled
    num_runs: int
    best_rounds: tuple[int, ...]
    num_labeled_images: float  # mean over folds
    num_labeled_subjects: float


@dataclass(frozen=True)
class Comparison:
    """One paired difference, `arm` minus `baseline` at one fraction."""

    arm: str
    baseline: str
    fraction: float
    difference: Estimate
    p_holm: float | None  # None for the primary comparison, which needs no correction
    is_primary: bool
    differences: dict[str, Estimate]  # of every other metric and measure; hints, their p-values uncorrected
    further: FurtherTests


class RunRounds(Protocol):
    """What the rounds of a run are told from: a finished run, or its record alone."""

    @property
    def arm(self) -> str: ...
    @property
    def fraction(self) -> float: ...
    @property
    def info(self) -> dict[str, Any]: ...
    @property
    def rounds(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class RoundResult:
    """One round of one arm at one fraction, over its runs."""

    arm: str
    fraction: float
    round_index: int
    num_runs: int
    num_kept: int  # runs in which this round was the best on real validation
    pool_size: float
    num_selected: float
    coverages: tuple[float, ...]
    per_class_selected: tuple[float, ...]  # mean over runs
    threshold: float | None
    val_balanced_accuracy: float
    ece_before: float
    ece_after: float
    temperature: float
    num_train_images: float
    oracle_accuracy: float | None
    num_alarms: int  # runs in which more than 90 % of the pool passed
    gates: tuple[GateCount, ...] = ()  # what turned images away before the rule
    num_uncertain: float | None = None  # held back as too uncertain; None: nobody asked how certain they are
    num_negative: float | None = None  # taught what they are not; None: no run does that
    num_flattered: int = 0  # runs whose ECE after calibration is of the images that gave the temperature


@dataclass(frozen=True)
class Summary:
    """Everything the report says in numbers."""

    name: str
    classes: tuple[str, ...]
    metric: str
    primary: Comparison | None
    verdict: Verdict
    arms: tuple[ArmResult, ...]
    comparisons: tuple[Comparison, ...]
    equivalences: dict[Cell, LabelEquivalence]
    rounds: tuple[RoundResult, ...]
    budgets: tuple[Budget, ...]
    generators: tuple[Generator, ...]
    per_class: tuple[ClassResult, ...]  # at the fraction of the headline, and of the ceiling
    warnings: tuple[str, ...]
    failures: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    num_subjects: int
    num_draws: int
    study: dict[str, Any] = field(repr=False)
    leaks: tuple[LeakResult, ...] = ()  # what deliberate faults would have claimed: never a result

    @property
    def curve(self) -> tuple[float, ...]:
        """The shares of labels that label equivalence is read off, all labels by either name."""
        found = {result.fraction for result in self.arms if result.arm == BASELINE}
        return tuple(sorted(found | {result.fraction for result in self.arms if result.arm == CEILING}))

    def find(self, arm: str, fraction: float) -> ArmResult | None:
        """One arm at one fraction, if it has a finished run."""
        return next((r for r in self.arms if r.arm == arm and math.isclose(r.fraction, fraction)), None)

    def compare(self, arm: str, baseline: str, fraction: float) -> Comparison | None:
        """One paired difference, if both arms have finished runs in common."""
        found = (c for c in self.comparisons if (c.arm, c.baseline) == (arm, baseline))
        return next((c for c in found if math.isclose(c.fraction, fraction)), None)


def primary_fraction(summary: Summary) -> float:
    """The share of labels that the headline is about; the smallest where there is no headline."""
    if summary.primary:
        return summary.primary.fraction
    planned = (summary.study.get("primary") or {}).get("fraction")
    known = [result.fraction for result in summary.arms if result.arm != CEILING]
    return float(planned if planned is not None else min(known, default=1.0))


def summarize(records: StudyRecords, num_draws: int = NUM_DRAWS, progress: Progress = no_progress) -> Summary:
    """Compute every number of the report from a study's records; its sentences are English."""
    primary = _primary_of(records.study)
    metric = primary["metric"]
    groups = {
        cell: list(runs) for cell, runs in groupby(records.runs, key=lambda run: (run.arm, run.fraction))
    }

    def told(stage: int) -> Iterator[tuple[Cell, list[FinishedRun]]]:
        """The groups one after the other; each of three stages takes about as long."""
        for number, group in enumerate(groups.items()):
            progress(stage * len(groups) + number, 3 * len(groups), "computing intervals")
            yield group

    strata = class_strata([run.counts for run in records.runs])
    boot = SubjectBootstrap(strata, num_draws=num_draws)
    draws = {cell: boot.draw([run.counts for run in runs]) for cell, runs in told(0)}
    probabilities = Probabilities(groups, strata)
    arms = tuple(
        _arm_result(runs, boot, draws[cell], probabilities.estimates(cell)) for cell, runs in told(1)
    )
    progress(2, 3, "computing intervals")
    at_primary = [c for c in groups if c[0] == CEILING or math.isclose(c[1], float(primary["fraction"]))]
    confusions = {(result.arm, result.fraction): result.confusion for result in arms}
    comparisons = _compare_all(draws, boot, primary, probabilities, records.study.get("controls_of"))
    equivalences = _equivalences(draws, boot, metric, comparisons)
    rounds = tuple(result for runs in groups.values() for result in round_results(runs, len(records.classes)))
    generators = read_generators(records)
    budgets = tuple(measure_budget(runs, generators) for runs in groups.values())
    summary = Summary(
        name=str(records.study.get("name", records.study_dir.name)),
        classes=records.classes,
        metric=metric,
        primary=next((c for c in comparisons if c.is_primary), None),
        verdict=Verdict("no headline", ""),
        arms=arms,
        comparisons=comparisons,
        equivalences=equivalences,
        rounds=rounds,
        budgets=budgets,
        generators=generators,
        per_class=class_results(at_primary, draws, confusions, boot, records.classes),
        warnings=(),
        failures=records.failures,
        missing=records.missing,
        num_subjects=len(strata),
        num_draws=num_draws,
        study=records.study,
        leaks=summarize_leaks(records, metric, num_draws),
    )
    return reworded(summary, records, ENGLISH)


def reworded(summary: Summary, records: StudyRecords, language: Language) -> Summary:
    """The same numbers with verdict and warnings in a language."""
    primary = _primary_of(records.study)
    verdict = _audited(_verdict(summary, primary, language), records, primary, language)
    return replace(summary, verdict=verdict, warnings=tuple(_warnings(records, summary, language)))


def _primary_of(study: dict[str, Any]) -> dict[str, Any]:
    smallest = min(study.get("fractions") or [1.0])
    default = {
        "arm": "pseudo_gan_full",
        "baseline": BASELINE,
        "fraction": smallest,
        "metric": "balanced_accuracy",
    }
    return {**default, **(study.get("primary") or {})}


def _arm_result(
    runs: Sequence[FinishedRun], boot: SubjectBootstrap, draws: ArmDraws, measures: dict[str, Estimate]
) -> ArmResult:
    confusion = draws.pooled()
    return ArmResult(
        arm=runs[0].arm,
        fraction=runs[0].fraction,
        estimates={metric: boot.estimate(draws, metric) for metric in METRICS},
        measures=measures,
        calibration=calibration(runs, boot),
        means={name: _mean([run.info["test_metrics"].get(name) for run in runs]) for name in MEAN_METRICS},
        recall=tuple(float(value) for value in recall_per_class(confusion)),
        confusion=confusion,
        num_runs=len(runs),
        best_rounds=tuple(int(run.info.get("best_round") or 0) for run in runs),
        num_labeled_images=_mean([run.info.get("num_labeled_images") for run in runs]),
        num_labeled_subjects=_mean([run.info.get("num_labeled_subjects") for run in runs]),
    )


def _compare_all(
    draws: dict[Cell, ArmDraws],
    boot: SubjectBootstrap,
    primary: dict[str, Any],
    probabilities: Probabilities,
    reference: str | None,
) -> tuple[Comparison, ...]:
    """Every arm with the baseline, the GAN with its rival, the arm that controls repeat with each of them,
    and the primary; Holm over all but the primary.
    """
    wanted = [(arm, BASELINE, fraction) for arm, fraction in draws if arm not in (BASELINE, CEILING)]
    wanted += [(arm, RIVAL, fraction) for arm, fraction in draws if "gan" in arm]
    if reference:
        wanted += [(reference, arm, fraction) for arm, fraction in draws if arm in CONTROLS]
    chosen = (primary["arm"], primary["baseline"], float(primary["fraction"]))
    wanted = [chosen, *(names for names in wanted if names != chosen)]
    found = []
    metric = primary["metric"]
    for arm, baseline, fraction in wanted:
        cells = [(name, 1.0 if name == CEILING else fraction) for name in (arm, baseline)]
        own, other = (draws.get(cell) for cell in cells)
        if own and other and own.keys & other.keys:
            found.append(((arm, baseline, fraction), cells, boot.difference(own, other, metric)))
    others = [index for index, (names, _, _) in enumerate(found) if names != chosen]
    adjusted = dict(zip(others, holm([found[index][2].p_value for index in others]), strict=True))
    return tuple(
        Comparison(
            *names,
            difference,
            float(adjusted[index]) if index in adjusted else None,
            names == chosen,
            {
                name: boot.difference(draws[cells[0]], draws[cells[1]], name)
                for name in METRICS
                if name != metric
            }
            | probabilities.differences(*cells),
            further_tests(probabilities.runs[cells[0]], probabilities.runs[cells[1]], metric),
        )
        for index, (names, cells, difference) in enumerate(found)
    )


def _equivalences(
    draws: dict[Cell, ArmDraws], boot: SubjectBootstrap, metric: str, comparisons: Sequence[Comparison]
) -> dict[Cell, LabelEquivalence]:
    """Read every arm that was compared with the baseline off the supervised curve.

    The arm's draws are the curve's own at its fraction plus the difference's, so that label equivalence and
    the paired difference never contradict each other.
    """
    points = {fraction: draws[arm, fraction] for arm, fraction in draws if arm == BASELINE}
    if (CEILING, 1.0) in draws:
        points.setdefault(1.0, draws[CEILING, 1.0])
    if len(points) < 2:
        return {}
    fractions = sorted(points)
    curve = {fraction: boot.estimate(points[fraction], metric) for fraction in fractions}
    values = np.array([curve[fraction].value for fraction in fractions])
    drawn = np.stack([curve[fraction].subject_draws for fraction in fractions], axis=1)  # (B, m)
    found = {}
    for comparison in comparisons:
        if comparison.baseline == BASELINE and comparison.fraction in curve:
            start = curve[comparison.fraction]
            found[comparison.arm, comparison.fraction] = label_equivalence(
                fractions,
                values,
                drawn,
                start.value + comparison.difference.value,
                start.subject_draws + comparison.difference.draws,
            )
    return {cell: found[cell] for cell in draws if cell in found}


def round_results(runs: Sequence[RunRounds], num_classes: int) -> list[RoundResult]:
    """Every round of some runs of one arm at one fraction; none where the arm has no rounds."""
    if not any(len(run.rounds) > 1 for run in runs):
        return []  # an arm without a pool has round 0 alone
    entries = [(entry, run) for run in runs for entry in run.rounds]
    results = []
    for index in sorted({entry["round_index"] for entry, _ in entries}):
        chosen = [entry for entry, _ in entries if entry["round_index"] == index]
        per_class = [_by_class(entry["per_class_selected"], num_classes) for entry in chosen]
        results.append(
            RoundResult(
                arm=runs[0].arm,
                fraction=runs[0].fraction,
                round_index=index,
                num_runs=len(chosen),
                num_kept=sum(int(run.info.get("best_round") or 0) == index for run in runs),
                pool_size=_mean([entry["pool_size"] for entry in chosen]),
                num_selected=_mean([entry["num_selected"] for entry in chosen]),
                coverages=tuple(float(entry["coverage"] or 0) for entry in chosen),
                per_class_selected=tuple(np.mean(per_class, axis=0)),
                threshold=next(
                    (entry["threshold"] for entry in chosen if entry["threshold"] is not None), None
                ),
                val_balanced_accuracy=_mean([entry["val_balanced_accuracy"] for entry in chosen]),
                ece_before=_mean([entry["ece_before"] for entry in chosen]),
                ece_after=_mean([entry["ece_after"] for entry in chosen]),
                temperature=_mean([entry["temperature"] for entry in chosen]),
                num_train_images=_mean([entry["num_train_images"] for entry in chosen]),
                oracle_accuracy=_mean_known(chosen, "oracle_accuracy"),
                num_alarms=sum(bool(entry.get("alarm")) for entry in chosen),
                gates=count_gates(chosen),
                num_uncertain=_mean_known(chosen, "num_uncertain"),
                num_negative=_mean_known(chosen, "num_negative"),
                num_flattered=sum(entry.get("ece_after_is_cross_fitted") is False for entry in chosen),
            )
        )
    return results


def _mean_known(entries: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The mean over the rounds that have the entry; None where none has."""
    known = [entry[name] for entry in entries if entry.get(name) is not None]
    return _mean(known) if known else None


def _by_class(counts: Any, num_classes: int) -> list[float]:
    values = list(counts.values()) if isinstance(counts, dict) else list(counts or [])
    return [float(value) for value in values] or [0.0] * num_classes


def _warnings(records: StudyRecords, summary: Summary, language: Language) -> list[str]:
    rounds = summary.rounds
    found = [
        alarm_sentence(
            arm,
            sum(r.num_alarms for r in rounds if r.arm == arm),
            sum(r.num_runs for r in rounds if r.arm == arm and r.round_index > 0),
            max(max(r.coverages) for r in rounds if r.arm == arm),
            language,
        )
        for arm in dict.fromkeys(r.arm for r in rounds if r.num_alarms)
    ]
    for arm in dict.fromkeys(r.arm for r in rounds if r.gates):
        warned = (gate_warning(arm, r.gates, language) for r in rounds if r.arm == arm)
        found += [text for text in warned if text][:1]
    cells = [
        language.text("{arm} at {fraction}", arm=b.arm, fraction=Percent(b.fraction)) for b in summary.budgets
    ]
    steps = [max(b.steps_per_training) for b in summary.budgets]
    unequal = unequal_budget(dict(zip(cells, steps, strict=True)), language)
    if unequal:
        found.append(unequal)
    found += [
        language.text(
            "{cell}: the test part was opened {times} times in a run instead of once, so its numbers may be "
            "chosen ones.",
            cell=cell,
            times=max(b.test_openings),
        )
        for cell, b in zip(cells, summary.budgets, strict=True)
        if b.test_openings != (1,)
    ]
    if records.failures:
        found.append(
            language.text(
                "{count} of the study's jobs failed; see the section on failed runs.",
                count=len(records.failures),
            )
        )
    if records.missing:
        found.append(
            language.text(
                "{count} planned runs are not there yet; the same command goes on with them.",
                count=len(records.missing),
            )
        )
    return found


def _verdict(summary: Summary, primary: dict[str, Any], language: Language) -> Verdict:
    arm, baseline, fraction = primary["arm"], primary["baseline"], float(primary["fraction"])
    difference = summary.primary.difference if summary.primary else None
    verdict = decide(difference, arm, baseline, fraction, summary.metric, language)
    arm_result = summary.find(arm, 1.0 if arm == CEILING else fraction)
    base_result = summary.find(baseline, 1.0 if baseline == CEILING else fraction)
    details: list[str | None] = []
    if difference and arm_result and base_result:
        arm_value, base_value = arm_result.estimates[summary.metric], base_result.estimates[summary.metric]
        details += explain(difference, base_value, arm_value, arm, baseline, summary.metric, language)
        ceiling = summary.find(CEILING, 1.0)
        best = ceiling.estimates[summary.metric] if ceiling else None
        details.append(describe_ceiling(best, base_value, difference, language))
        rival = summary.compare(arm, RIVAL, fraction) if arm != RIVAL and baseline != RIVAL else None
        if verdict.kind != "no headline":
            to_rival = rival.difference if rival else None
            equivalence = summary.equivalences.get((arm, fraction))
            details.append(compare_with_rival(to_rival, arm, RIVAL, fraction, language))
            details.append(describe_equivalence(equivalence, arm, fraction, language))
        details.append(describe_kept_rounds(arm_result.best_rounds, arm, language))
    return replace(verdict, details=tuple(text for text in details if text))


def _audited(verdict: Verdict, records: StudyRecords, primary: dict[str, Any], language: Language) -> Verdict:
    """The verdict with what an expert found, or waiting for it where the plan says so."""
    arm, fraction = primary["arm"], float(primary["fraction"])
    audit, wanted = records.audit or {}, records.study.get("audit") or {}
    found = strictest_bound(audit, arm, fraction)
    if found:
        verdict = replace(verdict, details=(*verdict.details, describe_audit_bound(*found, language)))
    if not wanted.get("required"):
        return verdict
    runs = {run.folder.name for run in records.select(arm, fraction)}
    num_unread = len(runs - set(audit.get("runs") or []))
    return require_audit(verdict, wanted.get("max_error"), found[0] if found else None, num_unread, language)


def _mean(values: Sequence[float | None]) -> float:
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else math.nan
