"""Measures of probabilities (AUROC, NLL, Brier, over-confidence) with intervals over whole subjects.

A confusion matrix can be drawn again 4,000 times at no cost; a ranking cannot. Here the variance over
subjects comes from each subject's influence instead: by how much the measure moves when the subject counts a
little more. For the AUROC that is the sum of DeLong's placements over the subject's images, hence the
variance of clustered ROC data of Obuchowski 1997 ("Nonparametric analysis of clustered ROC curve data",
Biometrics 53), stratified as in the bootstrap. Trainings are added as there (`semisup.statistics.sources`).

A model's scores cannot be pooled with those of another fold's model, so a measure is the mean over folds of
the mean over seeds.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from semisup.statistics.delong import placements
from semisup.statistics.estimate import Basis, Estimate, bounded_draws, from_draws, normal_grid, widen
from semisup.statistics.sources import Sources
from semisup.statistics.strata import effective_df, stratified_variance
from semisup.statistics.unseen import NO_SPREAD, model_mark, unseen_share

NUM_GRID = 2000  # quantiles that stand for the draws
TINY = 1e-12  # probabilities are held above it before a logarithm is taken


class Predictions(Protocol):
    """One run's test predictions."""

    @property
    def fold(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def subjects(self) -> np.ndarray: ...  # (N,) str
    @property
    def labels(self) -> np.ndarray: ...  # (N,) int
    @property
    def probs(self) -> np.ndarray: ...  # (N, C)


# A measure gives its value and what every image adds to its subject's influence, (N,).
Measure = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]


