"""Simulated studies whose true values are known: for the proof that the intervals hold, and for planning.

A test image has a margin by which the true class stands out. It depends on the subject and on the image (the
same for all trainings), on the training (each class has its luck) and on what the training makes of this very
subject. Every training adds noise of its own to all classes' logits. Two arms differ by a `gain` in the
margin.
"""

from dataclasses import dataclass

import numpy as np

from semisup.statistics.confusion import RunCounts, count_predictions


@dataclass(frozen=True)
class SimulatedStudy:
    """What a simulated study is like; standard deviations are on the scale of logits."""

    num_subjects: int = 40
    images: tuple[int, int] = (10, 50)  # fewest and most of a subject
    class_shares: tuple[float, ...] = (0.6, 0.25, 0.15)
    mixed: bool = False  # subjects have images of several classes
    seeds: int = 3
    folds: int = 1
    gain: float = 0.0  # of the second arm
    margin: float = 2.0
    subject_sd: float = 1.0
    image_sd: float = 1.0
    training_sd: float = 0.15  # luck of a training with a class
    taste_sd: float = 0.7  # luck of a training with a subject
    sharpness: float = 1.0  # of the probabilities; above 1 the models are too sure


@dataclass(frozen=True)
class SimulatedRun:
    """One training's test predictions."""

    fold: int
    seed: int
    subjects: np.ndarray  # (N,) str
    labels: np.ndarray  # (N,) int
    probs: np.ndarray  # (N, C)

    @property
    def counts(self) -> RunCounts:
        """The predictions counted by subject."""
        classes = self.probs.shape[1]
        return count_predictions(
            self.fold, self.seed, self.subjects, self.labels, self.probs.argmax(axis=1), classes
        )


def simulate(
    rng: np.random.Generator, study: SimulatedStudy, training_rng: np.random.Generator | None = None
) -> tuple[list[SimulatedRun], list[SimulatedRun]]:
    """Draw one study: the runs of the baseline and of the other arm, on the same subjects.

    Args:
        training_rng: draws the trainings, so that the same `rng` gives the same subjects to other trainings;
            None = `rng` itself.
    """
    training = training_rng or rng
    num_classes = len(study.class_shares)
    num_images = rng.integers(study.images[0], study.images[1] + 1, study.num_subjects)
    subject = np.repeat(np.arange(study.num_subjects), num_images)  # (N,)
    if study.mixed:
        labels = rng.choice(num_classes, len(subject), p=study.class_shares)
    else:  # each class has its share of the subjects, two at least
        bounds = np.cumsum(np.round(np.array(study.class_shares) * study.num_subjects).astype(int))[:-1]
        labels = np.searchsorted(bounds, rng.permutation(study.num_subjects), side="right")[subject]
    fold = (rng.permutation(study.num_subjects) % study.folds)[subject]
    ease = study.margin + rng.normal(0, study.subject_sd, study.num_subjects)[subject]
    ease = ease + rng.normal(0, study.image_sd, len(subject))
    names = np.char.mod("s%05d", subject)
    arms: tuple[list[SimulatedRun], list[SimulatedRun]] = ([], [])
    for arm, runs in enumerate(arms):
        for k in range(study.folds):
            rows = np.flatnonzero(fold == k)
            truth = labels[rows]
            for seed in range(study.seeds):
                luck = training.normal(0, study.training_sd, num_classes)[truth]
                taste = training.normal(0, study.taste_sd, study.num_subjects)[subject[rows]]
                logits = training.normal(0, 1, (len(rows), num_classes))
                logits[np.arange(len(rows)), truth] += ease[rows] + study.gain * arm + luck + taste
                odds = np.exp(study.sharpness * (logits - logits.max(axis=1, keepdims=True)))
                probs = odds / odds.sum(axis=1, keepdims=True)
                runs.append(SimulatedRun(k, seed, names[rows], truth, probs))
    return arms
