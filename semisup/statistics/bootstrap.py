"""The paired subject bootstrap: how sure one can be that two arms differ.

Images of one patient resemble one another, so the subject, not the image, is what is drawn again. Every
draw takes subjects with replacement within strata (subjects with the same set of classes, so that each draw
has all classes), and *all* arms see the same draw: differences are paired. Within a draw the seeds are
averaged and the folds pooled; a metric is computed from the resulting confusion matrix, which is why 4,000
draws cost a few matrix products.

Three corrections make the interval honest for small studies:

* within a stratum of n subjects, n - 1 are drawn and scaled by n / (n - 1) (Rao & Wu 1988, "Resampling
  inference with complex survey data", JASA 83): drawing n would make intervals too narrow by (n - 1) / n.
* subjects with many images pull the mean that they are measured from; the variance is raised by what that
  takes away, and its degrees of freedom are those of the rare class where that has most of it
  (`semisup.statistics.strata`).
* the draws are widened about the estimate so that they include the variation between trainings, each with
  Student's t for its degrees of freedom (`semisup.statistics.sources`).

Where no draw changes anything, what so few subjects cannot exclude takes the interval's place
(`semisup.statistics.unseen`).

What the interval does not know: the variation from drawing other training subjects, other than through the
folds. tests/semisup/test_coverage.py shows by simulation that it covers 95 %.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from extract.seeds import derive_seed
from semisup.statistics.confusion import METRICS, RunCounts, recall_per_class
from semisup.statistics.estimate import Basis, Estimate, bounded_draws, from_draws, widen
from semisup.statistics.sources import Sources
from semisup.statistics.strata import effective_df, stratified_variance
from semisup.statistics.unseen import NO_SPREAD, unseen_share

NUM_DRAWS = 4000
Metric = Callable[[np.ndarray], np.ndarray]  # (..., C, C) counts -> (...)
NUDGE = 0.001  # what a subject's weight is raised by to see its influence


@dataclass(frozen=True)
class ArmDraws:
    """One arm's confusion matrices, for the data as they are and for every draw, by fold and seed."""

    observed: dict[tuple[int, int], np.ndarray]  # (fold, seed) -> (C, C)
    drawn: dict[tuple[int, int], np.ndarray]  # (fold, seed) -> (B, C, C)
    nudged: dict[
        tuple[int, int], np.ndarray
    ]  # (fold, seed) -> (n, C, C), each subject counting a little more
    num_images: np.ndarray  # (n,) of each of the bootstrap's subjects, 0 where none was tested
    subjects: frozenset[str]
    class_subjects: np.ndarray  # (C,) subjects of each class; one who shows m classes counts 1/m in each
    fewest_subjects: int  # that a class has, of the classes there are
    models: dict[tuple[int, int], str]  # (fold, seed) -> what tells models apart

    @property
    def keys(self) -> frozenset[tuple[int, int]]:
        return frozenset(self.observed)

    def pooled(self) -> np.ndarray:
        """(C, C) test images by truth and prediction: seeds averaged, folds added up."""
        by_fold: dict[int, list[np.ndarray]] = {}
        for fold, seed in sorted(self.observed):
            by_fold.setdefault(fold, []).append(self.observed[fold, seed])
        return np.sum([np.mean(matrices, axis=0) for matrices in by_fold.values()], axis=0)