def macro_auroc(probs: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean one-vs-rest AUROC over the classes that have images of either kind; NaN without any."""
    areas, influence = [], np.zeros(len(labels))
    for c in range(probs.shape[1]):
        is_positive = labels == c
        if is_positive.any() and not is_positive.all():
            of_positives, of_negatives = placements(probs[:, c], is_positive)
            area = float(of_positives.mean())
            influence[is_positive] += (of_positives - area) / len(of_positives)
            influence[~is_positive] += (of_negatives - area) / len(of_negatives)
            areas.append(area)
    if not areas:
        return float("nan"), influence
    return float(np.mean(areas)), influence / len(areas)


def nll(probs: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean negative log-likelihood of the true class."""
    return _mean(-np.log(np.maximum(probs[np.arange(len(labels)), labels], TINY)))


def brier(probs: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean squared distance of the probabilities from the truth, summed over classes (0 to 2)."""
    return _mean(((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1))


def overconfidence(probs: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean confidence minus accuracy: above 0 the model is too sure of itself, on average."""
    return _mean(probs.max(axis=1) - (probs.argmax(axis=1) == labels))


def _mean(values: np.ndarray) -> tuple[float, np.ndarray]:
    mean = float(values.mean())
    return mean, (values - mean) / len(values)


MEASURES: dict[str, Measure] = {
    "auroc": macro_auroc, "nll": nll, "brier": brier, "overconfidence": overconfidence,
}  # fmt: skip
RANGES = {"auroc": (0.0, 1.0), "nll": (0.0, np.inf), "brier": (0.0, 2.0), "overconfidence": (-1.0, 1.0)}


@dataclass(frozen=True)
class ArmInfluence:
    """One arm's measure by fold and seed, and by how much every test subject moves it."""

    values: dict[tuple[int, int], float]
    influence: dict[
        tuple[int, int], np.ndarray
    ]  # (n,) over all test subjects of the study, 0 where not tested
    num_images: np.ndarray  # (n,) of each test subject
    fold_of: np.ndarray  # (n,) int, the fold that tests each of the study's subjects; -1 where none does
    fewest_subjects: int  # that a class has, of the classes there are
    models: dict[tuple[int, int], str]  # (fold, seed) -> what tells models apart


def arm_influence(runs: Sequence[Predictions], measure: str, strata: Mapping[str, int]) -> ArmInfluence:
    """Measure every run of an arm.

    Args:
        strata: stratum of every test subject of the study (see `class_strata`).
    """
    place = {subject: row for row, subject in enumerate(sorted(strata))}
    values, influence, num_images = {}, {}, np.zeros(len(place))
    fold_of = np.full(len(place), -1)
    shown: set[tuple[str, int]] = set()  # subject and class
    for run in runs:
        value, of_images = MEASURES[measure](run.probs, run.labels)
        rows = np.array([place[str(subject)] for subject in run.subjects])
        values[run.fold, run.seed] = value
        influence[run.fold, run.seed] = np.bincount(rows, of_images, minlength=len(place))
        num_images += np.where(fold_of < 0, np.bincount(rows, minlength=len(place)), 0)
        fold_of[rows] = run.fold
        shown.update(zip(map(str, run.subjects), run.labels.tolist(), strict=True))
    fewest = min(Counter(label for _, label in shown).values())
    models = {(run.fold, run.seed): model_mark(run.probs) for run in runs}
    return ArmInfluence(values, influence, num_images, fold_of, fewest, models)


def fold_strata(arms: Sequence[ArmInfluence], strata: Mapping[str, int]) -> np.ndarray:
    """(n,) strata within folds: a measure taken in every fold centres its influences there.

    A subject that is alone in its stratum of a fold joins the largest one of the fold.
    """
    fold_of = np.max([arm.fold_of for arm in arms], axis=0)
    stratum = np.array([strata[subject] for subject in sorted(strata)])
    found = fold_of * (stratum.max() + 1) + stratum
    for fold in np.unique(fold_of):
        values, sizes = np.unique(found[fold_of == fold], return_counts=True)
        found[np.isin(found, values[sizes == 1])] = values[sizes.argmax()]
    return found


def estimate_measure(arm: ArmInfluence, measure: str, strata: Mapping[str, int]) -> Estimate | None:
    """A measure of one arm with its interval; None where it is undefined in a run."""
    found = _combine([(1.0, arm)], strata)
    if found is None:
        return None
    value, sources, basis = found
    lowest, highest = RANGES[measure]
    draws = bounded_draws(value, sources.half_width, lowest, highest, NUM_GRID)
    result = from_draws(value, draws, _normal(value, sources), basis)
    if measure == "auroc" and sources.half_width < NO_SPREAD:
        share = unseen_share([arm.fewest_subjects], [1.0])
        result = replace(result, low=value - share * (value - lowest), high=value + share * (highest - value))
    return result


def measure_difference(
    arm: ArmInfluence, baseline: ArmInfluence, measure: str, strata: Mapping[str, int]
) -> Estimate | None:
    """The measure of `arm` minus that of `baseline` over the folds and seeds that both have, paired."""
    found = _combine([(1.0, arm), (-1.0, baseline)], strata)
    if found is None:
        return None
    value, sources, basis = found
    subject_draws = _normal(value, sources)
    half_width = sources.half_width
    both = arm.models.keys() & baseline.models.keys()
    num_other = sum(arm.models[key] != baseline.models[key] for key in both)
    if measure == "auroc" and half_width < NO_SPREAD and num_other:
        fewest = min(arm.fewest_subjects, baseline.fewest_subjects)
        half_width = num_other / len(both) * unseen_share([fewest], [1.0])
    draws = widen(subject_draws, value, half_width)
    return from_draws(value, draws, subject_draws, basis)


def _normal(value: float, sources: Sources) -> np.ndarray:
    return value + np.sqrt(sources.subject_variance) * normal_grid(NUM_GRID)


def _combine(
    parts: Sequence[tuple[float, ArmInfluence]], strata: Mapping[str, int]
) -> tuple[float, Sources, Basis] | None:
    keys = sorted(set.intersection(*(set(arm.values) for _, arm in parts)))
    if not keys or not all(np.isfinite(arm.values[key]) for _, arm in parts for key in keys):
        return None
    stratum = fold_strata([arm for _, arm in parts], strata)
    sizes = parts[0][1].num_images
    folds = sorted({fold for fold, _ in keys})
    fold_means, moved = [], np.zeros(len(stratum))
    seed_variance, shared_variance, seed_df, num_seeds = 0.0, 0.0, 0, []
    tested = np.isin(parts[0][1].fold_of, folds)
    for fold in folds:
        own = [key for key in keys if key[0] == fold]
        values = np.array([sum(sign * arm.values[key] for sign, arm in parts) for key in own])  # (S,)
        moves = np.array([sum(sign * arm.influence[key] for sign, arm in parts) for key in own])  # (S, n)
        fold_means.append(values.mean())
        moved += moves.mean(axis=0) / len(folds)
        num_seeds.append(len(own))
        if len(own) > 1:
            scale = len(own) * len(folds) ** 2
            apart = sum(stratified_variance(row, stratum, sizes) for row in moves - moves.mean(axis=0))
            shared_variance += apart / (len(own) - 1) / scale
            seed_variance += float(values.var(ddof=1)) / scale
            seed_df += len(own) - 1
    value = float(np.mean(fold_means))
    subject_variance = stratified_variance(moved, stratum, sizes)
    df = effective_df(moved, stratum)
    sources = Sources(subject_variance, df, shared_variance, seed_variance, seed_df)
    num_images = round(float(sizes[tested].sum()))
    return value, sources, Basis(int(tested.sum()), num_images, min(num_seeds))
