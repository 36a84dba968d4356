"""An interval for the expected calibration error (ECE), which is biased and has no simple one.

ECE adds up the absolute gaps between confidence and accuracy, bin by bin. Chance makes gaps where there are
none, so it is too large on average, and more so when it is drawn again: percentiles of its draws lie above
it. What holds without any such assumption are two inequalities about the vector of the bins' signed gaps, g
(truth gamma):

* | ||g|| - ||gamma|| | <= ||g - gamma|| in the sum of absolute values. The draws of ||g* - g|| say how large
  the right side gets: that far below the ECE lies the lower end.
* the mean of ||g|| is not below ||gamma||, so upwards only the deviation from its own mean counts.

The interval therefore covers at least 95 %; by how much more is in `benchmarks/interval_coverage.py`. The
mean of ||g* - g|| is worth a look of its own: it is what a perfectly calibrated model would show on these
subjects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from semisup.statistics.bootstrap import SubjectBootstrap
from semisup.statistics.probabilities import Predictions
from semisup.statistics.sources import UPPER

NUM_BINS = 15  # as in `classifier.evaluate`


@dataclass(frozen=True)
class Calibration:
    """The mean ECE of an arm's runs, with an interval that covers at least 95 %."""

    value: float
    low: float
    high: float
    noise_floor: float  # the ECE that perfect calibration would show here, by chance alone


def calibration(runs: Sequence[Predictions], boot: SubjectBootstrap, num_bins: int = NUM_BINS) -> Calibration:
    """The ECE of one arm (mean over folds of the mean over seeds) with its interval.

    Args:
        runs: the arm's runs over folds and seeds; every subject must be one of the bootstrap's.
    """
    folds = sorted({run.fold for run in runs})
    value, seed_variance, seed_df = 0.0, 0.0, 0
    noise, drawn = np.zeros(boot.num_draws), np.zeros(boot.num_draws)
    for fold in folds:
        found = [_drawn_gaps(run, boot, num_bins) for run in runs if run.fold == fold]
        eces = np.array([np.abs(gaps).sum() for gaps, _ in found])  # (S,)
        single = np.stack([np.abs(draws).sum(axis=1) for _, draws in found])  # (S, B)
        value += float(eces.mean()) / len(folds)
        drawn += single.mean(axis=0) / len(folds)
        noise += np.mean([np.abs(draws - gaps).sum(axis=1) for gaps, draws in found], axis=0) / len(folds)
        if len(found) > 1:
            seed_variance += float(eces.var(ddof=1)) / len(found) / len(folds) ** 2
            seed_df += len(found) - 1
    df = max(1, len(boot.subjects) - len(np.unique(boot.stratum)))
    few = stdtrit(df, UPPER) / ndtri(UPPER)
    trainings = seed_variance * stdtrit(seed_df, UPPER) ** 2 if seed_df else 0.0
    below = few * np.quantile(noise, UPPER)
    above = few * (drawn.mean() - np.quantile(drawn, 1 - UPPER))
    up = float(np.hypot(above, np.sqrt(trainings)))
    return Calibration(
        value,
        max(0.0, value - float(np.hypot(below, np.sqrt(trainings)))),
        # On the log scale: a few trainings may all have missed the badly calibrated ones.
        min(1.0, value * float(np.exp(up / value))) if value > 0 else min(1.0, up),
        float(noise.mean()),
    )


def _drawn_gaps(run: Predictions, boot: SubjectBootstrap, num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Signed gaps of the bins, as shares of all images: (num_bins,) as they are and (B, num_bins) drawn."""
    names, owner = np.unique(np.asarray(run.subjects).astype(str), return_inverse=True)
    confidence = run.probs.max(axis=1)
    gap = confidence - (run.probs.argmax(axis=1) == run.labels)  # (N,)
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    flat = np.bincount(owner * num_bins + bins, gap, minlength=len(names) * num_bins)
    by_subject = flat.reshape(len(names), num_bins)
    weights = boot.weights[:, boot.columns(names)].astype(float)  # (B, n)
    num_images = weights @ np.bincount(owner)  # (B,)
    return by_subject.sum(axis=0) / len(gap), (weights @ by_subject) / num_images[:, None]