class SubjectBootstrap:
    """The draws of a study's test subjects, made once and shared by all its arms."""

    def __init__(self, strata: Mapping[str, int], *, num_draws: int = NUM_DRAWS, seed: int = 0) -> None:
        """Draw.

        Args:
            strata: stratum of every test subject (see `class_strata`).
            num_draws: at least 2,000 where the result is reported.
        """
        self.subjects = np.array(sorted(strata))
        self.num_draws = num_draws
        self.stratum = stratum = np.array([strata[subject] for subject in self.subjects])
        rng = np.random.default_rng(derive_seed("subject bootstrap", seed))
        self.weights = np.ones((num_draws, len(self.subjects)), np.float32)
        for value in np.unique(stratum):
            members = np.flatnonzero(stratum == value)
            n = len(members)
            if n > 1:
                drawn = rng.multinomial(n - 1, np.full(n, 1 / n), size=num_draws)
                self.weights[:, members] = drawn * (n / (n - 1))

    @cached_property
    def _column(self) -> dict[str, int]:
        return {str(subject): column for column, subject in enumerate(self.subjects)}

    def columns(self, subjects: Sequence[str] | np.ndarray) -> list[int]:
        """Columns of `weights` that belong to these subjects."""
        return [self._column[str(subject)] for subject in subjects]

    def draw(self, runs: Sequence[RunCounts]) -> ArmDraws:
        """Compute the confusion matrices of one arm (its runs over folds and seeds) under every draw."""
        observed, drawn, nudged = {}, {}, {}
        num_images = np.zeros(len(self.subjects))
        has_class: dict[str, np.ndarray] = {}  # subject -> (C,) bool
        models = {(run.fold, run.seed): run.model for run in runs}
        for run in runs:
            n, c, _ = run.counts.shape
            key, columns = (run.fold, run.seed), self.columns(run.subjects)
            flat = self.weights[:, columns] @ run.counts.reshape(n, c * c).astype(np.float32)
            num_images[columns] = run.counts.sum(axis=(1, 2))
            observed[key] = run.counts.sum(axis=0).astype(float)
            drawn[key] = flat.reshape(-1, c, c).astype(float)
            nudged[key] = np.repeat(observed[key][None], len(self.subjects), axis=0)
            nudged[key][columns] += NUDGE * run.counts
            has_class.update(zip(map(str, run.subjects), run.counts.sum(axis=2) > 0, strict=True))
        shows = np.array(list(has_class.values()), float)  # (n, C)
        num_subjects = shows.sum(axis=0)  # (C,)
        return ArmDraws(
            observed,
            drawn,
            nudged,
            num_images,
            frozenset(has_class),
            (shows / shows.sum(axis=1, keepdims=True)).sum(axis=0),
            int(num_subjects[num_subjects > 0].min()),
            models,
        )

    def estimate(self, arm: ArmDraws, metric: str | Metric = "balanced_accuracy") -> Estimate:
        """The metric of one arm with its interval, which stays within what the metric can be.

        Args:
            metric: a name of `METRICS`, or a function of (..., C, C) counts with values in [0, 1].
        """
        value, subject_draws, sources, base = self._combine({"arm": 1.0}, {"arm": arm}, metric)
        lowest = _lowest(metric)
        draws = bounded_draws(value, sources.half_width, lowest, 1.0, self.num_draws)
        result = from_draws(value, draws, subject_draws, base)
        if sources.half_width < NO_SPREAD:
            below, above = _room(arm, metric, value)
            result = replace(result, low=value - below, high=value + above)
        return result

    def difference(self, arm: ArmDraws, baseline: ArmDraws, metric: str = "balanced_accuracy") -> Estimate:
        """The metric of `arm` minus that of `baseline`, over the folds and seeds that both have.

        It is zero without any doubt where all models of the two are the same ones, as where an arm keeps
        round 0.
        """
        arms = {"arm": arm, "baseline": baseline}
        value, subject_draws, sources, base = self._combine({"arm": 1.0, "baseline": -1.0}, arms, metric)
        half_width = sources.half_width
        keys = arm.keys & baseline.keys
        num_other = sum(arm.models[key] != baseline.models[key] for key in keys)
        if half_width < NO_SPREAD and num_other:
            half_width = num_other / len(keys) * max(_reach(one, metric) for one in arms.values())
            subject_draws = np.full_like(subject_draws, value)  # what is left of a spread is rounding
        draws = widen(subject_draws, value, half_width)
        return from_draws(value, draws, subject_draws, base)

    def _combine(
        self, signs: dict[str, float], arms: dict[str, ArmDraws], metric: str | Metric
    ) -> tuple[float, np.ndarray, Sources, Basis]:
        """The signed sum of the arms' metrics: value, (B,) draws of the subjects, variances, basis."""
        keys = sorted(frozenset.intersection(*(arm.keys for arm in arms.values())))
        if not keys:
            raise ValueError("the arms have no fold and seed in common, so they cannot be compared")
        score = METRICS[metric] if isinstance(metric, str) else metric
        folds = sorted({fold for fold, _ in keys})
        seeds = {fold: [seed for key_fold, seed in keys if key_fold == fold] for fold in folds}

        # Over all seeds of a fold, which is asked for again and again.
        means: dict[tuple[str, str, int], np.ndarray] = {}

        def over_seeds(name: str, part: str, fold: int, chosen: Sequence[int]) -> np.ndarray:
            if chosen is not seeds[fold]:
                return sum(getattr(arms[name], part)[fold, s] for s in chosen) / len(chosen)
            if (name, part, fold) not in means:
                matrices = getattr(arms[name], part)
                means[name, part, fold] = sum(matrices[fold, s] for s in chosen) / len(chosen)
            return means[name, part, fold]

        def signed(part: str, chosen: Mapping[int, Sequence[int]]) -> np.ndarray:
            """The signed sum of metrics with the seeds of `chosen` averaged in each fold, folds pooled."""
            total: np.ndarray | float = 0.0
            for name, sign in signs.items():
                pooled = sum(over_seeds(name, part, fold, chosen[fold]) for fold in folds)
                total = total + sign * score(np.asarray(pooled))
            return np.asarray(total)

        value = float(signed("observed", seeds))
        subject_draws = signed("drawn", seeds)  # (B,)
        seed_variance, shared_variance, seed_df = 0.0, 0.0, 0
        for fold in folds:
            if len(seeds[fold]) > 1:
                alone = [{**seeds, fold: [seed]} for seed in seeds[fold]]
                values = np.array([float(signed("observed", chosen)) for chosen in alone])  # (S,)
                drawn = np.stack([signed("drawn", chosen) for chosen in alone])  # (S, B)
                apart = (drawn - drawn.mean(axis=0)).var(axis=1).sum() / (len(alone) - 1)
                seed_variance += float(values.var(ddof=1)) / len(alone)
                shared_variance += float(apart) / len(alone)
                seed_df += len(alone) - 1
        subjects = frozenset().union(*(arm.subjects for arm in arms.values()))
        first = next(iter(arms.values()))
        influence = (signed("nudged", seeds) - value) / NUDGE  # (n,)
        # What the draws miss because subjects have unequal numbers of images.
        alike = stratified_variance(influence, self.stratum)
        unequal = stratified_variance(influence, self.stratum, first.num_images) / alike if alike > 0 else 1.0
        sources = Sources(
            float(np.var(subject_draws)) * unequal,
            effective_df(influence, self.stratum),
            shared_variance * unequal,
            seed_variance,
            seed_df,
        )
        num_images = round(float(sum(first.observed[fold, seeds[fold][0]].sum() for fold in folds)))
        basis = Basis(len(subjects), num_images, min(len(chosen) for chosen in seeds.values()))
        return value, subject_draws, sources, basis


