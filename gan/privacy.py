"""Does a generator copy: figures over distances, and what they allow one to say."""

import math
from dataclasses import dataclass

import numpy as np

from gan.copies import CLEAR, Calibration

MIN_HELD_OUT_IMAGES = 50
MIN_HELD_OUT_BUNDLES = 4  # subjects, or bundles of subjects
MAX_BUNDLES = 100  # a side
NUM_DRAWS = 400
LEANS_FROM = 0.5  # share nearer to training images that an untaught generator would have
MAX_WIDTH = 0.4  # of the interval of that share: wider says nothing
SURPRISE = 0.01  # probability below which chance does not explain so many flagged images


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Leaning:
    """Whether generated images lie nearer to the people of the training part than to others."""

    share: Interval  # of images nearer to training than to held-out subjects; 0.5 = no leaning
    ratio: Interval  # mean distance to training over mean distance to held-out subjects; 1 = no leaning
    num_bundles: int  # compared on each side
    subjects_per_bundle: int


@dataclass(frozen=True)
class CopyCount:
    """Flagged images, and how many a generator that copies nothing would have."""

    num_images: int
    num_flagged: int
    num_clear: int  # far below the threshold
    num_expected: float
    chance: float  # probability of so many flagged ones by chance


@dataclass(frozen=True)
class Verdict:
    """What can be said, in words."""

    word: str  # "copies", "leaning", "no sign", "cannot be told"
    sentence: str


def bundle_subjects(
    train: np.ndarray, held_out: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, int]:
    """Deal the subjects of both sides into bundles of one size, at most MAX_BUNDLES of a side.

    Args:
        train, held_out: (N,), (M,) the subject of each image, as numbers.

    Returns:
        Bundle of each image on either side (-1 = in none), and subjects in a bundle.
    """
    sides = [np.unique(groups) for groups in (train, held_out)]
    size = math.ceil(max(len(side) for side in sides) / MAX_BUNDLES)
    bundles = []
    for groups, subjects in zip((train, held_out), sides, strict=True):
        place = np.empty(len(subjects), dtype=np.int64)
        place[random.permutation(len(subjects))] = np.arange(len(subjects))
        of_subject = place // size
        of_subject[of_subject >= len(subjects) // size] = -1  # the last bundle would be smaller
        bundles.append(of_subject[np.searchsorted(subjects, groups)])
    return bundles[0], bundles[1], size


def leaning(
    to_train: np.ndarray, to_held_out: np.ndarray, subjects_per_bundle: int, random: np.random.Generator
) -> Leaning:
    """Compare distances to equally many subjects of both sides, many times over.

    More people are nearer by their number alone, so each draw takes as many bundles from one side as from the
    other. The interval comes from draws of half the bundles (without replacement, which spreads as a
    bootstrap of all of them does) with the generated images resampled; it is centred on the figure for all.

    Args:
        to_train: (n, S) distance of each generated image to the nearest image of each bundle.
        to_held_out: (n, T) the same for people never seen.
    """
    num = min(to_train.shape[1], to_held_out.shape[1])
    whole = np.array([_one_draw(to_train, to_held_out, num, None, random) for _ in range(NUM_DRAWS // 4)])
    half = np.array([_one_draw(to_train, to_held_out, num // 2, random, random) for _ in range(NUM_DRAWS)])
    center = whole.mean(axis=0)
    low, high = center + np.quantile(half - half.mean(axis=0), [0.025, 0.975], axis=0)
    low, high = np.maximum(low, 0), [min(high[0], 1.0), high[1]]
    share, ratio = (Interval(float(center[k]), float(low[k]), float(high[k])) for k in range(2))
    return Leaning(share, ratio, num, subjects_per_bundle)


def _one_draw(
    to_train: np.ndarray,
    to_held_out: np.ndarray,
    num: int,
    resample: np.random.Generator | None,
    random: np.random.Generator,
) -> tuple[float, float]:
    near, far = (
        side[:, random.choice(side.shape[1], num, replace=False)].min(axis=1)
        for side in (to_train, to_held_out)
    )
    if resample is not None:
        images = resample.integers(len(near), size=len(near))
        near, far = near[images], far[images]
    share = (near < far).mean() + 0.5 * (near == far).mean()
    total = float(far.mean())
    return float(share), float(near.mean()) / total if total > 0 else 1.0


def count_copies(scores: np.ndarray, calibration: Calibration) -> CopyCount:
    """Flag the images below the threshold and hold their number against that of real images."""
    num_flagged = int((scores < calibration.threshold).sum())
    # At least one alarm is granted: none among so many images does not mean that there are never any.
    rate = max(calibration.false_alarms, 1 / calibration.num_images)
    return CopyCount(
        num_images=len(scores),
        num_flagged=num_flagged,
        num_clear=int((scores < CLEAR * calibration.threshold).sum()),
        num_expected=rate * len(scores),
        chance=_binomial_tail(num_flagged, len(scores), rate),
    )


def _binomial_tail(successes: int, trials: int, rate: float) -> float:
    """Probability of at least so many successes."""
    from scipy.stats import binom

    return float(binom.sf(successes - 1, trials, rate))


def judge(copies: CopyCount | None, lean: Leaning | None, why_not: str) -> Verdict:
    """Put the figures into one sentence.

    Args:
        copies: None where there are too few subjects to calibrate on.
        lean: None where there are too few held-out images.
        why_not: why one of them is missing, in words.
    """
    if copies is not None and (copies.num_clear or copies.chance < SURPRISE):
        return Verdict(
            "copies",
            f"copies found: {copies.num_flagged:,} of {copies.num_images:,} ({copies.num_clear:,} beyond "
            f"doubt; about {copies.num_expected:.1f} of as many real images of other people would be flagged)",
        )
    if copies is None:
        return Verdict("cannot be told", f"cannot be told: {why_not}")
    seen = f"{copies.num_flagged:,} of {copies.num_images:,} flagged, {copies.num_expected:.1f} by chance"
    if lean is None:
        return Verdict(
            "cannot be told",
            f"no copies found ({seen}), but whether it leans to its training images cannot be told: "
            f"{why_not}",
        )
    share = lean.share
    shown = (
        f"{share.value:.2f} [{share.low:.2f}, {share.high:.2f}] of the images are nearer to training subjects"
    )
    if share.low > LEANS_FROM:
        return Verdict(
            "leaning", f"no copies found ({seen}), but the images lean to the training subjects: {shown}"
        )
    if share.high - share.low > MAX_WIDTH:
        return Verdict(
            "cannot be told",
            f"no copies found ({seen}); whether the images lean to the training subjects cannot be told: "
            f"{shown}, too wide an interval; more held-out subjects are needed",
        )
    return Verdict("no sign", f"no sign of memorising: {seen}; {shown}")