def _lowest(metric: str | Metric) -> float:
    return -1.0 if metric == "mcc" else 0.0


def _weights(arm: ArmDraws, metric: str | Metric) -> np.ndarray | None:
    """(C,) what a class's recall counts in a metric that is a mean of them; None for other metrics."""
    num_images = arm.pooled().sum(axis=1)
    if metric == "balanced_accuracy":
        return (num_images > 0) / (num_images > 0).sum()
    return num_images / num_images.sum() if metric == "accuracy" else None


def _room(arm: ArmDraws, metric: str | Metric, value: float) -> tuple[float, float]:
    """How far below and above its value a metric may lie that no subject moves."""
    weights = _weights(arm, metric)
    if weights is not None:
        recall = np.nan_to_num(recall_per_class(arm.pooled()))
        parts = weights * recall, weights * (1 - recall)
        below, above = (unseen_share(arm.class_subjects, part) for part in parts)
        return below, above
    share = unseen_share([arm.fewest_subjects], [1.0])  # as if everything hung on the rarest class
    return share * (value - _lowest(metric)), share * (1 - value)


def _reach(arm: ArmDraws, metric: str | Metric) -> float:
    """How much another model may differ from this one that has judged every subject alike."""
    weights = _weights(arm, metric)
    if weights is not None:
        return unseen_share(arm.class_subjects, weights)
    return unseen_share([arm.fewest_subjects], [1.0]) * (1 - _lowest(metric))
